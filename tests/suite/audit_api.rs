//! `GET /v1/audit`: who sees the changes of a namespace, in pages, and `stile-admin audit` through it.

use serde_json::{Value, json};
use stile_protocol::names::Permission::{self, CreateGrant, DeleteGrant, Download, Upload};
use stile_tests::broker::served::Served;
use stile_tests::broker::{Backend, Reply, TestBroker, deploy, module_zip, namespaces, role};
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::sts::identity::Identity;

const ALL: [Permission; 4] = Permission::ALL;

/// Returns a session of a role.
fn named(name: &str) -> Identity {
    Identity::role("111122223333", name, "i-0abc")
}

/// Returns the chain and the number of each event.
fn places(reply: &Reply) -> Vec<(String, u64)> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let body = reply.json();
    let events = body["events"].as_array().unwrap().iter();
    let place = |event: &Value| {
        (event["chain"].as_str().unwrap().to_owned(), event["seq"].as_u64().unwrap())
    };
    events.map(place).collect()
}

/// A registry in which `deploy` changed a grant of `ci` on `acme` twice, with some events in `web`.
async fn registry() -> Option<TestBroker> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &ALL).await;
    test.grant(&role("lead"), "web", &[CreateGrant, Download]).await;
    test.grant(&role("all"), "*", &[CreateGrant]).await;
    let token = test.token(&deploy(), &ALL).await;
    let ci = role("ci");
    let new = json!({"principal": ci, "namespace": "acme", "permissions": ["download"]});
    assert_eq!(test.ask("POST", "/v1/grants", &token, &new).await.status, 201);
    test.advance(60);
    let more = json!({"principal": ci, "namespace": "acme", "set": ["upload"]});
    assert_eq!(test.ask("PATCH", "/v1/grants", &token, &more).await.status, 200);
    Some(test)
}

#[tokio::test]
async fn only_a_holder_of_create_grant_sees_the_changes_of_its_namespaces() {
    let Some(test) = registry().await else { return };
    for (name, may) in
        [("reader", &[Download][..]), ("publisher", &[Upload]), ("taker", &[DeleteGrant])]
    {
        test.grant(&role(name), "acme", may).await;
        let token = test.token(&named(name), may).await;
        for path in ["/v1/audit", "/v1/audit?namespace=acme", "/v1/audit?namespace=web"] {
            let refused = test.get(path, &token).await;
            let expected = ["403 no_grant", "403 out_of_scope"];
            assert!(
                expected.contains(&refused.error().as_str()),
                "{name} {path}: {}",
                refused.text()
            );
        }
    }
    let token = test.token(&deploy(), &ALL).await;
    assert!(!places(&test.get("/v1/audit?namespace=acme", &token).await).is_empty());
    assert_eq!(test.get("/v1/audit?namespace=web", &token).await.error(), "403 no_grant");
    let all = places(&test.get("/v1/audit", &token).await);
    assert!(!all.is_empty() && all.iter().all(|(chain, _)| chain == "acme"), "{all:?}");
    // A token for less shows less, whatever the grants of its principal are.
    let narrow = test.token(&deploy(), &[Download]).await;
    assert_eq!(test.get("/v1/audit?namespace=acme", &narrow).await.error(), "403 out_of_scope");
    let elsewhere = namespaces(&["docs"]);
    test.grant(&role("deploy"), "docs", &[CreateGrant]).await;
    // Until then, the broker has the earlier grants.
    test.advance(11);
    let elsewhere = test.token_for(&deploy(), elsewhere, &[CreateGrant], 900).await;
    assert_eq!(test.get("/v1/audit?namespace=acme", &elsewhere).await.error(), "403 out_of_scope");
    let docs = places(&test.get("/v1/audit", &elsewhere).await);
    assert!(docs.iter().all(|(chain, _)| chain == "docs"), "{docs:?}");
}

#[tokio::test]
async fn nobody_sees_the_chain_of_operators() {
    let Some(test) = registry().await else { return };
    let token = test.token(&named("all"), &[CreateGrant]).await;
    assert_eq!(test.get("/v1/audit?namespace=*", &token).await.error(), "400 invalid_request");
    let seen = places(&test.get("/v1/audit", &token).await);
    let chains: std::collections::BTreeSet<_> =
        seen.iter().map(|(chain, _)| chain.as_str()).collect();
    assert_eq!(chains, ["acme", "web"].into());
}

#[tokio::test]
async fn an_answer_says_who_changed_a_grant_and_when() {
    let Some(test) = registry().await else { return };
    let token = test.token(&deploy(), &ALL).await;
    let answer =
        test.get(&format!("/v1/audit?namespace=acme&principal={}", role("ci")), &token).await;
    let body = answer.json();
    let [latest, first] = &body["events"].as_array().unwrap()[..] else { panic!("two: {body}") };
    for (event, decision, time) in
        [(first, "created", "2026-11-20T10:11:12Z"), (latest, "changed", "2026-11-20T10:12:12Z")]
    {
        assert_eq!(
            (&event["event"], &event["decision"], &event["time"], &event["principal"]),
            (&json!("grant"), &json!(decision), &json!(time), &json!(role("deploy")))
        );
        assert_eq!((&event["about"], &event["namespace"]), (&json!(role("ci")), &json!("acme")));
    }
    let by = test.get(&format!("/v1/audit?principal={}", role("deploy")), &token).await;
    assert_eq!(places(&by).len(), 2, "{}", by.text());
    for (query, count) in [
        ("since=2026-11-20T10:12:12Z", 1),
        ("until=2026-11-20T10:12:12Z", 2),
        ("since=2026-11-20T10:12:13Z", 0),
        ("since=2026-11-20T10:11:12Z&until=2026-11-20T10:12:13Z", 3),
    ] {
        let path = format!("/v1/audit?namespace=acme&{query}");
        assert_eq!(places(&test.get(&path, &token).await).len(), count, "{query}");
    }
}

#[tokio::test]
async fn a_list_is_in_pages_and_a_cursor_belongs_to_its_list() {
    let Some(test) = registry().await else { return };
    let token = test.token(&named("all"), &[CreateGrant]).await;
    let pages = async |query: &str| {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = test.get(&format!("/v1/audit?limit=1{query}{cursor}"), &token).await;
            let found = places(&page);
            assert!(found.len() <= 1);
            all.extend(found);
            let body = page.json();
            let Some(next) = body["next_cursor"].as_str() else { return all };
            cursor = format!("&cursor={next}");
        }
    };
    let acme: Vec<_> = [3, 2, 1].map(|seq| ("acme".to_owned(), seq)).into();
    assert_eq!(pages("&namespace=acme").await, acme);
    let both: Vec<_> = acme.iter().cloned().chain([("web".to_owned(), 1)]).collect();
    assert_eq!(pages("").await, both);
    assert_eq!(places(&test.get("/v1/audit", &token).await), both);

    let first = test.get("/v1/audit?namespace=acme&limit=1", &token).await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let moved = test.get(&format!("/v1/audit?namespace=web&cursor={cursor}"), &token).await;
    assert_eq!(moved.error(), "400 invalid_request");
    // Neither does it open the namespace to a bearer who may see another one only.
    let lead = test.token(&named("lead"), &[CreateGrant]).await;
    let stolen = test.get(&format!("/v1/audit?cursor={cursor}"), &lead).await;
    assert_eq!(stolen.error(), "400 invalid_request");
    let stolen = test.get(&format!("/v1/audit?namespace=acme&cursor={cursor}"), &lead).await;
    assert_eq!(stolen.error(), "403 no_grant");
    for query in [
        "cursor=x",
        "cursor=",
        "limit=0",
        "limit=101",
        "limit=x",
        "since=today",
        "until=2026-11-20",
        "namespace=A",
        "principal=x",
        "who=x",
        "namespace=acme&namespace=web",
    ] {
        let refused = test.get(&format!("/v1/audit?{query}"), &token).await;
        assert_eq!(refused.error(), "400 invalid_request", "{query}");
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_no_empty_list() {
    let Some(test) = registry().await else { return };
    let token = test.token(&deploy(), &ALL).await;
    assert_eq!(test.get("/v1/audit?namespace=acme", &token).await.status, 200);
    match test.backend() {
        Backend::Aws => test.break_store(),
        Backend::Embedded => {
            let database = rusqlite::Connection::open(test.data().join("stile.sqlite3")).unwrap();
            database.execute_batch("ALTER TABLE audit_events RENAME TO away").unwrap();
        }
    }
    let failed = test.get("/v1/audit?namespace=acme", &token).await;
    assert_eq!(failed.error(), "503 store_unavailable");
}

#[tokio::test]
async fn the_admin_program_lists_through_the_api_what_it_lists_at_the_store() {
    let Some(served) = Served::start_on(super::BACKEND, |router| router).await else { return };
    let test = &served.test;
    test.grant(&role("deploy"), "acme", &ALL).await;
    let token = test.token(&deploy(), &ALL).await;
    let published = test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &token).await;
    assert_eq!(published.status, 201);
    let home = served.home(&deploy());
    let host = ["--registry-host", served.host()];
    let admin = async |arguments: &[&str]| {
        let arguments = [&["audit"][..], arguments, &host].concat();
        home.run(&program(ADMIN), &arguments).await
    };
    let ran = admin(&["list", "--output", "json"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let events: Value = serde_json::from_str(&ran.stdout).unwrap();
    let kinds: Vec<_> = events.as_array().unwrap().iter().map(|event| &event["event"]).collect();
    assert_eq!(kinds.last(), Some(&&json!("publish")), "the latest is the last: {kinds:?}");
    let ran = admin(&["--namespace", "acme", "--limit", "1"]).await;
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!((ran.code, lines.len()), (Some(0), 2), "{ran:?}");
    assert!(lines[1].contains("acme/vpc/aws 1.0.0") && lines[1].contains("publish"), "{ran:?}");
    assert!(ran.stderr.contains("these are the latest 1 events"), "{ran:?}");
    let ran = admin(&["--namespace", "*"]).await;
    assert!(ran.code == Some(1) && ran.stderr.contains("only an operator"), "{ran:?}");
    let ran = admin(&["--since", "soon"]).await;
    assert!(ran.code == Some(2) && ran.stderr.contains("`--since`"), "{ran:?}");
}
