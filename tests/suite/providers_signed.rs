//! Keys and signatures that clients reject: the registry refuses each with a sentence, and lists
//! nothing. Most are of GnuPG, from `tests/fixtures/openpgp`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stile_protocol::names::Permission::{CreateGrant, Download, Upload};
use stile_tests::broker::{NOW, Reply, TestBroker, deploy, role};
use stile_tests::provider::{TestRelease, TestSigner, add_key, begin, send};

const KEYS: &str = "/v1/namespaces/acme/signing-keys";

const DAY: i64 = 24 * 3600;

/// Returns a file of GnuPG.
fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/openpgp");
    std::fs::read(folder.join(name)).unwrap()
}

async fn registry() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &[CreateGrant, Download, Upload]).await;
    let token = test.token(&deploy(), &[CreateGrant, Download, Upload]).await;
    Some((test, token))
}

async fn add(test: &TestBroker, name: &str, token: &str) -> Reply {
    let armor = String::from_utf8(fixture(name)).unwrap();
    send(test, "POST", KEYS, Some(json!({ "ascii_armor": armor })), token).await
}

/// Checks that an answer is a refusal with these words.
#[track_caller]
fn refused(reply: &Reply, words: &str, what: &str) {
    assert_eq!(reply.status, 400, "{what}: {}", reply.text());
    assert!(reply.text().contains(words), "{what}: {}", reply.text());
}

#[tokio::test]
async fn an_expired_revoked_or_weak_key_is_not_added() {
    let Some((test, token)) = registry().await else { return };
    for (file, words) in [
        ("revoked.asc", "the key is revoked"),
        ("expires.asc", "the key expired at 2026-06-01T"),
        ("sha1.asc", "signs its user ids only with the weak SHA1"),
        ("weak-rsa.asc", "the RSA key has 1024 bits"),
        ("dsa.asc", "the key has the algorithm"),
        ("certify-only.asc", "the key cannot sign data"),
        ("private.asc", "has a private key"),
        ("two.asc", "several keys"),
    ] {
        refused(&add(&test, file, &token).await, words, file);
    }
    assert_eq!(test.get(KEYS, &token).await.json()["keys"], json!([]));
}

#[tokio::test]
async fn a_signature_that_a_client_rejects_begins_no_session() {
    let Some((test, token)) = registry().await else { return };
    for key in ["rsa4096.asc", "old-subkey.asc"] {
        assert_eq!(add(&test, key, &token).await.status, 201, "{key}");
    }
    let sums = String::from_utf8(fixture("SHA256SUMS")).unwrap();
    let files: Vec<Value> =
        sums.lines().map(|line| json!({ "name": &line[66..], "bytes": 1 })).collect();
    let begins = async |signature: &str| {
        let body = json!({
            "sha256sums": sums, "signature": STANDARD.encode(fixture(signature)),
            "protocols": ["5.0"], "files": files,
        });
        send(&test, "POST", "/v1/providers/acme/dns/1.0.0/uploads", Some(body), &token).await
    };
    for (file, words) in [
        ("sha1.sig", "sign with SHA-256"),
        ("sha224.sig", "sign with SHA-256"),
        ("text.sig", "must be of the type `binary`"),
        ("armored.sig", "ASCII-armored"),
        ("several.sig", "exactly one signature"),
        ("expiring.sig", "has a time of expiry"),
        ("before-key.sig", "a time before the creation of its key"),
        ("old-subkey.sig", "the subkey that made the signature is expired"),
        ("rsa2048.sig", "which the namespace has not registered"),
    ] {
        refused(&begins(file).await, words, file);
    }
    let good = begins("rsa4096.sig").await;
    assert_eq!(good.status, 201, "only the signatures were wrong: {}", good.text());
}

#[tokio::test]
async fn a_key_that_expired_after_its_addition_signs_no_new_version() {
    let Some((test, token)) = registry().await else { return };
    let signer = TestSigner::new("acme", NOW - DAY).expiring(NOW + DAY);
    let added = add_key(&test, "acme", &signer, &token).await;
    assert_eq!(added.status, 201, "{}", added.text());
    let release = |at| TestRelease::new("acme/dns", "1.0.0", &["linux_amd64"], &signer, at);
    assert_eq!(begin(&test, &release(test.time()), &token).await.status, 201);
    test.advance(2 * DAY);
    let token = test.token(&deploy(), &[Upload]).await;
    for at in [NOW, test.time()] {
        let reply = begin(&test, &release(at), &token).await;
        refused(&reply, "the key expired at", &format!("signed at {at}"));
    }
}
