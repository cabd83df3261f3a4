//! What lost races and killed processes leave in a store: a sweep deletes it from a data folder. It
//! never deletes the archive of a version or of a publish that is in progress.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stile_broker::app::{SWEEP_INTERVAL, sweep_store};
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::{Store, Swept};
use stile_tests::aws::proxy::Fault;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{Backend, TestBroker, deploy, embedded, module_zip, role};
use stile_tests::process::home::Home;
use stile_tests::process::programs::{ADMIN, Setup, client, program};
use stile_tests::time_limits;
use tokio::task::JoinHandle;

use crate::faults_on_disk::{DOWNLOAD, Running};

/// The age from which a sweep deletes a temporary file, in seconds.
const DAY: i64 = 24 * 3600;

/// The age from which a sweep deletes an archive that no version names, in seconds.
const MONTH: i64 = 30 * DAY;

/// Returns the archives in a data folder, in order.
fn archives(data: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    // The health check writes files next to the folders.
    let folders = entries(&data.join("archives")).into_iter().filter(|path| path.is_dir());
    let mut found: Vec<PathBuf> = folders.flat_map(|folder| entries(&folder)).collect();
    found.sort();
    found
}

/// Returns the path of an archive in a data folder.
fn place(data: &Path, archive: &[u8]) -> PathBuf {
    let sha256 = hex::encode(Sha256::digest(archive));
    data.join("archives").join(&sha256[..2]).join(format!("{sha256}.zip"))
}

fn set_written_at(path: &Path, at: i64) {
    let at = UNIX_EPOCH + Duration::from_secs(at.try_into().unwrap());
    File::options().append(true).open(path).unwrap().set_modified(at).unwrap();
}

/// Waits until the condition holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = time_limits::wait(async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while !holds() {
            tick.tick().await;
        }
    });
    assert!(waited.await.is_some(), "{what}");
}

/// A broker in another process, and the lock of another writer of its database. Each publish stops
/// between its archive and its record.
struct Stopped {
    running: Running,
    writer: Connection,
    /// The same data folder, in this process.
    store: Store,
}

impl Stopped {
    async fn start() -> Self {
        let running = Running::start(&[]).await;
        let store = embedded(&running.data(), time_limits::embedded());
        let writer = Connection::open(running.data().join("stile.sqlite3")).unwrap();
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self { running, writer, store }
    }

    /// Begins to publish, and returns when the archive is in the data folder.
    async fn publish(&self, version: &str, archive: &[u8]) -> JoinHandle<Option<u16>> {
        let url = self.running.broker.url(&format!("/v1/modules/acme/vpc/aws/{version}"));
        let request = client(None).post(url).bearer_auth(&self.running.token);
        let request = request.header("content-type", "application/zip").body(archive.to_vec());
        let sent = tokio::spawn(async move {
            request.send().await.ok().map(|answer| answer.status().as_u16())
        });
        let path = place(&self.running.data(), archive);
        until("the archive is in the data folder", || path.exists()).await;
        sent
    }

    fn go_on(&self) {
        self.writer.execute_batch("ROLLBACK").unwrap();
    }
}

#[tokio::test]
async fn a_sweep_keeps_the_archive_of_a_publish_that_is_in_progress_in_another_process() {
    let stopped = Stopped::start().await;
    let archive = module_zip("slow");
    let sent = stopped.publish("2.0.0", &archive).await;
    let path = place(&stopped.running.data(), &archive);
    // Even if the clock says that the archive is years old.
    for now in [system_time(), system_time() + 2 * DAY, system_time() + 4000 * DAY] {
        assert_eq!(stopped.store.sweep(now).await.unwrap(), Swept::default());
        assert!(path.is_file(), "{now}");
    }
    let listed = stopped.store.as_operator().leftovers().await.unwrap();
    assert_eq!(listed.len(), 1, "no version names it yet: {listed:?}");
    stopped.go_on();
    assert_eq!(sent.await.unwrap(), Some(201));
    assert_eq!(stopped.store.as_operator().leftovers().await.unwrap(), []);
    let swept = stopped.store.sweep(system_time() + 4000 * DAY).await.unwrap();
    assert_eq!(swept, Swept::default(), "a version names each archive");
    assert!(path.is_file());
}

#[tokio::test]
async fn the_archive_of_a_lost_race_is_swept_and_that_of_the_winner_is_kept() {
    let stopped = Stopped::start().await;
    let archives_of_both = [module_zip("one"), module_zip("two")];
    let one = stopped.publish("2.0.0", &archives_of_both[0]).await;
    let two = stopped.publish("2.0.0", &archives_of_both[1]).await;
    stopped.go_on();
    let answers = [one.await.unwrap(), two.await.unwrap()];
    let won = answers.iter().position(|status| *status == Some(201)).unwrap();
    assert_eq!(answers[1 - won], Some(409));
    let data = stopped.running.data();
    let [winner, loser] = [won, 1 - won].map(|at| place(&data, &archives_of_both[at]));
    let listed = stopped.store.as_operator().leftovers().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(data.join(&listed[0].archive), loser);
    assert_eq!(listed[0].bytes, archives_of_both[1 - won].len() as u64);

    let written_at = listed[0].written_at;
    let young = stopped.store.sweep(written_at + MONTH - 1).await.unwrap();
    assert_eq!(young, Swept::default(), "a newer backup of the database can name it");
    assert!(loser.is_file());
    let old = stopped.store.sweep(written_at + MONTH).await.unwrap();
    assert_eq!(old, Swept { archives: 1, temporary: 0 });
    assert!(winner.is_file() && !loser.exists());
    assert_eq!(archives(&data).len(), 2, "of the versions 1.0.0 and 2.0.0");
    assert_eq!(stopped.running.get(DOWNLOAD).await.0, 204);
}

#[tokio::test]
async fn the_next_broker_deletes_at_its_start_what_a_killed_one_left() {
    let mut stopped = Stopped::start().await;
    let archive = module_zip("killed");
    let sent = stopped.publish("2.0.0", &archive).await;
    stopped.running.broker.kill_9();
    assert_eq!(sent.await.unwrap(), None);
    stopped.go_on();
    let data = stopped.running.data();
    let left = [
        place(&data, &archive),
        data.join("incoming/.stile-incoming-killed"),
        data.join("archives/.tmpkilled"),
        data.join(".keyring-killed"),
    ];
    let young =
        ["incoming/.stile-incoming-young", "archives/.tmpyoung"].map(|name| data.join(name));
    for path in left[1..].iter().chain(&young) {
        fs::write(path, "").unwrap();
    }
    let kept = archives(&data).into_iter().filter(|path| *path != left[0]).collect::<Vec<_>>();
    for path in left.iter().chain(kept.iter().filter(|path| path.is_file())) {
        set_written_at(path, system_time() - MONTH - 60);
    }

    let log = stopped.running.folder.path().join("next.log");
    // The folder is for the registry on that port.
    let host = stopped.running.broker.host();
    let port = host.rsplit(':').next().unwrap().parse().unwrap();
    let setup = Setup::new(port, &data).sts(&stopped.running.sts.endpoint());
    let _next = setup.start(&log).await;
    until("the next broker deletes it", || left.iter().all(|path| !path.exists())).await;
    assert!(young.iter().all(|path| path.is_file()));
    assert!(kept.iter().all(|path| path.is_file()), "a version names it: {kept:?}");
}

#[tokio::test]
async fn a_broker_sweeps_at_its_start_and_after_each_interval() {
    let test = published(Backend::Embedded).await.unwrap();
    tokio::time::pause();
    let left = place(test.data(), b"left");
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    let sweeping = tokio::spawn(sweep_store(test.broker.clone(), SWEEP_INTERVAL));
    let mut tick = tokio::time::interval(Duration::from_secs(60));
    for round in 0..3 {
        fs::write(&left, "left").unwrap();
        set_written_at(&left, test.time() - MONTH);
        let started = tokio::time::Instant::now();
        while left.exists() {
            tick.tick().await;
        }
        let waited = started.elapsed();
        assert!(waited <= SWEEP_INTERVAL + Duration::from_secs(120), "{round}: {waited:?}");
        if round > 0 {
            assert!(waited >= SWEEP_INTERVAL - Duration::from_secs(120), "{round}: {waited:?}");
        }
    }
    sweeping.abort();
}

#[tokio::test]
async fn a_sweep_deletes_nothing_that_records_of_a_newer_release_can_name() {
    let test = published(Backend::Embedded).await.unwrap();
    let left = place(test.data(), b"of a newer release");
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    fs::write(&left, "of a newer release").unwrap();
    set_written_at(&left, test.time() - MONTH);
    let database = Connection::open(test.data().join("stile.sqlite3")).unwrap();
    let format: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    database.pragma_update(None, "user_version", format + 1).unwrap();
    assert_eq!(test.store().sweep(test.time()).await.unwrap(), Swept::default());
    assert!(left.is_file());
    let refused = test.store().as_operator().leftovers().await.unwrap_err().to_string();
    assert!(refused.contains("a newer release wrote this store; hint: "), "{refused}");
    database.pragma_update(None, "user_version", format).unwrap();
    let swept = test.store().sweep(test.time()).await.unwrap();
    assert_eq!(swept, Swept { archives: 1, temporary: 0 });
}

#[tokio::test]
async fn a_sweep_deletes_nothing_if_the_database_is_not_that_of_the_archives() {
    let test = published(Backend::Embedded).await.unwrap();
    let old = test.time() - MONTH;
    for path in archives(test.data()) {
        set_written_at(&path, old);
    }
    let left = |n: usize| place(test.data(), format!("left {n}").as_bytes());
    for n in 0..17 {
        fs::create_dir_all(left(n).parent().unwrap()).unwrap();
        fs::write(left(n), "left").unwrap();
        set_written_at(&left(n), old);
    }
    let before = archives(test.data());
    assert_eq!(test.store().sweep(test.time()).await.unwrap(), Swept::default(), "too many");
    fs::remove_file(left(16)).unwrap();
    let database = Connection::open(test.data().join("stile.sqlite3")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE kept AS SELECT * FROM module_versions; DELETE FROM module_versions",
        )
        .unwrap();
    assert_eq!(test.store().sweep(test.time()).await.unwrap(), Swept::default(), "a new database");
    assert_eq!(archives(test.data()).len(), before.len() - 1);
    database
        .execute_batch("INSERT INTO module_versions SELECT * FROM kept; DROP TABLE kept")
        .unwrap();
    let swept = test.store().sweep(test.time()).await.unwrap();
    assert_eq!(swept, Swept { archives: 16, temporary: 0 });
    assert_eq!(archives(test.data()).len(), 3, "of the versions");
}

/// Runs `stile-admin store check`, and returns what it prints as JSON.
async fn check(home: &Home, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["store", "check", "--output", "json"], arguments].concat();
    let ran = home.run(&program(ADMIN), &arguments).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

async fn published(backend: Backend) -> Option<TestBroker> {
    let test = TestBroker::start_on(backend).await?;
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    for (module, version) in
        [("acme/vpc/aws", "1.0.0"), ("acme/vpc/aws", "1.1.0"), ("acme/a/aws", "1.0.0")]
    {
        let archive = module_zip(&format!("{module} {version}"));
        assert_eq!(test.publish(module, version, archive, &token).await.status, 201);
    }
    Some(test)
}

#[tokio::test]
async fn the_check_lists_the_archives_that_no_version_names_and_deletes_none() {
    let test = published(Backend::Embedded).await.unwrap();
    let (data, home) = (test.data().to_str().unwrap(), Home::temporary());
    assert_eq!(check(&home, &["--data", data]).await, [] as [Value; 0]);
    let left = place(test.data(), b"left");
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    fs::write(&left, "left").unwrap();
    set_written_at(&left, 1_700_000_000);
    let found = check(&home, &["--data", data]).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(test.data().join(found[0]["archive"].as_str().unwrap()), left);
    assert_eq!((&found[0]["bytes"], &found[0]["object_version"]), (&4.into(), &Value::Null));
    assert_eq!(found[0]["written_at"], "2023-11-14T22:13:20Z");
    assert!(left.is_file());

    let database = Connection::open(test.data().join("stile.sqlite3")).unwrap();
    let format =
        || -> i64 { database.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap() };
    let newest = format();
    database.pragma_update(None, "user_version", 2).unwrap();
    let ran = home.run(&program(ADMIN), &["store", "check", "--data", data]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let sentence = format!(
        "has format 2, and this program's is {newest}; hint: run `stile-admin store migrate"
    );
    assert!(ran.words().contains(&sentence), "{ran:?}");
    assert_eq!(format(), 2, "the check migrates nothing");
}

#[tokio::test]
async fn on_aws_the_check_lists_the_object_versions_that_no_version_names() {
    let Some(test) = published(Backend::Aws).await else { return };
    let aws = test.aws();
    let mut home = Home::temporary();
    for (name, value) in aws.environment() {
        home.variable(name, value);
    }
    assert_eq!(check(&home, &[]).await, [] as [Value; 0]);
    let named = module_zip("acme/vpc/aws 1.0.0");
    let key = |version: &str, archive: &[u8]| {
        let sha256 = hex::encode(Sha256::digest(archive));
        format!("modules/acme/vpc/aws/{version}/{sha256}.zip")
    };
    let mut expected = Vec::new();
    for (key, bytes) in [
        // Of a lost race, of a version that does not exist, and a second object version.
        (key("1.0.0", b"loser"), &b"loser"[..]),
        (key("3.0.0", b"killed"), b"killed"),
        (key("1.0.0", &named), &named),
        ("modules/stray".to_owned(), b"stray"),
    ] {
        let object_version = aws.put_object(&format!("/{key}"), bytes).await;
        expected.push((key, object_version, bytes.len() as u64));
    }
    aws.put_object("/uploads/begun", b"begun").await;
    let versions = aws.versions().await;
    let found = check(&home, &[]).await;
    let mut listed: Vec<_> = found
        .iter()
        .map(|found| {
            let text = |name: &str| found[name].as_str().unwrap().to_owned();
            (text("archive"), text("object_version"), found["bytes"].as_u64().unwrap())
        })
        .collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(aws.versions().await, versions, "the check deletes nothing");
    test.store().sweep(test.time()).await.unwrap();
    assert_eq!(aws.versions().await, versions, "a broker has no right to delete an archive");
}

#[tokio::test]
async fn a_repair_deletes_the_old_archives_that_no_version_names_and_lists_them() {
    let test = published(Backend::Embedded).await.unwrap();
    let (data, home) = (test.data().to_str().unwrap(), Home::temporary());
    let kept = archives(test.data());
    let left = ["old", "young"].map(|what| place(test.data(), what.as_bytes()));
    for path in &left {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "left").unwrap();
    }
    set_written_at(&left[0], system_time() - 2 * DAY);
    let arguments = ["store", "check", "--data", data, "--repair", "--older-than", "23h"];
    let ran = home.run(&program(ADMIN), &arguments).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.words().contains("must be at least a day, such as `30d`"), "{ran:?}");
    let none = check(&home, &["--data", data, "--repair"]).await;
    assert_eq!(none, [] as [Value; 0], "a backup of the last 30 days can name it");
    let repair = ["--data", data, "--repair", "--older-than", "1d"];
    let deleted = check(&home, &repair).await;
    assert_eq!(deleted.len(), 1, "{deleted:?}");
    assert_eq!(test.data().join(deleted[0]["archive"].as_str().unwrap()), left[0]);
    assert!(!left[0].exists() && left[1].is_file());
    assert!(kept.iter().all(|path| path.is_file()));
    assert_eq!(check(&home, &repair).await, [] as [Value; 0]);

    let database = Connection::open(test.data().join("stile.sqlite3")).unwrap();
    database.execute_batch("DELETE FROM module_versions; DELETE FROM modules").unwrap();
    set_written_at(&left[1], system_time() - 31 * DAY);
    let arguments = ["store", "check", "--data", data, "--repair"];
    let ran = home.run(&program(ADMIN), &arguments).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let sentence = "the store names 0 archives, and 1 old ones have no version, so none is deleted";
    assert!(ran.words().contains(sentence), "{ran:?}");
    assert!(left[1].is_file());
}

/// Returns the key of an archive of `acme/vpc/aws`.
fn object_key(version: &str, archive: &[u8]) -> String {
    format!("modules/acme/vpc/aws/{version}/{}.zip", hex::encode(Sha256::digest(archive)))
}

#[tokio::test]
async fn on_aws_a_repair_deletes_old_objects_that_no_version_names_and_needs_no_clock() {
    let Some(test) = published(Backend::Aws).await else { return };
    let aws = test.aws();
    let [named, lost] =
        ["1.0.0", "1.1.0"].map(|version| module_zip(&format!("acme/vpc/aws {version}")));
    let mut expected = Vec::new();
    for (key, is_deleted) in [
        (object_key("1.0.0", b"loser"), true),
        (object_key("3.0.0", b"killed"), true),
        // A second copy of an archive, and the only one that is left of another.
        (object_key("1.0.0", &named), true),
        (object_key("1.1.0", &lost), false),
        (format!("{}.sig", object_key("1.0.0", &named)), false),
        ("modules/stray".to_owned(), false),
    ] {
        let object_version = aws.put_object(&format!("/{key}"), b"left").await;
        expected.extend(is_deleted.then_some((key, Some(object_version))));
    }
    let item = json!({"pk": {"S": "module acme/vpc/aws"}, "sk": {"S": "version 1.1.0"}});
    let mut row = aws.dynamodb("GetItem", json!({ "Key": item })).await["Item"].clone();
    row["object_version"] = json!({"S": "gone"});
    aws.dynamodb("PutItem", json!({ "Item": row })).await;

    let (versions, store) = (aws.versions().await, test.store());
    let now = test.time();
    let none = store.as_operator().delete_leftovers(system_time() - DAY, now).await.unwrap();
    assert!(none.deleted.is_empty() && none.error.is_none(), "all are young: {none:?}");
    let repaired = store.as_operator().delete_leftovers(system_time() + DAY, now).await.unwrap();
    assert!(repaired.error.is_none(), "{repaired:?}");
    let deleted = repaired.deleted.iter();
    let mut deleted: Vec<_> =
        deleted.map(|found| (found.archive.clone(), found.object_version.clone())).collect();
    deleted.sort();
    expected.sort();
    assert_eq!(deleted, expected);
    // The emulator says that the object of version `1.1.0` is gone, and so its copy is needed.
    let kept: Vec<_> =
        repaired.kept.iter().map(|(found, why)| (found.archive.clone(), why)).collect();
    let reason = "the archive of the version is lost, and this object has its bytes".to_owned();
    assert!(kept.iter().all(|kept| *kept == (object_key("1.1.0", &lost), &reason)), "{kept:?}");
    assert!(!kept.is_empty());
    assert_eq!(aws.versions().await, versions - 3);
    let token = test.token(&deploy(), &[Download, Upload]).await;
    assert_eq!(test.get("/v1/modules/acme/vpc/aws/1.0.0/download", &token).await.status, 204);
    let again = test.publish("acme/vpc/aws", "3.0.0", module_zip("again"), &token).await;
    assert_eq!(again.status, 201, "the repair holds no version: {}", again.text());
}

#[tokio::test]
async fn on_aws_a_publish_that_uses_an_object_which_is_deleted_meanwhile_lists_nothing() {
    let Some(test) = published(Backend::Aws).await else { return };
    let (aws, archive) = (test.aws(), module_zip("left"));
    let token = test.token(&deploy(), &[Download, Upload]).await;
    let key = object_key("2.0.0", &archive);
    aws.put_object(&format!("/{key}"), &archive).await;
    let path = format!("/{}/{key}", aws.place.bucket);
    // The object exists, so the broker reads it back, and then uses it.
    let mut read_back = aws.proxy.hold("GET", &path);
    let publishing = test.publish("acme/vpc/aws", "2.0.0", archive.clone(), &token);
    let deleting = async {
        read_back.arrived().await;
        let mut commit = aws.proxy.hold("POST", "/");
        read_back.release();
        commit.arrived().await;
        let until = system_time() + DAY;
        let repaired = test.store().as_operator().delete_leftovers(until, test.time()).await;
        commit.release();
        repaired.unwrap()
    };
    let (published, repaired) = tokio::join!(publishing, deleting);
    let deleted: Vec<_> = repaired.deleted.iter().map(|found| &found.archive).collect();
    assert_eq!(deleted, [&key], "{repaired:?}");
    assert_eq!(published.status, 503, "{}", published.text());
    let download = "/v1/modules/acme/vpc/aws/2.0.0/download";
    assert_eq!(test.get(download, &token).await.status, 404);
    let again = test.publish("acme/vpc/aws", "2.0.0", archive, &token).await;
    assert_eq!(again.status, 201, "{}", again.text());
    assert_eq!(test.get(download, &token).await.status, 204);
}

/// Reserves a version as a publisher of other content does.
async fn reserve(test: &TestBroker, version: &str, holder: &str, until: i64) {
    let item = json!({
        "pk": {"S": "module acme/vpc/aws"}, "sk": {"S": format!("reserved {version}")},
        "v": {"N": "1"}, "holder": {"S": holder}, "reserved_until": {"N": until.to_string()},
    });
    test.aws().dynamodb("PutItem", json!({ "Item": item })).await;
}

#[tokio::test]
async fn who_would_lose_the_race_for_a_version_on_aws_stores_nothing() {
    let Some(test) = published(Backend::Aws).await else { return };
    let token = test.token(&deploy(), &[Download, Upload]).await;
    let archive = module_zip("mine");
    reserve(&test, "2.0.0", "theirs", test.time() + 60).await;
    let versions = test.aws().versions().await;
    let refused = test.publish("acme/vpc/aws", "2.0.0", archive.clone(), &token).await;
    assert_eq!(refused.status, 409);
    let sentence = "another publish of `acme/vpc/aws` 2.0.0, with other content, is in progress; hint: try again";
    assert!(refused.text().contains(sentence), "{}", refused.text());
    assert_eq!(test.aws().versions().await, versions, "neither an archive nor metadata");
    test.advance(61);
    let published = test.publish("acme/vpc/aws", "2.0.0", archive, &token).await;
    assert_eq!(published.status, 201, "a publisher that died holds no version for long");
}

#[tokio::test]
async fn a_publisher_on_aws_that_was_slow_and_lost_its_reservation_lists_nothing() {
    let Some(test) = published(Backend::Aws).await else { return };
    let token = test.token(&deploy(), &[Download, Upload]).await;
    let archive = module_zip("slow");
    let path = format!("/{}/{}", test.aws().place.bucket, object_key("2.0.0", &archive));
    let mut held = test.aws().proxy.hold("PUT", &path);
    let publishing = test.publish("acme/vpc/aws", "2.0.0", archive, &token);
    // Another holder takes the version while the archive is on its way to the bucket.
    let taken = async {
        held.arrived().await;
        reserve(&test, "2.0.0", "another", test.time() + 60).await;
        held.release();
    };
    let (published, ()) = tokio::join!(publishing, taken);
    assert_eq!(published.status, 503, "{}", published.text());
    assert_eq!(test.get("/v1/modules/acme/vpc/aws/2.0.0/download", &token).await.status, 404);
}

#[tokio::test]
async fn a_publish_on_aws_that_fails_keeps_no_other_content_from_the_version() {
    let Some(test) = published(Backend::Aws).await else { return };
    let token = test.token(&deploy(), &[Download, Upload]).await;
    test.aws().proxy.inject("s3 PUT", .., Fault::Fail);
    let failed = test.publish("acme/vpc/aws", "2.0.0", module_zip("first"), &token).await;
    assert_eq!(failed.status, 503, "{}", failed.text());
    test.aws().proxy.repair();
    let other = test.publish("acme/vpc/aws", "2.0.0", module_zip("second"), &token).await;
    assert_eq!(other.status, 201, "{}", other.text());
}
