//! Providers on AWS: the calls of each request, and publishing through a function, whose work stops with
//! its answer and goes on with the next event.

use serde_json::{Value, json};
use stile_broker::http::lambda::Function;
use stile_protocol::names::Permission::{CreateGrant, Download, Upload};
use stile_tests::broker::{Backend, NOW, Reply, TestBroker, deploy, role};
use stile_tests::lambda::events::{Sent, Shape};
use stile_tests::provider::{TestRelease, TestSigner, add_key, begin, publish, put};

use super::aws_store::calls;

const VERSIONS: &str = "/v1/providers/acme/dns/versions";
const DOWNLOAD: &str = "/v1/providers/acme/dns/1.0.0/download/linux/amd64";

/// The gateway in front of the function.
const SHAPE: Shape = Shape::HttpApi;

/// A deadline in Unix milliseconds that no event reaches.
const NEVER: u64 = u64::MAX;

/// A deadline that is there when the event arrives. The clock of the tests stands.
const AT_ONCE: u64 = NOW.unsigned_abs() * 1000;

/// Sends a request of the publisher through a function, with that deadline.
async fn post(
    function: &Function,
    release: &TestRelease,
    token: &str,
    route: &str,
    body: Option<Value>,
    deadline: u64,
) -> Reply {
    let sent = Sent::new("POST", release.path(route)).bearer(token);
    let sent = match body {
        Some(body) => sent.body("application/json", body.to_string()),
        None => sent,
    };
    let event = serde_json::value::to_raw_value(&SHAPE.event(&sent)).unwrap();
    let answer = function.answer_before(&event, deadline).await.unwrap();
    SHAPE.reply(&serde_json::from_str(answer.get()).unwrap())
}

/// Begins a session. Returns the route that verifies its only file, the file, and the path of its object
/// for the proxy.
async fn begun(test: &TestBroker, release: &TestRelease, token: &str) -> (String, Value, String) {
    let begun = begin(test, release, token).await;
    assert_eq!(begun.status, 201, "{}", begun.text());
    let session = begun.json();
    let (upload, file) = (session["upload"].as_str().unwrap(), session["files"][0].clone());
    let verify = format!("uploads/{upload}/files/{}", file["name"].as_str().unwrap());
    let url = reqwest::Url::parse(file["url"].as_str().unwrap()).unwrap();
    (verify, file, url.path().to_owned())
}

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
    let post =
        async |route: &str, body| post(&function, &release, &token, route, body, NEVER).await;
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
    assert!(!counts.contains_key("s3 GET"), "{counts:?}");
    let gone = post(&format!("uploads/{upload}"), None).await;
    assert_eq!(gone.status, 404, "{}", gone.text());
    assert_eq!(test.get(VERSIONS, &token).await.json()["versions"][0]["version"], json!("1.0.0"));
}

#[tokio::test]
async fn a_check_that_has_no_time_left_goes_on_with_the_next_events_and_begins_only_once() {
    let Some((test, token, release)) = registry().await else { return };
    let function = test.function(None, None);
    let (verify, file, object) = begun(&test, &release, &token).await;
    let name = file["name"].as_str().unwrap();
    put(file["url"].as_str().unwrap(), &file["headers"], release.file(name).to_vec()).await;
    let proxy = &test.aws().proxy;
    let mut fetch = proxy.hold("GET", &object);
    let ask = async |deadline| post(&function, &release, &token, &verify, None, deadline).await;
    let begins = ask(AT_ONCE).await;
    fetch.arrived().await;
    // Each next event waits for the end of this check as long as it can, and begins no other one.
    let (again, no_time) = (ask(AT_ONCE).await, ask(AT_ONCE).await);
    for answered in [&begins, &again, &no_time] {
        assert_eq!(answered.status, 202, "{}", answered.text());
        assert_eq!(answered.json()["status"], "verifying");
        assert_eq!(answered.header("retry-after"), "2");
    }
    let goes_on = ask(NEVER);
    let release_fetch = async { fetch.release() };
    let (ended, ()) = tokio::join!(goes_on, release_fetch);
    assert_eq!(ended.status, 200, "{}", ended.text());
    assert_eq!(ended.json()["status"], "verified");
    let calls = proxy.calls();
    let fetches = calls.iter().filter(|call| call.method == "GET" && call.path == object);
    assert_eq!(fetches.count(), 1, "the check began once: {calls:?}");
    assert_eq!(publish(&test, &release, &token).await.status, 201);
}

#[tokio::test]
async fn a_function_that_never_wakes_holds_a_file_for_two_minutes_and_then_another_one_verifies_it()
{
    let Some((test, token, release)) = registry().await else { return };
    let asleep = test.function(None, None);
    let (verify, file, object) = begun(&test, &release, &token).await;
    let name = file["name"].as_str().unwrap();
    put(file["url"].as_str().unwrap(), &file["headers"], release.file(name).to_vec()).await;
    let mut fetch = test.aws().proxy.hold("GET", &object);
    assert_eq!(post(&asleep, &release, &token, &verify, None, AT_ONCE).await.status, 202);
    fetch.arrived().await;
    let awake = test.restarted();
    let other = awake.function(None, None);
    let ask = async || post(&other, &release, &token, &verify, None, NEVER).await.status;
    assert_eq!(ask().await, 202, "the first function has the turn");
    awake.advance(119);
    assert_eq!(ask().await, 202);
    awake.advance(1);
    assert_eq!(ask().await, 200);
    assert_eq!(publish(&test, &release, &token).await.status, 201);
    fetch.release();
    let wakes = post(&asleep, &release, &token, &verify, None, NEVER).await;
    assert_eq!(wakes.status, 200, "{}", wakes.text());
}

#[tokio::test]
async fn a_file_that_is_refused_after_the_answer_is_refused_with_the_reason_at_the_next_event() {
    let Some((test, token, release)) = registry().await else { return };
    let function = test.function(None, None);
    let (verify, _, object) = begun(&test, &release, &token).await;
    let bucket = format!("/{}", test.aws().place.bucket);
    let key = object.strip_prefix(&bucket).unwrap();
    test.aws().put_object(key, b"other bytes").await;
    let mut fetch = test.aws().proxy.hold("GET", &object);
    let ask = async |deadline| post(&function, &release, &token, &verify, None, deadline).await;
    assert_eq!(ask(AT_ONCE).await.status, 202);
    fetch.arrived().await;
    let goes_on = ask(NEVER);
    let release_fetch = async { fetch.release() };
    let (refused, ()) = tokio::join!(goes_on, release_fetch);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("another size or SHA-256"), "{}", refused.text());
}
