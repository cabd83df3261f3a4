//! The keys of issuers: how often the broker reads them, and what happens when an issuer is slow,
//! huge, redirecting, down or wrong.

use std::net::Ipv4Addr;

use serde_json::json;
use stile_protocol::names::Permission::Download;
use stile_tests::broker::TestBroker;
use stile_tests::issuer::signing_key::SigningKey;
use stile_tests::issuer::{AWS_HOSTS, Answer, DISCOVERY, Issuer, KEYS};
use stile_tests::time_limits;

async fn started() -> (TestBroker, Issuer, SigningKey) {
    let (issuer, key) = Issuer::with_key().await;
    let test = TestBroker::start().believing(&issuer);
    trust(&test, &issuer).await;
    (test, issuer, key)
}

async fn trust(test: &TestBroker, issuer: &Issuer) {
    test.trust_in("ci", &issuer.url(), &["repository_id=74"]).await;
    test.grant("oidc:ci", "acme", &[Download]).await;
}

/// Exchanges a new JWT of that key, and returns the status and the code.
async fn exchange(test: &TestBroker, issuer: &Issuer, key: &SigningKey) -> String {
    let jwt = test.jwt(issuer, json!({ "repository_id": "74" })).signed(key);
    test.exchange_jwt(&jwt).await.error()
}

#[tokio::test]
async fn an_issuer_whose_answer_is_wrong_is_not_a_no_and_not_down() {
    let (test, issuer, key) = started().await;
    let keys = json!({ "keys": [key.jwk()] }).to_string();
    let mut asked = 0;
    for (what, discovery, key_set, expected) in [
        ("no document", Answer::Status(404), Answer::Good, "502 issuer_bad_response"),
        ("a redirect", Answer::Redirect(issuer.url()), Answer::Good, "502 issuer_bad_response"),
        ("a page", Answer::Text("<html>".to_owned()), Answer::Good, "502 issuer_bad_response"),
        ("a long document", Answer::Long(513 * 1024), Answer::Good, "502 issuer_bad_response"),
        ("no keys", Answer::Good, Answer::Status(403), "502 issuer_bad_response"),
        (
            "a redirect to the keys",
            Answer::Good,
            Answer::Redirect(format!("{}{KEYS}", issuer.url())),
            "502 issuer_bad_response",
        ),
        (
            "an empty set",
            Answer::Good,
            Answer::Text(r#"{"keys":[]}"#.to_owned()),
            "502 issuer_bad_response",
        ),
        (
            "half of a set",
            Answer::Good,
            Answer::Text(keys[..20].to_owned()),
            "502 issuer_bad_response",
        ),
        ("a long set", Answer::Good, Answer::Long(513 * 1024), "502 issuer_bad_response"),
        ("a busy issuer", Answer::Status(503), Answer::Good, "503 issuer_unavailable"),
        ("a limit", Answer::Status(429), Answer::Good, "503 issuer_unavailable"),
        ("a broken connection", Answer::Good, Answer::Broken, "503 issuer_unavailable"),
    ] {
        issuer.answer_discovery(discovery);
        issuer.answer_keys(key_set);
        assert_eq!(exchange(&test, &issuer, &key).await, expected, "{what}");
        asked += 1;
        assert_eq!(issuer.requests(DISCOVERY), asked, "{what}: no second attempt");
        assert_eq!(exchange(&test, &issuer, &key).await, "503 issuer_unavailable", "{what}");
        assert_eq!(issuer.requests(DISCOVERY), asked, "{what}: it waits ten seconds");
        test.advance(10);
    }
    issuer.answer(Answer::Good);
    issuer.name_itself("https://evil.example");
    assert_eq!(exchange(&test, &issuer, &key).await, "502 issuer_bad_response", "another issuer");
    issuer.name_itself(&issuer.url());
    issuer.keys_at(&issuer.url().replace("https:", "http:"));
    test.advance(10);
    assert_eq!(exchange(&test, &issuer, &key).await, "502 issuer_bad_response", "keys over http");
    issuer.keys_at(&format!("{}{KEYS}", issuer.url()));
    test.advance(10);
    assert_eq!(exchange(&test, &issuer, &key).await, "200 -");
}

#[tokio::test]
async fn an_issuer_that_is_slow_costs_three_seconds_for_both_documents() {
    for (discovery, key_set, path) in [
        (Answer::Never, Answer::Good, DISCOVERY),
        (Answer::Good, Answer::Never, KEYS),
        (Answer::Good, Answer::Half, KEYS),
    ] {
        let (issuer, key) = Issuer::with_key().await;
        let test = TestBroker::start();
        let lookup = |_| vec![Ipv4Addr::LOCALHOST.into()];
        let calls = test.store().calls().clone();
        let client = issuer.client_with(lookup, |address| address.is_loopback(), &[], None, &calls);
        let test = test.reading_keys_with(client);
        trust(&test, &issuer).await;
        issuer.answer_discovery(discovery);
        issuer.answer_keys(key_set);
        let work = exchange(&test, &issuer, &key);
        let (code, jumped) = time_limits::past_deadlines(issuer.wait_for(path, 1), work).await;
        assert_eq!(code, "503 issuer_unavailable");
        assert!(jumped.as_secs() <= 3, "{jumped:?}");
    }
}

#[tokio::test]
async fn only_an_allowed_issuer_may_be_at_an_address_that_is_not_public() {
    for (private, expected) in [(false, "503 issuer_unavailable"), (true, "200 -")] {
        let (issuer, key) = Issuer::with_key().await;
        let url = issuer.url();
        let test = TestBroker::start();
        let lookup = |_| vec![Ipv4Addr::LOCALHOST.into()];
        let allowed: &[&str] = if private { &[&url] } else { &[] };
        let backstop = Some(time_limits::BACKSTOP);
        let calls = test.store().calls().clone();
        let client =
            issuer.client_with(lookup, stile_core::webhook::is_global, allowed, backstop, &calls);
        let test = test.reading_keys_with(client);
        trust(&test, &issuer).await;
        assert_eq!(exchange(&test, &issuer, &key).await, expected);
        assert_eq!(issuer.requests(DISCOVERY), usize::from(private), "no connection");

        // An address in the place of a name, which no resolver is asked about.
        let (by_address, url) = ("by-address", issuer.loopback_url());
        test.trust_in(by_address, &url, &["repository_id=74"]).await;
        test.advance(10);
        let jwt = test.jwt(&issuer, json!({ "repository_id": "74" })).with("iss", url).signed(&key);
        assert_eq!(test.exchange_jwt(&jwt).await.error(), "503 issuer_unavailable");
        assert_eq!(issuer.requests(DISCOVERY), usize::from(private), "no connection");
    }
}

#[tokio::test]
async fn an_issuer_that_may_be_private_cannot_send_the_broker_to_another_private_host() {
    let (issuer, key) = Issuer::with_key().await;
    let test = TestBroker::start();
    let lookup = |_| vec![Ipv4Addr::LOCALHOST.into()];
    let is_public = stile_core::webhook::is_global;
    let backstop = Some(time_limits::BACKSTOP);
    let calls = test.store().calls().clone();
    let client = issuer.client_with(lookup, is_public, &[&issuer.url()], backstop, &calls);
    let test = test.reading_keys_with(client);
    trust(&test, &issuer).await;
    for host in [AWS_HOSTS[0], "127.0.0.1", "169.254.169.254"] {
        issuer.keys_at(&format!("https://{host}{KEYS}"));
        assert_eq!(exchange(&test, &issuer, &key).await, "503 issuer_unavailable", "{host}");
        test.advance(10);
    }
    assert_eq!(issuer.requests(KEYS), 0);
    issuer.keys_at(&format!("{}{KEYS}", issuer.url()));
    assert_eq!(exchange(&test, &issuer, &key).await, "200 -");
}

#[tokio::test]
async fn keys_that_lead_to_an_address_that_is_not_public_are_not_read() {
    let (issuer, key) = Issuer::with_key().await;
    let test = TestBroker::start();
    let lookup = |name: String| {
        let is_public = name.starts_with("issuer.");
        vec![if is_public { Ipv4Addr::LOCALHOST } else { Ipv4Addr::new(10, 0, 0, 1) }.into()]
    };
    let backstop = Some(time_limits::BACKSTOP);
    let calls = test.store().calls().clone();
    let client = issuer.client_with(lookup, |address| address.is_loopback(), &[], backstop, &calls);
    let test = test.reading_keys_with(client);
    trust(&test, &issuer).await;
    for url in
        ["https://metadata.example/keys", "https://169.254.169.254/keys", "https://[fe80::1]/keys"]
    {
        issuer.keys_at(url);
        assert_eq!(exchange(&test, &issuer, &key).await, "503 issuer_unavailable", "{url}");
        test.advance(10);
    }
    assert_eq!(issuer.requests(KEYS), 0);
}

#[tokio::test]
async fn a_flood_of_unknown_key_ids_costs_one_refresh_a_minute() {
    let (test, issuer, key) = started().await;
    assert_eq!(exchange(&test, &issuer, &key).await, "200 -");
    for minute in 1..=3 {
        for attempt in 0..200 {
            let strange = test.jwt(&issuer, json!({ "repository_id": "74" }));
            let id = format!("{minute}-{attempt}");
            let jwt = strange.header("kid", id).signed(&key);
            assert_eq!(test.exchange_jwt(&jwt).await.error(), "401 jwt_bad_signature");
        }
        assert_eq!((issuer.requests(DISCOVERY), issuer.requests(KEYS)), (minute, minute));
        test.advance(60);
    }
}

#[tokio::test]
async fn a_rotated_key_is_known_after_at_most_a_minute_and_a_removed_one_gone_after_the_lifetime() {
    let (test, issuer, old) = started().await;
    issuer.cache_control("max-age=600");
    assert_eq!(exchange(&test, &issuer, &old).await, "200 -");
    let new = SigningKey::new("k2", "ES256");
    issuer.publish(&[&old, &new]);
    assert_eq!(exchange(&test, &issuer, &new).await, "401 jwt_bad_signature", "within the minute");
    test.advance(60);
    assert_eq!(exchange(&test, &issuer, &new).await, "200 -");
    issuer.publish(&[&new]);
    test.advance(599);
    assert_eq!(exchange(&test, &issuer, &old).await, "200 -", "the keys are still good");
    test.advance(1);
    assert_eq!(exchange(&test, &issuer, &old).await, "401 jwt_bad_signature");
    assert_eq!(exchange(&test, &issuer, &new).await, "200 -");
    assert_eq!(issuer.requests(KEYS), 3);
}

#[tokio::test]
async fn old_keys_serve_for_a_day_while_the_issuer_is_down() {
    let (test, issuer, key) = started().await;
    assert_eq!(exchange(&test, &issuer, &key).await, "200 -");
    issuer.answer(Answer::Status(500));
    test.advance(300);
    assert_eq!(exchange(&test, &issuer, &key).await, "200 -");
    assert_eq!(exchange(&test, &issuer, &key).await, "200 -");
    assert_eq!(issuer.requests(DISCOVERY), 2, "it is not asked for each exchange");
    let strange = SigningKey::new("k2", "ES256");
    assert_eq!(
        exchange(&test, &issuer, &strange).await,
        "503 issuer_unavailable",
        "no is not down"
    );
    test.advance(24 * 3600 - 1);
    assert_eq!(exchange(&test, &issuer, &key).await, "200 -");
    test.advance(1);
    assert_eq!(exchange(&test, &issuer, &key).await, "503 issuer_unavailable");
    issuer.answer(Answer::Good);
    test.advance(10);
    assert_eq!(exchange(&test, &issuer, &key).await, "200 -");
}

#[tokio::test]
async fn of_many_exchanges_at_once_one_reads_the_keys() {
    let (test, issuer, key) = started().await;
    let jwts: Vec<_> =
        (0..20).map(|_| test.jwt(&issuer, json!({ "repository_id": "74" })).signed(&key)).collect();
    let replies =
        futures_util::future::join_all(jwts.iter().map(|jwt| test.exchange_jwt(jwt))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!((issuer.requests(DISCOVERY), issuer.requests(KEYS)), (1, 1));
}
