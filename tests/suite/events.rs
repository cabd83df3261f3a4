//! The events of versions: who gets them, and when. No test waits for a time to pass.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use stile_broker::app::event_sender::{Sent, send_waiting};
use stile_broker::app::events::Events;
use stile_core::webhook::{MAX_WEBHOOKS, WebhookUrl};
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::{MAX_WAITING, SendingEnd, Webhook, WebhookAdded};
use stile_tests::broker::operator::{AsOperator as _, kept, operator};
use stile_tests::broker::{Backend, HOST, TestBroker, deploy, module_zip, role};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::time_limits::BACKSTOP;
use stile_tests::webhook_receiver::{Message, WebhookReceiver};

const MODULE: &str = "/v1/modules/acme/vpc/aws";

const DAY: i64 = 24 * 3600;

async fn add(test: &TestBroker, name: &str, url: &str) -> Webhook {
    test.add_webhook(name, url).await
}

/// Starts a registry whose broker can reach the receiver, and creates a token of a publisher.
async fn registry() -> Option<(TestBroker, WebhookReceiver, String)> {
    let first = TestBroker::start_on(super::BACKEND).await?;
    for namespace in ["acme", "beta"] {
        first.grant(&role("deploy"), namespace, &[Download, Upload]).await;
    }
    let token = first.token(&deploy(), &[Download, Upload]).await;
    let receiver = WebhookReceiver::start().await;
    let test = first.sending(Events::new(receiver.client(), None));
    Some((test, receiver, token))
}

/// Starts another broker of the same registry, which sends to the same receiver.
fn another(test: &TestBroker, receiver: &WebhookReceiver) -> TestBroker {
    test.sending(Events::new(receiver.client(), None))
}

/// Runs `stile-admin` on the store of the registry.
async fn admin(test: &TestBroker, words: &[&str]) -> CommandOutput {
    let mut home = Home::temporary();
    let mut arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    match super::BACKEND {
        Backend::Embedded => {
            arguments.extend(["--data".to_owned(), test.data().display().to_string()]);
        }
        Backend::Aws => {
            test.aws().environment().into_iter().for_each(|(name, value)| {
                home.variable(name, value);
            });
        }
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ran = home.run(&program(ADMIN), &arguments).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran
}

async fn publish(test: &TestBroker, version: &str, token: &str) -> u16 {
    publish_in(test, "acme", version, token).await
}

async fn publish_in(test: &TestBroker, namespace: &str, version: &str, token: &str) -> u16 {
    let address = format!("{namespace}/vpc/aws");
    test.publish(&address, version, module_zip(version), token).await.status.as_u16()
}

async fn change(test: &TestBroker, method: &str, path: &str, body: Option<Value>, token: &str) {
    let request = Request::builder()
        .method(method)
        .uri(format!("{MODULE}/1.0.0{path}"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json");
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let reply = test.send(request.body(body).unwrap()).await;
    assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text());
}

async fn send(test: &TestBroker) -> Sent {
    send_waiting(&test.broker, BACKSTOP).await
}

fn sent(delivered: usize, failed: usize) -> Sent {
    Sent { delivered, failed, ..Sent::default() }
}

/// Returns the versions that the events report, in order of arrival.
fn versions(messages: &[Message]) -> Vec<Value> {
    messages.iter().map(|message| message.event()["version"].clone()).collect()
}

#[tokio::test]
async fn an_event_that_nobody_listens_for_is_not_kept() {
    let Some((test, receiver, token)) = registry().await else { return };
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    add(&test, "ci", &receiver.url("/")).await;
    test.advance(10);
    assert_eq!(send(&test).await, sent(0, 0));
    assert_eq!(publish(&test, "1.1.0", &token).await, 201);
    assert_eq!(send(&test).await, sent(1, 0));
    assert_eq!(versions(&receiver.take()), ["1.1.0"]);
}

#[tokio::test]
async fn each_change_of_a_version_is_one_event_whose_signature_the_receiver_can_check() {
    let Some((test, receiver, token)) = registry().await else { return };
    let webhook = add(&test, "ci", &receiver.url("/hook?a=b")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    assert_eq!(publish(&test, "1.0.0", &token).await, 200, "nothing changed");
    let reason = || Some(json!({"reason": "it leaks"}));
    for (method, path, body) in [
        ("PUT", "/deprecation", reason()),
        ("PUT", "/deprecation", reason()),
        ("DELETE", "/deprecation", None),
        ("DELETE", "", reason()),
        ("POST", "/restore", None),
    ] {
        test.advance(1);
        change(&test, method, path, body, &token).await;
    }
    assert_eq!(receiver.take().len(), 0, "no change waits for a receiver");
    assert_eq!(send(&test).await, sent(5, 0));
    assert_eq!(send(&test).await, sent(0, 0));
    let got = receiver.take();
    let types: Vec<Value> = got.iter().map(|got| got.event()["type"].clone()).collect();
    let expected = ["published", "deprecated", "undeprecated", "unpublished", "restored"];
    assert_eq!(types, expected.map(|word| json!(format!("module.{word}"))));
    let ids: BTreeSet<&str> = got.iter().map(|got| got.header("webhook-id")).collect();
    assert_eq!(ids.len(), 5);
    let secret = webhook.secret.expose();
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    for got in &got {
        let event = got.event();
        let (id, at) = (got.header("webhook-id"), got.header("webhook-timestamp"));
        assert_eq!((event["id"].as_str(), at), (Some(id), test.time().to_string().as_str()));
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{id}.{at}.").as_bytes());
        mac.update(&got.body);
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(got.header("webhook-signature"), expected);
        assert_eq!(got.header("content-type"), "application/json");
        let digest = event["sha256"].as_str().unwrap();
        assert_eq!(digest.len(), 64);
        let explained = ["module.deprecated", "module.unpublished"];
        let is_explained = explained.contains(&event["type"].as_str().unwrap());
        assert_eq!(event.get("reason").is_some(), is_explained, "{event}");
        for (field, value) in [
            ("v", json!(1)),
            ("registry", json!(HOST)),
            ("module", json!("acme/vpc/aws")),
            ("version", json!("1.0.0")),
            ("principal", json!(role("deploy"))),
        ] {
            assert_eq!(event[field], value, "{field}");
        }
    }
}

#[tokio::test]
async fn a_version_with_a_source_has_an_event_with_the_source() {
    let Some((test, receiver, token)) = registry().await else { return };
    let (store, address) = (test.store(), ["git::https://git.example.com/acme"]);
    store.as_operator().allow_sources("acme", &address, test.time()).await.unwrap();
    add(&test, "ci", &receiver.url("/")).await;
    let source = "git::https://git.example.com/acme/vpc?ref=v1.0.0";
    let request = Request::post(format!("{MODULE}/1.0.0"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Body::from(json!({ "source": source }).to_string()));
    let reply = test.send(request.unwrap()).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(send(&test).await, sent(1, 0));
    let event = receiver.take()[0].event();
    assert_eq!((&event["source"], event.get("sha256")), (&json!(source), None), "{event}");
}

#[tokio::test]
async fn a_receiver_that_fails_twice_gets_the_same_event_later() {
    let Some((test, receiver, token)) = registry().await else { return };
    add(&test, "ci", &receiver.url("/")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    receiver.answers(&[503, 302]);
    assert_eq!(send(&test).await, sent(0, 1));
    test.advance(4);
    assert_eq!(send(&test).await, sent(0, 0), "the next attempt is not due yet");
    test.advance(1);
    assert_eq!(send(&test).await, sent(0, 1), "no redirect is followed");
    let listed = test.store().webhooks(&operator()).await.unwrap();
    assert_eq!(listed[0].failing_since, Some(test.time() - 5));
    test.advance(9);
    assert_eq!(send(&test).await, sent(0, 0));
    test.advance(1);
    assert_eq!(send(&test).await, sent(1, 0));
    let got = receiver.take();
    let (ids, paths): (BTreeSet<_>, BTreeSet<_>) =
        got.iter().map(|got| (got.header("webhook-id"), got.path.as_str())).unzip();
    assert_eq!((got.len(), ids.len(), paths), (3, 1, BTreeSet::from(["/"])));
    test.advance(3600);
    assert_eq!(send(&test).await, sent(0, 0));
    let listed = test.store().webhooks(&operator()).await.unwrap();
    assert_eq!(listed[0].failing_since, None);
}

#[tokio::test]
async fn an_event_that_a_receiver_never_takes_keeps_no_other_back() {
    let Some((test, receiver, token)) = registry().await else { return };
    add(&test, "ci", &receiver.url("/")).await;
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        assert_eq!(publish(&test, version, &token).await, 201);
        test.advance(1);
    }
    receiver.answers(&[400]);
    assert_eq!(send(&test).await, sent(0, 1));
    test.advance(5);
    receiver.answers(&[204, 204, 400]);
    assert_eq!(send(&test).await, sent(2, 1), "it begins after the event that failed");
    assert_eq!(versions(&receiver.take()), ["1.0.0", "1.1.0", "1.2.0", "1.0.0"]);
    test.advance(5);
    assert_eq!(send(&test).await, sent(1, 0), "an attempt after others succeeded waits 5 seconds");
}

#[tokio::test]
async fn of_two_brokers_on_one_store_one_sends_and_the_other_goes_on_after_a_minute() {
    let Some((test, receiver, token)) = registry().await else { return };
    let other = another(&test, &receiver);
    let webhook = add(&test, "ci", &receiver.url("/")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    assert_eq!(publish(&other, "1.1.0", &token).await, 201);
    let (one, two) = tokio::join!(send(&test), send(&other));
    assert_eq!(one.delivered + two.delivered, 2, "{one:?} {two:?}");
    assert_eq!(receiver.take().len(), 2);
    // A broker that dies while it sends never ends its claim.
    assert_eq!(publish(&test, "1.2.0", &token).await, 201);
    let destination = webhook.destination();
    let claim = test.store().claim(&destination, test.time()).await.unwrap().unwrap();
    assert!(other.store().claim(&destination, test.time()).await.unwrap().is_none());
    other.advance(59);
    assert_eq!(send(&other).await, sent(0, 0));
    other.advance(1);
    assert_eq!(send(&other).await, sent(1, 0));
    assert_eq!(versions(&receiver.take()), ["1.2.0"]);
    // The end of a claim that has run out changes nothing.
    let end = SendingEnd::Failed { reached: "", took_others: false };
    test.store().end_claim(claim, end, test.time()).await.unwrap();
    assert_eq!(publish(&test, "1.3.0", &token).await, 201);
    assert_eq!(send(&other).await, sent(1, 0));
}

#[tokio::test]
async fn an_event_that_was_sent_and_not_deleted_is_sent_again_with_its_id() {
    let Some((test, receiver, token)) = registry().await else { return };
    let webhook = add(&test, "ci", &receiver.url("/")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    // As a broker that is killed between the answer of the receiver and the deletion.
    let claim = test.store().claim(&webhook.destination(), test.time()).await.unwrap().unwrap();
    let waiting = test.store().waiting(&claim, "", 10).await.unwrap();
    receiver.client().send(&webhook, &waiting[0], test.time()).await.unwrap();
    drop(claim);
    test.advance(60);
    assert_eq!(send(&another(&test, &receiver)).await, sent(1, 0));
    let got = receiver.take();
    let ids: BTreeSet<_> = got.iter().map(|got| got.header("webhook-id")).collect();
    assert_eq!((got.len(), ids.len()), (2, 1));
}

#[tokio::test]
async fn an_event_is_dropped_after_three_days() {
    let Some((test, receiver, token)) = registry().await else { return };
    add(&test, "ci", &receiver.url("/")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    receiver.answers(&[500, 500, 500]);
    assert_eq!(send(&test).await, sent(0, 1));
    test.advance(3 * DAY - 1);
    assert_eq!(send(&test).await, sent(0, 1));
    test.advance(3600);
    assert_eq!(send(&test).await, Sent { failed: 1, dropped: 1, ..Sent::default() });
    assert_eq!(receiver.take().len(), 3);
    test.advance(3600);
    assert_eq!(send(&test).await, Sent::default());
}

#[tokio::test]
async fn an_event_of_any_age_is_tried_before_it_is_dropped() {
    let Some((test, receiver, token)) = registry().await else { return };
    add(&test, "ci", &receiver.url("/")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    test.advance(4 * DAY);
    assert_eq!(send(&test).await, sent(1, 0), "no broker was there for four days");
    assert_eq!(versions(&receiver.take()), ["1.0.0"]);
}

#[tokio::test]
async fn a_namespace_whose_events_are_refused_keeps_no_other_namespace_back() {
    let Some((test, receiver, token)) = registry().await else { return };
    add(&test, "ci", &receiver.url("/")).await;
    for version in ["1.0.0", "1.1.0"] {
        for namespace in ["acme", "beta"] {
            assert_eq!(publish_in(&test, namespace, version, &token).await, 201);
        }
        test.advance(1);
    }
    let arrived = || -> Vec<String> {
        let name = |event: Value| {
            let module = event["module"].as_str().unwrap();
            format!("{} {}", &module[..4], event["version"].as_str().unwrap())
        };
        receiver.take().iter().map(|got| name(got.event())).collect()
    };
    receiver.answers(&[403, 422]);
    assert_eq!(send(&test).await, sent(0, 2));
    assert_eq!(arrived(), ["acme 1.0.0", "beta 1.0.0"]);
    assert_eq!(send(&test).await, sent(0, 0), "then the destination waits");
    test.advance(5);
    receiver.answers(&[204, 204, 403, 403]);
    assert_eq!(send(&test).await, sent(2, 2));
    let after_the_refused_ones = ["acme 1.1.0", "beta 1.1.0", "acme 1.0.0", "beta 1.0.0"];
    assert_eq!(arrived(), after_the_refused_ones);
    test.advance(5);
    receiver.answers(&[503]);
    assert_eq!(send(&test).await, sent(0, 1), "a receiver that is down gets one attempt");
    assert_eq!(arrived(), ["acme 1.0.0"]);
    test.advance(10);
    assert_eq!(send(&test).await, sent(2, 0));
    assert_eq!(arrived(), ["beta 1.0.0", "acme 1.0.0"], "the next namespace comes first");
}

/// Changes what the store has about a webhook to something that no release writes.
async fn spoil(test: &TestBroker, sql: &str, item: Value) {
    match test.backend() {
        Backend::Embedded => {
            let database = rusqlite::Connection::open(test.data().join("stile.sqlite3")).unwrap();
            assert_eq!(database.execute(sql, []).unwrap(), 1);
        }
        Backend::Aws => {
            let request = json!({ "TableName": test.aws().place.table, "Item": item });
            test.aws().dynamodb("PutItem", request).await;
        }
    }
}

#[tokio::test]
async fn a_state_of_sending_that_cannot_be_read_stops_no_publish() {
    let Some((test, receiver, token)) = registry().await else { return };
    let webhook = add(&test, "ci", &receiver.url("/")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    receiver.answers(&[503]);
    assert_eq!(send(&test).await, sent(0, 1));
    let key = format!("sending webhook {}", webhook.id);
    let item = json!({ "pk": { "S": key }, "sk": { "S": "state" }, "failures": { "N": "-1" } });
    spoil(&test, "UPDATE sending SET failures = -1", item).await;
    test.advance(10);
    assert_eq!(publish(&test, "1.1.0", &token).await, 201);
    assert!(test.store().claim(&webhook.destination(), test.time()).await.is_err());
    assert!(test.store().remove_webhook(&operator(), &webhook.name, &kept(7)).await.unwrap());
    add(&test, "ci", &receiver.url("/")).await;
    test.advance(10);
    assert_eq!(publish(&test, "1.2.0", &token).await, 201);
    assert_eq!(send(&test).await, sent(1, 0));
}

#[tokio::test]
async fn a_webhook_that_cannot_be_read_is_listed_and_can_be_removed() {
    let Some((test, receiver, token)) = registry().await else { return };
    let webhook = add(&test, "ci", &receiver.url("/")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    let text = |text: &str| json!({ "S": text });
    let item = json!({
        "pk": text("webhooks"), "sk": text("ci"), "id": text(&webhook.id), "url": text("?"),
    });
    spoil(&test, "UPDATE webhooks SET url = '?'", item).await;
    let store = test.store();
    assert_eq!(store.webhooks(&operator()).await.unwrap(), []);
    let name = webhook.name.clone();
    let unreadable = store.unreadable_webhooks(&operator()).await.unwrap();
    assert_eq!(unreadable, [Some(name.clone())]);
    let listed = admin(&test, &["webhook", "list"]).await;
    assert!(listed.stdout.contains("unreadable"), "{listed:?}");
    let listed = admin(&test, &["webhook", "list", "--output", "json"]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed, json!([{ "webhook": "ci", "unreadable": true }]));
    assert!(store.claim(&webhook.destination(), test.time()).await.unwrap().is_some());
    let removed = admin(&test, &["webhook", "remove", "ci"]).await;
    assert!(removed.stdout.contains("`ci`"), "{removed:?}");
    assert_eq!(store.unreadable_webhooks(&operator()).await.unwrap(), []);
    let left = store.claim(&webhook.destination(), test.time()).await.unwrap();
    assert!(left.is_none(), "its events are gone");
}

#[tokio::test]
async fn a_receiver_that_is_gone_gets_no_more_events_until_it_is_added_again() {
    let Some((test, receiver, token)) = registry().await else { return };
    let webhook = add(&test, "ci", &receiver.url("/")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    receiver.answers(&[410]);
    assert_eq!(send(&test).await, sent(0, 1));
    test.advance(3600);
    let token = test.token(&deploy(), &[Download, Upload]).await;
    assert_eq!(publish(&test, "1.1.0", &token).await, 201);
    assert_eq!(send(&test).await, sent(0, 0));
    let listed = test.store().webhooks(&operator()).await.unwrap();
    assert_eq!(listed[0].gone_at, Some(test.time() - 3600));
    let name = &webhook.name;
    assert!(test.store().remove_webhook(&operator(), name, &kept(7)).await.unwrap());
    assert!(!test.store().remove_webhook(&operator(), name, &kept(7)).await.unwrap());
    let again = add(&test, "ci", &receiver.url("/")).await;
    assert!(again.id != webhook.id && again.secret != webhook.secret);
    test.advance(10);
    assert_eq!(publish(&test, "1.2.0", &token).await, 201);
    assert_eq!(send(&test).await, sent(1, 0));
    assert_eq!(versions(&receiver.take()), ["1.0.0", "1.2.0"]);
}

#[tokio::test]
async fn the_events_of_a_webhook_that_is_removed_go_with_it() {
    let Some((test, receiver, token)) = registry().await else { return };
    let removed = add(&test, "removed", &receiver.url("/removed")).await;
    add(&test, "stays", &receiver.url("/stays")).await;
    for version in ["1.0.0", "1.1.0"] {
        assert_eq!(publish(&test, version, &token).await, 201);
    }
    assert!(test.store().remove_webhook(&operator(), &removed.name, &kept(7)).await.unwrap());
    let nothing = test.store().claim(&removed.destination(), test.time()).await.unwrap();
    assert!(nothing.is_none());
    // This process still knows the webhook for some seconds.
    assert_eq!(publish(&test, "1.2.0", &token).await, 201);
    test.advance(10);
    assert_eq!(send(&test).await, sent(3, 0));
    let paths: BTreeSet<_> = receiver.take().into_iter().map(|got| got.path).collect();
    assert_eq!(paths, ["/stays".to_owned()].into());
}

#[tokio::test]
async fn a_slow_receiver_delays_neither_another_one_nor_a_publish() {
    let Some((test, receiver, token)) = registry().await else { return };
    add(&test, "a-slow", &receiver.url("/slow")).await;
    add(&test, "b-good", &receiver.url("/good")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    let sending = |broker| tokio::spawn(async move { send_waiting(&broker, BACKSTOP).await });
    let first = sending(Arc::clone(&test.broker));
    receiver.wait_for("/slow", 1).await;
    receiver.wait_for("/good", 1).await;
    assert_eq!(publish(&test, "1.1.0", &token).await, 201);
    // The task of the first round may still end its claim.
    let second = sending(Arc::clone(&test.broker));
    test.advance(60);
    let third = sending(Arc::clone(&test.broker));
    receiver.wait_for("/good", 2).await;
    for task in [first, second, third] {
        task.abort();
    }
}

/// Puts as many events of a namespace into the outbox as can wait for a webhook.
async fn fill(test: &TestBroker, webhook: &Webhook, namespace: &str) {
    let event = |at: usize| {
        let id = format!("evt_{at:032x}");
        let module = format!("{namespace}/old/aws");
        let body = json!({ "id": id, "module": module, "version": "0.1.0" }).to_string();
        (format!("{namespace} {id}"), id, body)
    };
    let events: Vec<_> = (0..MAX_WAITING).map(event).collect();
    match test.backend() {
        Backend::Embedded => {
            let database = rusqlite::Connection::open(test.data().join("stile.sqlite3")).unwrap();
            for (key, id, body) in events {
                let destination = format!("webhook {}", webhook.id);
                let kind = "module.published";
                let row = (destination, key, id, kind, body, test.time());
                let sql = "INSERT INTO outbox (destination, key, event, kind, body, created_at) \
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                database.execute(sql, row).unwrap();
            }
        }
        Backend::Aws => {
            let text = |text: &str| json!({ "S": text });
            let item = |(key, id, body): &(String, String, String)| {
                json!({ "PutRequest": { "Item": {
                    "pk": text(&format!("outbox webhook {}", webhook.id)), "sk": text(key),
                    "event": text(id), "kind": text("module.published"), "body": text(body),
                    "created_at": { "N": test.time().to_string() },
                } } })
            };
            for some in events.chunks(25) {
                let items: Vec<Value> = some.iter().map(item).collect();
                let table = &test.aws().place.table;
                let request = json!({ "RequestItems": { table.as_str(): items } });
                test.aws().dynamodb("BatchWriteItem", request).await;
            }
        }
    }
}

#[tokio::test]
async fn a_namespace_with_many_events_neither_fills_the_store_nor_holds_up_others() {
    let Some((test, receiver, token)) = registry().await else { return };
    let webhook = add(&test, "ci", &receiver.url("/")).await;
    fill(&test, &webhook, "acme").await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201, "no publish waits");
    assert_eq!(publish_in(&test, "beta", "1.0.0", &token).await, 201);
    let claim = test.store().claim(&webhook.destination(), test.time()).await.unwrap().unwrap();
    let kept = test.store().waiting(&claim, "", 2 * MAX_WAITING).await.unwrap();
    assert_eq!(kept.len(), MAX_WAITING + 1, "one of the other namespace");
    test.advance(60);
    receiver.answers(&[204; 21]);
    receiver.answers(&[500]);
    assert_eq!(send(&test).await, sent(21, 1));
    let got = receiver.take();
    let of_beta = got.iter().position(|got| got.event()["module"] == "beta/vpc/aws");
    assert_eq!(of_beta, Some(20), "after one batch of the first namespace");
    assert_eq!(publish(&test, "1.1.0", &token).await, 201);
    test.advance(5);
    let claim = test.store().claim(&webhook.destination(), test.time()).await.unwrap().unwrap();
    let kept = test.store().waiting(&claim, "", 2 * MAX_WAITING).await.unwrap();
    assert_eq!(kept.len(), MAX_WAITING - 20 + 1, "there is room again");
}

#[tokio::test]
async fn a_change_and_its_event_are_one_commit() {
    let Some((test, receiver, token)) = registry().await else { return };
    let webhook = add(&test, "ci", &receiver.url("/")).await;
    match test.backend() {
        Backend::Embedded => {
            let database = rusqlite::Connection::open(test.data().join("stile.sqlite3")).unwrap();
            database
                .execute_batch(
                    "CREATE TRIGGER no_event BEFORE INSERT ON outbox
                     BEGIN SELECT RAISE(ABORT, 'no event'); END",
                )
                .unwrap();
            assert_eq!(publish(&test, "1.0.0", &token).await, 503);
            assert_eq!(test.get(&format!("{MODULE}/versions"), &token).await.status, 404);
            database.execute_batch("DROP TRIGGER no_event").unwrap();
            assert_eq!(publish(&test, "1.0.0", &token).await, 201);
        }
        Backend::Aws => {
            test.aws().proxy.take_counts();
            assert_eq!(publish(&test, "1.0.0", &token).await, 201);
            let counts = test.aws().proxy.take_counts();
            // The reservation of the version, and then everything else.
            assert_eq!(counts.get("dynamodb TransactWriteItems"), Some(&2), "{counts:?}");
            let writes = ["dynamodb PutItem", "dynamodb UpdateItem", "dynamodb BatchWriteItem"];
            assert!(writes.iter().all(|name| !counts.contains_key(*name)), "{counts:?}");
        }
    }
    let claim = test.store().claim(&webhook.destination(), test.time()).await.unwrap().unwrap();
    assert_eq!(test.store().waiting(&claim, "", 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn work_without_time_ends_before_the_first_event_and_goes_on_later() {
    let Some((test, receiver, token)) = registry().await else { return };
    add(&test, "ci", &receiver.url("/")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    let none = send_waiting(&test.broker, Duration::ZERO).await;
    assert_eq!(none, Sent { unfinished: 1, ..Sent::default() });
    receiver.answers(&[503]);
    assert_eq!(send(&test).await, sent(0, 1));
    test.advance(5);
    assert_eq!(send_waiting(&test.broker, Duration::ZERO).await, none);
    let listed = test.store().webhooks(&operator()).await.unwrap();
    assert_eq!(listed[0].failing_since, Some(test.time() - 5), "nothing was tried");
    assert_eq!(send(&test).await, sent(1, 0));
}

#[tokio::test]
async fn a_registry_has_few_webhooks_and_each_name_once() {
    let Some((test, receiver, _)) = registry().await else { return };
    for n in 0..MAX_WEBHOOKS {
        add(&test, &format!("hook-{n}"), &receiver.url("/")).await;
    }
    for (name, expected) in [("hook-0", WebhookAdded::Exists), ("one-more", WebhookAdded::TooMany)]
    {
        let url = WebhookUrl::parse("https://example.com/").unwrap();
        let added =
            test.store().add_webhook(&operator(), name.parse().unwrap(), url, &kept(7)).await;
        assert_eq!(added.unwrap(), expected);
    }
}
