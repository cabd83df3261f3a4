//! Makes the fixtures of the previous release with its own programs;
//! `tests/fixtures/formats/make-fixtures` runs this.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{HOST, Place, module_zip};
use stile_tests::process::previous::{PREVIOUS, Release};
use stile_tests::sts::identity::Identity;

use super::fixture::{self, KMS_PURPOSE, OTHER_ACCOUNT, PINNED_ID};
use super::registry::{
    Registry, arn, previous_is_built, publish, session, token_id, until, whoami,
};

/// The release that writes.
const OLD: Release = Release::Previous;

#[tokio::test]
#[ignore = "it writes into the source tree"]
async fn the_previous_release_writes_its_formats() {
    assert!(previous_is_built("its formats"));
    let home = fixture::home(PREVIOUS);
    assert!(!home.exists(), "`{}` exists already", home.display());
    std::fs::create_dir_all(&home).unwrap();
    write_folder(&home).await;
    write_table(&home).await;
}

async fn write_folder(home: &Path) {
    let data = Arc::new(tempfile::tempdir().unwrap());
    let registry = Registry::at(Place::Folder(Arc::clone(&data)));
    registry.admin(OLD, &["store", "init"]).await;
    let facts = live(&registry).await;
    let database = Connection::open(data.path().join("stile.sqlite3")).unwrap();
    let busy = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    let busy = database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], busy).unwrap();
    assert_eq!(busy, 0, "nothing uses the database");
    database.execute_batch("VACUUM").unwrap();
    database.close().unwrap();
    let target = home.join("folder");
    std::fs::create_dir(&target).unwrap();
    for file in ["stile.sqlite3", "keyring.json"] {
        std::fs::copy(data.path().join(file), target.join(file)).unwrap();
    }
    fixture::copy(&data.path().join("archives"), &target.join("archives"));
    write_json(&home.join("folder.json"), &facts);
}

async fn write_table(home: &Path) {
    let aws = Arc::new(EmulatedAws::start_empty().expect("moto needs `python3`"));
    let registry = Registry::at(Place::Aws(Arc::clone(&aws)));
    registry.admin(OLD, &["store", "init", "--host", HOST]).await;
    let mut facts = live(&registry).await;
    let scanned = aws.dynamodb("Scan", json!({})).await;
    assert!(scanned.get("LastEvaluatedKey").is_none_or(Value::is_null), "one page has all items");
    let mut items = scanned["Items"].as_array().unwrap().clone();
    items.sort_by_key(|item| format!("{} {}", item["pk"]["S"], item["sk"]["S"]));
    let target = home.join("table");
    let mut secrets = Value::Null;
    for item in &items {
        let key = item["pk"]["S"].as_str().unwrap();
        if let (Some(module), Some(version)) = (
            key.strip_prefix("module "),
            item["sk"]["S"].as_str().unwrap().strip_prefix("version "),
        ) {
            let (sha256, format) = (&item["sha256"]["S"], &item["format"]["S"]);
            let path = format!(
                "modules/{module}/{version}/{}.{}",
                sha256.as_str().unwrap(),
                format.as_str().unwrap()
            );
            let file = target.join("objects").join(&path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, aws.object(&format!("/{path}")).await).unwrap();
            facts["objects"][&path] = item["object_version"]["S"].clone();
        } else if key == "keyring" {
            let context = json!({ "purpose": KMS_PURPOSE, "audience": HOST });
            let sealed =
                json!({ "CiphertextBlob": item["blob"]["B"], "EncryptionContext": context });
            secrets = aws.kms("Decrypt", sealed).await["Plaintext"].clone();
        }
    }
    facts["keyring_secrets"] = secrets;
    write_json(&target.join("items.json"), &Value::Array(items));
    write_json(&home.join("table.json"), &facts);
}

/// Grants, mints, publishes and revokes; returns what a test cannot read from the store.
async fn live(registry: &Registry) -> Value {
    let of = |role: &str| arn(role);
    let (writer, reader, auditor, pinned, gone, lead) =
        (of("writer"), of("reader"), of("auditor"), of("pinned"), of("gone"), of("lead"));
    let bob = "arn:aws:iam::111122223333:user/bob";
    let account = format!("account:{OTHER_ACCOUNT}");
    for (principal, namespace, more) in [
        (writer.as_str(), "acme", &["--download", "--upload"][..]),
        (&reader, "acme", &["--download", "--expires", "1h"]),
        (&auditor, "*", &["--download", "--expires", "9999-12-31T23:59:59Z", "--yes"]),
        (&pinned, "acme", &["--download", "--unique-id", PINNED_ID]),
        (&gone, "acme", &["--download"]),
        (&lead, "acme", &["--download", "--create-grant", "--delete-grant"]),
        (bob, "acme", &["--download", "--no-pin"]),
        (&account, "acme", &["--download", "--yes"]),
    ] {
        let grant = ["grant", "create", "--principal", principal, "--namespace", namespace];
        registry.admin(OLD, &[&grant, more].concat()).await;
    }
    let mut broker = registry.serve(OLD).await;
    let made_at = system_time();
    let mint = async |identity: &Identity, upload: bool| {
        let permissions = if upload { &[Download, Upload][..] } else { &[Download] };
        registry.exchange(&broker, identity, permissions).await.unwrap()
    };
    let writer = mint(&session("writer"), true).await;
    let (reader, auditor) =
        (mint(&session("reader"), false).await, mint(&session("auditor"), false).await);
    let (lead, gone) = (mint(&session("lead"), false).await, mint(&session("gone"), false).await);
    let tar = include_bytes!("../../fixtures/fuzz/archive/taken-module.tar.gz").to_vec();
    let mut archives = json!({});
    for (version, media_type, archive) in [
        ("1.0.0", "application/zip", module_zip("the first version")),
        ("1.1.0", "application/gzip", tar),
    ] {
        archives[version] = json!(hex::encode(Sha256::digest(&archive)));
        assert_eq!(publish(&broker, &writer, version, media_type, archive).await, 201, "{version}");
    }
    let id = token_id(&broker, "lead").await;
    registry.admin(OLD, &["token", "revoke", &id]).await;
    registry.admin(OLD, &["token", "revoke", "--principal", &arn("gone")]).await;
    for token in [&lead, &gone] {
        until(200, 401, async || whoami(&broker, token).await).await;
    }
    let listed = ["grant", "list", "--output", "json"];
    let grants: Value = serde_json::from_str(&registry.admin(OLD, &listed).await).unwrap();
    let listed = ["token", "list", "--output", "json"];
    let revoked: Value = serde_json::from_str(&registry.admin(OLD, &listed).await).unwrap();
    broker.terminate().await;
    json!({
        "made_at": made_at,
        "tokens": {
            "writer": writer, "reader": reader, "auditor": auditor,
            "revoked": lead, "of_a_revoked_principal": gone,
        },
        "archives": archives,
        "grants": grants,
        "revocations": revoked,
    })
}

fn write_json(file: &Path, value: &Value) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, format!("{value:#}\n")).unwrap();
}
