//! Which keys of a namespace sign, and which ones clients get.

use serde_json::{Value, json};

use super::{LATER, NOW, fixture, key};
use crate::package::provider::{
    KeyAdded, KeyId, KeyRetired, KeyState, MAX_KEYS, NamespaceKeys, SignedSums, SignerError,
    SigningKey,
};

fn keys(names: &[&str]) -> NamespaceKeys {
    let mut keys = NamespaceKeys::default();
    for name in names {
        assert_eq!(keys.add(&key(name), "alice", NOW), KeyAdded::Added, "{name}");
    }
    keys
}

fn signer(keys: &NamespaceKeys, file: &str, now: i64) -> Result<String, SignerError> {
    let sums = String::from_utf8(fixture("SHA256SUMS")).unwrap();
    keys.signer(&sums, &fixture(file), now).map(|key| key.user_id.clone())
}

#[test]
fn the_error_names_why_no_key_of_the_namespace_is_the_signer() {
    let mut two = keys(&["rsa4096", "expires"]);
    for (registered, file, now, problem) in [
        (&NamespaceKeys::default(), "rsa4096.sig", NOW, "the namespace has no signing key"),
        (&two, "ed25519.sig", NOW, "which the namespace has not registered"),
        (&two, "subkey.sig", NOW, "which the namespace has not registered"),
        (&two, "sha1.sig", NOW, "has the weak SHA1"),
        (&two, "armored.sig", NOW, "is ASCII-armored"),
        (&two, "SHA256SUMS", NOW, "is not a detached OpenPGP signature"),
        (&two, "expires.sig", LATER, "the key expired at 2026-06-01"),
    ] {
        let error = signer(registered, file, now).unwrap_err().to_string();
        assert!(error.contains(problem), "{file}: {error}");
    }
    let error = two.signer("other text\n", &fixture("rsa4096.sig"), NOW).unwrap_err();
    assert_eq!(error.to_string(), "the signature does not match `SHA256SUMS`");

    let id = key("rsa4096").key_id().clone();
    assert_eq!(signer(&two, "rsa4096.sig", NOW).unwrap(), "rsa4096 <rsa4096@example.com>");
    assert_eq!(two.retire(&id, false, "bob", NOW), KeyRetired::Done);
    assert_eq!(signer(&two, "rsa4096.sig", NOW), Err(SignerError::Retired(id.clone())));
    assert_eq!(two.retire(&id, true, "bob", NOW), KeyRetired::Done);
    assert_eq!(signer(&two, "rsa4096.sig", NOW), Err(SignerError::Compromised(id)));
    assert!(signer(&two, "expires.sig", NOW).is_ok());
}

#[test]
fn a_signature_of_a_subkey_is_of_its_primary_key() {
    let keys = keys(&["rsa4096", "subkey"]);
    let sums = String::from_utf8(fixture("SHA256SUMS")).unwrap();
    let signer = keys.signer(&sums, &fixture("subkey.sig"), NOW).unwrap();
    assert_eq!(signer.key_id, *key("subkey").key_id());
}

#[test]
fn a_retired_key_comes_back_in_no_way() {
    let mut keys = keys(&["rsa2048", "p256"]);
    let (id, other) = (key("rsa2048").key_id().clone(), key("p256").key_id().clone());
    let absent = KeyId::parse("0123456789ABCDEF").unwrap();
    assert_eq!(keys.retire(&absent, true, "bob", NOW), KeyRetired::Absent);
    assert_eq!(keys.retire(&id, false, "bob", 5), KeyRetired::Done);
    assert_eq!(keys.retire(&id, false, "eve", 6), KeyRetired::Unchanged);
    assert_eq!(keys.get(&id).unwrap().state, KeyState::Retired { at: 5, by: "bob".to_owned() });
    assert_eq!(keys.add(&key("rsa2048"), "eve", NOW), KeyAdded::Retired);
    assert_eq!(keys.retire(&id, true, "bob", 7), KeyRetired::Done);
    assert_eq!(keys.retire(&id, false, "eve", 8), KeyRetired::Unchanged);
    assert_eq!(keys.add(&key("rsa2048"), "eve", NOW), KeyAdded::Retired);
    assert_eq!(keys.add(&key("p256"), "eve", NOW), KeyAdded::Unchanged);
    assert_eq!(keys.get(&other).unwrap().added_by, "alice");
    assert_eq!(keys.retire(&other, true, "bob", 9), KeyRetired::Done, "at once");
}

#[test]
fn a_namespace_has_a_maximum_of_keys_and_each_id_once() {
    let mut full = keys(&["rsa2048", "p256"]);
    let twin = full.keys[1].clone();
    full.keys[0].fingerprint = "00".repeat(20);
    assert_eq!(full.add(&key("rsa2048"), "eve", NOW), KeyAdded::SameId);
    full.keys.resize(MAX_KEYS, twin);
    assert_eq!(full.add(&key("ed25519"), "alice", NOW), KeyAdded::Full);
    assert_eq!(full.add(&key("p256"), "alice", NOW), KeyAdded::Unchanged);
}

#[test]
fn a_renewed_key_replaces_the_old_one_and_keeps_its_place() {
    let mut registered = keys(&["two-names", "p256"]);
    registered.keys[0].armor = "an older form".to_owned();
    assert_eq!(registered.add(&key("two-names"), "carol", NOW + 1), KeyAdded::Renewed);
    assert_eq!(registered.keys[0].armor, key("two-names").armor());
    assert_eq!(registered.keys[0].added_by, "carol");
    assert_eq!(registered.keys.len(), 2);
}

#[test]
fn a_renewed_key_keeps_each_key_that_can_have_signed_a_version() {
    let mut registered = keys(&["rsa4096"]);
    registered.keys[0].armor = key("subkey").armor().to_owned();
    let before = registered.clone();
    assert_eq!(registered.add(&key("rsa4096"), "carol", NOW + 1), KeyAdded::Lacks);
    assert_eq!(registered, before);
}

#[test]
fn a_signature_replaces_one_that_is_older_or_that_no_active_key_verifies() {
    let mut registered = keys(&["rsa4096", "p256", "ed25519"]);
    let published = |name: &str| SignedSums {
        text: String::from_utf8(fixture("SHA256SUMS")).unwrap(),
        signature: fixture(&format!("{name}.sig")),
        key_id: key(name).key_id().clone(),
    };
    let now = published("rsa4096");
    assert!(registered.still_verifies(&now, NOW));
    assert!(!registered.may_replace(&now, &now.signature, NOW), "it has the same time");
    // A renewed key without the subkey that signed gives this, and so does a retired one.
    let lost = SignedSums { key_id: key("p256").key_id().clone(), ..now.clone() };
    assert!(!registered.still_verifies(&lost, NOW));
    let subkey = published("subkey");
    assert!(!registered.still_verifies(&subkey, NOW));
    assert!(registered.may_replace(&subkey, &now.signature, NOW));
    registered.retire(&now.key_id, false, "bob", NOW);
    assert!(!registered.still_verifies(&now, NOW));
    assert!(registered.may_replace(&now, &fixture("p256.sig"), NOW));
}

#[test]
fn a_download_gets_its_signer_first_and_no_compromised_key() {
    let mut registered = keys(&["rsa4096", "p256", "ed25519"]);
    let id = |name: &str| key(name).key_id().clone();
    let names = |registered: &NamespaceKeys, signer: &str| {
        let keys = registered.for_download(&id(signer))?;
        Some(keys.iter().map(|key| key.algorithm.clone()).collect::<Vec<_>>())
    };
    assert_eq!(names(&registered, "subkey"), None);
    let order = ["ECDSA P-256", "RSA 4096", "Ed25519"].map(str::to_owned).to_vec();
    assert_eq!(names(&registered, "p256"), Some(order.clone()));
    registered.retire(&id("p256"), false, "bob", NOW);
    assert_eq!(names(&registered, "p256"), Some(order));
    registered.retire(&id("p256"), true, "bob", NOW);
    assert_eq!(names(&registered, "p256"), None);
    let others = ["Ed25519", "RSA 4096"].map(str::to_owned).to_vec();
    assert_eq!(names(&registered, "ed25519"), Some(others));
}

#[test]
fn keys_are_read_as_they_were_written_and_restricted_ones_are_not() {
    let mut written = keys(&["rsa4096", "p256", "expires"]);
    written.retire(key("p256").key_id(), false, "bob", 5);
    written.retire(key("rsa4096").key_id(), true, "bob", 6);
    assert_eq!(NamespaceKeys::read(&written.to_text()), Some(written.clone()));
    assert_eq!(NamespaceKeys::read(r#"{"keys":[]}"#), Some(NamespaceKeys::default()));
    for key in &written.keys {
        assert!(SigningKey::parse(&key.armor, NOW).is_ok());
    }

    let good: Value = serde_json::from_str(&written.to_text()).unwrap();
    let mut newer = good.clone();
    newer["note"] = json!("a");
    newer["keys"][1]["hint"] = json!("b");
    let read = NamespaceKeys::read(&newer.to_string()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&read.to_text()).unwrap(), newer);
    for (pointer, value) in [
        ("/keys/0/state", json!("paused")),
        ("/keys/0/key_id", json!("x")),
        ("/keys/0/ended_at", Value::Null),
        ("/keys/1/armor", json!(1)),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert_eq!(NamespaceKeys::read(&bad.to_string()), None, "{pointer}");
    }
    let mut restricted = good.clone();
    restricted["crit"] = json!(["quorum"]);
    assert_eq!(NamespaceKeys::read(&restricted.to_string()), None);
    let mut restricted = good;
    restricted["keys"][2]["crit"] = json!(["until"]);
    assert_eq!(NamespaceKeys::read(&restricted.to_string()), None);
    assert_eq!(NamespaceKeys::read("[]"), None);
}
