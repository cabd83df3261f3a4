//! The metrics of a broker on this store: each moves when its cause happens, and no caller can make
//! more series.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use stile_broker::app::count_backlog;
use stile_broker::app::event_sender::{self, send_waiting};
use stile_broker::app::events::Events;
use stile_broker::http;
use stile_broker::metrics::{CloudWatchNamespace, Format, METRICS};
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{Backend, TestBroker, allow, deploy, make_data, module_zip, role};
use stile_tests::lambda::events::{Sent, Shape};
use stile_tests::process::programs::{Setup, free_port};
use stile_tests::sts::identity::Identity;
use stile_tests::sts::local::{Answer, LocalSts};
use stile_tests::sts::proof::Proof;
use stile_tests::time_limits::BACKSTOP;
use stile_tests::webhook_receiver::WebhookReceiver;
use tower::ServiceExt as _;

const MODULE: &str = "/v1/modules/acme/vpc/aws";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Returns the metrics of a broker, as its endpoint has them.
fn exposition(test: &TestBroker) -> String {
    test.broker.metrics_in(Format::OpenMetrics)
}

/// Returns the value of a series. `None` if the broker does not have it.
fn value(test: &TestBroker, series: &str) -> Option<f64> {
    let text = exposition(test);
    let mut values = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    values.next().map(|value| value.parse().unwrap())
}

/// Returns how often a decision was made.
fn decisions(test: &TestBroker, event: &str, decision: &str, code: &str) -> Option<f64> {
    let labels = format!("event=\"{event}\",decision=\"{decision}\",code=\"{code}\"");
    value(test, &format!("stile_decisions_total{{{labels}}}"))
}

/// Returns how often a service was called.
fn calls(test: &TestBroker, service: &str, operation: &str, result: &str) -> Option<f64> {
    let labels = format!("service=\"{service}\",operation=\"{operation}\",result=\"{result}\"");
    value(test, &format!("stile_service_calls_total{{{labels}}}"))
}

/// Returns the series of a broker, without their values.
fn series(test: &TestBroker) -> BTreeSet<String> {
    let text = exposition(test);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

async fn start() -> Option<TestBroker> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    Some(test)
}

/// Exchanges a good proof of a role.
async fn exchange(test: &TestBroker, identity: &Identity) -> u16 {
    test.sts.add_identity(identity.clone());
    test.exchange(&test.proof(identity).build()).await.status.as_u16()
}

#[tokio::test]
async fn a_refusal_counts_under_its_code_and_a_service_that_is_down_under_its_result() {
    let Some(test) = start().await else { return };
    let token = test.token(&deploy(), &[Download]).await;
    assert_eq!(test.get(&format!("{MODULE}/versions"), "garbage").await.status, 401);
    assert_eq!(decisions(&test, "versions", "refused", "unauthorized"), Some(1.0));
    assert_eq!(test.get("/v1/modules/beta/vpc/aws/versions", &token).await.status, 403);
    assert_eq!(decisions(&test, "versions", "refused", "no_grant"), Some(1.0));
    assert_eq!(test.get(&format!("{MODULE}/1.0.0/download"), &token).await.status, 404);
    assert_eq!(decisions(&test, "download", "absent", "not_found"), Some(1.0));
    assert_eq!(test.exchange(&json!({})).await.status, 400);
    assert_eq!(decisions(&test, "exchange", "refused", "invalid_request"), Some(1.0));

    assert_eq!(calls(&test, "sts", "GetCallerIdentity", "ok"), Some(1.0));
    let stranger = Identity::role("111122223333", "stranger", "x");
    let proof = test.proof(&stranger).build();
    assert_eq!(test.exchange(&proof).await.status, 401);
    assert_eq!(calls(&test, "sts", "GetCallerIdentity", "refused"), Some(1.0));
    let test = test.asking("http://127.0.0.1:1");
    assert_eq!(exchange(&test, &deploy()).await, 503);
    assert_eq!(decisions(&test, "exchange", "failed", "sts_unavailable"), Some(1.0));
    assert_eq!(calls(&test, "sts", "GetCallerIdentity", "unreachable"), Some(1.0));
    assert_eq!(calls(&test, "sts", "GetCallerIdentity", "ok"), None);
}

#[tokio::test]
async fn a_store_that_is_down_is_counted_and_the_metrics_are_there() {
    let Some(test) = start().await else { return };
    test.break_store();
    assert_eq!(exchange(&test, &deploy()).await, 503);
    let failed = series(&test);
    let failed = failed.iter().filter(|series| series.contains("decision=\"failed\""));
    assert_eq!(failed.count(), 1, "{}", exposition(&test));
    if super::BACKEND == Backend::Aws {
        let unreachable = series(&test);
        let is_of_table = |series: &&String| {
            series.starts_with("stile_service_calls_total{service=\"dynamodb\"")
                && ["unreachable", "timeout", "failed"].iter().any(|result| series.contains(result))
        };
        assert!(unreachable.iter().any(|series| is_of_table(&series)), "{unreachable:?}");
    }
    assert_eq!(value(&test, "stile_key_age_seconds"), None, "no key was read");
    count_backlog(&test.broker).await;
    test.repair_store();
    assert_eq!(exchange(&test, &deploy()).await, 200);
    assert_eq!(decisions(&test, "exchange", "minted", "none"), Some(1.0));
}

#[tokio::test]
async fn ten_thousand_different_bad_requests_make_no_more_series() {
    let Some(test) = start().await else { return };
    let token = test.token(&deploy(), &[Download]).await;
    let router = http::router(Arc::clone(&test.broker));
    let ask = async |n: usize| {
        let name = format!("n{n}");
        let (method, path, token) = match n % 5 {
            0 => ("GET", format!("/v1/modules/{name}/vpc/aws/versions"), format!("{token}x{n}")),
            1 => ("GET", format!("/v1/modules/{name}/vpc/aws/1.0.{n}/download"), token.clone()),
            2 => ("GET", format!("/v1/modules/acme/{name}/aws/1.0.{n}/download"), token.clone()),
            3 => ("POST", "/v1/token".to_owned(), name.clone()),
            _ => ("GET", format!("/v1/archives/{name}.zip?sig={n}"), name.clone()),
        };
        let request = Request::builder().method(method).uri(path);
        let request = request
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .header("x-forwarded-for", format!("10.0.{}.{}", n / 256 % 256, n % 256))
            .body(Body::from(format!("{{\"{name}\":1}}")));
        let answer = router.clone().oneshot(request.unwrap()).await.unwrap();
        assert!(answer.status().is_client_error(), "{n}: {answer:?}");
    };
    for n in 0..100 {
        ask(n).await;
    }
    let before = series(&test);
    for n in 100..10_000 {
        ask(n).await;
    }
    assert_eq!(series(&test), before);
    let text = exposition(&test);
    let counted = text.lines().filter(|line| line.starts_with("stile_decisions_total"));
    let counted: f64 =
        counted.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum();
    assert!((counted - 10_001.0).abs() < 0.5, "each is counted, and the exchange: {counted}");
}

#[tokio::test]
async fn each_metric_moves_when_its_cause_happens() {
    let Some(first) = start().await else { return };
    let receiver = WebhookReceiver::start().await;
    let test = first.sending(Events::new(receiver.client(), None));
    assert_eq!(value(&test, "stile_revocations_age_seconds"), None);
    let token = test.token(&deploy(), &[Download, Upload]).await;
    assert_eq!(decisions(&test, "exchange", "minted", "none"), Some(1.0));
    assert_eq!(value(&test, "stile_key_age_seconds"), Some(0.0));
    test.advance(5);
    assert_eq!(value(&test, "stile_key_age_seconds"), Some(5.0));
    assert_eq!(value(&test, "stile_revocations_age_seconds"), Some(5.0));

    test.add_webhook("ci", &receiver.url("/")).await;
    count_backlog(&test.broker).await;
    assert_eq!(value(&test, "stile_events_waiting{destination=\"ci\"}"), Some(0.0));
    let published = test.publish("acme/vpc/aws", "1.0.0", module_zip("1.0.0"), &token).await;
    assert_eq!(published.status, 201, "{}", published.text());
    assert_eq!(decisions(&test, "publish", "created", "none"), Some(1.0));
    assert_eq!(value(&test, "stile_revocations_age_seconds"), Some(0.0));
    assert_eq!(value(&test, "stile_events_waiting{destination=\"ci\"}"), Some(0.0), "not counted");
    count_backlog(&test.broker).await;
    assert_eq!(value(&test, "stile_events_waiting{destination=\"ci\"}"), Some(1.0));
    let sent = event_sender::Sent { delivered: 1, ..event_sender::Sent::default() };
    assert_eq!(send_waiting(&test.broker, BACKSTOP).await, sent);
    count_backlog(&test.broker).await;
    assert_eq!(value(&test, "stile_events_waiting{destination=\"ci\"}"), Some(0.0));

    let before = value(&test, "stile_cache_hits_total{cache=\"principals\"}").unwrap_or_default();
    for _ in 0..3 {
        assert_eq!(test.get(&format!("{MODULE}/1.0.0/download"), &token).await.status, 204);
    }
    assert_eq!(value(&test, "stile_downloads_total{module=\"acme/vpc/aws\"}"), Some(3.0));
    assert_eq!(decisions(&test, "download", "allowed", "none"), Some(3.0));
    for cache in ["principals", "tokens", "keyring"] {
        let hits = value(&test, &format!("stile_cache_hits_total{{cache=\"{cache}\"}}"));
        assert!(hits.unwrap() >= before + 3.0, "{cache}: {hits:?}");
        let misses = value(&test, &format!("stile_cache_misses_total{{cache=\"{cache}\"}}"));
        assert!(misses.unwrap() >= 1.0, "{cache}: {misses:?}");
    }
    for (hits, misses) in [(None, Some(1.0)), (Some(1.0), Some(1.0))] {
        assert_eq!(test.get("/v1/modules/search?q=vpc", &token).await.status, 200);
        assert_eq!(value(&test, "stile_cache_hits_total{cache=\"search\"}"), hits);
        assert_eq!(value(&test, "stile_cache_misses_total{cache=\"search\"}"), misses);
    }

    let (service, operation) = match super::BACKEND {
        Backend::Embedded => ("sqlite", "write"),
        Backend::Aws => ("dynamodb", "TransactWriteItems"),
    };
    let done = calls(&test, service, operation, "ok").unwrap();
    let labels = format!("{{service=\"{service}\",operation=\"{operation}\"}}");
    let counted = value(&test, &format!("stile_service_call_duration_seconds_count{labels}"));
    assert!(done >= 2.0 && counted.unwrap() >= done, "{done} {counted:?}");
    if super::BACKEND == Backend::Aws {
        assert_eq!(calls(&test, "kms", "Encrypt", "ok"), Some(1.0), "the first key");
        assert!(calls(&test, "s3", "PutObject", "ok").unwrap() >= 1.0, "the archive");
    }

    let text = exposition(&test);
    for metric in METRICS {
        assert!(
            text.lines().any(|line| line.starts_with(metric.name)),
            "nothing moves `{}`: {text}",
            metric.name
        );
    }
}

#[tokio::test]
async fn a_function_writes_the_events_that_wait_after_a_tick_and_in_no_later_event() {
    let Some(first) = start().await else { return };
    let receiver = WebhookReceiver::start().await;
    let test = first.sending(Events::new(receiver.client(), None));
    let token = test.token(&deploy(), &[Download, Upload]).await;
    test.add_webhook("ci", &receiver.url("/")).await;
    let namespace = CloudWatchNamespace::parse("stile").unwrap();
    let router = http::router(Arc::clone(&test.broker));
    let function = http::lambda::Function::new(router, Arc::clone(&test.broker), None, None)
        .with_metrics(Some(namespace));
    let waiting = async |event: &Value| {
        let event = serde_json::value::to_raw_value(event).unwrap();
        let (answer, lines) = function.answer_with_lines(&event).await;
        assert!(answer.is_ok(), "{answer:?}");
        let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines: Vec<Value> = lines.collect();
        assert!(!lines.is_empty(), "each event has a line");
        let age = |line: &Value| !line["stile_revocations_age_seconds"].is_null();
        assert!(!lines.iter().any(age), "a function that gets only ticks reads none: {lines:?}");
        let waiting = |line: &Value| {
            Some((line["destination"].as_str()?.to_owned(), line["stile_events_waiting"].as_f64()?))
        };
        lines.iter().filter_map(waiting).collect::<Vec<_>>()
    };
    let (tick, request) = (
        json!({"stile": {"internal": "tick", "v": 1}}),
        Shape::FunctionUrl.event(&Sent::new("GET", "/healthz")),
    );

    let published = test.publish("acme/vpc/aws", "1.0.0", module_zip("1.0.0"), &token).await;
    assert_eq!(published.status, 201, "{}", published.text());
    receiver.answers(&[503]);
    assert_eq!(waiting(&request).await, [], "not counted yet");
    assert_eq!(waiting(&tick).await, [("ci".to_owned(), 1.0)], "the receiver is down");
    assert_eq!(waiting(&request).await, [], "another instance can have sent it since");
    test.advance(60);
    assert_eq!(waiting(&tick).await, [("ci".to_owned(), 0.0)], "what the tick sends waits no more");
    assert_eq!(waiting(&request).await, []);
}

#[tokio::test]
async fn the_lines_about_calls_of_aws_have_the_trace_of_their_request() {
    let folder = tempfile::tempdir().unwrap();
    let identity = deploy();
    let sts = LocalSts::start([identity.clone()], Arc::new(system_time));
    let port = free_port();
    let aws = match super::BACKEND {
        Backend::Embedded => None,
        Backend::Aws => {
            let Some(aws) = EmulatedAws::start().await else { return };
            allow(&aws, &role("deploy"), "acme", &[Download]).await;
            Some(aws)
        }
    };
    let setup = match &aws {
        Some(aws) => Setup::on_aws(port, aws),
        None => {
            make_data(folder.path(), &role("deploy"), "acme", &[Download]).await;
            Setup::new(port, folder.path())
        }
    };
    let setup =
        setup.sts(&sts.endpoint()).env("STILE_LOG", "info,stile_broker=debug,stile_store=debug");
    let broker = setup.env("STILE_LOG_FORMAT", "json").start(&folder.path().join("log")).await;
    let proof = Proof::new(&identity).audience(&broker.host()).now(system_time()).build();
    let asked = broker.client().post(broker.url("/v1/token"));
    let asked = asked.header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
    let asked = asked.header("content-type", "application/json").body(proof.to_string());
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", broker.log());
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    broker.logs("\"event\":\"exchange\"").await;
    let log = broker.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["message"] == "called AWS" && line["span"]["id"] == id.as_str())
        .collect();
    let services: BTreeSet<&str> =
        lines.iter().map(|line| line["service"].as_str().unwrap()).collect();
    let expected = match super::BACKEND {
        Backend::Embedded => BTreeSet::from(["sts"]),
        Backend::Aws => BTreeSet::from(["dynamodb", "sts"]),
    };
    assert!(services.is_superset(&expected), "{services:?}\n{log}");
    for line in lines {
        assert_eq!(line["span"]["trace_id"], TRACE, "{line}");
        assert_eq!(line["result"], "ok", "{line}");
    }
}

#[tokio::test]
async fn an_answer_of_sts_that_is_no_answer_counts_as_a_failure() {
    let Some(test) = start().await else { return };
    test.sts.answer(Answer::xml("<html>sign in</html>"));
    assert_eq!(exchange(&test, &deploy()).await, 502);
    assert_eq!(calls(&test, "sts", "GetCallerIdentity", "failed"), Some(1.0));
    assert_eq!(decisions(&test, "exchange", "failed", "sts_bad_response"), Some(1.0));
}
