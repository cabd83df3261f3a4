//! What a service token gives access to, and when it ends.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::Request;
use stile_broker::client_source::ClientAddress;
use stile_broker::metrics::Format;
use stile_core::service_token::{NewSecret, PresentedToken};
use stile_core::usage::day;
use stile_protocol::names::Permission::{self, Download, Upload};
use stile_store::{ServiceTokenChanged, ServiceTokenIssued};
use stile_tests::broker::journal::Journal;
use stile_tests::broker::kept_events::kept_events;
use stile_tests::broker::operator::{AsOperator as _, kept, operator};
use stile_tests::broker::{Backend, TestBroker, deploy, module_zip, role};

use super::providers::Registry;

const VERSIONS: &str = "/v1/modules/acme/vpc/aws/versions";
const INVALID: &str = "401 unauthorized";

/// Starts a broker with the module `acme/vpc/aws`.
async fn published() -> Option<TestBroker> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Upload]).await;
    let published = test.publish("acme/vpc/aws", "1.0.0", module_zip("hello"), &token).await;
    assert_eq!(published.status, 201);
    Some(test)
}

/// Reads the versions of the module, from this address if the broker knows it.
async fn read_from(test: &TestBroker, token: &str, address: Option<&str>) -> u16 {
    let request = Request::get(VERSIONS).header("authorization", format!("Bearer {token}"));
    let mut request = request.body(Body::empty()).unwrap();
    if let Some(address) = address {
        let address: IpAddr = address.parse().unwrap();
        request.extensions_mut().insert(ClientAddress(address));
    }
    test.send(request).await.status.as_u16()
}

/// Returns a well-formed token of nobody.
fn stranger() -> String {
    NewSecret::random().unwrap().expose().to_string()
}

/// Returns the calls of the records so far.
pub(super) fn calls(test: &TestBroker) -> u64 {
    let text = test.broker.metrics_in(Format::OpenMetrics);
    let of_records = |line: &&str| {
        line.starts_with("stile_service_calls_total{service=\"sqlite\"")
            || line.starts_with("stile_service_calls_total{service=\"dynamodb\"")
    };
    let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    text.lines().filter(of_records).map(count).sum::<f64>() as u64
}

#[tokio::test]
async fn text_that_is_no_service_token_costs_no_read_and_the_same_garbage_only_one() {
    let Some(test) = published().await else { return };
    let issued = test.issue("renovate", &["acme"], &[Download]).await;
    let good = &issued.token;
    let before = calls(&test);
    for garbage in [
        "stile_svc_",
        "stile_svc_x",
        &good[..good.len() - 1],
        &format!("{good}0"),
        &good.to_uppercase(),
        &good.replace("stile_svc_", "stile_svc_A"),
    ] {
        assert_eq!(test.get(VERSIONS, garbage).await.status, 401, "{garbage}");
    }
    assert_eq!(calls(&test), before, "a wrong checksum costs no read");
    let stranger = stranger();
    for _ in 0..3 {
        assert_eq!(test.get("/v1/whoami", &stranger).await.error(), INVALID);
    }
    assert_eq!(calls(&test), before + 1, "an unknown id costs one read in ten seconds");
    test.advance(10);
    assert_eq!(test.get("/v1/whoami", &stranger).await.error(), INVALID);
    assert_eq!(calls(&test), before + 2);
}

#[tokio::test]
async fn a_flood_of_made_up_tokens_reads_a_hundred_a_second_and_known_tokens_go_on() {
    let Some(test) = published().await else { return };
    let issued = test.issue("renovate", &["acme"], &[Download]).await;
    assert_eq!(test.get("/v1/whoami", &issued.token).await.status, 200);
    // The first read of the issued token is one of the hundred.
    for _ in 0..99 {
        assert_eq!(test.get("/v1/whoami", &stranger()).await.error(), INVALID);
    }
    let before = calls(&test);
    let refused = test.get("/v1/whoami", &stranger()).await;
    assert_eq!(refused.error(), "503 store_unavailable", "{}", refused.text());
    assert_eq!(calls(&test), before, "it costs no read");
    assert_eq!(test.get("/v1/whoami", &issued.token).await.status, 200);
    test.advance(1);
    assert_eq!(test.get("/v1/whoami", &stranger()).await.error(), INVALID);
}

#[tokio::test]
async fn a_token_with_the_id_of_another_one_is_refused_without_reading_its_rights() {
    let Some(test) = published().await else { return };
    let issued = test.issue("renovate", &["acme"], &[Download]).await;
    let forged = with_secret_of(&issued.token, &stranger());
    assert_eq!(PresentedToken::parse(&forged).unwrap().unverified_id(), &issued.id);
    let before = calls(&test);
    for _ in 0..3 {
        assert_eq!(test.get("/v1/whoami", &forged).await.error(), INVALID);
    }
    assert_eq!(calls(&test), before + 1);
    assert_eq!(test.get(VERSIONS, &issued.token).await.status, 200);
}

/// Returns the first token with the secret of the second, and a right checksum.
fn with_secret_of(one: &str, other: &str) -> String {
    let body = format!("{}{}", &one[..32], &other[32..75]);
    let check = &hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&body))[..8];
    format!("{body}{check}")
}

#[tokio::test]
async fn a_token_gives_only_what_both_its_scope_and_the_grants_of_its_service_give() {
    let Some(test) = published().await else { return };
    let issued = test.issue("renovate", &["acme"], &[Download]).await;
    assert_eq!(test.stored_grants().await[1], "renovate acme download 86400");
    let whoami = test.get("/v1/whoami", &issued.token).await.json();
    assert_eq!(whoami["principal"], "service:renovate");
    assert_eq!(whoami["grants"][0]["namespace"], "acme");
    assert_eq!(test.get(VERSIONS, &issued.token).await.status, 200);
    let publish = async |version| {
        test.publish("acme/vpc/aws", version, module_zip("x"), &issued.token).await.status
    };
    assert_eq!(publish("1.1.0").await, 403);
    let grant = async |on: &str, may: &[Permission]| {
        test.grant("service:renovate", on, may).await;
        test.advance(10);
    };
    grant("tools", &[Download]).await;
    let path = "/v1/modules/tools/vpc/aws/versions";
    assert_eq!(test.get(path, &issued.token).await.status, 403, "another namespace");
    test.delete_grant("service:renovate", "acme").await;
    grant("acme", &[Upload]).await;
    assert_eq!(publish("1.1.0").await, 403, "a grant widens no token");
    assert_eq!(test.get(VERSIONS, &issued.token).await.status, 403, "the grant is gone");
    grant("*", &[Download]).await;
    assert_eq!(test.get(VERSIONS, &issued.token).await.status, 200);
}

#[tokio::test]
async fn a_token_for_uploads_publishes_and_the_record_names_the_service() {
    let Some(test) = published().await else { return };
    let issued = test.issue("release", &["acme"], &[Download, Upload]).await;
    let published = test.publish("acme/vpc/aws", "1.1.0", module_zip("x"), &issued.token).await;
    assert_eq!(published.status, 201);
    let shown = test.get("/v1/modules/acme/vpc/aws/1.1.0", &issued.token).await.json();
    assert!(shown.to_string().contains("service:release"), "{shown}");
}

#[tokio::test]
async fn a_revoked_token_is_refused_within_ten_seconds_in_every_process() {
    let Some(test) = published().await else { return };
    let other = test.restarted();
    let issued = test.issue("renovate", &["acme"], &[Download]).await;
    let kept_one = test.issue("renovate", &["acme"], &[Download]).await;
    for broker in [&test, &other] {
        assert_eq!(broker.get(VERSIONS, &issued.token).await.status, 200);
    }
    assert!(test.revoke_service_token(&issued.id).await);
    assert!(!test.revoke_service_token(&issued.id).await, "there is none now");
    for broker in [&test, &other] {
        broker.advance(10);
        assert_eq!(broker.get("/v1/whoami", &issued.token).await.error(), INVALID);
        assert_eq!(broker.get("/v1/whoami", &kept_one.token).await.status, 200);
    }
}

#[tokio::test]
async fn a_token_ends_at_its_end_with_its_id_and_with_its_principal() {
    let Some(test) = published().await else { return };
    let short = test.issue_with(test.terms("short", &["acme"], &[Download], &[], 60)).await;
    test.advance(59);
    assert_eq!(test.get(VERSIONS, &short.token).await.status, 200);
    test.advance(1);
    assert_eq!(test.get("/v1/whoami", &short.token).await.error(), INVALID);
    test.advance(-30);
    assert_eq!(test.get("/v1/whoami", &short.token).await.error(), INVALID, "it stays ended");
    test.advance(30);

    let by_id = test.issue("renovate", &["acme"], &[Download]).await;
    let store = test.store();
    store.as_operator().revoke_token(by_id.id.clone(), test.time()).await.unwrap();
    assert_eq!(test.get("/v1/whoami", &by_id.token).await.error(), INVALID);
    let by_name = test.issue("dependabot", &["acme"], &[Download]).await;
    let principal = by_name.changed.token.terms().principal();
    store.as_operator().revoke_principal(principal.clone(), test.time()).await.unwrap();
    assert_eq!(test.get("/v1/whoami", &by_name.token).await.error(), INVALID);
    store.as_operator().lift(principal).await.unwrap();
    test.advance(10);
    assert_eq!(test.get("/v1/whoami", &by_name.token).await.status, 200);
}

#[tokio::test]
async fn a_token_with_networks_works_only_where_the_broker_knows_the_address() {
    let Some(test) = published().await else { return };
    let terms = test.terms("renovate", &["acme"], &[Download], &["203.0.113.0/24"], 60);
    let token = test.issue_with(terms).await.token;
    for address in [None, Some("203.0.112.1"), Some("2001:db8::1"), Some("127.0.0.1")] {
        assert_eq!(read_from(&test, &token, address).await, 401, "{address:?}");
    }
    for address in ["203.0.113.7", "::ffff:203.0.113.7"] {
        assert_eq!(read_from(&test, &token, Some(address)).await, 200, "{address}");
    }
    let journal = Journal::start();
    assert_eq!(read_from(&test, &token, None).await, 401);
    let event = &journal.taken().audit()[0];
    assert_eq!(event["principal"], "service:renovate", "the log names the stolen token");
    let anywhere = test.issue("dependabot", &["acme"], &[Download]).await.token;
    assert_eq!(read_from(&test, &anywhere, None).await, 200);
}

#[tokio::test]
async fn a_rotation_gives_a_second_token_and_ends_the_first_at_a_set_time() {
    let Some(test) = published().await else { return };
    let first = test.issue("renovate", &["acme"], &[Download]).await;
    let old = first.changed.token;
    let rotate = async |ends: i64, life: i64| {
        let secret = NewSecret::random().unwrap();
        let terms = old.next_terms(test.time() + life, test.time()).unwrap();
        let (operator, kept) = (operator(), kept(test.time()));
        let replaced = (&old, test.time() + ends);
        let store = test.store();
        let rotated = store.rotate_service_token(&operator, replaced, &secret, terms, &kept).await;
        (rotated.unwrap(), secret.expose().to_string())
    };
    let (rotated, second) = rotate(600, 200_000).await;
    let ServiceTokenIssued::Done(rotated) = rotated else { panic!("{rotated:?}") };
    assert_eq!(rotated.grants[0].expires_at, Some(test.time() + 200_000));
    assert_eq!(rotate(600, 60).await.0, ServiceTokenIssued::Absent, "it was rotated before");
    test.advance(599);
    for token in [&first.token, &second] {
        assert_eq!(test.get(VERSIONS, token).await.status, 200);
    }
    test.advance(1);
    assert_eq!(test.get("/v1/whoami", &first.token).await.error(), INVALID);
    assert_eq!(test.get(VERSIONS, &second).await.status, 200);
}

#[tokio::test]
async fn a_grant_that_has_ended_does_not_give_its_permissions_again() {
    let Some(test) = published().await else { return };
    let end = test.time() + 60;
    test.grant_until("service:renovate", "acme", &[Upload], Some(end)).await;
    test.advance(60);
    let issued = test.issue("renovate", &["acme"], &[Download]).await;
    let now: Vec<Permission> = issued.changed.grants[0].permissions.iter().collect();
    assert_eq!(now, [Download]);
    let wider = test.issue("renovate", &["acme"], &[Upload]).await;
    let now: Vec<Permission> = wider.changed.grants[0].permissions.iter().collect();
    assert_eq!(now, [Download, Upload], "a current grant is widened");
    let same = test.issue("renovate", &["acme"], &[Upload]).await;
    assert_eq!(same.changed.grants, [], "nothing to widen");
}

#[tokio::test]
async fn the_last_use_is_recorded_once_a_day_and_its_failure_fails_no_request() {
    let Some(test) = published().await else { return };
    let issued = test.issue("renovate", &["acme"], &[Download]).await;
    let last_used = async || {
        let listed = test.store().service_tokens(&operator()).await.unwrap();
        listed.tokens[0].last_used
    };
    assert_eq!(last_used().await, None);
    for _ in 0..3 {
        assert_eq!(test.get(VERSIONS, &issued.token).await.status, 200);
        test.advance(10);
    }
    assert_eq!(last_used().await, Some(day(test.time())));
    let before = calls(&test);
    assert_eq!(test.get("/v1/whoami", &issued.token).await.status, 200);
    assert_eq!(calls(&test) - before, 2, "the token and the rights of its service, and no write");
}

#[tokio::test]
async fn a_cached_token_outlives_an_outage_for_five_minutes_and_an_unknown_one_gets_503() {
    let Some(test) = published().await else { return };
    let issued = test.issue("renovate", &["acme"], &[Download]).await;
    assert_eq!(test.get("/v1/whoami", &issued.token).await.status, 200);
    test.advance(10);
    let on_database = |statement: &str| {
        let database = test.data().join("stile.sqlite3");
        rusqlite::Connection::open(database).unwrap().execute_batch(statement).unwrap();
    };
    match test.backend() {
        Backend::Embedded => on_database("ALTER TABLE service_tokens RENAME TO away"),
        Backend::Aws => test.break_store(),
    }
    assert_eq!(test.get("/v1/whoami", &issued.token).await.status, 200);
    assert_eq!(test.get("/v1/whoami", &stranger()).await.error(), "503 store_unavailable");
    test.advance(300);
    assert_eq!(test.get("/v1/whoami", &issued.token).await.error(), "503 store_unavailable");
    match test.backend() {
        Backend::Embedded => on_database("ALTER TABLE away RENAME TO service_tokens"),
        Backend::Aws => test.repair_store(),
    }
    test.advance(10);
    assert_eq!(test.get("/v1/whoami", &issued.token).await.status, 200);
}

#[tokio::test]
async fn no_log_and_no_record_has_the_token() {
    let journal = Journal::start();
    let Some(test) = published().await else { return };
    let issued = test.issue("renovate", &["acme"], &[Download]).await;
    let secret = &issued.token[32..75];
    test.get(VERSIONS, &issued.token).await;
    test.get(&format!("/v1/whoami?token={}", issued.token), "x").await;
    let used = test.get("/v1/whoami", &issued.token).await;
    assert!(!used.text().contains(secret));
    assert!(!journal.taken().lines().any(|line| line.contains(secret)));
    let stored = test.store().service_token(&issued.id).await.unwrap().unwrap();
    assert!(!format!("{stored:?}{}", stored.token.to_text()).contains(secret));
    assert!(!format!("{:?}", test.store()).contains(secret));
}

#[tokio::test]
async fn a_token_that_is_in_use_and_ends_soon_raises_an_alarm_once_a_day() {
    let Some(test) = published().await else { return };
    let ending = test.issue("renovate", &["acme"], &[Download]).await;
    let journal = Journal::start();
    let alarms = async |token: &str| {
        assert_eq!(test.get(VERSIONS, token).await.status, 200);
        let taken = journal.taken();
        let alarms =
            taken.json.text.lines().filter(|line| line.contains("service_token_ends_soon"));
        alarms.filter(|line| line.contains(ending.id.as_str())).count()
    };
    assert_eq!(alarms(&ending.token).await, 1);
    test.advance(10);
    assert_eq!(alarms(&ending.token).await, 0, "once a day");
    let terms = test.terms("renovate", &["acme"], &[Download], &[], 15 * 86_400);
    let lasting = test.issue_with(terms).await;
    assert_eq!(alarms(&lasting.token).await, 0);
}

#[tokio::test]
async fn only_a_delegated_token_can_be_adopted() {
    let Some(test) = published().await else { return };
    let issued = test.issue("renovate", &["acme"], &[Download]).await;
    let (operator, kept) = (operator(), kept(test.time()));
    let again = test.store().adopt_service_token(&operator, &issued.id, &kept).await.unwrap();
    assert!(matches!(again, ServiceTokenChanged::Unchanged(_)), "an operator issued it");
    test.revoke_service_token(&issued.id).await;
    let gone = test.store().adopt_service_token(&operator, &issued.id, &kept).await.unwrap();
    assert_eq!(gone, ServiceTokenChanged::Absent);
}

#[tokio::test]
async fn the_versions_of_a_provider_warn_of_a_token_that_ends_soon() {
    let Some(registry) = Registry::start().await else { return };
    registry.published("1.0.0", &["linux_amd64"]).await;
    let test = &registry.test;
    let warnings = async |life: i64| {
        let terms = test.terms("mirror", &["acme"], &[Download], &[], life);
        let token = test.issue_with(terms).await.token;
        let listed = test.get("/v1/providers/acme/dns/versions", &token).await.json();
        test.advance(10);
        listed["warnings"].clone()
    };
    let soon = warnings(3 * 86_400).await;
    let expected = "the access of `service:mirror` to namespace `acme` with `download` ends in 3 \
         days, at 2026-11-23T10:11:12Z; hint: ask for a new service token";
    assert_eq!(soon, serde_json::json!([expected]));
    assert_eq!(warnings(15 * 86_400).await, serde_json::json!([]));
    // The grant lasts longer now, and the token does not.
    let again = warnings(3 * 86_400).await;
    assert!(again[0].as_str().is_some_and(|text| text.contains("ends in 3 days")), "{again}");
}

#[tokio::test]
async fn sixteen_namespaces_are_one_commit_with_an_event_in_the_chain_of_each() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let names: Vec<String> = (0..16).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let issued = test.issue("mirror", &names, &[Download, Upload]).await;
    let changed = &issued.changed;
    assert_eq!((changed.grants.len(), changed.new_namespaces.len()), (16, 16));
    assert!(test.revoke_service_token(&issued.id).await);
    let events = kept_events(test.store()).await;
    for name in names {
        let decisions: Vec<_> = events[name].iter().map(|event| &event["decision"]).collect();
        assert_eq!(decisions, ["created", "revoked"], "{name}");
        assert_eq!(events[name][0]["token_id"], issued.id.as_str());
    }
}
