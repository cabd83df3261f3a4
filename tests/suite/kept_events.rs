//! The audit events that the store keeps: one for each change, with the fields of its line in the
//! log, in chains without a gap.

use axum::body::Body;
use axum::http::Request;
use futures_util::future::join_all;
use serde_json::{Value, json};
use stile_core::principal::Principal;
use stile_protocol::names::Permission;
use stile_store::LimitChange::At;
use stile_tests::broker::grants::path_of;
use stile_tests::broker::journal::Journal;
use stile_tests::broker::kept_events::{as_kept, kept_events, without_place};
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{TestBroker, deploy, module_zip, role};

const ALL: [Permission; 4] = Permission::ALL;

/// Starts a registry, on which `deploy` has everything on `acme`.
async fn registry() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &ALL).await;
    let token = test.token(&deploy(), &ALL).await;
    Some((test, token))
}

fn principal(name: &str) -> Principal {
    Principal::parse_stored(&role(name)).unwrap()
}

async fn on_acme(test: &TestBroker) -> Vec<Value> {
    kept_events(test.store()).await.remove("acme").unwrap_or_default()
}

#[tokio::test]
async fn what_changes_nothing_keeps_no_event() {
    let Some((test, token)) = registry().await else { return };
    assert_eq!(test.publish("acme/vpc/aws", "1.0.0", module_zip("a"), &token).await.status, 201);
    let before = kept_events(test.store()).await;
    let version = "/v1/modules/acme/vpc/aws/1.0.0";
    let grant = json!({"principal": role("deploy"), "namespace": "acme", "permissions": ALL.map(Permission::as_str)});
    let other = json!({"principal": role("x"), "namespace": "other", "permissions": ["download"]});
    let same = json!({"principal": role("deploy"), "namespace": "acme", "set": ["download"]});
    for (method, path, body, status) in [
        ("DELETE", format!("{version}/deprecation"), Value::Null, 200),
        (
            "PUT",
            "/v1/modules/acme/vpc/aws/9.0.0/deprecation".to_owned(),
            json!({"reason": "x"}),
            404,
        ),
        ("POST", "/v1/grants".to_owned(), grant, 200),
        ("POST", "/v1/grants".to_owned(), other, 403),
        ("PATCH", "/v1/grants".to_owned(), same, 200),
        ("DELETE", path_of(&role("nobody"), "acme"), Value::Null, 404),
    ] {
        let reply = test.ask(method, &path, &token, &body).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
    }
    for (archive, status) in [("a", 200), ("b", 409)] {
        let again = test.publish("acme/vpc/aws", "1.0.0", module_zip(archive), &token).await;
        assert_eq!(again.status, status);
    }
    test.token(&deploy(), &ALL).await;
    let store = test.store().as_operator();
    assert!(!store.lift(principal("x")).await.unwrap());
    assert!(!store.unpin(principal("x")).await.unwrap());
    assert_eq!(kept_events(test.store()).await, before);
}

#[tokio::test]
async fn every_change_through_the_api_has_one_event_with_the_fields_of_its_line_in_the_log() {
    let journal = Journal::start();
    let Some((test, token)) = registry().await else { return };
    let lines = journal.taken().audit();
    let mint = lines.iter().find(|line| line["event"] == "exchange").unwrap();
    assert!(mint["region"].is_string() && mint["namespace"].is_null(), "{mint}");
    let store = test.store().as_operator();
    store.allow_sources("acme", &["git::https://git.example.com/"], test.time()).await.unwrap();
    let mut seen = on_acme(&test).await.len();
    let version = "/v1/modules/acme/vpc/aws/1.0.0";
    let reason = json!({"reason": "broken"});
    let grant = |more: Value| {
        let mut body = json!({"principal": role("ci"), "namespace": "acme"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let source = json!({"source": "git::https://git.example.com/vpc?ref=v1.0.0"});
    for (method, path, body, expected) in [
        ("POST", version.to_owned(), Value::Null, "publish created"),
        ("PUT", format!("{version}/deprecation"), reason.clone(), "deprecate changed"),
        ("DELETE", format!("{version}/deprecation"), Value::Null, "undeprecate changed"),
        ("DELETE", version.to_owned(), reason, "unpublish changed"),
        ("POST", format!("{version}/restore"), Value::Null, "restore changed"),
        ("POST", "/v1/modules/acme/vpc/aws/2.0.0".to_owned(), source, "publish created"),
        (
            "POST",
            "/v1/grants".to_owned(),
            grant(json!({"permissions": ["download"]})),
            "grant created",
        ),
        ("PATCH", "/v1/grants".to_owned(), grant(json!({"set": ["upload"]})), "grant changed"),
        ("DELETE", path_of(&role("ci"), "acme"), Value::Null, "grant deleted"),
    ] {
        journal.taken();
        let request = Request::builder()
            .method(method)
            .uri(&path)
            .header("authorization", format!("Bearer {token}"))
            .header("user-agent", "Terraform/1.9.5 (+https://www.terraform.io) secret");
        let request = match &body {
            Value::Null if expected == "publish created" => {
                request.header("content-type", "application/zip").body(module_zip("a").into())
            }
            Value::Null => request.body(Body::empty()),
            body => {
                request.header("content-type", "application/json").body(body.to_string().into())
            }
        };
        let reply = test.send(request.unwrap()).await;
        assert!(reply.status.is_success(), "{method} {path}: {}", reply.text());
        let [line] = &journal.taken().audit()[..] else { panic!("{expected}: one line") };
        let events = on_acme(&test).await;
        let [event] = &events[seen..] else { panic!("{expected}: one event") };
        assert_eq!(without_place(event), as_kept(line));
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        assert_eq!(format!("{} {}", text("event"), text("decision")), expected);
        assert_eq!((text("principal"), text("grant_of")), (&*role("deploy"), &*role("deploy")));
        assert_eq!((text("grant_on"), text("client")), ("acme", "Terraform/1.9.5"));
        assert!(event["request_id"].is_string() && event["token_id"].is_string(), "{event}");
        assert_eq!(
            event["permissions_before"].is_string(),
            ["grant changed", "grant deleted"].contains(&expected)
        );
        seen = events.len();
    }
}

#[tokio::test]
async fn a_change_of_an_operator_is_in_the_chain_of_its_namespace_or_of_operators() {
    let Some((test, _)) = registry().await else { return };
    let (store, now) = (test.store().as_operator(), test.time());
    let count = async |chain: &str| kept_events(test.store()).await.get(chain).map_or(0, Vec::len);
    let mut before = [count("acme").await, count("*").await];
    test.grant(&role("all"), "*", &ALL).await;
    store.revoke_principal(principal("x"), now).await.unwrap();
    store.lift(principal("x")).await.unwrap();
    store.unpin(principal("deploy")).await.unwrap();
    test.add_webhook("ci", "https://ci.example.com/").await;
    assert_eq!(store.drop_keys().await.unwrap(), Some(1));
    test.trust("ci").await;
    test.update_trust("ci", "project_id=75").await;
    test.update_trust("ci", "project_id=75").await;
    test.delete_trust("ci").await;
    before[1] += 9;
    assert_eq!([count("acme").await, count("*").await], before);
    store.set_limits("acme", At(1 << 30), At(50), now).await.unwrap();
    store.set_limits("acme", At(1 << 30), At(50), now).await.unwrap();
    store.delete_grant(principal("deploy"), "acme".parse().unwrap()).await.unwrap();
    before[0] += 2;
    assert_eq!([count("acme").await, count("*").await], before);
}

#[tokio::test]
async fn twenty_changes_at_once_in_one_namespace_all_take_effect_and_make_one_chain() {
    let Some((test, token)) = registry().await else { return };
    let before = on_acme(&test).await.len();
    let brokers = [test.restarted(), test.restarted(), test.restarted()];
    let (brokers, token) = (&brokers, &token);
    let publishes = (0..12).map(async |n: usize| {
        let module = format!("acme/m{n}/aws");
        brokers[n % 3].publish(&module, "1.0.0", module_zip("a"), token).await
    });
    let grants = (0..8).map(async |n: usize| {
        let grant =
            json!({"principal": role(&format!("r{n}")), "namespace": "acme", "permissions": ["download"]});
        brokers[n % 3].ask("POST", "/v1/grants", token, &grant).await
    });
    let (published, granted) = tokio::join!(join_all(publishes), join_all(grants));
    for reply in published.iter().chain(&granted) {
        assert_eq!(reply.status, 201, "{}", reply.text());
    }
    assert_eq!(on_acme(&test).await.len(), before + 20);
}
