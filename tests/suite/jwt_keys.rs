//! Issuers of JWTs that change their keys, are slow or down, or answer wrongly.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use stile_protocol::names::Permission::Download;
use stile_tests::broker::{deploy, role};
use stile_tests::jwt::issuer::{Answer, Document};
use stile_tests::jwt::signer::key_set;
use stile_tests::jwt::stage::{GITLAB, JwtStage, OTHER, outcome};
use stile_tests::time_limits::past_deadlines;

/// The time for which the broker uses keys without asking, if the issuer says nothing. In seconds.
const LIFETIME: i64 = 300;

/// The time for which old keys serve while the issuer is down, after their lifetime. In seconds.
const STALE: i64 = 24 * 3600;

/// More exchanges than a broker has at once.
const MORE_THAN_ALL_EXCHANGES: usize = 2_100;

/// The time for which the broker waits for an issuer.
const LIMIT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn an_issuer_changes_its_keys_in_mid_run() {
    let shows = "an issuer changes its keys";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -");
    assert_eq!(stage.issuers.take().len(), 2, "discovery and keys");
    for _ in 0..3 {
        assert_eq!(stage.exchange(&stage.jwt()).await, "200 -");
    }
    assert_eq!(stage.issuers.fetches(), 0, "the broker remembers the keys");

    // A careful issuer publishes the new key first, and signs with it later.
    let two = stage.signer.key("two", "ES256");
    stage.issuers.publish(GITLAB, key_set([&stage.one, &two]));
    assert_eq!(stage.exchange(&stage.jwt_of(GITLAB, &two)).await, "401 jwt_bad_signature");
    assert_eq!(stage.issuers.fetches(), 0, "the broker asked a moment ago");
    stage.test.advance(60);
    let many: Vec<String> = (0..20).map(|_| stage.jwt_of(GITLAB, &two)).collect();
    let all = futures_util::future::join_all(many.iter().map(|jwt| stage.exchange(jwt))).await;
    assert!(all.iter().all(|answer| answer == "200 -"), "{all:?}");
    assert_eq!(stage.issuers.take().len(), 2, "one request for all of them");
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -", "the old key is still there");

    // Then it withdraws the old one.
    stage.issuers.publish(GITLAB, key_set([&two]));
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -", "the broker does not know yet");
    stage.test.advance(LIFETIME);
    assert_eq!(stage.exchange(&stage.jwt()).await, "401 jwt_bad_signature");
    assert_eq!(stage.exchange(&stage.jwt_of(GITLAB, &two)).await, "200 -");
    assert_eq!(stage.issuers.take().len(), 2);
}

#[tokio::test]
async fn keys_that_an_issuer_withdraws_sign_no_longer_even_if_none_is_left() {
    let shows = "an issuer withdraws its last key";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -");
    stage.issuers.publish(GITLAB, json!({ "keys": [] }));
    stage.test.advance(LIFETIME);
    let answer = stage.exchange(&stage.jwt()).await;
    assert!(["401 jwt_bad_signature", "502 issuer_bad_response"].contains(&&*answer), "{answer}");
}

#[tokio::test]
async fn old_keys_serve_while_the_issuer_is_down_for_a_day_and_no_longer() {
    let shows = "an issuer is down";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    stage.issuers.answer(GITLAB, Document::Discovery, Answer::Status(503));
    let reply = stage.test.exchange_signed(&stage.jwt(), &[]).await;
    assert_eq!(outcome(&reply), "503 issuer_unavailable", "no key is known");
    assert!(!reply.header("retry-after").is_empty());

    stage.issuers.answer(GITLAB, Document::Discovery, Answer::Genuine);
    stage.test.advance(60);
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -");
    stage.issuers.answer(GITLAB, Document::Discovery, Answer::Status(503));
    stage.test.advance(LIFETIME);
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -", "with the old keys");
    let two = stage.signer.key("two", "RS256");
    let unknown = stage.jwt_of(GITLAB, &two);
    assert_eq!(stage.exchange(&unknown).await, "503 issuer_unavailable", "it may be a new key");
    stage.test.advance(STALE - 1);
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -");
    stage.test.advance(1);
    assert_eq!(stage.exchange(&stage.jwt()).await, "503 issuer_unavailable");
    stage.issuers.answer(GITLAB, Document::Discovery, Answer::Genuine);
    stage.test.advance(60);
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -");
}

#[tokio::test]
async fn a_slow_issuer_holds_an_exchange_for_three_seconds() {
    let shows = "an issuer is slow";
    let started = JwtStage::start_within(super::BACKEND, LIMIT, shows).await;
    let Some(stage) = started else { return };
    for document in [Document::Discovery, Document::Keys] {
        stage.issuers.answer(GITLAB, document, Answer::Hang);
        stage.issuers.take();
        let asked = if document == Document::Discovery { 1 } else { 2 };
        let many: Vec<String> = (0..10).map(|_| stage.jwt()).collect();
        let all = futures_util::future::join_all(many.iter().map(|jwt| stage.exchange(jwt)));
        let (all, jumped) = past_deadlines(stage.issuers.wait_for(asked), all).await;
        assert!(all.iter().all(|answer| answer == "503 issuer_unavailable"), "{all:?}");
        // Some of the time has passed before the clock jumps.
        assert!((LIMIT / 2..=LIMIT).contains(&jumped), "one wait for all, not {jumped:?}");
        assert_eq!(stage.issuers.take().len(), asked);
        stage.issuers.answer(GITLAB, document, Answer::Genuine);
        stage.test.advance(60);
    }
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -");
}

#[tokio::test]
async fn an_issuer_that_answers_wrongly_signs_nothing_and_no_answer_leads_elsewhere() {
    let shows = "an issuer answers wrongly";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    let (own, other) = (stage.issuers.url(GITLAB), stage.issuers.url(OTHER));
    // Another issuer has a key with the same id, and would sign for this one.
    stage.issuers.publish(OTHER, key_set([&stage.one]));
    let keys = format!("{own}/.well-known/jwks");
    let elsewhere = format!("{other}/.well-known/jwks");
    let discovery =
        |issuer: &str, keys: &str| Answer::Other(json!({ "issuer": issuer, "jwks_uri": keys }));
    let (bad, down) = ("502 issuer_bad_response", "503 issuer_unavailable");
    let key = |change: serde_json::Value| {
        let mut key = stage.one.jwk.clone();
        let fields = key.as_object_mut().unwrap();
        fields.extend(change.as_object().unwrap().clone());
        Answer::Other(json!({ "keys": [key] }))
    };
    for (document, answer, expected) in [
        (Document::Discovery, Answer::Redirect(format!("{other}/x")), bad),
        (Document::Discovery, Answer::Redirect(format!("{own}/x/.well-known/jwks")), bad),
        (Document::Discovery, discovery(&other, &keys), bad),
        (Document::Discovery, discovery(&format!("{own}/"), &keys), bad),
        (Document::Discovery, discovery(&own, ""), bad),
        (Document::Discovery, discovery(&own, &keys.replace("https", "http")), bad),
        (Document::Discovery, discovery(&own, "file:///etc/passwd"), bad),
        (Document::Discovery, discovery(&own, "/.well-known/jwks"), bad),
        (Document::Discovery, discovery(&own, &keys.replace("//", "//user:pass@")), bad),
        (Document::Discovery, discovery(&own, "https://169.254.169.254/latest"), down),
        (Document::Discovery, discovery(&own, "https://10.0.0.1/jwks"), down),
        (Document::Discovery, discovery(&own, "https://[fd00:ec2::254]/jwks"), down),
        (Document::Discovery, discovery(&own, "https://0x7f.1/jwks"), down),
        (Document::Discovery, Answer::Other(json!([])), bad),
        (Document::Discovery, Answer::Other(json!({ "issuer": [own], "jwks_uri": keys })), bad),
        (Document::Discovery, Answer::Other(json!({ "jwks_uri": keys })), bad),
        (Document::Discovery, Answer::Spaces(0), bad),
        (Document::Discovery, Answer::Spaces(600 << 10), bad),
        (Document::Discovery, Answer::Status(404), bad),
        (Document::Discovery, Answer::Status(204), bad),
        (Document::Discovery, Answer::Status(500), down),
        (Document::Discovery, Answer::Status(429), down),
        (Document::Keys, Answer::Redirect(elsewhere.clone()), bad),
        (Document::Keys, Answer::Spaces(0), bad),
        (Document::Keys, Answer::Spaces(600 << 10), bad),
        (Document::Keys, Answer::Status(404), bad),
        (Document::Keys, Answer::Status(502), down),
        (Document::Keys, Answer::Other(json!({})), bad),
        (Document::Keys, Answer::Other(json!({ "keys": {} })), bad),
        (Document::Keys, Answer::Other(json!({ "keys": [] })), bad),
        (Document::Keys, Answer::Other(json!({ "keys": [1, null, []] })), bad),
        (Document::Keys, Answer::Other(json!([stage.one.jwk])), bad),
        (Document::Keys, key(json!({ "use": "enc" })), bad),
        (Document::Keys, key(json!({ "alg": "RS512" })), bad),
        (Document::Keys, key(json!({ "alg": "none" })), bad),
        (Document::Keys, key(json!({ "kty": "oct", "k": "c2VjcmV0" })), bad),
        (Document::Keys, key(json!({ "key_ops": ["sign"] })), bad),
        (Document::Keys, key(json!({ "n": "AQAB" })), "401 jwt_bad_signature"),
        (Document::Keys, key(json!({ "kid": "another" })), "401 jwt_bad_signature"),
    ] {
        let text = format!("{document:?} {answer:.100?}");
        stage.issuers.answer(GITLAB, document, answer);
        stage.issuers.take();
        // A new process, which knows no keys.
        let process = stage.test.with_issuers(&stage.issuers);
        let reply = process.exchange_signed(&stage.jwt(), &[]).await;
        let got = outcome(&reply);
        // A key that is too weak may be refused when it is read, or when it verifies.
        let weak = expected.starts_with("401") && got == bad;
        assert!(got == expected || weak, "{text}: {got}: {}", reply.text());
        assert!(reply.json()["access_token"].is_null(), "{text}");
        let asked = stage.issuers.take();
        assert!(asked.iter().all(|fetch| fetch.host == GITLAB), "{text}: {asked:?}");
        assert!(asked.len() <= 2, "{text}: {asked:?}");
        for hidden in [OTHER, "169.254", "/etc/passwd", "user:pass"] {
            assert!(!reply.text().contains(hidden), "{text}: {}", reply.text());
        }
        stage.issuers.answer(GITLAB, document, Answer::Genuine);
    }
    let process = stage.test.with_issuers(&stage.issuers);
    assert_eq!(outcome(&process.exchange_signed(&stage.jwt(), &[]).await), "200 -");
}

#[tokio::test]
async fn a_request_to_an_issuer_carries_nothing_of_the_caller() {
    let shows = "a request to an issuer carries nothing";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -");
    let asked = stage.issuers.take();
    let lines: Vec<&str> = asked.iter().map(|fetch| fetch.line.as_str()).collect();
    assert_eq!(lines, ["GET /.well-known/openid-configuration", "GET /.well-known/jwks"]);
    for fetch in &asked {
        assert_eq!(fetch.headers, ["accept", "host", "user-agent"]);
    }
}

#[tokio::test]
async fn an_issuer_says_for_how_long_its_keys_are_good_within_bounds() {
    let shows = "an issuer says for how long its keys are good";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    for (header, seconds) in [
        ("", LIFETIME),
        ("max-age=3600", 3600),
        ("public, max-age=7200, must-revalidate", 7200),
        ("max-age=1", LIFETIME),
        ("max-age=0", LIFETIME),
        ("no-store", LIFETIME),
        ("no-cache, max-age=3600", LIFETIME),
        ("max-age=-1", LIFETIME),
        ("max-age=x", LIFETIME),
        ("max-age=31536000", STALE),
        ("max-age=99999999999999999999", LIFETIME),
    ] {
        stage.issuers.headers(GITLAB, &[("cache-control", header)]);
        let process = stage.test.with_issuers(&stage.issuers);
        stage.issuers.take();
        for (later, fetches) in [(0, 2), (seconds - 1, 0), (1, 2)] {
            stage.test.advance(later);
            process.advance(later);
            let reply = process.exchange_signed(&stage.jwt(), &[]).await;
            assert_eq!(outcome(&reply), "200 -", "{header}");
            assert_eq!(stage.issuers.take().len(), fetches, "{header} after {later} s");
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_keys_old_and_nothing_lasts_for_ever() {
    let shows = "keys of the future are old";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -");
    stage.issuers.take();
    stage.test.set_time(stage.test.time() - 7200);
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -");
    assert_eq!(stage.issuers.take().len(), 2);
}

#[tokio::test]
async fn copies_of_a_jwt_whose_first_request_failed_are_no_replays() {
    let shows = "copies of a JWT fail with their first request";
    let started = JwtStage::start_within(super::BACKEND, LIMIT, shows).await;
    let Some(stage) = started else { return };
    stage.issuers.answer(GITLAB, Document::Discovery, Answer::Hang);
    let jwt = stage.jwt();
    let copies = futures_util::future::join_all((0..10).map(|_| stage.exchange(&jwt)));
    let (answers, _) = past_deadlines(stage.issuers.wait_for(1), copies).await;
    let may_come_again =
        |answer: &String| ["503 issuer_unavailable", "429 throttled"].contains(&&**answer);
    assert!(answers.iter().all(may_come_again), "{answers:?}");
    stage.issuers.answer(GITLAB, Document::Discovery, Answer::Genuine);
    stage.test.advance(60);
    assert_eq!(stage.exchange(&jwt).await, "200 -", "it is not used");
}

#[tokio::test]
async fn copies_of_a_jwt_that_wait_leave_room_for_every_other_exchange() {
    let shows = "copies of a JWT leave room for others";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    stage.test.grant(&role("deploy"), "acme", &[Download]).await;
    // The broker reads the trusts before, so that nothing else holds the others.
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -");
    stage.issuers.answer(GITLAB, Document::Discovery, Answer::Hang);
    stage.issuers.take();
    stage.test.advance(60);
    let stage = Arc::new(stage);
    let unknown = stage.jwt_of(GITLAB, &stage.signer.key("two", "RS256"));
    let waiting: Vec<_> = (0..MORE_THAN_ALL_EXCHANGES)
        .map(|_| {
            let (stage, unknown) = (Arc::clone(&stage), unknown.clone());
            tokio::spawn(async move { stage.exchange(&unknown).await })
        })
        .collect();
    stage.issuers.wait_for(1).await;
    assert!(waiting.iter().any(|exchange| !exchange.is_finished()), "some wait");
    stage.test.token(&deploy(), &[Download]).await;
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -", "a JWT with a known key");
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn jwts_that_wait_for_a_slow_issuer_leave_room_for_signed_requests() {
    let shows = "JWTs that wait leave room for signed requests";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    stage.test.grant(&role("deploy"), "acme", &[Download]).await;
    stage.issuers.answer(GITLAB, Document::Discovery, Answer::Hang);
    // The broker reads the trusts before, so that nothing else holds the others.
    assert_eq!(stage.exchange(&stage.jwt_of(OTHER, &stage.one)).await, "401 jwt_not_trusted");
    let stage = Arc::new(stage);
    let jwt = stage.jwt();
    let (signed, _) = jwt.rsplit_once('.').unwrap();
    let waiting: Vec<_> = (0..MORE_THAN_ALL_EXCHANGES)
        .map(|n| {
            let (stage, garbage) = (Arc::clone(&stage), format!("{signed}.{n:08}"));
            tokio::spawn(async move { stage.exchange(&garbage).await })
        })
        .collect();
    stage.issuers.wait_for(1).await;
    assert!(waiting.iter().any(|exchange| !exchange.is_finished()), "some wait");
    stage.test.token(&deploy(), &[Download]).await;
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}
