//! Upload sessions: what the URL of an upload accepts, who can complete it, and what the broker
//! does with the archive.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::{Request as HttpRequest, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stile_broker::http::lambda::Function;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::served::Served;
use stile_tests::broker::{Backend, Reply, TestBroker, deploy, large_zip, module_zip, role};
use stile_tests::lambda;
use stile_tests::lambda::events::{Sent, Shape};
use stile_tests::process::programs::{ADMIN, BROKER, client, program};
use stile_tests::sts::identity::Identity;
use url::Url;

use crate::lambda::answer;

const ADDRESS: &str = "/v1/modules/acme/vpc/aws";

/// The shape whose requests carry the least, so that a large archive can be as small as possible.
const SHAPE: Shape = Shape::LoadBalancer;

/// The smallest archive that no event of that shape can carry.
pub(crate) const LARGE: usize = 700_001;

/// A registry that runs as a function, and a token that publishes in it.
pub(crate) struct Registry {
    pub(crate) test: TestBroker,
    pub(crate) function: Function,
    pub(crate) token: String,
}

/// An upload session as the broker described it.
#[derive(Debug)]
pub(crate) struct BegunUpload {
    pub(crate) id: String,
    pub(crate) url: Url,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) expires_at: String,
}

impl Registry {
    pub(crate) async fn start() -> Option<Self> {
        let test = TestBroker::start_on(Backend::Aws).await?;
        test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
        let token = test.token(&deploy(), &[Download, Upload]).await;
        assert_eq!(
            test.get("/v1/whoami", &token).await.status,
            200,
            "the broker reads and caches the principal state"
        );
        test.aws().proxy.take_counts();
        Some(Self { function: test.function(None, None), test, token })
    }

    pub(crate) async fn post(&self, path: &str, body: &str, token: &str) -> Reply {
        let sent = Sent::new("POST", format!("{ADDRESS}/{path}"))
            .bearer(token)
            .body("application/json", body);
        SHAPE.reply(&answer(&self.function, &SHAPE.event(&sent)).await.unwrap())
    }

    pub(crate) async fn begin(&self, version: &str, archive: &[u8]) -> BegunUpload {
        let reply = self
            .post(&format!("{version}/uploads"), &announced(archive).to_string(), &self.token)
            .await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        let session = reply.json();
        BegunUpload {
            id: session["upload"].as_str().unwrap().to_owned(),
            url: session["url"].as_str().unwrap().parse().unwrap(),
            headers: serde_json::from_value(session["headers"].clone()).unwrap(),
            expires_at: session["expires_at"].as_str().unwrap().to_owned(),
        }
    }

    pub(crate) async fn complete(&self, version: &str, session: &BegunUpload) -> Reply {
        self.post(&format!("{version}/uploads/{}", session.id), "", &self.token).await
    }

    /// Returns the published archive of that version, through its signed URL.
    pub(crate) async fn fetched(&self, version: &str) -> (u16, Vec<u8>) {
        let reply = self.test.get(&format!("{ADDRESS}/{version}/download"), &self.token).await;
        assert_eq!(reply.status, 204, "{}", reply.text());
        self.test.fetch(reply.header("x-terraform-get")).await
    }

    /// Returns the row of an upload session, or `null`.
    pub(crate) async fn row(&self, session: &BegunUpload) -> Value {
        let key = json!({"pk": {"S": format!("upload {}", session.id)}, "sk": {"S": "upload"}});
        self.test.aws().dynamodb("GetItem", json!({"Key": key})).await["Item"].clone()
    }
}

impl BegunUpload {
    /// Puts bytes there, as any holder of the URL can.
    pub(crate) async fn put(&self, body: &[u8]) {
        self.put_for(body, 200).await;
    }

    /// Does the same, and expects that status.
    pub(crate) async fn put_for(&self, body: &[u8], expected: u16) {
        let mut request = client(None).put(self.url.clone());
        for (name, value) in self.headers.iter().filter(|(name, _)| *name != "content-length") {
            request = request.header(name, value);
        }
        assert_eq!(request.body(body.to_vec()).send().await.unwrap().status(), expected);
    }

    pub(crate) fn parameter(&self, name: &str) -> String {
        self.url
            .query_pairs()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.into_owned())
            .unwrap()
    }
}

pub(crate) fn announced(archive: &[u8]) -> Value {
    json!({"format": "zip", "bytes": archive.len(), "sha256": hex::encode(Sha256::digest(archive))})
}

fn calls<const N: usize>(calls: [(&str, usize); N]) -> BTreeMap<String, usize> {
    calls.map(|(name, count)| (name.to_owned(), count)).into()
}

#[tokio::test]
async fn an_archive_that_is_put_in_the_bucket_is_checked_and_served_and_the_upload_is_gone() {
    let Some(registry) = Registry::start().await else { return };
    let (archive, proxy) = (large_zip(LARGE), &registry.test.aws().proxy);
    let session = registry.begin("1.0.0", &archive).await;
    assert_eq!(
        proxy.take_counts(),
        calls([
            ("dynamodb BatchGetItem", 1),
            ("dynamodb GetItem", 1),
            ("dynamodb TransactWriteItems", 1)
        ])
    );
    assert_eq!(session.expires_at, "2026-11-20T10:26:12Z");
    let early = registry.complete("1.0.0", &session).await;
    assert_eq!(early.status, 400, "{}", early.text());
    assert!(
        early.text().contains(
            "no archive was put to the URL of this upload; hint: put the archive to the URL"
        ),
        "{}",
        early.text()
    );

    session.put(&archive).await;
    proxy.take_counts();
    let done = registry.complete("1.0.0", &session).await;
    let sha256 = hex::encode(Sha256::digest(&archive));
    assert_eq!(done.status, 201, "{}", done.text());
    assert_eq!(
        done.json(),
        json!({"module": "acme/vpc/aws", "version": "1.0.0", "sha256": sha256, "status": "created", "warnings": []})
    );
    // One read each of the upload session, the version, the versions document and the texts for the
    // search, the version and the document with the limits of the namespace, and the head of the
    // chain of audit events. A query reads the webhooks. Three writes: the reservation, the version, and the end of the session. The broker
    // reads the upload, and puts the metadata and the archive. It also reads the archive back, because
    // the emulator reports no checksum.
    let expected = [
        ("dynamodb BatchGetItem", 2),
        ("dynamodb GetItem", 3),
        ("dynamodb Query", 1),
        ("dynamodb TransactWriteItems", 3),
        ("s3 GET", 2),
        ("s3 PUT", 2),
        ("s3 DELETE", 1),
    ];
    assert_eq!(proxy.take_counts(), calls(expected));
    assert_eq!(registry.fetched("1.0.0").await, (200, archive.clone()));
    assert_eq!(registry.test.archives().await, 1, "the broker deleted the upload");
    assert_eq!(registry.row(&session).await, Value::Null);
    assert_eq!(registry.complete("1.0.0", &session).await.status, 404);

    let again =
        registry.post("1.0.0/uploads", &announced(&archive).to_string(), &registry.token).await;
    assert_eq!((again.status.as_u16(), again.json()["status"].as_str()), (200, Some("unchanged")));
    let other = registry
        .post("1.0.0/uploads", &announced(&large_zip(LARGE + 1)).to_string(), &registry.token)
        .await;
    assert_eq!(other.status, 409, "{}", other.text());
}

/// Returns the parts of an answer that do not differ between two requests.
fn seen(reply: &Reply) -> (u16, String) {
    (reply.status.as_u16(), reply.without_id().text())
}

#[tokio::test]
async fn only_the_principal_that_began_an_upload_completes_it_for_its_version_and_in_time() {
    let Some(registry) = Registry::start().await else { return };
    let archive = large_zip(LARGE);
    let session = registry.begin("1.0.0", &archive).await;
    session.put(&archive).await;
    registry.test.grant(&role("other"), "acme", &[Download, Upload]).await;
    let other = registry
        .test
        .token(&Identity::role("111122223333", "other", "i-0abc"), &[Download, Upload])
        .await;
    let unknown =
        registry.post(&format!("1.0.0/uploads/{}", "0".repeat(32)), "", &registry.token).await;
    assert_eq!(unknown.status, 404);
    for (what, reply) in [
        (
            "another principal",
            registry.post(&format!("1.0.0/uploads/{}", session.id), "", &other).await,
        ),
        ("another version", registry.complete("1.0.1", &session).await),
        (
            "another spelling",
            registry
                .post(&format!("1.0.0/uploads/{}", session.id.to_uppercase()), "", &registry.token)
                .await,
        ),
    ] {
        assert_eq!(seen(&reply), seen(&unknown), "{what}");
    }
    let elsewhere =
        Sent::new("POST", format!("/v1/modules/acme/dns/aws/1.0.0/uploads/{}", session.id))
            .bearer(&registry.token);
    let elsewhere =
        SHAPE.reply(&answer(&registry.function, &SHAPE.event(&elsewhere)).await.unwrap());
    assert_eq!(seen(&elsewhere), seen(&unknown));

    // The token expires with the hour too, so the test gets another one in time.
    registry.test.advance(3599);
    let late = registry.test.token(&deploy(), &[Download, Upload]).await;
    let complete =
        async || registry.post(&format!("1.0.0/uploads/{}", session.id), "", &late).await;
    registry.test.advance(1);
    let expired = complete().await;
    assert_eq!(seen(&expired), seen(&unknown));
    assert!(registry.row(&session).await.is_object(), "the table has not removed the row");
    registry.test.set_time(registry.test.time() - 1);
    let done = complete().await;
    assert_eq!(done.status, 201, "{}", done.text());
}

#[tokio::test]
async fn what_arrives_is_believed_no_more_than_what_is_sent() {
    let Some(registry) = Registry::start().await else { return };
    let archive = large_zip(LARGE);
    let mut bent = archive.clone();
    bent[350_000] ^= 1;
    let (shorter, longer) = (archive[..LARGE - 1].to_vec(), [&archive[..], b"x"].concat());
    for (what, body) in [
        ("a changed byte", bent),
        ("a byte less", shorter),
        ("a byte more", longer),
        ("nothing", Vec::new()),
    ] {
        let session = registry.begin("1.0.0", &archive).await;
        // The emulator accepts it, unlike S3.
        session.put(&body).await;
        let reply = registry.complete("1.0.0", &session).await;
        assert_eq!(reply.status, 400, "{what}: {}", reply.text());
        assert!(
            reply.text().contains(
                "the uploaded archive is not the announced archive; hint: begin the upload again"
            ),
            "{}",
            reply.text()
        );
        assert_eq!(
            registry.row(&session).await,
            Value::Null,
            "{what}: the upload session has ended"
        );
        assert_eq!(registry.test.archives().await, 0, "{what}");
    }
    let mut no_archive = vec![0; LARGE];
    no_archive[..2].copy_from_slice(b"PK");
    let session = registry.begin("1.0.0", &no_archive).await;
    session.put(&no_archive).await;
    let reply = registry.complete("1.0.0", &session).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert!(
        reply.json()["errors"][0].as_str().unwrap().starts_with("the archive"),
        "{}",
        reply.text()
    );
    assert_eq!(registry.test.archives().await, 0);
    assert_eq!(
        registry.test.get(&format!("{ADDRESS}/versions"), &registry.token).await.status,
        404
    );
}

#[tokio::test]
async fn a_grant_that_is_taken_away_ends_an_upload_that_was_begun() {
    let Some(registry) = Registry::start().await else { return };
    let archive = large_zip(LARGE);
    let session = registry.begin("1.0.0", &archive).await;
    session.put(&archive).await;
    registry.test.delete_grant(&role("deploy"), "acme").await;
    registry.test.advance(10);
    assert_eq!(registry.complete("1.0.0", &session).await.status, 403);
    assert_eq!(registry.test.archives().await, 1, "only the uploaded object");
    registry.test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    registry.test.advance(10);
    assert_eq!(registry.complete("1.0.0", &session).await.status, 201);
}

#[tokio::test]
async fn a_completion_that_died_half_way_can_be_repeated() {
    let Some(registry) = Registry::start().await else { return };
    let archive = large_zip(LARGE);
    let session = registry.begin("1.0.0", &archive).await;
    session.put(&archive).await;
    registry.test.break_store();
    assert_eq!(registry.complete("1.0.0", &session).await.status, 503);
    registry.test.repair_store();
    let row = registry.row(&session).await;
    assert_eq!(registry.complete("1.0.0", &session).await.status, 201);

    // The state after the process ended before it cleaned up, and the state for one of two that
    // complete at once.
    for object_left in [true, false] {
        registry.test.aws().dynamodb("PutItem", json!({"Item": row})).await;
        if object_left {
            session.put(&archive).await;
        }
        let again = registry.complete("1.0.0", &session).await;
        assert_eq!(
            (again.status.as_u16(), again.json()["status"].as_str()),
            (200, Some("unchanged")),
            "{object_left}: {}",
            again.text()
        );
        assert_eq!(
            (registry.row(&session).await, registry.test.archives().await),
            (Value::Null, 1),
            "{object_left}"
        );
    }
    assert_eq!(registry.fetched("1.0.0").await, (200, archive));
}

#[tokio::test]
async fn of_two_uploads_of_one_version_one_is_published() {
    let Some(registry) = Registry::start().await else { return };
    let (first, second) = (large_zip(LARGE), large_zip(LARGE + 1));
    let (one, two) =
        (registry.begin("1.0.0", &first).await, registry.begin("1.0.0", &second).await);
    one.put(&first).await;
    two.put(&second).await;
    let (one_done, two_done) =
        tokio::join!(registry.complete("1.0.0", &one), registry.complete("1.0.0", &two));
    let mut outcomes = [one_done.status.as_u16(), two_done.status.as_u16()];
    let published = if outcomes[0] == 201 { first } else { second };
    outcomes.sort_unstable();
    assert_eq!(outcomes, [201, 409], "{} {}", one_done.text(), two_done.text());
    assert_eq!(registry.fetched("1.0.0").await, (200, published));
    for (session, done) in [(one, one_done), (two, two_done)] {
        if done.text().contains("with other content, is in progress") {
            // The other one could have failed, so the upload stays until a client completes it.
            assert_ne!(registry.row(&session).await, Value::Null);
            assert_eq!(registry.complete("1.0.0", &session).await.status, 409);
        }
        assert_eq!(registry.row(&session).await, Value::Null);
    }
}

#[tokio::test]
async fn an_archive_that_was_lost_in_the_bucket_comes_back_when_it_is_published_again() {
    let Some(registry) = Registry::start().await else { return };
    let (small, large) = (module_zip("small"), large_zip(LARGE));
    let test = &registry.test;
    let publish = async |archive: &[u8]| {
        test.publish("acme/vpc/aws", "1.0.0", archive.to_vec(), &registry.token).await
    };
    assert_eq!(publish(&small).await.status, 201);
    test.aws().proxy.take_counts();
    let unchanged = publish(&small).await;
    assert_eq!(
        (unchanged.status.as_u16(), unchanged.json()["status"].as_str()),
        (200, Some("unchanged"))
    );
    assert_eq!(
        test.aws().proxy.take_counts(),
        calls([("dynamodb BatchGetItem", 1), ("s3 HEAD", 1)]),
        "the broker looks for it, and writes nothing"
    );

    test.aws().lose_objects().await;
    assert_eq!(registry.fetched("1.0.0").await.0, 404);
    assert_eq!(publish(&module_zip("other")).await.status, 409, "the version has not changed");
    let restored = publish(&small).await;
    assert_eq!(
        (restored.status.as_u16(), restored.json()["status"].as_str()),
        (200, Some("unchanged")),
        "{}",
        restored.text()
    );
    assert_eq!(registry.fetched("1.0.0").await, (200, small));

    let session = registry.begin("2.0.0", &large).await;
    session.put(&large).await;
    assert_eq!(registry.complete("2.0.0", &session).await.status, 201);
    test.aws().lose_objects().await;
    let session = registry.begin("2.0.0", &large).await;
    session.put(&large).await;
    let restored = registry.complete("2.0.0", &session).await;
    assert_eq!(
        (restored.status.as_u16(), restored.json()["status"].as_str()),
        (200, Some("unchanged")),
        "{}",
        restored.text()
    );
    assert_eq!(registry.fetched("2.0.0").await, (200, large));
}

/// A gateway in front of a function, for the HTTP part.
fn gateway(function: Arc<OnceLock<lambda::Function>>) -> Router {
    Router::new().fallback(move |request: HttpRequest<Body>| {
        let function = Arc::clone(&function);
        async move { through(function.get().unwrap(), request).await }
    })
}

async fn through(function: &lambda::Function, request: HttpRequest<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 10_000_000).await.unwrap();
    let mut sent =
        Sent::new(if parts.method == "POST" { "POST" } else { "GET" }, parts.uri.to_string());
    for (name, value) in parts.headers.iter().filter(|(name, _)| *name != "content-type") {
        sent = sent.header(name.as_str(), value.to_str().unwrap());
    }
    let kind = parts.headers.get("content-type").map_or("", |kind| kind.to_str().unwrap());
    let event = Shape::FunctionUrl.event(&sent.body(kind, body));
    let reply = Shape::FunctionUrl.reply(&function.invoke(&event).await.unwrap());
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}

#[tokio::test]
async fn the_operators_program_publishes_through_a_function_what_no_event_carries() {
    let (broker, admin) = (program(BROKER), program(ADMIN));
    let function = Arc::new(OnceLock::new());
    let between = Arc::clone(&function);
    let Some(served) = Served::start_on(Backend::Aws, |_| gateway(between)).await else { return };
    let (folder, aws) = (tempfile::tempdir().unwrap(), served.test.aws());
    let mut variables = aws.environment();
    variables.push(("STILE_HOST", served.host().to_owned()));
    variables.push(("STILE_STS_ENDPOINT", served.test.sts.endpoint()));
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let real = lambda::Function::start(&broker, &variables, &folder.path().join("log")).await;
    assert!(function.set(real).is_ok());
    served.test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let identity = deploy();
    let home = served.home(&identity);
    let archive = large_zip(4_000_001);
    std::fs::write(home.path().join("vpc.zip"), &archive).unwrap();
    let arguments =
        ["module", "publish", "acme/vpc/aws", "1.0.0", "vpc.zip", "--registry-host", served.host()];
    let sha256 = hex::encode(Sha256::digest(&archive));
    for word in ["published", "unchanged"] {
        let ran = home.run(&admin, &arguments).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        let line = format!("{word} acme/vpc/aws 1.0.0 (sha256:{sha256})");
        assert_eq!(ran.stdout.lines().next(), Some(line.as_str()));
    }
    assert_eq!(served.test.archives().await, 1);
    let token = served.test.token(&identity, &[Download]).await;
    let location = served
        .test
        .get(&format!("{ADDRESS}/1.0.0/download"), &token)
        .await
        .header("x-terraform-get")
        .to_owned();
    assert_eq!(served.test.fetch(&location).await, (200, archive));
}
