//! The embedded store on a disk that is full or read-only, locked by another process, or damaged.
//! The tests check what fails, what continues, what the operator sees, and that the store works
//! again after a repair.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::{EmbeddedDeadlines, Store};
use stile_tests::broker::served::system_time;
use stile_tests::broker::{
    Backend, Reply, TestBroker, deploy, embedded, make_data, module_zip, role,
};
use stile_tests::permissions::bound_by_permissions;
use stile_tests::process::programs::{BROKER, Broker, Setup, client, free_port, program};
use stile_tests::sts::local::LocalSts;
use stile_tests::sts::proof::{Proof, document};
use stile_tests::time_limits;
use tempfile::TempDir;

pub(crate) const VERSIONS: &str = "/v1/modules/acme/vpc/aws/versions";

/// A deadline for calls that hang by design.
const SHORT: Duration = Duration::from_millis(200);

pub(crate) const DOWNLOAD: &str = "/v1/modules/acme/vpc/aws/1.0.0/download";

async fn published() -> (TestBroker, String) {
    let test = TestBroker::start_on(Backend::Embedded).await.unwrap();
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    assert_eq!(
        test.publish("acme/vpc/aws", "1.0.0", module_zip("hello"), &token).await.status,
        201
    );
    (test, token)
}

/// Runs the checks of `stile-broker check` on a data folder. Returns the output, and whether all is
/// well.
pub(crate) fn checked(data: &Path) -> (bool, String) {
    let mut command = Command::new(program(BROKER));
    command
        .args(["check", "--host", "registry.example.com", "--regions", "us-east-1", "--data"])
        .arg(data);
    // There is no STS, so the test ignores the result about it.
    command.env_clear().env("STILE_STS_ENDPOINT", "http://127.0.0.1:9");
    let output = command.output().unwrap();
    let said =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let findings =
        said.lines().filter(|line| line.starts_with("ok ") || line.starts_with("failed "));
    let of_the_store =
        findings.filter(|line| line.contains("data folder") || line.contains("keyring"));
    (
        of_the_store.clone().count() > 0 && of_the_store.clone().all(|line| line.starts_with("ok")),
        said,
    )
}

pub(crate) fn is_down(reply: &Reply, what: &str) {
    assert_eq!(
        (reply.status.as_u16(), reply.header("retry-after")),
        (503, "2"),
        "{what}: {}",
        reply.text()
    );
    assert!(
        !reply.text().contains("stile_v4") && !reply.text().contains('/'),
        "{what}: {}",
        reply.text()
    );
}

/// Checks an answer that asks for no retry, because an operator must repair the store first.
fn is_broken(reply: &Reply, what: &str) {
    assert_eq!(
        (reply.status.as_u16(), reply.header("retry-after")),
        (500, ""),
        "{what}: {}",
        reply.text()
    );
    assert!(
        !reply.text().contains("stile_v4") && !reply.text().contains('/'),
        "{what}: {}",
        reply.text()
    );
}

/// Damages a keyring in one of the ways. The broker cannot use it afterwards.
fn spoil_keyring(way: &str, keyring: &Path) {
    let text = fs::read(keyring).unwrap();
    match way {
        "half" => fs::write(keyring, &text[..text.len() / 2]).unwrap(),
        "empty" => fs::write(keyring, "").unwrap(),
        "bytes" => fs::write(keyring, [0xff; 300]).unwrap(),
        "a folder" => {
            fs::remove_file(keyring).unwrap();
            fs::create_dir(keyring).unwrap();
        }
        "read by others" => fs::set_permissions(keyring, Permissions::from_mode(0o644)).unwrap(),
        _ => unreachable!("{way}"),
    }
}

#[tokio::test]
async fn a_keyring_that_is_damaged_or_open_to_others_mints_and_opens_nothing_new_until_it_is_mended()
 {
    let (test, token) = published().await;
    let keyring = test.data().join("keyring.json");
    for (way, says) in [
        ("half", "is not a keyring"),
        ("empty", "is not a keyring"),
        ("bytes", "is not a keyring"),
        ("a folder", "keyring.json"),
        ("read by others", "chmod 600"),
    ] {
        let whole = fs::read(&keyring).unwrap();
        spoil_keyring(way, &keyring);
        let cold = test.restarted();
        test.advance(2);
        let identity = deploy();
        test.sts.add_identity(identity.clone());
        let proof = test.proof(&identity).build();
        let (expected, status): (fn(&Reply, &str), _) =
            if way == "a folder" { (is_down, 503) } else { (is_broken, 500) };
        expected(&test.exchange(&proof).await, way);
        expected(&test.get_anonymously("/readyz").await, way);
        assert_eq!(test.get(VERSIONS, &token).await.status, 200, "{way}: cached keys still work");
        let refused = cold.get(VERSIONS, &token).await;
        assert_eq!(refused.status, status, "{way}: {}", refused.text());
        let (content, said) = checked(test.data());
        assert!(!content && said.contains(says), "{way}: {said}");
        if way != "a folder" && way != "read by others" {
            assert!(
                fs::read(&keyring).unwrap() != whole,
                "{way}: the broker does not overwrite it"
            );
        }

        let _ = fs::remove_dir(&keyring);
        fs::write(&keyring, &whole).unwrap();
        fs::set_permissions(&keyring, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(test.exchange(&proof).await.status, 200, "{way}, after the repair");
        assert_eq!(test.get_anonymously("/readyz").await.status, 200, "{way}, after the repair");
        cold.advance(12);
        assert_eq!(cold.get(VERSIONS, &token).await.status, 200, "{way}, after the repair");
        assert!(checked(test.data()).0, "{way}, after the repair");
    }
}

#[tokio::test]
async fn a_locked_database_is_waited_for_and_then_is_down() {
    let (test, token) = published().await;
    let deadlines = EmbeddedDeadlines { writer: SHORT, ..time_limits::embedded() };
    let test = test.over(embedded(test.data(), deadlines));
    // The broker reads the principal state of the token before the lock.
    assert_eq!(test.get(VERSIONS, &token).await.status, 200);
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let proof = test.proof(&identity).build();
    let other_writer = Connection::open(test.data().join("stile.sqlite3")).unwrap();
    other_writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    test.advance(2);
    // All at once: each waits as long as a writer may, and no longer because of the others.
    let more: Vec<Value> = (0..8).map(|_| test.proof(&identity).build()).collect();
    let (minted, ready, sent, others) = tokio::join!(
        test.exchange(&proof),
        test.get_anonymously("/readyz"),
        test.publish("acme/vpc/aws", "2.0.0", module_zip("x"), &token),
        futures_util::future::join_all(more.iter().map(|proof| test.exchange(proof))),
    );
    for (what, reply) in [("mint", minted), ("readiness", ready), ("publish", sent)] {
        is_down(&reply, what);
    }
    others.iter().for_each(|reply| is_down(reply, "one of many mints"));
    assert_eq!(test.get(VERSIONS, &token).await.status, 200, "reading needs no lock");
    assert_eq!(test.get(DOWNLOAD, &token).await.status, 204, "reading needs no lock");
    other_writer.execute_batch("ROLLBACK").unwrap();
    assert_eq!(test.exchange(&proof).await.status, 200, "the proof is still unused");
    assert_eq!(test.get_anonymously("/readyz").await.status, 200);
    assert_eq!(test.get("/v1/modules/acme/vpc/aws/2.0.0/download", &token).await.status, 404);
    assert_eq!(test.publish("acme/vpc/aws", "2.0.0", module_zip("x"), &token).await.status, 201);
}

#[tokio::test]
async fn a_database_that_is_damaged_is_refused_with_a_sentence_and_is_opened_again_when_it_is_mended()
 {
    let (test, token) = published().await;
    let data = test.data().to_owned();
    let database = data.join("stile.sqlite3");
    // Writes the whole database into one file, so that the restored copy is whole.
    let whole = {
        let connection = Connection::open(&database).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        fs::read(&database).unwrap()
    };
    let aside = tempfile::tempdir().unwrap();
    for (way, says) in [
        ("bytes", "not a database"),
        ("half", "malformed"),
        ("empty", "has no tables of Stile"),
        ("gone", "is not a data folder"),
    ] {
        // A copy, because the running broker has the original open.
        let copy = aside.path().join(way);
        Store::init_folder(&copy, time_limits::embedded()).unwrap();
        let copied = copy.join("stile.sqlite3");
        for rest in ["stile.sqlite3-wal", "stile.sqlite3-shm"] {
            let _ = fs::remove_file(copy.join(rest));
        }
        match way {
            "bytes" => fs::write(&copied, [0xa5; 8192]).unwrap(),
            "half" => fs::write(&copied, &whole[..whole.len() / 2]).unwrap(),
            "empty" => fs::write(&copied, "").unwrap(),
            _ => fs::remove_file(&copied).unwrap(),
        }
        let error = Store::open_folder(&copy, time_limits::embedded()).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let refused = format!("{error}: {source}");
        assert!(refused.contains(says), "{way}: {refused}");
        let (content, said) = checked(&copy);
        assert!(!content, "{way}: {said}");
        fs::write(&copied, &whole).unwrap();
        let (content, said) = checked(&copy);
        assert!(content, "{way}, after the repair: {said}");
    }
    assert_eq!(test.get(VERSIONS, &token).await.status, 200);
}

/// A real broker over a data folder with one module.
pub(crate) struct Running {
    pub(crate) folder: TempDir,
    pub(crate) sts: LocalSts,
    pub(crate) broker: Broker,
    pub(crate) token: String,
}

impl Running {
    pub(crate) async fn start(by_way_of: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_data(&folder.path().join("data"), &role("deploy"), "acme", &[Download, Upload]).await;
        let sts = LocalSts::start([deploy()], std::sync::Arc::new(system_time));
        let setup = Setup::new(free_port(), &folder.path().join("data"))
            .sts(&sts.endpoint())
            .wrapped_by(by_way_of);
        let broker = setup.start(&folder.path().join("broker.log")).await;
        let mut running = Self { folder, sts, broker, token: String::new() };
        let (status, answer) = running.mint(&running.proof()).await;
        assert_eq!(status, 200, "{answer}: {}", running.broker.log());
        running.token = answer["token"].as_str().unwrap().to_owned();
        assert_eq!(running.publish("1.0.0", module_zip("hello")).await, 201);
        running
    }

    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn proof(&self) -> Value {
        let identity = deploy();
        self.sts.add_identity(identity.clone());
        let document =
            document(3600, stile_protocol::exchange::Namespaces::All, &[Download, Upload]);
        Proof::new(&identity)
            .audience(&self.broker.host())
            .now(system_time())
            .document(&document)
            .build()
    }

    pub(crate) async fn mint(&self, proof: &Value) -> (u16, Value) {
        let request = self
            .broker
            .client()
            .post(self.broker.url("/v1/token"))
            .header("content-type", "application/json");
        let answer = request.body(proof.to_string()).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }

    pub(crate) async fn publish(&self, version: &str, archive: Vec<u8>) -> u16 {
        // On a new connection: a connection with a half-sent archive cannot carry the next request.
        let request =
            client(None).post(self.broker.url(&format!("/v1/modules/acme/vpc/aws/{version}")));
        let sent = request
            .bearer_auth(&self.token)
            .header("content-type", "application/zip")
            .body(archive)
            .send();
        sent.await.unwrap().status().as_u16()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = self
            .broker
            .client()
            .get(self.broker.url(path))
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap();
        let link =
            answer.headers().get("x-terraform-get").map(|link| link.to_str().unwrap().to_owned());
        (answer.status().as_u16(), link.unwrap_or_default())
    }

    /// Asks for readiness until it has that status. The broker caches a good answer for two
    /// seconds.
    pub(crate) async fn is_ready(&self, expected: u16) {
        let asked = time_limits::wait(async {
            let mut tick = tokio::time::interval(Duration::from_millis(100));
            while self.get("/readyz").await.0 != expected {
                tick.tick().await;
            }
        });
        assert!(asked.await.is_some(), "readiness is not {expected}:\n{}", self.broker.log());
    }

    pub(crate) fn incoming(&self) -> usize {
        fs::read_dir(self.data().join("incoming")).unwrap().count()
    }
}

#[tokio::test]
async fn a_read_only_data_folder_is_not_ready_and_starts_nothing() {
    let Some(bound) = bound_by_permissions("a data folder that is read-only") else { return };
    let bound: Vec<&str> = bound.iter().map(String::as_str).collect();
    let running = Running::start(&bound).await;
    let data = running.data();
    let folders = [data.join("incoming"), data.join("archives"), data.clone()];
    let all = |mode: u32| {
        folders
            .iter()
            .for_each(|folder| fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap());
    };
    all(0o500);
    running.is_ready(503).await;
    assert_eq!(running.publish("2.0.0", module_zip("x")).await, 503);
    assert_eq!(running.get(VERSIONS).await.0, 200);
    assert_eq!(running.get(DOWNLOAD).await.0, 204);
    let (host, port) = (running.broker.host(), free_port());
    let broker = program(BROKER);
    let arguments = [&bound[..], &[broker.to_str().unwrap()]].concat();
    let mut second = Command::new(arguments[0]);
    second.args(&arguments[1..]).args([
        "serve",
        "--host",
        &host,
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--data",
    ]);
    let ended = second
        .arg(&data)
        .env_clear()
        .env("STILE_STS_ENDPOINT", running.sts.endpoint())
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(
        ended.status.code() == Some(1) && said.contains("error: ") && said.contains("cannot write"),
        "{said}"
    );
    all(0o700);
    running.is_ready(200).await;
    assert_eq!(running.publish("2.0.0", module_zip("x")).await, 201);
}
