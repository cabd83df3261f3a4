//! The fixtures in `tests/fixtures/formats/`: stores that earlier releases wrote, loaded for one
//! test each.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::HOST;
use stile_tests::process::previous::PREVIOUS;
use stile_tests::process::programs::workspace;
use tempfile::TempDir;

/// The purpose in the encryption context of a sealed keyring.
pub const KMS_PURPOSE: &str = "stile-keyring";

/// The account whose every role and user has a grant.
pub const OTHER_ACCOUNT: &str = "444455556666";

/// The unique id that the role `pinned` must have.
pub const PINNED_ID: &str = "AROAEXAMPLEEXAMPLE222";

/// The folder of a release's fixtures.
pub fn home(release: &str) -> PathBuf {
    workspace().join("tests/fixtures/formats").join(release)
}

/// The names of all releases that have fixtures.
pub fn releases() -> Vec<String> {
    let mut releases: Vec<String> = fs::read_dir(home(""))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    releases.sort();
    assert!(releases.contains(&PREVIOUS.to_owned()), "{PREVIOUS} has no fixtures: {releases:?}");
    releases
}

/// What is known about a store beyond its content: `folder` or `table`.
pub fn facts(release: &str, kind: &str) -> Value {
    read_json(&home(release).join(format!("{kind}.json")))
}

/// A copy of the folder that a release wrote.
///
/// Git stores neither permissions nor empty folders, so the copy gets those that the release gave.
pub fn folder(release: &str) -> Arc<TempDir> {
    let data = tempfile::tempdir().unwrap();
    copy(&home(release).join("folder"), data.path());
    fs::create_dir(data.path().join("incoming")).unwrap();
    Arc::new(data)
}

/// An emulated AWS with the table and the objects that a release wrote.
///
/// Another KMS has another key, so it seals the keyring's secrets again. Another bucket gives other
/// versions to objects, so the items get the new ones.
pub async fn table(release: &str) -> Option<Arc<EmulatedAws>> {
    let aws = EmulatedAws::start().await?;
    let (facts, written) = (facts(release, "table"), home(release).join("table"));
    let mut items = fs::read_to_string(written.join("items.json")).unwrap();
    for (path, version) in facts["objects"].as_object().unwrap() {
        let bytes = fs::read(written.join("objects").join(path)).unwrap();
        let put = aws.put_object(&format!("/{path}"), &bytes).await;
        assert!(!put.is_empty(), "the bucket has versions");
        items = items.replace(version.as_str().unwrap(), &put);
    }
    let items: Value = serde_json::from_str(&items).unwrap();
    for item in items.as_array().unwrap() {
        let mut item = item.clone();
        if item["pk"]["S"] == "keyring" {
            let context = json!({ "purpose": KMS_PURPOSE, "audience": HOST });
            let secrets = &facts["keyring_secrets"];
            let sealed = json!({ "Plaintext": secrets, "EncryptionContext": context });
            item["blob"]["B"] = aws.kms("Encrypt", sealed).await["CiphertextBlob"].clone();
            assert!(STANDARD.decode(item["blob"]["B"].as_str().unwrap()).is_ok());
        }
        aws.dynamodb("PutItem", json!({ "Item": item })).await;
    }
    Some(Arc::new(aws))
}

/// Copies a folder, readable only by its owner.
pub fn copy(from: &Path, to: &Path) {
    if !to.is_dir() {
        fs::create_dir(to).unwrap();
    }
    fs::set_permissions(to, Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            fs::set_permissions(target, Permissions::from_mode(0o600)).unwrap();
        }
    }
}

fn read_json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}
