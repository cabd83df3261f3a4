//! The mint with a JWT: what the broker rejects, with which code, and at which cost.

use serde_json::json;
use stile_protocol::names::Permission::Download;
use stile_tests::broker::TestBroker;
use stile_tests::issuer::{DISCOVERY, Issuer, KEYS};

#[tokio::test]
async fn a_jwt_that_a_trust_believes_gets_a_token_of_the_trust_once() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let (issuer, key) = Issuer::with_key().await;
    let test = test.believing(&issuer);
    test.trust("ci", &issuer.url(), &["repository_id=74"]).await;
    test.grant("oidc:ci", "acme", &[Download]).await;
    let jwt = test.jwt(&issuer, json!({"repository_id": "74"})).signed(&key);
    let reply = test.exchange_jwt(&jwt).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    assert_eq!(answer["principal"], "oidc:ci");
    assert_eq!(
        (&answer["token_type"], &answer["scope"]),
        (&json!("Bearer"), &json!("all:download"))
    );
    let token = answer["access_token"].as_str().unwrap();
    assert_eq!(test.get("/v1/whoami", token).await.json()["principal"], "oidc:ci");
    assert_eq!(test.exchange_jwt(&jwt).await.error(), "401 jwt_replayed");
    let other = test.restarted().believing(&issuer);
    assert_eq!(other.exchange_jwt(&jwt).await.error(), "401 jwt_replayed", "another process");
    assert_eq!((issuer.requests(DISCOVERY), issuer.requests(KEYS)), (2, 2), "one for each process");
}
