//! Providers on AWS: the calls of each request, and publishing through a function, which does no work
//! after its answer.

use serde_json::{Value, json};
use stile_protocol::names::Permission::{CreateGrant, Download, Upload};
use stile_tests::broker::{Backend, NOW, Reply, TestBroker, deploy, role};
use stile_tests::lambda::events::{Sent, Shape};
use stile_tests::provider::{TestRelease, TestSigner, add_key, publish, put};

use super::aws_store::calls;
use crate::lambda::answer;

const VERSIONS: &str = "/v1/providers/acme/dns/versions";
const DOWNLOAD: &str = "/v1/providers/acme/dns/1.0.0/download/linux/amd64";

/// The gateway in front of the function.
const SHAPE: Shape = Shape::HttpApi;

async fn registry() -> Option<(TestBroker, String, TestRelease)> {
    let test = TestBroker::start_on(Backend::Aws).await?;
    test.grant(&role("deploy"), "acme", &[CreateGrant, Download, Upload]).await;
    let token = test.token(&deploy(), &[CreateGrant, Download, Upload]).await;
    let signer = TestSigner::new("acme", NOW - 24 * 3600);
    assert_eq!(add_key(&test, "acme", &signer, &token).await.status, 201);
    let release = TestRelease::new("acme/dns", "1.0.0", &["linux_amd64"], &signer, NOW);
    Some((test, token, release))
}

#[tokio::test]
async fn versions_and_a_download_cost_one_call_and_a_refusal_none() {
    let Some((test, token, release)) = registry().await else { return };
    assert_eq!(publish(&test, &release, &token).await.status, 201);
    assert_eq!(test.get(VERSIONS, &token).await.status, 200);
    let proxy = &test.aws().proxy;
    proxy.take_counts();
    for (path, token, status, expected) in [
        (VERSIONS, token.as_str(), 200, calls([("dynamodb GetItem", 1)])),
        (DOWNLOAD, &token, 200, calls([("dynamodb BatchGetItem", 1)])),
        ("/v1/providers/other/dns/versions", &token, 403, calls([])),
        ("/v1/providers/other/dns/1.0.0/download/linux/amd64", &token, 403, calls([])),
        ("/v1/providers/acme/dns/x/download/linux/amd64", &token, 404, calls([])),
        (VERSIONS, "nonsense", 401, calls([])),
        (DOWNLOAD, "nonsense", 401, calls([])),
    ] {
        assert_eq!(test.get(path, token).await.status.as_u16(), status, "{path}");
        assert_eq!(proxy.take_counts(), expected, "{path}");
    }
}

#[tokio::test]
async fn a_function_verifies_a_file_before_its_answer_and_the_completion_reads_none() {
    let Some((test, token, release)) = registry().await else { return };
    let function = test.function(None, None);
    let post = async |route: &str, body: Option<Value>| -> Reply {
        let sent = Sent::new("POST", release.path(route)).bearer(&token);
        let sent = match body {
            Some(body) => sent.body("application/json", body.to_string()),
            None => sent,
        };
        SHAPE.reply(&answer(&function, &SHAPE.event(&sent)).await.unwrap())
    };
    let begun = post("uploads", Some(release.announcement())).await;
    assert_eq!(begun.status, 201, "{}", begun.text());
    let session = begun.json();
    let (upload, file) = (session["upload"].as_str().unwrap(), &session["files"][0]);
    let name = file["name"].as_str().unwrap();
    let verify = format!("uploads/{upload}/files/{name}");
    let nothing = post(&verify, None).await;
    assert_eq!(nothing.status, 409, "{}", nothing.text());
    put(file["url"].as_str().unwrap(), &file["headers"], release.file(name).to_vec()).await;
    for _ in 0..2 {
        let verified = post(&verify, None).await;
        assert_eq!(verified.status, 200, "{}", verified.text());
        assert_eq!(verified.json()["status"], "verified");
    }
    let proxy = &test.aws().proxy;
    proxy.take_counts();
    let completed = post(&format!("uploads/{upload}"), None).await;
    assert_eq!(completed.status, 201, "{}", completed.text());
    let counts = proxy.take_counts();
    assert!(!counts.contains_key("s3 GetObject"), "{counts:?}");
    let gone = post(&format!("uploads/{upload}"), None).await;
    assert_eq!(gone.status, 404, "{}", gone.text());
    assert_eq!(test.get(VERSIONS, &token).await.json()["versions"][0]["version"], json!("1.0.0"));
}
