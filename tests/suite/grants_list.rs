//! Grants through the API: lists in pages, and the audit log.

use rusqlite::Connection;
use serde_json::{Value, json};
use stile_protocol::names::Permission::{self, CreateGrant, DeleteGrant, Download};
use stile_tests::broker::grants::path_of;
use stile_tests::broker::journal::Journal;
use stile_tests::broker::{Backend, Reply, TestBroker, deploy, role};
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
async fn a_list_shows_in_pages_what_the_bearer_may_change_and_its_own_grants() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[CreateGrant]).await;
    test.grant(&role("deploy"), "read", &[Download]).await;
    test.grant(&role("deploy"), "take", &[DeleteGrant]).await;
    test.grant("account:aws:111122223333", "acme", &[Download]).await;
    test.grant(&role("everywhere"), "*", &ALL).await;
    for (who, on) in
        [("a", "acme"), ("b", "take"), ("c", "acme"), ("c", "read"), ("d", "other"), ("e", "take")]
    {
        test.grant(&role(who), on, &[Download]).await;
    }
    let token = test.token(&deploy(), &[CreateGrant, DeleteGrant, Download]).await;
    let shown = |reply: &Reply| -> Vec<String> {
        let body = reply.json();
        let line = |grant: &Value| {
            let principal = grant["principal"].as_str().unwrap();
            let who = principal.rsplit('/').next().unwrap();
            format!("{who} {}", grant["namespace"].as_str().unwrap())
        };
        body["grants"].as_array().unwrap().iter().map(line).collect()
    };
    let pages = async |query: &str, limit: usize| {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = test.get(&format!("/v1/grants?limit={limit}{query}{cursor}"), &token).await;
            assert_eq!(page.status, 200, "{}", page.text());
            let found = shown(&page);
            assert!((1..=limit).contains(&found.len()), "{found:?}");
            all.extend(found);
            let body = page.json();
            let Some(next) = body["next_cursor"].as_str() else { return all };
            cursor = format!("&cursor={next}");
        }
    };
    let everything = [
        "account:aws:111122223333 acme",
        "a acme",
        "b take",
        "c acme",
        "deploy acme",
        "deploy read",
        "deploy take",
        "e take",
    ];
    for limit in [1, 2, 3, 8, 100] {
        assert_eq!(pages("", limit).await, everything, "{limit}");
        let on_acme = ["account:aws:111122223333 acme", "a acme", "c acme", "deploy acme"];
        assert_eq!(pages("&namespace=acme", limit).await, on_acme, "{limit}");
        let own = ["deploy acme", "deploy read", "deploy take"];
        let own_path = format!("&principal={}", role("deploy"));
        assert_eq!(pages(&own_path, limit).await, own, "{limit}");
        assert_eq!(pages("&principal=account:111122223333", limit).await.len(), 1);
    }
    let of_c = test.get(&format!("/v1/grants?principal={}", role("c")), &token).await;
    assert_eq!(shown(&of_c), ["c acme"]);
    assert_eq!(of_c.header("etag"), "", "only one grant that the query names has a header");

    // A grant that was deleted between two pages does not disturb the next one.
    let first = test.get("/v1/grants?limit=2", &token).await.json();
    test.delete_grant(&role("a"), "acme").await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = test.get(&format!("/v1/grants?limit=2&cursor={cursor}"), &token).await;
    assert_eq!(shown(&second), ["b take", "c acme"]);
    let foreign = test.get(&format!("/v1/grants?namespace=take&cursor={cursor}"), &token).await;
    assert_eq!(foreign.error(), "400 invalid_request", "a cursor belongs to its list");

    let admin = test.token(&named("everywhere"), &ALL).await;
    let all = test.get("/v1/grants", &admin).await;
    assert_eq!(shown(&all).len(), test.stored_grants().await.len());
    let of_all = test.get("/v1/grants?namespace=*", &admin).await;
    assert_eq!(shown(&of_all), ["everywhere *"]);
}

#[tokio::test]
async fn an_event_says_what_was_requested_and_what_the_grant_was_before() {
    let Some((test, token)) = registry().await else { return };
    let ci = role("ci");
    let ends = "2026-11-21T10:11:12Z";
    let new = json!({"principal": ci, "namespace": "acme", "permissions": ["download"]});
    let set = json!({"principal": ci, "namespace": "acme", "set": ["upload"], "expires_at": ends});
    let forced = json!({"principal": role("deploy"), "namespace": "acme", "clear": ["upload"], "expires_at": null});
    let absent = json!({"principal": role("none"), "namespace": "acme", "set": ["upload"], "clear": ["download"]});
    let (plain, none) = ("/v1/grants".to_owned(), Value::Null);
    let journal = Journal::start();
    for (method, path, body, expected) in [
        ("POST", plain.clone(), &new, "never - - - -"),
        ("PATCH", plain.clone(), &set, "2026-11-21T10:11:12Z +upload download never false"),
        (
            "PATCH",
            plain.clone() + "?force=true",
            &forced,
            "never -upload create_grant,delete_grant,download,upload never true",
        ),
        ("PATCH", plain.clone(), &absent, "- +upload -download - - false"),
        ("DELETE", path_of(&ci, "acme"), &none, "- - download,upload 2026-11-21T10:11:12Z false"),
    ] {
        journal.taken();
        test.ask(method, &path, &token, body).await;
        let events = journal.taken().audit();
        let [event] = events.as_slice() else { panic!("{method} {path} {body}: {events:?}") };
        let text = |name: &str| match &event[name] {
            Value::String(text) => text.clone(),
            Value::Bool(flag) => flag.to_string(),
            _ => "-".to_owned(),
        };
        let fields =
            ["expires_at", "requested", "permissions_before", "expires_at_before", "forced"];
        assert_eq!(fields.map(text).join(" "), expected, "{method} {body}");
    }
}

#[tokio::test]
async fn an_own_grant_shows_only_what_the_token_is_for_and_not_its_origin() {
    let Some((test, _)) = registry().await else { return };
    let token = test.token(&deploy(), &[Download]).await;
    let of_deploy = format!("/v1/grants?principal={}", role("deploy"));
    for path in ["/v1/grants", &of_deploy] {
        let own = test.get(path, &token).await;
        let expected =
            json!({"principal": role("deploy"), "namespace": "acme", "permissions": ["download"]});
        assert_eq!(own.json(), json!({"grants": [expected]}));
        assert_eq!(own.header("etag"), "");
    }
}

#[tokio::test]
async fn a_giver_on_many_namespaces_sees_them_in_pages() {
    let Some((test, _)) = registry().await else { return };
    for n in 10..24 {
        test.grant(&role("deploy"), &format!("n-{n}"), &[CreateGrant]).await;
        test.grant(&role("other"), &format!("m-{n}"), &[Download]).await;
        test.grant(&role("zz"), &format!("n-{n}"), &[Download]).await;
    }
    let token = test.token(&deploy(), &[CreateGrant]).await;
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = test.get(&format!("/v1/grants?limit=7{cursor}"), &token).await.json();
        all.extend(page["grants"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let shown = |grant: &Value| {
        let who = grant["principal"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        format!("{who} {}", grant["namespace"].as_str().unwrap())
    };
    let all: Vec<String> = all.iter().map(shown).collect();
    let on = |who: &str| (10..24).map(|n| format!("{who} n-{n}")).collect::<Vec<_>>();
    let expected: Vec<String> =
        ["deploy acme".to_owned()].into_iter().chain(on("deploy")).chain(on("zz")).collect();
    assert_eq!(all, expected);
}

/// Marks the grant of a principal on `acme` as one that only a newer program understands.
async fn make_unreadable(test: &TestBroker, principal: &str) {
    if super::BACKEND == Backend::Embedded {
        let database = Connection::open(test.data().join("stile.sqlite3")).unwrap();
        let sql = "UPDATE grants SET crit = '[\"hours\"]' WHERE principal = ?1";
        assert_eq!(database.execute(sql, [principal]).unwrap(), 1);
        return;
    }
    for (pk, sk) in
        [("grants", format!("{principal} acme")), ("namespace acme", principal.to_owned())]
    {
        let update = json!({
            "Key": {"pk": {"S": pk}, "sk": {"S": sk}},
            "UpdateExpression": "SET crit = :crit",
            "ConditionExpression": "attribute_exists(pk)",
            "ExpressionAttributeValues": {":crit": {"S": "[\"hours\"]"}},
        });
        test.aws().dynamodb("UpdateItem", update).await;
    }
}

#[tokio::test]
async fn a_grant_that_only_a_newer_program_understands_is_left_out_of_its_page() {
    let Some((test, token)) = registry().await else { return };
    for who in ["a", "b", "c"] {
        test.grant(&role(who), "acme", &[Download]).await;
    }
    make_unreadable(&test, &role("b")).await;
    for query in ["", "&namespace=acme"] {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = test.get(&format!("/v1/grants?limit=1{query}{cursor}"), &token).await;
            let body = page.json();
            all.extend(
                body["grants"].as_array().unwrap().iter().map(|grant| grant["principal"].clone()),
            );
            let Some(next) = body["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(all, ["a", "c", "deploy"].map(role), "{query}");
    }
}

#[tokio::test]
async fn each_request_has_one_event_that_names_the_grant() {
    let Some((test, token)) = registry().await else { return };
    let ci = role("ci");
    let new = json!({"principal": ci, "namespace": "acme", "permissions": ["download"]});
    let other = json!({"principal": ci, "namespace": "acme", "permissions": ["upload"]});
    let prod = json!({"principal": ci, "namespace": "prod", "permissions": ["download"]});
    let set = json!({"principal": ci, "namespace": "acme", "set": ["upload"]});
    let (path, own, none) = (path_of(&ci, "acme"), path_of(&role("deploy"), "acme"), Value::Null);
    let journal = Journal::start();
    for (method, at, body, expected) in [
        ("POST", "/v1/grants", &prod, "grant refused no_grant ci prod download"),
        ("POST", "/v1/grants", &new, "grant created - ci acme download"),
        ("POST", "/v1/grants", &new, "grant unchanged - ci acme download"),
        ("POST", "/v1/grants", &other, "grant conflict - ci acme upload"),
        ("PATCH", "/v1/grants", &set, "grant changed - ci acme download,upload"),
        ("PATCH", "/v1/grants", &set, "grant unchanged - ci acme download,upload"),
        ("PATCH", "/v1/grants", &none, "grant refused unsupported_media_type - - -"),
        ("GET", &path, &none, "list_grants allowed - ci acme -"),
        ("GET", "/v1/grants", &none, "list_grants allowed - - - -"),
        ("GET", "/v1/grants?namespace=prod", &none, "list_grants refused no_grant - prod -"),
        ("DELETE", &own, &none, "grant conflict - deploy acme -"),
        ("DELETE", &path, &none, "grant deleted - ci acme -"),
        ("DELETE", &path, &none, "grant absent not_found ci acme -"),
    ] {
        journal.taken();
        test.ask(method, at, &token, body).await;
        let events = journal.taken().audit();
        let [event] = events.as_slice() else { panic!("{method} {at} {body}: {events:?}") };
        let text = |name: &str| event[name].as_str().unwrap_or("-");
        let about = text("about").rsplit('/').next().unwrap();
        let words = ["event", "decision", "code"].map(text);
        let rest = ["namespace", "permissions"].map(text);
        assert_eq!(format!("{} {about} {}", words.join(" "), rest.join(" ")), expected);
        assert_eq!(event["principal"], role("deploy"));
    }
}
