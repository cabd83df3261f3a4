//! A published version of a provider: what a caller with a token and no private key cannot change, and
//! how a publisher signs it again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stile_protocol::names::Permission::{CreateGrant, Download, Upload};
use stile_store::Blobs;
use stile_tests::broker::{NOW, Reply, TestBroker, deploy, role};

use stile_tests::provider::{TestRelease, TestSigner, add_key, begin, publish, send};

/// When the keys of tests were created: a day before the tests.
const CREATED: i64 = NOW - 24 * 3600;

async fn start(keys: &[&TestSigner]) -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &[CreateGrant, Download, Upload]).await;
    let token = test.token(&deploy(), &[CreateGrant, Download, Upload]).await;
    for key in keys {
        let added = add_key(&test, "acme", key, &token).await;
        assert_eq!(added.status, 201, "{}", added.text());
    }
    Some((test, token))
}

fn release(platforms: &[&str], signer: &TestSigner, at: i64) -> TestRelease {
    TestRelease::new("acme/dns", "1.0.0", platforms, signer, at)
}

fn refused(reply: &Reply, words: &str) {
    assert_eq!(reply.status, 409, "{}", reply.text());
    assert!(reply.text().contains(words), "{}", reply.text());
}

fn status(reply: &Reply) -> (u16, Value) {
    (reply.status.as_u16(), reply.json()["status"].clone())
}

#[tokio::test]
async fn an_upload_token_without_a_private_key_changes_nothing_of_a_published_version() {
    let (first, second) = (TestSigner::new("first", CREATED), TestSigner::new("second", CREATED));
    let Some((test, token)) = start(&[&first, &second]).await else { return };
    let (test, token) = (&test, token.as_str());
    let old = release(&["linux_amd64"], &first, NOW - 20);
    assert_eq!(publish(test, &old, token).await.status, 201);
    let mut protocols = old.announcement();
    protocols["protocols"] = json!(["1.0"]);
    let reply = send(test, "POST", &old.path("uploads"), Some(protocols), token).await;
    refused(&reply, "other versions of the plugin protocol");

    // A signature of another key counts if it is newer.
    let resigned = release(&["linux_amd64"], &second, NOW - 10);
    assert_eq!(status(&publish(test, &resigned, token).await), (200, json!("changed")));
    refused(&begin(test, &old, token).await, "a signature of the same time or a later one");
    let twin = release(&["linux_amd64"], &first, NOW - 10);
    refused(&begin(test, &twin, token).await, "a signature of the same time or a later one");
    let details = test.get(&old.path(""), token).await.json();
    assert_eq!(details["signature"], resigned.signature.as_str());
    assert_eq!(details["protocols"], json!(["5.0"]));

    // More platforms need no newer signature: an earlier list never has more.
    let more = release(&["linux_amd64", "darwin_arm64"], &first, NOW - 30);
    assert_eq!(status(&publish(test, &more, token).await), (200, json!("changed")));
    // The key that signed is retired, so that another one may sign, at any time.
    let key = format!("/v1/namespaces/acme/signing-keys/{}", first.key_id());
    assert_eq!(send(test, "DELETE", &key, None, token).await.status, 200);
    let again = release(&["linux_amd64", "darwin_arm64"], &second, NOW - 40);
    assert_eq!(status(&publish(test, &again, token).await), (200, json!("changed")));
}

#[tokio::test]
async fn a_client_never_gets_a_list_and_the_signature_of_another_one() {
    let key = TestSigner::new("first", CREATED);
    let Some((test, token)) = start(&[&key]).await else { return };
    let (test, token) = (&test, token.as_str());
    let old = release(&["linux_amd64"], &key, NOW - 20);
    assert_eq!(publish(test, &old, token).await.status, 201);
    let path = "/v1/providers/acme/dns/1.0.0/download/linux/amd64";
    let before = test.get(path, token).await.json();
    let url = |document: &Value, field: &str| document[field].as_str().unwrap().to_owned();
    let (_, sums) = test.fetch(&url(&before, "shasums_url")).await;
    assert_eq!(sums, old.sums.as_bytes());
    let new = release(&["linux_amd64", "darwin_arm64"], &key, NOW - 10);
    assert_eq!(publish(test, &new, token).await.status, 200);
    let (status, signature) = test.fetch(&url(&before, "shasums_signature_url")).await;
    // Either the signature of that list, or none.
    assert!(status != 200 || STANDARD.encode(&signature) == old.signature, "{status}");
    let after = test.get(path, token).await.json();
    let (_, signature) = test.fetch(&url(&after, "shasums_signature_url")).await;
    assert_eq!(STANDARD.encode(&signature), new.signature);
}

/// Deletes the archives of all versions from outside the project.
pub(super) async fn lose_archives(test: &TestBroker) {
    match test.store().blobs() {
        Blobs::Disk(_) => {
            let archives = test.data().join("archives");
            std::fs::remove_dir_all(&archives).unwrap();
            std::fs::create_dir(&archives).unwrap();
        }
        Blobs::S3(_) => test.aws().lose_objects().await,
    }
}

/// Loses the archives of a published version, and publishes exactly the same again.
async fn loses_and_publishes_again(test: &TestBroker, old: &TestRelease, token: &str) {
    let path = "/v1/providers/acme/dns/1.0.0/download/linux/amd64";
    let fetched = async || {
        let document = test.get(path, token).await.json();
        test.fetch(document["download_url"].as_str().unwrap()).await
    };
    lose_archives(test).await;
    assert_ne!(fetched().await.0, 200, "the archive is lost");
    let again = begin(test, old, token).await;
    assert_eq!(again.status, 201, "{}", again.text());
    assert_eq!(again.json()["files"][0]["status"], "missing");
    let restored = publish(test, old, token).await;
    assert_eq!(restored.status, 200, "{}", restored.text());
    let (status, archive) = fetched().await;
    assert_eq!(status, 200);
    assert!(archive == old.files["linux_amd64"]);
    assert_eq!(publish(test, old, token).await.json()["status"], "unchanged");
}

#[tokio::test]
async fn a_lost_archive_comes_back_when_the_same_release_is_published_again() {
    let key = TestSigner::new("first", CREATED);
    let Some((test, token)) = start(&[&key]).await else { return };
    let old = release(&["darwin_arm64", "linux_amd64"], &key, NOW - 20);
    assert_eq!(publish(&test, &old, &token).await.status, 201);
    loses_and_publishes_again(&test, &old, &token).await;
    let listed = test.get("/v1/providers/acme/dns/versions", &token).await.json();
    assert_eq!(listed["versions"].as_array().unwrap().len(), 1, "{listed}");
}

#[tokio::test]
async fn the_same_release_again_is_unchanged_after_its_key_was_retired_and_refused_if_it_was_stolen()
 {
    let key = TestSigner::new("first", CREATED);
    let Some((test, token)) = start(&[&key]).await else { return };
    let old = release(&["linux_amd64"], &key, NOW - 20);
    assert_eq!(publish(&test, &old, &token).await.status, 201);
    let retire = format!("/v1/namespaces/acme/signing-keys/{}", key.key_id());
    assert_eq!(send(&test, "DELETE", &retire, None, &token).await.status, 200);
    assert_eq!(status(&publish(&test, &old, &token).await), (200, json!("unchanged")));
    loses_and_publishes_again(&test, &old, &token).await;
    let newer = release(&["linux_amd64"], &key, NOW - 10);
    assert_eq!(begin(&test, &newer, &token).await.status, 400, "a new signature is new");
    let stolen = format!("{retire}?compromised=true");
    assert_eq!(send(&test, "DELETE", &stolen, None, &token).await.status, 200);
    assert_eq!(begin(&test, &old, &token).await.status, 400);
}
