//! A check of the store: versions without an archive, lists that differ from the records of their
//! versions, and what a repair does. Also a repair while others publish.

use std::collections::BTreeSet;
use std::fs;

use axum::body::Body;
use axum::http::Request;
use rusqlite::Connection;
use serde_json::{Value, json};
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::Relisted;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{Backend, TestBroker, deploy, module_zip, role};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::time_limits;

const VERSIONS: &str = "/v1/modules/acme/vpc/aws/versions";

/// The life of an unpublished version, as the store has it.
const UNPUBLISHED: &str = r#"{"unpublished":{"reason":"bad","by":"x","at":9}}"#;

/// What is wrong with `acme/vpc/aws` of a registry.
#[derive(Debug, Clone, Copy)]
enum Damage {
    LostList,
    UnreadableList,
    LostRecord,
    UnreadableRecord,
    UnpublishedButListed,
    WrongLatest,
    LostArchives,
}

/// A registry in which 1.0.0 and 1.1.0 of `acme/vpc/aws` are published, 2.0.0 is unpublished, and
/// another module is whole.
struct Registry {
    test: TestBroker,
    home: Home,
    token: String,
}

impl Registry {
    async fn new() -> Option<Self> {
        let test = TestBroker::start_on(super::BACKEND).await?;
        test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
        let token = test.token(&deploy(), &[Download, Upload]).await;
        for (module, version) in [
            ("acme/vpc/aws", "1.0.0"),
            ("acme/vpc/aws", "1.1.0"),
            ("acme/vpc/aws", "2.0.0"),
            ("acme/a/aws", "1.0.0"),
        ] {
            let archive = module_zip(&format!("{module} {version}"));
            assert_eq!(test.publish(module, version, archive, &token).await.status, 201);
            test.advance(1);
        }
        let request = Request::delete("/v1/modules/acme/vpc/aws/2.0.0")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Body::from(json!({"reason": "bad"}).to_string()));
        let unpublished = test.send(request.unwrap()).await;
        assert_eq!(unpublished.status, 200, "{}", unpublished.text());
        let mut home = Home::temporary();
        match super::BACKEND {
            Backend::Embedded => {
                home.variable("STILE_DATA", test.data());
                for (name, value) in time_limits::VARIABLES {
                    home.variable(name, value);
                }
            }
            Backend::Aws => {
                for (name, value) in test.aws().environment() {
                    home.variable(name, value);
                }
            }
        }
        home.variable("STILE_AUDIT_LOG", home.path().join("audit.log"));
        Some(Self { test, home, token })
    }

    async fn damage(&self, damage: Damage) {
        match super::BACKEND {
            Backend::Embedded => self.damage_database(damage),
            Backend::Aws => self.damage_table(damage).await,
        }
    }

    fn damage_database(&self, damage: Damage) {
        let unreadable =
            "UPDATE module_versions SET life = '[]' WHERE name = 'vpc' AND version = '1.1.0'";
        let unpublished = format!(
            "UPDATE module_versions SET life = '{UNPUBLISHED}' WHERE name = 'vpc' AND version = '1.1.0'"
        );
        let sql = match damage {
            Damage::LostList => "DELETE FROM modules WHERE name = 'vpc'",
            Damage::UnreadableList => {
                "UPDATE modules SET versions_document = '{' WHERE name = 'vpc'"
            }
            Damage::LostRecord => {
                "DELETE FROM module_versions WHERE name = 'vpc' AND version = '1.1.0'"
            }
            Damage::UnreadableRecord => unreadable,
            Damage::UnpublishedButListed => &unpublished,
            Damage::WrongLatest => "UPDATE modules SET latest = '1.0.0' WHERE name = 'vpc'",
            Damage::LostArchives => {
                fs::remove_dir_all(self.test.data().join("archives")).unwrap();
                return fs::create_dir(self.test.data().join("archives")).unwrap();
            }
        };
        let database = Connection::open(self.test.data().join("stile.sqlite3")).unwrap();
        assert_eq!(database.execute(sql, []).unwrap(), 1, "{damage:?}");
    }

    async fn damage_table(&self, damage: Damage) {
        let aws = self.test.aws();
        let key = |sk: &str| json!({"pk": {"S": "module acme/vpc/aws"}, "sk": {"S": sk}});
        let delete = |sk: &str| json!({"Key": key(sk)});
        let set = |key: Value, name: &str, value: Value| {
            json!({
                "Key": key, "UpdateExpression": "SET #name = :value",
                "ExpressionAttributeNames": {"#name": name},
                "ExpressionAttributeValues": {":value": value},
            })
        };
        let record = key("version 1.1.0");
        let (action, body) = match damage {
            Damage::LostList => ("DeleteItem", delete("versions")),
            Damage::UnreadableList => {
                ("UpdateItem", set(key("versions"), "document", json!({"B": "eA=="})))
            }
            Damage::LostRecord => ("DeleteItem", delete("version 1.1.0")),
            Damage::UnreadableRecord => ("UpdateItem", set(record, "life", json!({"N": "7"}))),
            Damage::UnpublishedButListed => {
                ("UpdateItem", set(record, "life", json!({"S": UNPUBLISHED})))
            }
            Damage::WrongLatest => {
                let listed = json!({"pk": {"S": "modules"}, "sk": {"S": "acme vpc aws"}});
                ("UpdateItem", set(listed, "latest", json!({"S": "1.0.0"})))
            }
            Damage::LostArchives => return aws.lose_objects().await,
        };
        aws.dynamodb(action, body).await;
    }

    async fn run(&self, arguments: &[&str]) -> CommandOutput {
        let arguments = [&["store", "check", "--output", "json"], arguments].concat();
        self.home.run(&program(ADMIN), &arguments).await
    }

    /// Runs the check, and returns its exit code and the faults that it prints.
    async fn check(&self, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
        let ran = self.run(arguments).await;
        let found: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| {
            panic!("{error}: {ran:?}");
        });
        let text = |found: &Value| {
            let text = |name: &str| found[name].as_str().unwrap_or("-").to_owned();
            let repaired = found["repaired"].as_bool().unwrap();
            let repaired = if repaired { " repaired" } else { "" };
            format!("{} {} {}{repaired}", text("package"), text("version"), text("kind"))
        };
        let faults = found.iter().filter(|found| found["kind"] != "leftover").map(text);
        (ran.code, faults.collect())
    }

    /// Returns the number of archives in the store. On a disk, all of them become old.
    async fn archives(&self) -> usize {
        match super::BACKEND {
            Backend::Aws => self.test.aws().objects().await,
            Backend::Embedded => {
                let folders = fs::read_dir(self.test.data().join("archives")).unwrap();
                let folders = folders.map(|folder| folder.unwrap().path());
                let files = folders.filter(|path| path.is_dir()).flat_map(|folder| {
                    fs::read_dir(folder).unwrap().map(|file| file.unwrap().path())
                });
                let make_old = |path: &std::path::PathBuf| {
                    let file = fs::File::options().append(true).open(path).unwrap();
                    file.set_modified(std::time::UNIX_EPOCH).unwrap();
                };
                files.inspect(make_old).count()
            }
        }
    }

    async fn listed(&self) -> BTreeSet<String> {
        let document = self.test.get(VERSIONS, &self.token).await.json();
        let versions = document["modules"][0]["versions"].as_array().unwrap().clone();
        versions.iter().map(|listed| listed["version"].as_str().unwrap().to_owned()).collect()
    }
}

const NONE: [&str; 0] = [];

#[tokio::test]
async fn a_wrong_list_is_named_and_a_repair_makes_it_from_the_records() {
    let Some(registry) = Registry::new().await else { return };
    assert_eq!(registry.check(&[]).await, (Some(0), vec![]));
    let both = ["1.0.0", "1.1.0"];
    for (damage, faults, listed) in [
        (Damage::WrongLatest, &["- wrong_latest"][..], &both[..]),
        (Damage::LostList, &["1.0.0 not_listed", "1.1.0 not_listed"], &both),
        (Damage::UnreadableList, &["- unreadable_list"], &both),
        (Damage::UnpublishedButListed, &["1.1.0 listed_unpublished"], &both[..1]),
        // The record is that of an unpublished version now, so the list does not have it.
        (Damage::LostRecord, &NONE, &both[..1]),
    ] {
        registry.damage(damage).await;
        let expected = |end: &str| -> Vec<String> {
            faults.iter().map(|fault| format!("acme/vpc/aws {fault}{end}")).collect()
        };
        let code = Some(i32::from(!faults.is_empty()));
        assert_eq!(registry.check(&[]).await, (code, expected("")), "{damage:?}");
        let repaired = registry.check(&["--repair"]).await;
        assert_eq!(repaired, (Some(0), expected(" repaired")), "{damage:?}");
        assert_eq!(registry.check(&[]).await, (Some(0), vec![]), "{damage:?}");
        assert_eq!(registry.listed().await, listed.iter().map(ToString::to_string).collect());
        let modules = registry.test.get("/v1/modules/acme", &registry.token).await.json();
        let latest = modules["modules"].as_array().unwrap();
        let latest = latest.iter().find(|module| module["name"] == "vpc").unwrap();
        assert_eq!(latest["version"], *listed.last().unwrap(), "{damage:?}");
    }
    let log = fs::read_to_string(registry.home.path().join("audit.log")).unwrap();
    let of_lists = log.lines().filter(|line| line.contains("acme/vpc/aws"));
    assert_eq!(of_lists.count(), 4, "one event for each repaired list: {log}");
}

#[tokio::test]
async fn a_version_of_which_only_the_list_is_left_is_removed_from_the_list() {
    let Some(registry) = Registry::new().await else { return };
    registry.damage(Damage::LostRecord).await;
    let fault = "acme/vpc/aws 1.1.0 listed_without_record";
    assert_eq!(registry.check(&[]).await, (Some(1), vec![fault.to_owned()]));
    let repaired = registry.check(&["--repair"]).await;
    assert_eq!(repaired, (Some(0), vec![format!("{fault} repaired")]));
    assert_eq!(registry.listed().await, ["1.0.0".to_owned()].into());
}

#[tokio::test]
async fn a_repair_deletes_no_archive_whose_record_is_lost() {
    let Some(registry) = Registry::new().await else { return };
    let archives = registry.archives().await;
    registry.damage(Damage::LostRecord).await;
    let ran = registry.run(&["--repair", "--older-than", "1d"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("the archive of a lost record would be one"), "{ran:?}");
    assert_eq!(registry.archives().await, archives, "the same bytes can be published again");
    let archive = module_zip("acme/vpc/aws 1.1.0");
    let again = registry.test.publish("acme/vpc/aws", "1.1.0", archive, &registry.token).await;
    assert_eq!(again.status, 201, "{}", again.text());
    assert_eq!(registry.check(&[]).await, (Some(0), vec![]));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_named_and_stops_every_repair_of_its_list() {
    let Some(registry) = Registry::new().await else { return };
    registry.damage(Damage::LostList).await;
    registry.damage(Damage::UnreadableRecord).await;
    let faults = ["1.0.0 not_listed", "1.1.0 unreadable_version"];
    let faults: Vec<_> = faults.map(|fault| format!("acme/vpc/aws {fault}")).into();
    let ran = registry.run(&["--repair"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("the list of `acme/vpc/aws` is as it was"), "{ran:?}");
    let text = ran.stdout + &registry.run(&[]).await.stdout;
    for kind in ["not_listed", "unreadable_version"] {
        assert_eq!(text.matches(kind).count(), 2, "{text}");
    }
    assert_eq!(registry.check(&[]).await, (Some(1), faults));
    let reply = registry.test.get(VERSIONS, &registry.token).await;
    assert_eq!(reply.status, 404, "nobody made a list without 1.1.0: {}", reply.text());
}

#[tokio::test]
async fn versions_without_an_archive_are_named_and_no_repair_hides_them() {
    let Some(registry) = Registry::new().await else { return };
    registry.damage(Damage::LostArchives).await;
    let missing =
        ["acme/a/aws 1.0.0", "acme/vpc/aws 1.0.0", "acme/vpc/aws 1.1.0", "acme/vpc/aws 2.0.0"];
    let missing: Vec<_> = missing.map(|version| format!("{version} missing_archive")).into();
    for arguments in [&[][..], &["--repair"], &[]] {
        assert_eq!(registry.check(arguments).await, (Some(1), missing.clone()));
    }
    let ran = registry.run(&[]).await;
    assert!(ran.stderr.contains("publish the same archive again"), "{ran:?}");
    let archive = module_zip("acme/vpc/aws 1.1.0");
    let again = registry.test.publish("acme/vpc/aws", "1.1.0", archive, &registry.token).await;
    assert_eq!(again.status, 200, "{}", again.text());
    let (code, left) = registry.check(&[]).await;
    assert_eq!((code, left.len()), (Some(1), 3), "{left:?}");
    assert!(!left.iter().any(|fault| fault.contains("1.1.0")), "{left:?}");
}

#[tokio::test]
async fn a_repair_while_others_publish_loses_no_version() {
    let Some(registry) = Registry::new().await else { return };
    let Registry { test, token, .. } = &registry;
    registry.damage(Damage::LostList).await;
    let address = "acme/vpc/aws";
    let publishing = async {
        for patch in 0..12 {
            let version = format!("3.0.{patch}");
            let published = test.publish(address, &version, module_zip(&version), token).await;
            assert_eq!(published.status, 201, "{}", published.text());
        }
    };
    let repairing = async {
        for _ in 0..6 {
            let relisted = test.store().as_operator().relist(address, test.time()).await.unwrap();
            assert!(matches!(relisted, Relisted::Done | Relisted::Unchanged), "{relisted:?}");
        }
    };
    tokio::join!(publishing, repairing);
    let expected = (0..12).map(|patch| format!("3.0.{patch}"));
    let expected = expected.chain(["1.0.0", "1.1.0"].map(str::to_owned)).collect();
    assert_eq!(registry.listed().await, expected);
    assert_eq!(registry.check(&[]).await, (Some(0), vec![]));
}
