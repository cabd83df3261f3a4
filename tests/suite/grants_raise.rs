//! Grants through the API: ways to raise oneself and others, and requests that are not as documented.

use serde_json::{Value, json};
use stile_core::principal::Principal;
use stile_protocol::names::Permission::{self, CreateGrant, DeleteGrant, Download};
use stile_tests::broker::grants::{LATER, path_of};
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{TestBroker, deploy, namespaces, role};
use stile_tests::sts::identity::Identity;

const ALL: [Permission; 4] = Permission::ALL;

/// Returns a session of a role.
fn named(name: &str) -> Identity {
    Identity::role("111122223333", name, "i-0abc")
}

/// Starts a broker, on which `deploy` has everything on `acme`.
async fn registry() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &ALL).await;
    let token = test.token(&deploy(), &ALL).await;
    Some((test, token))
}

#[tokio::test]
async fn nobody_raises_themselves_or_others_through_the_api() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("gives"), "acme", &[CreateGrant, Download]).await;
    test.grant(&role("takes"), "acme", &[DeleteGrant, Download]).await;
    test.grant(&role("everywhere"), "*", &ALL).await;
    test.grant_until(&role("until"), "acme", &ALL, Some(LATER.0)).await;
    test.grant(&role("reader"), "acme", &[Download]).await;
    test.grant("account:aws:111122223333", "acme", &[Download]).await;
    // Their tokens are for everything, so that only the grants decide.
    for name in ["gives", "takes"] {
        test.grant(&role(name), "elsewhere", &ALL).await;
    }
    let gives = test.token(&named("gives"), &ALL).await;
    let takes = test.token(&named("takes"), &ALL).await;
    let until = test.token(&named("until"), &ALL).await;
    let everywhere = test.token(&named("everywhere"), &ALL).await;
    let reads = test.token(&named("everywhere"), &[Download]).await;
    let narrow = test.token_for(&named("everywhere"), namespaces(&["other"]), &ALL, 3600).await;
    let before = test.stored_grants().await;

    let new = |who: &str, on: &str, may: &[&str], end: Option<&str>| {
        let mut new = json!({"principal": who, "namespace": on, "permissions": may});
        if let Some(end) = end {
            new["expires_at"] = end.into();
        }
        new
    };
    let change = |who: &str, on: &str, more: Value| {
        let mut change = json!({"principal": who, "namespace": on});
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        change
    };
    let (me, reader, other) = (role("gives"), role("reader"), "aws:444455556666:role/other");
    let own_arn = "arn:aws:iam::111122223333:role/path/gives";
    let account = "account:111122223333";
    let no = Value::Null;
    let with = |query: &str| format!("/v1/grants?{query}");
    let plain = || "/v1/grants".to_owned();
    for (token, method, path, body, expected) in [
        (&gives, "POST", plain(), new(&me, "acme", &["upload"], None), "no_grant"),
        (&gives, "POST", plain(), new(other, "acme", &["download", "upload"], None), "no_grant"),
        (&gives, "POST", plain(), new(other, "acme", &["delete_grant"], None), "no_grant"),
        (&gives, "POST", plain(), new(other, "prod", &["download"], None), "no_grant"),
        (&gives, "POST", plain(), new(&me, "*", &["download"], None), "no_grant"),
        (&gives, "POST", plain(), new(account, "acme", &["download"], None), "no_grant"),
        (&gives, "PATCH", plain(), change(&me, "acme", json!({"set": ["upload"]})), "no_grant"),
        (
            &gives,
            "PATCH",
            plain(),
            change(own_arn, "acme", json!({"set": ["delete_grant"]})),
            "no_grant",
        ),
        (&gives, "PATCH", plain(), change(&reader, "acme", json!({"set": ["upload"]})), "no_grant"),
        (
            &gives,
            "PATCH",
            plain(),
            change(&reader, "acme", json!({"clear": ["download"], "set": ["create_grant"]})),
            "no_grant",
        ),
        (
            &gives,
            "PATCH",
            plain(),
            change(account, "acme", json!({"set": ["create_grant"]})),
            "no_grant",
        ),
        (
            &gives,
            "PATCH",
            plain(),
            change(&role("everywhere"), "*", json!({"set": ["download"]})),
            "no_grant",
        ),
        (&gives, "DELETE", path_of(&reader, "acme"), no.clone(), "no_grant"),
        (&gives, "DELETE", path_of(&reader, "acme") + "&force=true", no.clone(), "no_grant"),
        (&gives, "DELETE", path_of(account, "acme"), no.clone(), "no_grant"),
        (&takes, "POST", plain(), new(&role("takes"), "other", &["download"], None), "no_grant"),
        (&takes, "POST", plain(), new(other, "acme", &["download"], None), "no_grant"),
        (
            &takes,
            "PATCH",
            plain(),
            change(&role("takes"), "acme", json!({"set": ["create_grant"]})),
            "no_grant",
        ),
        (
            &takes,
            "PATCH",
            plain(),
            change(&role("until"), "acme", json!({"expires_at": null})),
            "no_grant",
        ),
        (
            &takes,
            "PATCH",
            plain(),
            change(&role("until"), "acme", json!({"expires_at": "2027-01-31T00:00:00Z"})),
            "no_grant",
        ),
        (&takes, "DELETE", path_of(&role("everywhere"), "*"), no.clone(), "no_grant"),
        (&until, "POST", plain(), new(other, "acme", &["download"], None), "no_grant"),
        (
            &until,
            "POST",
            plain(),
            new(other, "acme", &["download"], Some("2026-11-21T10:11:13Z")),
            "no_grant",
        ),
        (
            &until,
            "PATCH",
            plain(),
            change(&role("until"), "acme", json!({"expires_at": null})),
            "no_grant",
        ),
        (&until, "PATCH", plain(), change(&reader, "acme", json!({"set": ["upload"]})), "no_grant"),
        (
            &everywhere,
            "POST",
            plain(),
            new(&role("everywhere"), "*", &["download"], None),
            "no_grant",
        ),
        (
            &everywhere,
            "POST",
            plain(),
            new("account:aws:444455556666", "acme", &["download"], None),
            "no_grant",
        ),
        (
            &everywhere,
            "DELETE",
            path_of("account:aws:111122223333", "acme"),
            no.clone(),
            "no_grant",
        ),
        (&reads, "POST", plain(), new(other, "acme", &["download"], None), "out_of_scope"),
        (
            &reads,
            "PATCH",
            plain(),
            change(&reader, "acme", json!({"set": ["upload"]})),
            "out_of_scope",
        ),
        (&reads, "DELETE", path_of(&reader, "acme"), no.clone(), "out_of_scope"),
        (&reads, "GET", with("namespace=acme"), no.clone(), "out_of_scope"),
        (&narrow, "POST", plain(), new(other, "acme", &["download"], None), "out_of_scope"),
        (&narrow, "DELETE", path_of(&reader, "acme"), no.clone(), "out_of_scope"),
        (&narrow, "GET", with("namespace=*"), no.clone(), "no_grant"),
        (&gives, "GET", with("namespace=other"), no.clone(), "no_grant"),
    ] {
        let reply = test.ask(method, &path, token, &body).await;
        let found = format!("{method} {path} {body}: {}", reply.text());
        assert_eq!(reply.error(), format!("403 {expected}"), "{found}");
    }
    assert_eq!(test.stored_grants().await, before, "and nothing changed");
}

#[tokio::test]
async fn a_refusal_says_until_when_and_what_only_an_operator_does() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant_until(&role("deploy"), "acme", &ALL, Some(LATER.0)).await;
    let token = test.token(&deploy(), &ALL).await;
    let other = "aws:444455556666:role/other";
    for (on, whose, message, hint) in [
        (
            "acme",
            other,
            "`arn:aws:iam::111122223333:role/deploy` has `create_grant` on namespace `acme` until 2026-11-21T10:11:12Z, so it cannot give a permission there for longer",
            "set `expires_at` to `2026-11-21T10:11:12Z` or earlier",
        ),
        (
            "*",
            other,
            "only an operator changes grants on all namespaces (`*`)",
            "ask an operator, who does it with `stile-admin` at the store",
        ),
        (
            "acme",
            "account:444455556666",
            "only an operator changes grants of a whole account (`account:aws:444455556666`)",
            "ask an operator, who does it with `stile-admin` at the store",
        ),
    ] {
        let new = json!({"principal": whose, "namespace": on, "permissions": ["download"]});
        let refused = test.ask("POST", "/v1/grants", &token, &new).await;
        assert_eq!(refused.error(), "403 no_grant");
        assert_eq!(
            (refused.json()["message"].as_str(), refused.json()["hint"].as_str()),
            (Some(message), Some(hint))
        );
    }
}

#[tokio::test]
async fn a_right_that_an_operator_took_a_moment_ago_makes_no_grant() {
    let Some((test, token)) = registry().await else { return };
    assert_eq!(test.get("/v1/grants", &token).await.status, 200, "and the rights are in the cache");
    test.delete_grant(&role("deploy"), "acme").await;
    let new = json!({"principal": role("other"), "namespace": "acme", "permissions": ["download"]});
    let refused = test.ask("POST", "/v1/grants", &token, &new).await;
    assert_eq!(refused.error(), "403 no_grant");
    test.grant(&role("deploy"), "acme", &ALL).await;
    let deploy = Principal::parse_stored(&role("deploy")).unwrap();
    test.store().as_operator().revoke_principal(deploy, test.time()).await.unwrap();
    let refused = test.ask("POST", "/v1/grants", &token, &new).await;
    assert_eq!(refused.error(), "401 unauthorized");
    assert_eq!(
        test.stored_grants().await,
        ["deploy acme create_grant,delete_grant,download,upload"]
    );
}

#[tokio::test]
async fn a_request_that_is_not_as_documented_is_rejected() {
    let Some((test, token)) = registry().await else { return };
    let who = role("other");
    let sso = "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_0123456789abcdef";
    let new = |more: Value| {
        let mut new = json!({"principal": who, "namespace": "acme", "permissions": ["download"]});
        new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        new
    };
    for (body, words) in [
        (json!({}), "`principal` is missing"),
        (json!({"principal": who, "namespace": "acme"}), "`permissions` is missing"),
        (new(json!({"pin": "AROAEXAMPLEEXAMPLE222"})), "`pin` is not known"),
        (new(json!({"created_by": "alice"})), "`created_by` is not known"),
        (new(json!({"permissions": []})), "at least one"),
        (new(json!({"permissions": ["admin"]})), "must be one of"),
        (new(json!({"permissions": "download"})), "list of strings"),
        (new(json!({"namespace": "Acme"})), "namespace `Acme`"),
        (new(json!({"namespace": "all"})), "is reserved"),
        (new(json!({"principal": "arn:aws:iam::*:role/x"})), "pattern"),
        (new(json!({"principal": "111122223333"})), "account id"),
        (new(json!({"principal": "arn:aws:iam::111122223333:root"})), "root"),
        (new(json!({"principal": sso})), "IAM Identity Center"),
        (new(json!({"expires_at": "2026-11-20T10:11:12Z"})), "in the past"),
        (new(json!({"expires_at": "90d"})), "RFC 3339"),
        (new(json!({"expires_at": 1_900_000_000})), "RFC 3339"),
    ] {
        let reply = test.ask("POST", "/v1/grants", &token, &body).await;
        assert_eq!(reply.error(), "400 invalid_request", "{body}: {}", reply.text());
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{body}: {message}");
    }
    let change = |more: Value| {
        let mut change = json!({"principal": role("deploy"), "namespace": "acme"});
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        change
    };
    for (query, body, words) in [
        ("", change(json!({})), "the change is empty"),
        ("", change(json!({"set": ["upload"], "clear": ["upload"]})), "both in `set`"),
        ("", change(json!({"permissions": ["upload"]})), "`permissions` is not known"),
        ("", change(json!({"expires_at": "2026-11-20T10:11:11Z"})), "in the past"),
        ("?force=yes", change(json!({"clear": ["upload"]})), "`force`"),
        ("?namespace=other", change(json!({"clear": ["upload"]})), "`force`"),
        ("", change(json!({"clear": ALL.map(Permission::as_str)})), "last permission"),
    ] {
        let reply = test.ask("PATCH", &format!("/v1/grants{query}"), &token, &body).await;
        assert_eq!(reply.error(), "400 invalid_request", "{query} {body}: {}", reply.text());
        assert!(reply.text().contains(words), "{query} {body}: {}", reply.text());
    }
    let delete = path_of(&role("deploy"), "acme");
    for (method, path, body) in [
        ("DELETE", "/v1/grants", Value::Null),
        ("DELETE", "/v1/grants?namespace=acme", Value::Null),
        ("DELETE", &format!("{delete}&force=1"), Value::Null),
        ("DELETE", &format!("{delete}&namespace=other"), Value::Null),
        ("DELETE", &delete, json!({"force": true})),
        ("POST", "/v1/grants?force=true", new(json!({}))),
        ("GET", "/v1/grants?limit=0", Value::Null),
        ("GET", "/v1/grants?limit=101", Value::Null),
        ("GET", "/v1/grants?cursor=x", Value::Null),
        ("GET", "/v1/grants?offset=1", Value::Null),
        ("GET", "/v1/grants?namespace=Acme", Value::Null),
        ("GET", "/v1/grants?principal=deploy", Value::Null),
    ] {
        let reply = test.ask(method, path, &token, &body).await;
        assert_eq!(reply.error(), "400 invalid_request", "{method} {path}: {}", reply.text());
    }
    let body = change(json!({"clear": ["upload"]}));
    let tag = test.get(&delete, &token).await.header("etag").to_owned();
    let weak = format!("W/{tag}");
    for expected in [&["*"][..], &["x"], &[""], &[weak.as_str()], &[tag.as_str(), tag.as_str()]] {
        let patched = test.ask_if("PATCH", "/v1/grants", &token, &body, expected).await;
        assert_eq!(patched.error(), "400 invalid_request", "{expected:?}");
        let deleted = test.ask_if("DELETE", &delete, &token, &Value::Null, expected).await;
        assert_eq!(deleted.error(), "400 invalid_request", "{expected:?}");
    }
    assert_eq!(
        test.stored_grants().await,
        ["deploy acme create_grant,delete_grant,download,upload"]
    );
}
