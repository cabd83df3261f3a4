//! Versions whose files are at another server: who can publish which source, and what clients get.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use stile_core::package::source::SourcesError;
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::LimitChange::{At, Keep};
use stile_store::SourcesSet;
use stile_tests::broker::journal::Journal;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{Reply, TestBroker, deploy, module_zip, role};

const GIT: &str = "git::https://git.example.com/acme/vpc?ref=v1.0.0";
const OTHER_GIT: &str = "git::https://git.example.com/acme/vpc?ref=v2.0.0";

/// Starts a registry in which `deploy` publishes in `acme` and `acme-x`, and someone else in
/// `other`. Each of `acme` and `other` allows its own sources, and `acme-x` allows none.
async fn registry() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    for namespace in ["acme", "acme-x"] {
        test.grant(&role("deploy"), namespace, &[Download, Upload]).await;
    }
    test.grant(&role("else"), "other", &[Download, Upload]).await;
    allow(&test, "acme", &["git::https://git.example.com/acme", "https://files.example.com/acme"])
        .await;
    allow(&test, "other", &["git::https://git.example.com/other", "s3::https://b.example.com/"])
        .await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    Some((test, token))
}

async fn allow(test: &TestBroker, namespace: &str, addresses: &[&str]) {
    let store = test.store();
    let set = store.as_operator().allow_sources(namespace, addresses, test.time()).await.unwrap();
    assert!(matches!(set, SourcesSet::Done { .. }), "{set:?}");
}

/// Sends a body as JSON to the path of a version.
async fn post(test: &TestBroker, path: &str, body: &str, token: &str) -> Reply {
    let request = Request::post(format!("/v1/modules/{path}"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json");
    test.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

async fn publish(test: &TestBroker, path: &str, source: &str, token: &str) -> Reply {
    post(test, path, &json!({ "source": source }).to_string(), token).await
}

async fn download(test: &TestBroker, path: &str, token: &str) -> Reply {
    test.get(&format!("/v1/modules/{path}/download"), token).await
}

#[tokio::test]
async fn the_right_on_one_namespace_gives_nothing_of_another_through_any_spelling_of_a_source() {
    let Some((test, token)) = registry().await else { return };
    let own = "acme/vpc/aws/1.0.0";
    let theirs = "git::https://git.example.com/other/vpc?ref=v1.0.0";
    let rows = [
        // The namespace of someone else, with a source that it allows.
        ("other/vpc/aws/1.0.0", theirs),
        ("other/vpc/aws/1.0.0", GIT),
        ("Other/vpc/aws/1.0.0", theirs),
        ("%6fther/vpc/aws/1.0.0", theirs),
        ("acme%2f..%2fother/vpc/aws/1.0.0", theirs),
        ("acme/../other/vpc/aws/1.0.0", theirs),
        ("acme/%2e%2e/other/vpc/aws/1.0.0", theirs),
        ("*/vpc/aws/1.0.0", theirs),
        // A namespace in which the bearer publishes, and that allows no source.
        ("acme-x/vpc/aws/1.0.0", GIT),
        ("acme-x/vpc/aws/1.0.0", theirs),
        // A source that only another namespace allows, in any spelling.
        (own, theirs),
        (own, "s3::https://b.example.com/vpc.zip"),
        (own, "git::https://git.example.com/acme/../other/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com/acme/%2e%2e/other/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com/acme%2f..%2fother/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com/acme/..%2fother/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com/acme\\..\\other/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com/acme//../other/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com//other/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com/acme-x/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com/acme.git?ref=v1.0.0"),
        (own, "git::https://git.example.com/acmevpc?ref=v1.0.0"),
        (own, "git::https://git.example.com/ACME/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com/vpc//acme?ref=v1.0.0"),
        (own, "git::https://git.example.com:443/acme/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com:8443/acme/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com./acme/vpc?ref=v1.0.0"),
        (own, "git::https://GIT.example.com/acme/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com@evil.example/acme/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com:x@evil.example/acme/vpc?ref=v1.0.0"),
        (own, "git::https://evil.example/git.example.com/acme/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com.evil.example/acme/vpc?ref=v1.0.0"),
        (own, "git::https://git.example.com/acme/vpc.zip?ref=v1.0.0"),
        (own, "git::ssh://git@git.example.com/acme/vpc?ref=v1.0.0"),
        (own, "git@git.example.com:acme/vpc.git"),
        (own, "git::http://git.example.com/acme/vpc?ref=v1.0.0"),
        (own, "git::git::https://git.example.com/acme/vpc?ref=v1.0.0"),
        (own, "https://git.example.com/acme/vpc.zip"),
        (own, "https://files.example.com/other/vpc.zip"),
        (own, "https://files.example.com/acme/../other/vpc.zip"),
        (own, "https://files.example.com/acme-x/vpc.zip"),
        (own, "https://files.example.com/acme/page"),
        (own, "https://files.example.com/acme/vpc.zip?archive=false"),
        (own, "https://files.example.com/acme/vpc.zip?checksum=file:https://evil.example/x"),
        (own, "s3::https://files.example.com/acme/vpc.zip"),
        (own, "file:///srv/other/vpc.zip"),
        (own, "/srv/other/vpc.zip"),
        (own, "../other/vpc"),
        (own, "registry.example.com/other/vpc/aws"),
        // What git would read as an option or a key.
        (own, "git::https://git.example.com/acme/vpc?ref=--upload-pack=x"),
        (own, "git::https://git.example.com/acme/vpc?ref=v1.0.0&sshkey=aGk="),
        (own, "git::https://git.example.com/acme/vpc?ref=v1.0.0&ref=main"),
        // A branch.
        (own, "git::https://git.example.com/acme/vpc?ref=main"),
        (own, "git::https://git.example.com/acme/vpc"),
    ];
    for (path, source) in rows {
        let reply = publish(&test, path, source, &token).await;
        assert!(matches!(reply.status.as_u16(), 400 | 403 | 404), "{path} {source}: {reply:?}");
    }
    let all = test.token(&deploy(), &[Download]).await;
    let listed = test.get("/v1/modules", &all).await.json();
    assert_eq!(listed["modules"], json!([]), "nothing is published");
    let theirs_listed = test
        .token(
            &stile_tests::sts::identity::Identity::role("111122223333", "else", "i-0abc"),
            &[Download],
        )
        .await;
    assert_eq!(test.get("/v1/modules", &theirs_listed).await.json()["modules"], json!([]));
    // The same requests succeed with what the namespace allows.
    for (version, source) in [
        ("1.0.0", GIT),
        ("1.0.1", "git::https://git.example.com/acme?ref=v1.0.0"),
        ("1.0.2", "https://files.example.com/acme/vpc.zip//modules/x"),
    ] {
        let reply = publish(&test, &format!("acme/vpc/aws/{version}"), source, &token).await;
        assert_eq!(reply.status, 201, "{source}: {reply:?}");
    }
}

#[tokio::test]
async fn a_source_is_published_once_and_handed_out_as_it_was_written() {
    let Some((test, token)) = registry().await else { return };
    let journal = Journal::start();
    let source = "https://files.example.com/acme/vpc.zip//modules/x?archive=zip";
    let created = publish(&test, "acme/vpc/aws/1.0.0", source, &token).await;
    let expected = json!({
        "module": "acme/vpc/aws", "version": "1.0.0", "source": source, "status": "created",
    });
    assert_eq!((created.status.as_u16(), created.json()), (201, expected));
    let event = journal.taken().audit().pop().unwrap();
    assert_eq!((&event["decision"], &event["source"]), (&"created".into(), &source.into()));
    let again = publish(&test, "acme/vpc/aws/1.0.0", source, &token).await;
    assert_eq!((again.status.as_u16(), &again.json()["status"]), (200, &"unchanged".into()));
    for other in [GIT, "https://files.example.com/acme/vpc.zip//modules/x"] {
        let reply = publish(&test, "acme/vpc/aws/1.0.0", other, &token).await;
        assert_eq!(reply.status, 409, "{other}: {reply:?}");
    }
    let archive = test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &token).await;
    assert_eq!(archive.status, 409, "an archive is other content: {archive:?}");
    assert_eq!(test.publish("acme/vpc/aws", "1.1.0", module_zip("x"), &token).await.status, 201);
    let reply = publish(&test, "acme/vpc/aws/1.1.0", source, &token).await;
    assert_eq!(reply.status, 409, "a source is other content than an archive: {reply:?}");
    journal.taken();
    let found = download(&test, "acme/vpc/aws/1.0.0", &token).await;
    assert_eq!((found.status.as_u16(), found.header("x-terraform-get")), (204, source));
    let event = journal.taken().audit().pop().unwrap();
    assert_eq!((&event["decision"], &event["source"]), (&"allowed".into(), &source.into()));
    let versions = test.get("/v1/modules/acme/vpc/aws/versions", &token).await.json();
    let listed = json!([{"version": "1.0.0"}, {"version": "1.1.0"}]);
    assert_eq!(versions["modules"][0]["versions"], listed);
    assert_eq!(test.archives().await, 1, "the registry stores only the archive");
}

#[tokio::test]
async fn of_twenty_publishers_of_one_version_with_sources_one_wins() {
    let Some((test, token)) = registry().await else { return };
    let one = |number: usize| {
        let source = format!("git::https://git.example.com/acme/vpc?ref=v{}.0.0", number % 4);
        let (test, token) = (&test, &token);
        async move {
            // Under load, a store may answer that it is busy.
            loop {
                let reply = publish(test, "acme/vpc/aws/1.0.0", &source, token).await;
                if reply.status != 503 {
                    return (source, reply);
                }
            }
        }
    };
    let replies = futures_util::future::join_all((0..20).map(one)).await;
    let winner: Vec<_> = replies.iter().filter(|(_, reply)| reply.status == 201).collect();
    let [(won, _)] = winner.as_slice() else { panic!("{} winners", winner.len()) };
    for (source, reply) in &replies {
        let expected: &[u16] = if source == won { &[200, 201] } else { &[409] };
        assert!(expected.contains(&reply.status.as_u16()), "{source}: {reply:?}");
    }
    let found = download(&test, "acme/vpc/aws/1.0.0", &token).await;
    assert_eq!(found.header("x-terraform-get"), won);
}

#[tokio::test]
async fn a_source_that_the_operator_no_longer_allows_is_not_handed_out() {
    let Some((test, token)) = registry().await else { return };
    assert_eq!(publish(&test, "acme/vpc/aws/1.0.0", GIT, &token).await.status, 201);
    test.publish("acme/vpc/aws", "1.1.0", module_zip("x"), &token).await;
    let journal = Journal::start();
    let store = test.store();
    store.as_operator().forbid_sources("acme", test.time()).await.unwrap();
    let refused = download(&test, "acme/vpc/aws/1.0.0", &token).await;
    let sentence = "namespace `acme` does not allow this source; hint: ask an operator for `stile-admin namespace set acme --source ADDRESS`; request id: REQUEST-ID\n";
    assert_eq!((refused.status.as_u16(), refused.without_id().text().as_str()), (403, sentence));
    let event = journal.taken().audit().pop().unwrap();
    assert_eq!((&event["code"], &event["source"]), (&"source_not_allowed".into(), &GIT.into()));
    assert_eq!(publish(&test, "acme/vpc/aws/1.0.0", GIT, &token).await.status, 403);
    assert_eq!(download(&test, "acme/vpc/aws/1.1.0", &token).await.status, 204, "an archive");
    allow(&test, "acme", &["git::https://git.example.com/acme/vpc"]).await;
    let found = download(&test, "acme/vpc/aws/1.0.0", &token).await;
    assert_eq!((found.status.as_u16(), found.header("x-terraform-get")), (204, GIT));
}

#[tokio::test]
async fn a_branch_is_published_only_where_the_operator_allows_moving_references() {
    let Some((test, token)) = registry().await else { return };
    let branch = "git::https://git.example.com/acme/vpc?ref=main";
    let refused = publish(&test, "acme/vpc/aws/1.0.0", branch, &token).await;
    assert_eq!(refused.status, 403);
    let sentence = refused.json()["errors"][0].as_str().unwrap().to_owned();
    assert!(
        sentence.contains("`ref` must be a full commit id, or `v` and a version"),
        "{sentence}"
    );
    allow(&test, "acme", &["git::https://git.example.com/acme *"]).await;
    assert_eq!(publish(&test, "acme/vpc/aws/1.0.0", branch, &token).await.status, 201);
    allow(&test, "acme", &["git::https://git.example.com/acme"]).await;
    assert_eq!(download(&test, "acme/vpc/aws/1.0.0", &token).await.status, 403);
}

#[tokio::test]
async fn a_malformed_body_is_refused_and_the_sentence_names_the_field() {
    let Some((test, token)) = registry().await else { return };
    for (body, expected) in [
        ("", "the body must be one JSON object in UTF-8"),
        ("{}", "field `source` is missing"),
        (r#"{"source":7}"#, "`source` must be a string"),
        (r#"{"source":"file:///etc/passwd"}"#, "`source` is not valid: it must begin with"),
        (r#"{"source":"https://h.example/a.zip","x":1}"#, "field `x` is not known"),
    ] {
        let reply = post(&test, "acme/vpc/aws/1.0.0", body, &token).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        let sentence = reply.json()["errors"][0].as_str().unwrap().to_owned();
        assert!(sentence.starts_with(expected), "{body}: {sentence}");
    }
    let body = json!({ "source": GIT }).to_string();
    for (content_type, query, expected) in [
        ("application/json; charset=utf-16", "", 415),
        ("text/plain", "", 415),
        ("application/json", "?source=x", 400),
    ] {
        let request = Request::post(format!("/v1/modules/acme/vpc/aws/1.0.0{query}"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", content_type);
        let reply = test.send(request.body(Body::from(body.clone())).unwrap()).await;
        assert_eq!(reply.status, expected, "{content_type} {query}: {reply:?}");
    }
    let reader = test.token(&deploy(), &[Download]).await;
    assert_eq!(publish(&test, "acme/vpc/aws/1.0.0", GIT, &reader).await.status, 403);
    assert_eq!(test.get("/v1/modules/acme/vpc/aws/versions", &token).await.status, 404);
}

#[tokio::test]
async fn a_version_with_a_source_counts_as_a_version_of_no_bytes() {
    let Some((test, token)) = registry().await else { return };
    let store = test.store().clone();
    store.as_operator().set_limits("acme", At(0), At(1), test.time()).await.unwrap();
    assert_eq!(publish(&test, "acme/vpc/aws/1.0.0", GIT, &token).await.status, 201);
    let full = publish(&test, "acme/vpc/aws/1.1.0", OTHER_GIT, &token).await;
    assert_eq!(full.status, 413, "{full:?}");
    let found = download(&test, "acme/vpc/aws/1.0.0", &token).await;
    assert_eq!(found.header("x-terraform-get"), GIT, "limits and sources do not undo each other");
    store.as_operator().set_limits("acme", Keep, At(2), test.time()).await.unwrap();
    assert_eq!(publish(&test, "acme/vpc/aws/1.1.0", OTHER_GIT, &token).await.status, 201);
}

#[tokio::test]
async fn a_list_of_sources_is_changed_entry_by_entry_and_shown() {
    let Some((test, _)) = registry().await else { return };
    let store = test.store().clone();
    let operator = store.as_operator();
    let shown = async || {
        let found = operator.namespace(&"acme".parse().unwrap()).await.unwrap().unwrap();
        let listed = operator.namespaces().await.unwrap();
        assert!(listed.contains(&found));
        found.record.unwrap().sources.entries().len()
    };
    assert_eq!(shown().await, 2);
    allow(&test, "acme", &["git::https://git.example.com/acme/ *", "https://x.example/"]).await;
    assert_eq!(shown().await, 3, "an entry with the same address is replaced");
    let absent = operator.allow_sources("nobody", &["https://x.example/"], test.time()).await;
    assert_eq!(absent.unwrap(), SourcesSet::Absent);
    let many: Vec<String> = (0..64).map(|n| format!("https://h{n}.example/")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let full = operator.allow_sources("acme", &many, test.time()).await.unwrap();
    assert_eq!((full, shown().await), (SourcesSet::Rejected(SourcesError::TooMany), 3));
    operator.forbid_sources("acme", test.time()).await.unwrap();
    assert_eq!(shown().await, 0);
    // An earlier release created namespaces without a record.
    test.grant(&role("x"), "*", &[Download]).await;
    allow(&test, "acme-x", &["https://x.example/"]).await;
}
