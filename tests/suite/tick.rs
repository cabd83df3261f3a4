//! The internal event of a function: what it does, and that no client can send it.

use serde_json::{Value, json};
use stile_broker::app::events::Events;
use stile_broker::http::lambda::EventError;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::{Backend, TestBroker, deploy, module_zip, role};
use stile_tests::lambda::events::{Sent, Shape, golden};
use stile_tests::webhook_receiver::WebhookReceiver;

use crate::lambda::answer;

/// Returns the event with which the schedule invokes the function.
fn tick() -> Value {
    json!({"stile": {"internal": "tick", "v": 1}})
}

/// Starts a registry with an event that waits for the receiver, and mints a token of a publisher.
async fn registry(backend: Backend) -> Option<(TestBroker, WebhookReceiver, String)> {
    let first = TestBroker::start_on(backend).await?;
    first.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = first.token(&deploy(), &[Download, Upload]).await;
    let receiver = WebhookReceiver::start().await;
    let test = first.sending(Events::new(receiver.client(), None));
    test.add_webhook("ci", &receiver.url("/")).await;
    let published = test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &token).await;
    assert_eq!(published.status, 201);
    Some((test, receiver, token))
}

fn is_ticked(answer: &Result<Value, EventError>) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.get("delivered").is_some())
}

#[tokio::test]
async fn a_tick_is_accepted_only_from_a_caller_who_invokes_the_function_itself() {
    let Some((test, receiver, token)) = registry(Backend::Embedded).await else { return };
    let function = test.function(None, None);
    let text = tick().to_string();
    for shape in Shape::ALL {
        for sent in [
            Sent::new("POST", "/v1/token").body("application/json", text.clone()),
            Sent::new("POST", "/").body("application/json", text.clone()),
            Sent::new("GET", "/v1/token").header("stile", text.clone()),
            Sent::new("GET", "/v1/token").header("x-stile-internal", "tick"),
            Sent::new("GET", "/v1/token").header("x-amz-invocation-type", "Event"),
            Sent::new("GET", "/stile/internal/tick"),
            Sent::new("GET", "/v1/modules?stile=tick&internal=tick&v=1").bearer(&token),
        ] {
            let mut event = shape.event(&sent);
            let forged = answer(&function, &event).await;
            assert!(forged.is_ok() && !is_ticked(&forged), "{shape:?}: {forged:?}");
            // Also if a gateway passed a field of the client on.
            event["stile"] = tick()["stile"].clone();
            let forged = answer(&function, &event).await;
            assert!(!is_ticked(&forged), "{shape:?}: {forged:?}");
        }
    }
    let wrapped = [
        json!({"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": tick()}),
        json!({"Records": [{"eventSource": "aws:sqs", "body": text}]}),
        json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": text}}]}),
        json!({"type": "TOKEN", "authorizationToken": text, "methodArn": "x"}),
        json!([tick()]),
        json!(text),
    ];
    for event in wrapped {
        let forged = answer(&function, &event).await;
        assert!(!is_ticked(&forged), "{event}: {forged:?}");
    }
    for name in ["authorizer_token", "authorizer_request_v1", "authorizer_request_v2"] {
        let mut event = golden(name);
        event["stile"] = tick()["stile"].clone();
        assert!(!is_ticked(&answer(&function, &event).await), "{name}");
    }
    assert_eq!(receiver.take().len(), 0, "no forged event sends anything");
    let direct = answer(&function, &tick()).await.unwrap();
    assert_eq!(direct, json!({"delivered": 1, "failed": 0, "dropped": 0, "unfinished": 0}));
    assert_eq!(receiver.take()[0].event()["version"], "1.0.0");
}

async fn a_tick_does_the_work(backend: Backend) {
    let Some((test, receiver, token)) = registry(backend).await else { return };
    let module = "/v1/modules/acme/vpc/aws";
    assert_eq!(test.get(&format!("{module}/1.0.0/download"), &token).await.status, 204);
    receiver.answers(&[503]);
    let function = test.function(None, None);
    let failed = answer(&function, &tick()).await.unwrap();
    assert_eq!((&failed["delivered"], &failed["failed"]), (&json!(0), &json!(1)));
    // Another process sees the download that the first one counted.
    let other = test.restarted();
    let usage = other.get(&format!("{module}/usage"), &token).await;
    assert_eq!(usage.json()["downloads"][0]["downloads"], 1, "{}", usage.text());
    test.advance(60);
    let next = answer(&function, &tick()).await.unwrap();
    assert_eq!((&next["delivered"], &next["failed"]), (&json!(1), &json!(0)));
    assert_eq!(receiver.take().len(), 2);
}

#[tokio::test]
async fn a_tick_sends_events_and_adds_counted_downloads_on_the_embedded_store() {
    a_tick_does_the_work(Backend::Embedded).await;
}

#[tokio::test]
async fn a_tick_sends_events_and_adds_counted_downloads_on_aws() {
    a_tick_does_the_work(Backend::Aws).await;
}
