//! Counted downloads: who fetches which version, and who may see that.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::served::Served;
use stile_tests::broker::{TestBroker, deploy, module_zip, role};
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::sts::identity::Identity;
use stile_tests::time_limits;

const MODULE: &str = "/v1/modules/acme/vpc/aws";

async fn registry() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        let published = test.publish("acme/vpc/aws", version, module_zip(version), &token).await;
        assert_eq!(published.status, 201);
    }
    Some((test, token))
}

async fn reader(test: &TestBroker, name: &str) -> String {
    test.grant(&role(name), "acme", &[Download]).await;
    test.token(&Identity::role("111122223333", name, "i-0abc"), &[Download]).await
}

async fn fetch(test: &TestBroker, version: &str, token: &str) {
    let reply = test.get(&format!("{MODULE}/{version}/download"), token).await;
    assert_eq!(reply.status, 204, "{}", reply.text());
}

async fn usage(test: &TestBroker, query: &str, token: &str) -> Value {
    let reply = test.get(&format!("{MODULE}/usage{query}"), token).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

#[tokio::test]
async fn who_may_not_publish_a_module_does_not_see_who_downloads_it() {
    let Some((test, token)) = registry().await else { return };
    let reader = reader(&test, "reader").await;
    assert_eq!(test.get(&format!("{MODULE}/usage"), &reader).await.status, 403);
    for query in
        ["?days=0", "?days=367", "?days=x", "?offset=1", "?limit=x", "?cursor=x", "?cursor=MS4wLjA"]
    {
        let refused = test.get(&format!("{MODULE}/usage{query}"), &token).await;
        assert_eq!(refused.status, 400, "{query}: {}", refused.text());
    }
    let nothing = usage(&test, "", &token).await;
    assert_eq!(nothing["downloads"], json!([]));
}

#[tokio::test]
async fn downloads_are_counted_by_version_principal_and_day() {
    let Some((test, _)) = registry().await else { return };
    let (one, two) = (reader(&test, "one").await, reader(&test, "two").await);
    for (version, token) in
        [("1.0.0", &one), ("1.0.0", &one), ("1.0.0", &two), ("2.0.0", &two), ("1.1.0", &one)]
    {
        fetch(&test, version, token).await;
    }
    assert_eq!(test.get(&format!("{MODULE}/9.9.9/download"), &one).await.status, 404);
    let head = Request::head(format!("{MODULE}/1.0.0/download"))
        .header("authorization", format!("Bearer {one}"))
        .body(Body::empty());
    assert_eq!(test.send(head.unwrap()).await.status, 204, "and it does not count");
    test.advance(24 * 3600);
    let one = reader_again(&test, "one").await;
    fetch(&test, "1.0.0", &one).await;
    let token_now = test.token(&deploy(), &[Upload]).await;
    let line = |version: &str, name: &str, downloads: u64, last_day: &str| json!({"version": version, "principal": role(name), "downloads": downloads, "last_day": last_day});
    let expected = [
        line("1.0.0", "one", 3, "2026-11-21"),
        line("1.0.0", "two", 1, "2026-11-20"),
        line("1.1.0", "one", 1, "2026-11-20"),
        line("2.0.0", "two", 1, "2026-11-20"),
    ];
    let all = usage(&test, "", &token_now).await;
    assert_eq!((&all["downloads"], &all["since"]), (&json!(expected), &json!("2026-10-23")));
    assert_eq!(all["meta"], json!({"limit": 100}));
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = usage(&test, &format!("?limit=3{cursor}"), &token_now).await;
        pages.push(page["downloads"].clone());
        let Some(next) = page["meta"]["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(pages, [json!(expected[..3]), json!(expected[3..])]);
    let today = usage(&test, "?days=1", &token_now).await;
    assert_eq!(today["downloads"], json!([line("1.0.0", "one", 1, "2026-11-21")]));
}

async fn reader_again(test: &TestBroker, name: &str) -> String {
    test.token(&Identity::role("111122223333", name, "i-0abc"), &[Download]).await
}

#[tokio::test]
async fn counts_reach_the_store_with_a_request_ten_seconds_later_or_when_the_broker_stops() {
    let Some((test, token)) = registry().await else { return };
    let one = reader(&test, "one").await;
    let stored = async || {
        let other = test.restarted();
        let found = usage(&other, "", &token).await;
        let lines = found["downloads"].as_array().unwrap();
        lines.iter().map(|line| line["downloads"].as_u64().unwrap()).sum::<u64>()
    };
    fetch(&test, "1.0.0", &one).await;
    test.advance(9);
    fetch(&test, "1.0.0", &one).await;
    assert_eq!(stored().await, 0, "they are in the memory of this broker");
    test.advance(1);
    fetch(&test, "1.0.0", &one).await;
    // On a busy machine, the download does not wait for it.
    let arrived = time_limits::wait(async { while stored().await != 3 {} });
    arrived.await.unwrap();
    fetch(&test, "1.1.0", &one).await;
    assert_eq!(stored().await, 3);
    stile_broker::app::usage::flush(&test.broker).await;
    assert_eq!(stored().await, 4, "a broker that stops adds what it has");
}

/// Returns lines of columns without the spaces between them.
fn columns(table: &str) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    table.lines().map(words).collect()
}

#[tokio::test]
async fn a_publisher_sees_with_the_program_which_principals_still_fetch_1_x() {
    let Some(served) = Served::start_on(super::BACKEND, |router| router).await else { return };
    let test = &served.test;
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let publisher = test.token(&deploy(), &[Upload]).await;
    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        let published = test.publish("acme/vpc/aws", version, module_zip(version), &publisher);
        assert_eq!(published.await.status, 201);
    }
    let (one, two) = (reader(test, "one").await, reader(test, "two").await);
    let (home, today) = (served.home(&deploy()), day_of(test));
    let usage = async |more: &[&str]| {
        let words = ["module", "usage", "acme/vpc/aws", "--registry-host", served.host()];
        let words: Vec<&str> = words.iter().chain(more).copied().collect();
        let ran = home.run(&program(ADMIN), &words).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran
    };

    let nothing = usage(&["--version", "1"]).await;
    assert!(
        nothing.stderr.starts_with("notice: there are no downloads of 1 since "),
        "{nothing:?}"
    );
    for (version, token) in
        [("1.0.0", &one), ("1.0.0", &one), ("1.1.0", &two), ("2.0.0", &two), ("2.0.0", &one)]
    {
        fetch(test, version, token).await;
    }
    let shown = columns(&usage(&["--version", "1"]).await.stdout);
    // The day can end while the test runs.
    let days = [today, day_of(test)];
    let line = |version: &str, name: &str, downloads: u64| {
        days.clone().map(|day| format!("{version} {} {downloads} {day}", role(name)))
    };
    let [header, first, second] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!(header, "version principal downloads last day");
    assert!(line("1.0.0", "one", 2).contains(first), "{shown:?}");
    assert!(line("1.1.0", "two", 1).contains(second), "{shown:?}");
    let all = usage(&["--output", "json"]).await;
    let all: Value = serde_json::from_str(&all.stdout).unwrap();
    let counts: Vec<_> = all.as_array().unwrap().iter().map(|line| &line["downloads"]).collect();
    assert_eq!(counts, [&json!(2), &json!(1), &json!(1), &json!(1)]);

    let stranger = served.home(&Identity::role("111122223333", "one", "i-0abc"));
    let words = ["module", "usage", "acme/vpc/aws", "--registry-host", served.host()];
    let refused = stranger.run(&program(ADMIN), &words).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.stderr.contains("no `upload` on namespace `acme`"), "{refused:?}");
}

/// Returns the day of a broker's clock.
fn day_of(test: &TestBroker) -> String {
    stile_core::clock::rfc3339(test.time()).split('T').next().unwrap().to_owned()
}
