//! Service tokens through the API: a bearer issues, lists and revokes them within its own rights.

use serde_json::{Value, json};
use stile_broker::client_source::ClientAddress;
use stile_protocol::names::Permission::{self, CreateGrant, DeleteGrant, Download, Upload};
use stile_store::ServiceTokenChanged;
use stile_tests::broker::grants::LATER;
use stile_tests::broker::operator::{kept, operator};
use stile_tests::broker::{Backend, TestBroker, deploy, role};
use stile_tests::sts::identity::Identity;

use super::service_tokens::calls;

const PATH: &str = "/v1/service-tokens";
const LEAD: &[Permission] = &[CreateGrant, Download];

/// Starts a broker whose role `deploy` may give `download` on `acme` and `tools`, with a token of it.
async fn started() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    for on in ["acme", "tools"] {
        test.grant(&role("deploy"), on, LEAD).await;
    }
    let token = test.token(&deploy(), LEAD).await;
    Some((test, token))
}

fn wanted(changes: &Value) -> Value {
    let mut wanted = json!({
        "name": "renovate", "namespaces": ["acme", "tools"], "permissions": ["download"],
        "expires_at": LATER.1,
    });
    for (name, value) in changes.as_object().unwrap() {
        wanted[name] = value.clone();
    }
    wanted
}

async fn issue(test: &TestBroker, token: &str, changes: Value) -> stile_tests::broker::Reply {
    test.ask("POST", PATH, token, &wanted(&changes)).await
}

#[tokio::test]
async fn a_bearer_issues_nothing_beyond_its_own_rights() {
    let Some((test, token)) = started().await else { return };
    for (changes, expected) in [
        (json!({"namespaces": ["acme", "other"]}), "403 no_grant"),
        (json!({"namespaces": "all"}), "403 no_grant"),
        (json!({"permissions": ["upload"]}), "403 out_of_scope"),
        (json!({"permissions": ["download", "upload"]}), "403 out_of_scope"),
        (json!({"permissions": ["create_grant"]}), "400 invalid_request"),
        (json!({"permissions": []}), "400 invalid_request"),
        (json!({"namespaces": []}), "400 invalid_request"),
        (json!({"name": "Renovate"}), "400 invalid_request"),
        (json!({"name": "service:renovate"}), "400 invalid_request"),
        (json!({"expires_at": "2026-11-20T10:11:12Z"}), "400 invalid_request"),
        (json!({"expires_at": "2028-01-01T00:00:00Z"}), "400 invalid_request"),
        (json!({"expires_at": null}), "400 invalid_request"),
        (json!({"networks": ["10.0.0.1/8"]}), "400 invalid_request"),
        (json!({"networks": ["10.0.0.0/8"]}), "400 invalid_request"),
        (json!({"secret": "x"}), "400 invalid_request"),
    ] {
        let refused = issue(&test, &token, changes.clone()).await;
        assert_eq!(refused.error(), expected, "{changes} {}", refused.text());
    }
    let narrow = test.token(&deploy(), &[Download]).await;
    assert_eq!(issue(&test, &narrow, json!({})).await.error(), "403 out_of_scope");
    assert_eq!(test.stored_grants().await.len(), 2, "nothing changed");
}

#[tokio::test]
async fn a_bearer_gives_no_end_later_than_its_own_also_where_a_grant_is_there() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant_until(&role("deploy"), "acme", LEAD, Some(LATER.0)).await;
    let token = test.token(&deploy(), LEAD).await;
    let only = |end: &str| json!({"namespaces": ["acme"], "expires_at": end});
    let refused = issue(&test, &token, only("2026-11-21T10:11:13Z")).await;
    assert_eq!(refused.error(), "403 no_grant", "{}", refused.text());
    // The grant of the service has `upload`, which the bearer cannot give, so it cannot prolong it.
    test.grant_until("service:renovate", "acme", &[Upload], Some(test.time() + 60)).await;
    let refused = issue(&test, &token, only(LATER.1)).await;
    assert_eq!(refused.error(), "403 out_of_scope", "{}", refused.text());
    test.delete_grant("service:renovate", "acme").await;
    assert_eq!(issue(&test, &token, only(LATER.1)).await.status, 201);
}

#[tokio::test]
async fn an_issued_token_works_is_listed_without_its_secret_and_can_be_revoked() {
    let Some((test, token)) = started().await else { return };
    let issued = issue(&test, &token, json!({})).await;
    assert_eq!((issued.status.as_u16(), issued.header("cache-control")), (201, "no-store"));
    let issued = issued.json();
    let (service, id) = (issued["token"].as_str().unwrap(), issued["id"].as_str().unwrap());
    assert_eq!(issued["grants"][1]["namespace"], "tools");
    assert_eq!(test.get("/v1/whoami", service).await.status, 200);
    assert_eq!(test.ask("GET", PATH, service, &Value::Null).await.error(), "403 no_grant");
    assert_eq!(issue(&test, service, json!({})).await.error(), "403 out_of_scope");

    let listed = test.ask("GET", PATH, &token, &Value::Null).await;
    assert!(!listed.text().contains(&service[32..75]));
    let listed = listed.json();
    let first = &listed["service_tokens"][0];
    assert_eq!((&first["id"], &first["last_used"]), (&json!(id), &json!("2026-11-20")));
    assert_eq!(first["issued_by"], role("deploy"));

    let reader = Identity::role("111122223333", "reader", "i-0abc");
    test.grant(&role("reader"), "acme", LEAD).await;
    let part = test.token(&reader, LEAD).await;
    let of_part = test.ask("GET", PATH, &part, &Value::Null).await.json();
    assert_eq!(of_part, json!({"service_tokens": []}), "it is for `tools`, too");
    let path = format!("{PATH}/{id}");
    assert_eq!(test.ask("DELETE", &path, &part, &Value::Null).await.error(), "404 not_found");
    assert_eq!(test.get("/v1/whoami", service).await.status, 200);
    let other = format!("{PATH}/{service}");
    let refused = test.ask("DELETE", &other, &token, &Value::Null).await;
    assert_eq!(refused.error(), "400 invalid_request");
    assert!(!refused.text().contains(&service[32..75]));

    assert_eq!(test.ask("DELETE", &path, &token, &Value::Null).await.status, 204);
    assert_eq!(test.ask("DELETE", &path, &token, &Value::Null).await.error(), "404 not_found");
    test.advance(10);
    assert_eq!(test.get("/v1/whoami", service).await.error(), "401 unauthorized");
}

#[tokio::test]
async fn a_delegated_token_ends_within_ten_seconds_of_its_issuer_losing_the_grant() {
    let Some((test, token)) = started().await else { return };
    let other = test.restarted();
    let issued = issue(&test, &token, json!({})).await.json();
    let service = issued["token"].as_str().unwrap();
    let adopted = issue(&test, &token, json!({"name": "adopted"})).await.json();
    let id = stile_core::token::TokenId::parse(adopted["id"].as_str().unwrap()).unwrap();
    let done = test.store().adopt_service_token(&operator(), &id, &kept(test.time())).await;
    assert!(matches!(done.unwrap(), ServiceTokenChanged::Done(Some(_))));
    let whoami = async |broker: &TestBroker, token: &Value| {
        broker.get("/v1/whoami", token.as_str().unwrap()).await.status.as_u16()
    };
    for broker in [&test, &other] {
        assert_eq!(broker.get("/v1/whoami", service).await.status, 200);
    }
    test.delete_grant(&role("deploy"), "tools").await;
    for broker in [&test, &other] {
        broker.advance(10);
        assert_eq!(broker.get("/v1/whoami", service).await.error(), "401 unauthorized");
        assert_eq!(whoami(broker, &adopted["token"]).await, 200, "an operator adopted it");
    }
}

#[tokio::test]
async fn a_token_that_a_trust_issued_ends_within_ten_seconds_of_the_change_of_the_trust() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let trust = test.trust("ci").await;
    test.grant("oidc:ci", "acme", LEAD).await;
    let token = test.trust_token(&trust, LEAD).await.unwrap();
    let issued = issue(&test, &token, json!({"namespaces": ["acme"]})).await;
    assert_eq!(issued.status, 201, "{}", issued.text());
    let issued = issued.json();
    let service = issued["token"].as_str().unwrap();
    assert_eq!(test.get("/v1/whoami", service).await.status, 200);
    test.update_trust("ci", "project_id=75").await;
    test.advance(10);
    assert_eq!(test.get("/v1/whoami", service).await.error(), "401 unauthorized");
}

#[tokio::test]
async fn the_rights_of_an_issuer_cost_one_read_in_ten_seconds_and_an_issue_seven_calls() {
    let Some((test, token)) = started().await else { return };
    let body = wanted(&json!({"namespaces": ["acme"]}));
    assert_eq!(test.get("/v1/whoami", &token).await.status, 200);
    let before = calls(&test);
    let issued = test.ask("POST", PATH, &token, &body).await;
    assert_eq!((issued.status.as_u16(), calls(&test) - before), (201, of_issue(&test)));
    let issued = issued.json();
    let service = issued["token"].as_str().unwrap();
    assert_eq!(test.get("/v1/whoami", service).await.status, 200);
    test.advance(10);
    for cost in [3, 0] {
        let before = calls(&test);
        assert_eq!(test.get("/v1/whoami", service).await.status, 200);
        assert_eq!(calls(&test) - before, cost, "the token, its issuer and its service");
    }
}

/// Returns the calls of an issue: a data folder reads the tokens and their uses at once.
fn of_issue(test: &TestBroker) -> u64 {
    match test.backend() {
        Backend::Embedded => 6,
        Backend::Aws => 7,
    }
}

#[tokio::test]
async fn a_reused_name_widens_no_token_that_someone_else_issued() {
    let Some((test, token)) = started().await else { return };
    let narrow = issue(&test, &token, json!({"namespaces": ["acme"]})).await.json();
    test.issue("renovate", &["acme", "other"], &[Download, Upload]).await;
    test.advance(10);
    let scope = test.get("/v1/whoami", narrow["token"].as_str().unwrap()).await.json();
    assert_eq!(scope["namespaces"], json!(["acme"]));
    assert_eq!(scope["permissions"], json!(["download"]));
    assert_eq!(scope["grants"][0]["permissions"], json!(["download"]));
}

#[tokio::test]
async fn no_api_gives_a_service_rights_to_others() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let all = [CreateGrant, DeleteGrant, Download, Upload];
    test.grant(&role("deploy"), "acme", &all).await;
    let token = test.token(&deploy(), &all).await;
    for right in ["create_grant", "delete_grant"] {
        let grant = json!({
            "principal": "service:renovate", "namespace": "acme", "permissions": ["download", right],
        });
        let refused = test.ask("POST", "/v1/grants", &token, &grant).await;
        assert_eq!(refused.error(), "400 invalid_request", "{}", refused.text());
    }
    let grant =
        json!({"principal": "service:renovate", "namespace": "acme", "permissions": ["download"]});
    assert_eq!(test.ask("POST", "/v1/grants", &token, &grant).await.status, 201);
    let wider =
        json!({"principal": "service:renovate", "namespace": "acme", "set": ["create_grant"]});
    let refused = test.ask("PATCH", "/v1/grants", &token, &wider).await;
    assert_eq!(refused.error(), "400 invalid_request", "{}", refused.text());
}

#[tokio::test]
async fn a_token_with_networks_is_issued_only_where_the_broker_knows_addresses() {
    let Some((test, token)) = started().await else { return };
    let body = wanted(&json!({"networks": ["203.0.113.0/24"]}));
    assert_eq!(test.ask("POST", PATH, &token, &body).await.error(), "400 invalid_request");
    let request = axum::http::Request::post(PATH)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json");
    let mut request = request.body(axum::body::Body::from(body.to_string())).unwrap();
    request.extensions_mut().insert(ClientAddress("192.0.2.1".parse().unwrap()));
    let issued = test.send(request).await;
    assert_eq!(
        (issued.status.as_u16(), &issued.json()["networks"]),
        (201, &json!(["203.0.113.0/24"]))
    );
}

#[tokio::test]
async fn a_bearer_with_many_tokens_gets_no_more_and_takes_none_from_others() {
    let Some((test, token)) = started().await else { return };
    let end = stile_core::clock::rfc3339(test.time() + 60);
    let body = json!({"namespaces": ["acme"], "expires_at": end});
    for _ in 0..50 {
        assert_eq!(issue(&test, &token, body.clone()).await.status, 201);
    }
    let refused = issue(&test, &token, body.clone()).await;
    assert_eq!(refused.error(), "409 conflict", "{}", refused.text());
    assert!(refused.text().contains("you have 50 service tokens"), "{}", refused.text());
    let other = Identity::role("111122223333", "other", "i-0abc");
    for on in ["acme", "tools"] {
        test.grant(&role("other"), on, LEAD).await;
    }
    let other = test.token(&other, LEAD).await;
    let refused = issue(&test, &other, body.clone()).await;
    assert!(refused.text().contains("the namespace `acme` has 50"), "{}", refused.text());
    let elsewhere = json!({"namespaces": ["tools"]});
    assert_eq!(issue(&test, &other, elsewhere).await.status, 201);
    test.issue("renovate", &["acme"], &[Download]).await;
    test.advance(60);
    assert_eq!(issue(&test, &token, json!({})).await.status, 201, "the others have ended");
    let stored = async || test.store().service_tokens(&operator()).await.unwrap().tokens.len();
    assert_eq!(stored().await, 53);
    test.advance(30 * 24 * 3600);
    for left in [34, 15, 6] {
        test.issue("renovate", &["acme"], &[Download]).await;
        assert_eq!(stored().await, left, "an issue forgets at most 20 that ended long ago");
    }
}
