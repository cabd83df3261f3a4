//! The notices in the answer of a mint: what a caller should know, and when it need not.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::{self, Download, Upload};
use stile_store::{Change, ExpiryChange};
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{TestBroker, deploy, module_zip, role};
use stile_tests::sts::identity::Identity;
use stile_tests::sts::proof::document;

const DAY: i64 = 24 * 3600;

/// Returns the notices that a caller gets with a token.
async fn notices(test: &TestBroker, name: &str, permissions: &[Permission]) -> Value {
    let identity = Identity::role("111122223333", name, "i-0abc");
    test.sts.add_identity(identity.clone());
    let wanted = document(900, Namespaces::All, permissions);
    let reply = test.exchange(&test.proof(&identity).document(&wanted).build()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["notices"].clone()
}

async fn end_grant(test: &TestBroker, name: &str, namespace: &str, end: i64) {
    let principal = stile_core::principal::Principal::parse_stored(&role(name)).unwrap();
    let change = Change { expires_at: ExpiryChange::At(end), ..Change::default() };
    let namespace = namespace.parse().unwrap();
    test.store().as_operator().update_grant(principal, namespace, change).await.unwrap();
}

#[tokio::test]
async fn each_token_comes_with_a_notice_of_a_grant_that_ends_within_two_weeks() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    test.grant(&role("deploy"), "other", &[Download]).await;
    assert_eq!(notices(&test, "deploy", &[Download]).await, Value::Null);
    end_grant(&test, "deploy", "acme", test.time() + 15 * DAY).await;
    assert_eq!(notices(&test, "deploy", &[Download]).await, Value::Null);
    test.advance(6 * DAY);
    let expected =
        "your grant of `download` on namespace `acme` ends in 9 days, at 2026-12-05T10:11:12Z";
    assert_eq!(notices(&test, "deploy", &[Download]).await, json!([expected]));
    test.advance(9 * DAY);
    assert_eq!(notices(&test, "deploy", &[Download]).await, Value::Null, "it has ended");
}

#[tokio::test]
async fn who_fetched_a_deprecated_version_lately_gets_a_notice_while_it_is_deprecated() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    test.grant(&role("reader"), "acme", &[Download]).await;
    test.grant(&role("reader"), "other", &[Download]).await;
    test.grant(&role("bystander"), "acme", &[Download]).await;
    let publisher = test.token(&deploy(), &[Upload]).await;
    for version in ["1.0.0", "1.1.0"] {
        test.publish("acme/vpc/aws", version, module_zip(version), &publisher).await;
    }
    let deprecation = async |method: &str| {
        let token = test.token(&deploy(), &[Upload]).await;
        let request = Request::builder()
            .method(method)
            .uri("/v1/modules/acme/vpc/aws/1.0.0/deprecation")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        let body = json!({"reason": "It leaks.", "replacement": "1.1.0"}).to_string();
        let body = if method == "PUT" { Body::from(body) } else { Body::empty() };
        assert_eq!(test.send(request.body(body).unwrap()).await.status, 200);
    };
    let fetch = async |version: &str| {
        let reader = Identity::role("111122223333", "reader", "i-0abc");
        let token = test.token(&reader, &[Download]).await;
        let path = format!("/v1/modules/acme/vpc/aws/{version}/download");
        assert_eq!(test.get(&path, &token).await.status, 204);
        stile_broker::app::usage::flush(&test.broker).await;
    };
    let expected = json!([
        "`acme/vpc/aws` 1.0.0, which you fetched on 2026-11-20, is deprecated: It leaks; use `1.1.0`"
    ]);
    fetch("1.1.0").await;
    deprecation("PUT").await;
    assert_eq!(notices(&test, "reader", &[Download]).await, Value::Null, "another version");
    deprecation("DELETE").await;
    fetch("1.0.0").await;
    assert_eq!(notices(&test, "reader", &[Download]).await, Value::Null, "nothing is deprecated");
    deprecation("PUT").await;
    assert_eq!(notices(&test, "reader", &[Download]).await, expected, "it fetched before");
    assert_eq!(notices(&test, "bystander", &[Download]).await, Value::Null);
    deprecation("DELETE").await;
    assert_eq!(notices(&test, "reader", &[Download]).await, Value::Null);
    deprecation("PUT").await;
    fetch("1.0.0").await;
    assert_eq!(notices(&test, "reader", &[Download]).await, expected, "it fetched afterwards");
    test.delete_grant(&role("reader"), "acme").await;
    assert_eq!(notices(&test, "reader", &[Download]).await, Value::Null, "it may not read it now");
    test.grant(&role("reader"), "acme", &[Download]).await;
    test.advance(30 * DAY);
    assert_eq!(notices(&test, "reader", &[Download]).await, expected);
    test.advance(DAY);
    assert_eq!(notices(&test, "reader", &[Download]).await, Value::Null, "that was long ago");
}
