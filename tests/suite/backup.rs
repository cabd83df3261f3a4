//! Backups of a data folder, and what a registry is after a restore: its modules are whole, tokens
//! and proofs from before are refused, and no run that fails or is killed harms the backup before it.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use stile_protocol::audience::Audience;
use stile_protocol::names::Permission::{Download, Upload};
use stile_protocol::region::REGIONS;
use stile_store::{BackedUp, Restored, Store, StoreError, StoreErrorKind};
use stile_tests::broker::operator::{AsOperator as _, kept, operator};
use stile_tests::broker::{HOST, Place, TestBroker, deploy, embedded, module_zip, role};
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::small_disk::SmallDisk;
use stile_tests::time_limits;
use tempfile::TempDir;

const VERSIONS: &str = "/v1/modules/acme/vpc/aws/versions";

/// A registry with a token that may publish, and a folder for backups.
struct Registry {
    test: TestBroker,
    token: String,
    folder: TempDir,
}

impl Registry {
    /// Starts a registry with the versions 1.0.0 to 1.0.2.
    async fn new() -> Self {
        let test = TestBroker::start();
        test.store()
            .record_host(&operator(), &Audience::parse(HOST).unwrap(), &kept(0))
            .await
            .unwrap();
        test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
        let token = test.token(&deploy(), &[Download, Upload]).await;
        let registry = Self { test, token, folder: tempfile::tempdir().unwrap() };
        for patch in 0..3 {
            registry.publish(patch).await;
        }
        registry
    }

    async fn publish(&self, patch: usize) {
        let (version, archive) = (format!("1.0.{patch}"), archive(patch));
        let published = self.test.publish("acme/vpc/aws", &version, archive, &self.token).await;
        assert!([200, 201].contains(&published.status.as_u16()), "{}", published.text());
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("backup")
    }

    async fn back_up(&self) -> Result<BackedUp, StoreError> {
        self.back_up_to(&self.out()).await
    }

    async fn back_up_to(&self, out: &Path) -> Result<BackedUp, StoreError> {
        back_up(self.test.data(), out, self.test.time()).await
    }

    /// Restores the backup, and starts a broker on it at the same time.
    async fn restored(&self) -> TestBroker {
        let data = tempfile::tempdir().unwrap();
        restore(&self.out(), data.path(), self.test.time()).await.unwrap();
        let place = Place::Folder(Arc::new(data));
        let again = TestBroker::start_at(HOST, 3600, place, &REGIONS.iter().collect::<Vec<_>>());
        again.set_time(self.test.time());
        again
    }

    /// Returns the path of the archive of a version in the data folder.
    fn archive_of(&self, patch: usize) -> PathBuf {
        archive_in(self.test.data(), patch)
    }

    /// Checks that the backup can be restored, and has exactly so many versions.
    async fn has_whole_backup_of(&self, versions: usize) {
        let restored = self.restored().await;
        assert_eq!(whole_versions(&restored).await.len(), versions);
    }
}

fn archive(patch: usize) -> Vec<u8> {
    module_zip(&format!("version {patch}"))
}

fn archive_in(folder: &Path, patch: usize) -> PathBuf {
    let sha256 = hex::encode(Sha256::digest(archive(patch)));
    folder.join("archives").join(&sha256[..2]).join(format!("{sha256}.zip"))
}

async fn back_up(data: &Path, out: &Path, now: i64) -> Result<BackedUp, StoreError> {
    Store::back_up_folder(&operator(), data, out, time_limits::embedded(), now, |_| {}).await
}

async fn restore(from: &Path, data: &Path, now: i64) -> Result<Restored, StoreError> {
    Store::restore_folder(&operator(), from, data, &kept(now), |_| {}).await
}

/// Returns the listed versions of a restored registry. Each has its archive, and no archive is left.
async fn whole_versions(restored: &TestBroker) -> BTreeSet<String> {
    restored.advance(121);
    let token = restored.token(&deploy(), &[Download]).await;
    assert_eq!(restored.store().as_operator().leftovers().await.unwrap(), []);
    assert_eq!(restored.store().as_operator().package_faults().await.unwrap(), []);
    let document = restored.get(VERSIONS, &token).await.json();
    let mut listed = BTreeSet::new();
    for version in document["modules"][0]["versions"].as_array().unwrap() {
        let version = version["version"].as_str().unwrap();
        let path = format!("/v1/modules/acme/vpc/aws/{version}/download");
        let location = restored.get(&path, &token).await.header("x-terraform-get").to_owned();
        let patch = version.rsplit('.').next().unwrap().parse().unwrap();
        assert_eq!(restored.get_anonymously(&location).await.body, archive(patch), "{version}");
        listed.insert(version.to_owned());
    }
    listed
}

/// Returns every file and folder below a folder.
fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(all_below(&entry));
        }
        found.push(entry);
    }
    found
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_while_publishers_publish_has_every_version_that_it_lists() {
    let registry = Registry::new().await;
    let (more, backups) = (40, 4);
    let publishing = async {
        for patch in 3..more {
            registry.publish(patch).await;
        }
    };
    let backing_up = async {
        let mut listed = 0;
        for _ in 0..backups {
            let done = registry.back_up().await.unwrap();
            let versions = whole_versions(&registry.restored().await).await;
            assert_eq!(versions.len(), done.archives);
            assert!(versions.len() >= listed.max(3), "{versions:?}");
            listed = versions.len();
        }
    };
    tokio::join!(publishing, backing_up);
    let done = registry.back_up().await.unwrap();
    assert_eq!(done.archives, more);
    registry.has_whole_backup_of(more).await;
}

#[tokio::test]
async fn a_restored_registry_serves_the_same_documents() {
    let registry = Registry::new().await;
    registry.back_up().await.unwrap();
    let restored = registry.restored().await;
    restored.advance(121);
    let token = restored.token(&deploy(), &[Download]).await;
    for path in [
        VERSIONS,
        "/v1/modules",
        "/v1/modules/acme/vpc/aws",
        "/v1/modules/acme/vpc/aws/1.0.1",
        "/v1/modules/search?q=vpc",
    ] {
        let expected = registry.test.get(path, &registry.token).await;
        let reply = restored.get(path, &token).await;
        assert_eq!((reply.status, reply.text()), (expected.status, expected.text()), "{path}");
    }
}

#[tokio::test]
async fn a_token_and_a_signed_url_from_before_a_restore_are_invalid_after_it() {
    let registry = Registry::new().await;
    let download = "/v1/modules/acme/vpc/aws/1.0.0/download";
    let answer = registry.test.get(download, &registry.token).await;
    let location = answer.header("x-terraform-get").to_owned();
    registry.back_up().await.unwrap();
    let restored = registry.restored().await;
    for _ in 0..2 {
        assert_eq!(restored.get(VERSIONS, &registry.token).await.status, 401);
        assert_eq!(restored.get_anonymously(&location).await.status, 403);
        // The second time, the registry has a keyring.
        restored.advance(121);
        restored.token(&deploy(), &[Download]).await;
    }
    assert_eq!(registry.test.get(VERSIONS, &registry.token).await.status, 200);
}

#[tokio::test]
async fn a_proof_from_before_a_restore_is_refused_and_one_from_after_is_accepted() {
    let registry = Registry::new().await;
    registry.back_up().await.unwrap();
    let identity = deploy();
    registry.test.sts.add_identity(identity.clone());
    // The signer's clock is ahead, by as much as the broker accepts.
    let at = registry.test.time();
    let used = registry.test.proof(&identity).now(at + 120).build();
    assert_eq!(registry.test.exchange(&used).await.status, 200);
    let restored = registry.restored().await;
    restored.sts.add_identity(identity.clone());
    restored.set_time(at + 125);
    for (signed_at, expected) in [(-1, false), (0, false), (119, false), (120, false), (121, true)]
    {
        let proof = restored.proof(&identity).now(at + signed_at).build();
        let reply = restored.exchange(&proof).await;
        let text = reply.text();
        if expected {
            assert_eq!(reply.status, 200, "{text}");
        } else {
            assert_eq!(reply.error(), "401 proof_expired", "{signed_at}");
            assert!(
                text.contains("accepts only proofs that are signed from 2026-11-20T10:13:13Z on"),
                "{text}"
            );
            assert!(text.contains("try again after that time"), "{text}");
        }
    }
    assert_eq!(restored.exchange(&used).await.error(), "401 proof_expired", "a used proof");
    let again = restored.restarted();
    again.sts.add_identity(identity);
    assert_eq!(again.exchange(&used).await.error(), "401 proof_expired", "after a restart");
}

#[tokio::test]
async fn a_second_backup_into_the_same_folder_copies_only_what_is_new() {
    let registry = Registry::new().await;
    let first = registry.back_up().await.unwrap();
    assert_eq!((first.archives, first.copied), (3, 3));
    let numbers = |folder: &Path| -> BTreeSet<u64> {
        let files = all_below(&folder.join("archives")).into_iter().filter(|path| path.is_file());
        files.map(|path| fs::metadata(path).unwrap().ino()).collect()
    };
    let before = numbers(&registry.out());
    let second = registry.back_up().await.unwrap();
    assert_eq!((second.archives, second.copied, second.copied_bytes), (3, 0, 0));
    assert_eq!(numbers(&registry.out()), before);
    registry.publish(3).await;
    let third = registry.back_up().await.unwrap();
    assert_eq!((third.archives, third.copied), (4, 1));
    assert_eq!(third.copied_bytes, archive(3).len() as u64);
    assert!(numbers(&registry.out()).is_superset(&before));
    // A copy that another program cut is copied again.
    fs::write(archive_in(&registry.out(), 0), "cut").unwrap();
    assert_eq!(registry.back_up().await.unwrap().copied, 1);
    registry.has_whole_backup_of(4).await;
    let databases = fs::read_dir(registry.out()).unwrap();
    let names = databases.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = names.filter(|name| name.ends_with(".sqlite3")).collect();
    assert_eq!(names.len(), 1, "only the last database is kept: {names:?}");
}

#[tokio::test]
async fn a_backup_that_is_killed_or_interrupted_leaves_the_one_before_it_whole() {
    let registry = Registry::new().await;
    let data = registry.test.data().to_owned();
    let mut copied = 0;
    for (round, signal) in [Signal::KILL, Signal::INT, Signal::TERM].into_iter().enumerate() {
        let manifest = fs::read(registry.out().join("backup.json")).ok();
        let patch = 3 + round;
        registry.publish(patch).await;
        // The program waits at this archive, because nobody writes to the pipe.
        let archive = registry.archive_of(patch);
        let aside = registry.folder.path().join("aside");
        fs::rename(&archive, &aside).unwrap();
        assert!(Command::new("mkfifo").arg(&archive).status().unwrap().success());
        let mut running = Command::new(program(ADMIN))
            .args(["backup", "--data", data.to_str().unwrap(), "--out"])
            .arg(registry.out())
            .env_clear()
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let unfinished = registry.out().join("unfinished");
        let is_waiting = || fs::read_dir(&unfinished).is_ok_and(|entries| entries.count() == 2);
        let waited = time_limits::wait(async {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            while !is_waiting() {
                tick.tick().await;
            }
        });
        assert!(waited.await.is_some(), "the program copies the archive");
        kill_process(Pid::from_child(&running), signal).unwrap();
        assert!(!running.wait().unwrap().success(), "{signal:?}");
        fs::rename(&aside, &archive).unwrap();

        assert_eq!(
            fs::read(registry.out().join("backup.json")).ok().filter(|_| round > 0),
            manifest
        );
        if round == 0 {
            let empty = registry.folder.path().join("new");
            let refused = restore(&registry.out(), &empty, 0).await.unwrap_err().to_string();
            assert!(
                refused.contains("is not complete; hint: run `stile-admin backup`"),
                "{refused}"
            );
            assert!(!empty.exists());
        } else {
            registry.has_whole_backup_of(patch).await;
        }
        let done = registry.back_up().await.unwrap();
        copied += done.copied;
        assert_eq!((done.archives, fs::read_dir(&unfinished).unwrap().count()), (patch + 1, 0));
        registry.has_whole_backup_of(patch + 1).await;
    }
    assert!(copied <= 6, "what a killed run copied is not copied again: {copied}");
}

#[tokio::test]
async fn a_damaged_or_missing_archive_fails_the_backup_and_the_one_before_it_stays() {
    let registry = Registry::new().await;
    registry.back_up().await.unwrap();
    let manifest = fs::read(registry.out().join("backup.json")).unwrap();
    registry.publish(3).await;
    let archive = registry.archive_of(3);
    flip_a_byte(&archive);
    let refused = registry.back_up().await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Corrupt);
    let shown = archive.display();
    let refused = refused.to_string();
    assert!(refused.contains(&format!("`{shown}` is damaged: its SHA-256 is `")), "{refused}");
    assert!(
        refused.contains("; hint: move the file away if it is there, and publish"),
        "{refused}"
    );

    fs::remove_file(&archive).unwrap();
    let refused = registry.back_up().await.unwrap_err().to_string();
    assert!(refused.contains(&format!("`{shown}` is missing; hint: ")), "{refused}");
    assert_eq!(fs::read(registry.out().join("backup.json")).unwrap(), manifest);
    registry.has_whole_backup_of(3).await;
    registry.publish(3).await;
    assert_eq!(registry.back_up().await.unwrap().copied, 1);
    registry.has_whole_backup_of(4).await;
}

#[tokio::test]
async fn a_full_disk_fails_the_backup_and_the_one_before_it_stays() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let registry = Registry::new().await;
    fs::set_permissions(disk.path(), Permissions::from_mode(0o700)).unwrap();
    let out = disk.path().join("backup");
    registry.back_up_to(&out).await.unwrap();
    registry.publish(3).await;
    disk.fill();
    let refused = registry.back_up_to(&out).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable, "{refused}");
    assert!(refused.to_string().contains(out.to_str().unwrap()), "{refused}");
    disk.clear();
    // The folder of the backup is on the disk.
    let data = tempfile::tempdir().unwrap();
    assert_eq!(restore(&out, data.path(), 0).await.unwrap().archives, 3);
    assert_eq!(registry.back_up_to(&out).await.unwrap().copied, 1);
}

#[tokio::test]
async fn a_backup_is_written_to_no_folder_of_something_else() {
    let registry = Registry::new().await;
    let folder = registry.folder.path();
    let refused = async |out: &Path, expected: &str| {
        let before = out.exists().then(|| all_below(out));
        let error = registry.back_up_to(out).await.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("; hint: "), "{error}");
        assert_eq!(out.exists().then(|| all_below(out)), before, "{expected}");
    };
    let others = folder.join("others");
    fs::create_dir(&others).unwrap();
    fs::write(others.join("notes.txt"), "").unwrap();
    refused(&others, "is not empty, and it is not a backup").await;
    refused(registry.test.data(), "is not empty, and it is not a backup").await;

    let other = tempfile::tempdir().unwrap();
    let store = embedded(other.path(), time_limits::embedded());
    store
        .record_host(&operator(), &Audience::parse("other.example.com").unwrap(), &kept(0))
        .await
        .unwrap();
    let of_another = folder.join("another");
    back_up(other.path(), &of_another, 0).await.unwrap();
    refused(&of_another, "is of registry `other.example.com`, and the data folder is for").await;

    let open = folder.join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    refused(&open, "users other than its owner can write to").await;
    fs::set_permissions(&open, Permissions::from_mode(0o700)).unwrap();
    registry.back_up_to(&open).await.unwrap();

    let lock = fs::File::options().append(true).open(open.join("backup.lock")).unwrap();
    lock.lock().unwrap();
    let busy = registry.back_up_to(&open).await.unwrap_err();
    assert_eq!(busy.kind(), StoreErrorKind::Busy, "{busy}");
    let busy = restore(&open, &folder.join("new"), 0).await.unwrap_err();
    assert_eq!(busy.kind(), StoreErrorKind::Busy, "{busy}");
}

#[tokio::test]
async fn a_restore_writes_only_to_an_empty_folder_and_only_a_backup_that_it_can_read() {
    let registry = Registry::new().await;
    registry.back_up().await.unwrap();
    let (out, folder) = (registry.out(), registry.folder.path());
    let new = folder.join("new");
    let refused = async |from: &Path, data: &Path, expected: &str| {
        let error = restore(from, data, 0).await.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("; hint: "), "{expected}: {error}");
    };
    let data = registry.test.data();
    let before = all_below(data);
    refused(&out, data, "is not empty, and a restore writes over nothing").await;
    refused(&out, &out, "is not empty, and a restore writes over nothing").await;
    assert_eq!(all_below(data), before);
    refused(data, &new, "is not a backup").await;
    refused(&folder.join("missing"), &new, "is not a backup").await;

    let is_database = |path: &PathBuf| path.extension().is_some_and(|end| end == "sqlite3");
    let database = all_below(&out).into_iter().find(is_database).unwrap();
    let whole = fs::read(&database).unwrap();
    let connection = Connection::open(&database).unwrap();
    let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    connection.pragma_update(None, "user_version", format + 1).unwrap();
    refused(&out, &new, "hint: run a newer release").await;
    let reader = format!("INSERT INTO meta VALUES ('oldest reader of {}', 1)", format + 1);
    connection.execute(&reader, []).unwrap();
    refused(&out, &new, "hint: use the `stile-admin` of the newer release").await;
    drop(connection);
    fs::set_permissions(&database, Permissions::from_mode(0o622)).unwrap();
    refused(&out, &new, "users other than its owner can write to").await;
    fs::set_permissions(&database, Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(&database).unwrap();
    refused(&out, &new, "is missing").await;
    assert!(!new.exists(), "none of them created the folder");

    fs::write(&database, &whole).unwrap();
    let connection = Connection::open(&database).unwrap();
    connection.execute("DELETE FROM grants", []).unwrap();
    drop(connection);
    refused(&out, &new, "is damaged: its SHA-256 is").await;
    fs::write(&database, &whole).unwrap();
    let archive = archive_in(&out, 1);
    flip_a_byte(&archive);
    let second = folder.join("second");
    refused(&out, &second, &format!("`{}` is damaged: its SHA-256 is", archive.display())).await;
    let opened = Store::open_folder(&second, time_limits::embedded()).unwrap_err().to_string();
    assert!(opened.contains("is not a data folder"), "{opened}");
}

#[tokio::test]
async fn only_its_owner_can_read_a_backup_and_it_contains_no_key_of_tokens() {
    let registry = Registry::new().await;
    registry.back_up().await.unwrap();
    let keyring = fs::read(registry.test.data().join("keyring.json")).unwrap();
    let keyring: Value = serde_json::from_slice(&keyring).unwrap();
    let secrets: Vec<&str> = keyring["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["secret"].as_str().unwrap())
        .collect();
    assert!(!secrets.is_empty());
    let restored = registry.folder.path().join("new");
    restore(&registry.out(), &restored, 0).await.unwrap();
    for folder in [registry.out(), restored] {
        let found = all_below(&folder);
        assert!(found.len() > 8, "{found:?}");
        for path in found.iter().chain([&folder]) {
            let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
            if path.is_dir() {
                continue;
            }
            assert!(!path.to_str().unwrap().contains("keyring"), "{}", path.display());
            let content = fs::read(path).unwrap();
            for secret in &secrets {
                let raw = URL_SAFE_NO_PAD.decode(secret).unwrap();
                for value in [secret.as_bytes(), &raw, hex::encode(&raw).as_bytes()] {
                    let is_there = content.windows(value.len()).any(|part| part == value);
                    assert!(!is_there, "a key is in {}", path.display());
                }
            }
        }
    }
}
