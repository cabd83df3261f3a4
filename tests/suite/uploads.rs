//! Upload sessions and the size limit of a request: what the broker rejects, and which hints it
//! gives.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::{Backend, Reply, TestBroker, deploy, large_zip, module_zip, role};
use stile_tests::lambda::events::{Sent, Shape};

use crate::lambda::answer;

const VERSION: &str = "/v1/modules/acme/vpc/aws/1.0.0";

async fn registry() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    Some((test, token))
}

fn announced(archive: &[u8]) -> Value {
    json!({"format": "zip", "bytes": archive.len(), "sha256": hex::encode(Sha256::digest(archive))})
}

fn post(path: &str, token: &str) -> axum::http::request::Builder {
    Request::post(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
}

async fn begin(test: &TestBroker, path: &str, body: impl ToString, token: &str) -> Reply {
    test.send(post(&format!("{path}/uploads"), token).body(Body::from(body.to_string())).unwrap())
        .await
}

#[tokio::test]
async fn an_invalid_or_refused_announcement_begins_no_upload() {
    let Some((test, token)) = registry().await else { return };
    let reader = test.token(&deploy(), &[Download]).await;
    let good = announced(&module_zip("x"));
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (path, body, token, status) in [
        (VERSION, good.clone(), "nonsense", 401),
        (VERSION, good.clone(), &reader, 403),
        ("/v1/modules/other/vpc/aws/1.0.0", good.clone(), &token, 403),
        ("/v1/modules/acme/VPC/aws/1.0.0", good.clone(), &token, 400),
        ("/v1/modules/acme/vpc/aws/v1", good.clone(), &token, 400),
        (VERSION, json!([]), &token, 400),
        (VERSION, json!({}), &token, 400),
        (VERSION, with("url", json!("https://evil.example")), &token, 400),
        (VERSION, with("bytes", json!(0)), &token, 400),
        (VERSION, with("bytes", json!("1")), &token, 400),
        (VERSION, with("bytes", json!(100_000_001)), &token, 413),
        (VERSION, with("sha256", json!("../..")), &token, 400),
        (VERSION, with("format", json!("exe")), &token, 400),
        (VERSION, json!({"format": "x".repeat(17_000)}), &token, 413),
    ] {
        let reply = begin(&test, path, &body, token).await;
        assert_eq!(reply.status.as_u16(), status, "{path} {body}: {}", reply.text());
        assert!(!reply.json()["errors"][0].as_str().unwrap().is_empty());
    }
    let untyped = Request::post(format!("{VERSION}/uploads"))
        .header("authorization", format!("Bearer {token}"));
    assert_eq!(test.send(untyped.body(Body::from(good.to_string())).unwrap()).await.status, 415);
}

#[tokio::test]
async fn a_small_archive_is_sent_directly_and_a_published_one_is_not_sent() {
    let Some((test, token)) = registry().await else { return };
    let archive = module_zip("x");
    let announcement = announced(&archive);
    let reply = begin(&test, VERSION, &announcement, &token).await;
    let direct = json!({"module": "acme/vpc/aws", "version": "1.0.0", "sha256": announcement["sha256"], "status": "direct"});
    assert_eq!((reply.status.as_u16(), reply.json()), (200, direct));
    let mut largest = announcement.clone();
    largest["bytes"] = json!(100_000_000);
    assert_eq!(
        begin(&test, VERSION, &largest, &token).await.json()["status"],
        "direct",
        "a plain server accepts every allowed archive"
    );

    assert_eq!(test.publish("acme/vpc/aws", "1.0.0", archive, &token).await.status, 201);
    let same = begin(&test, VERSION, &announcement, &token).await;
    assert_eq!((same.status.as_u16(), same.json()["status"].as_str()), (200, Some("unchanged")));
    let other = begin(&test, VERSION, announced(&module_zip("other")), &token).await;
    assert_eq!(other.status, 409);
    assert!(other.text().contains("a published version never changes"), "{}", other.text());
}

#[tokio::test]
async fn an_upload_that_nobody_began_is_not_found() {
    let Some((test, token)) = registry().await else { return };
    for id in ["00000000000000000000000000000000", "x", "..", "%2e%2e%2f%2e%2e"] {
        let reply = test
            .send(post(&format!("{VERSION}/uploads/{id}"), &token).body(Body::empty()).unwrap())
            .await;
        assert_eq!(reply.status, 404, "{id}");
        assert!(
            reply.text().contains("there is no such upload; hint: begin the upload again"),
            "{id}: {}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn a_function_takes_what_an_event_carries_and_names_the_way_for_more() {
    let Some((test, token)) = registry().await else { return };
    let function = test.function(None, None);
    for shape in Shape::ALL {
        let limit = if shape == Shape::LoadBalancer { 700_000 } else { 4_000_000 };
        let archive = large_zip(limit + 1);
        let direct =
            Sent::new("POST", VERSION).bearer(&token).body("application/zip", archive.clone());
        let refused = shape.reply(&answer(&function, &shape.event(&direct)).await.unwrap());
        assert_eq!(refused.status, 413, "{shape:?}: {}", refused.text());
        let expected = format!(
            "the archive is larger than {} KB, the limit for one request; hint: begin an upload",
            limit / 1000
        );
        assert!(refused.text().contains(&expected), "{shape:?}: {}", refused.text());

        for (bytes, embedded, aws) in [(limit, 200, 200), (limit + 1, 413, 201)] {
            let mut body = announced(&archive);
            body["bytes"] = json!(bytes);
            let sent = Sent::new("POST", format!("{VERSION}/uploads"))
                .bearer(&token)
                .body("application/json", body.to_string());
            let reply = shape.reply(&answer(&function, &shape.event(&sent)).await.unwrap());
            let expected = if test.backend() == Backend::Aws { aws } else { embedded };
            assert_eq!(reply.status.as_u16(), expected, "{shape:?} {bytes}: {}", reply.text());
        }
    }
    assert_eq!(test.archives().await, 0);
    let most = large_zip(700_000);
    let sent = Sent::new("POST", VERSION).bearer(&token).body("application/zip", most);
    let taken = Shape::LoadBalancer
        .reply(&answer(&function, &Shape::LoadBalancer.event(&sent)).await.unwrap());
    assert_eq!(taken.status, 201, "{}", taken.text());
}
