//! The events of versions: what webhooks get, and when. No test waits for a time to pass.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use stile_broker::app::events::{Events, Sent, send_due};
use stile_broker::http::Server;
use stile_broker::webhook_client::{Lookup, WebhookClient};
use stile_core::webhook::is_global;
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::{Delivery, Destination, Webhook, WebhookAdded};
use stile_tests::broker::operator::operator;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{HOST, TestBroker, deploy, module_zip, role};
use stile_tests::dev_ca::DevCa;
use stile_tests::time_limits;
use tokio::sync::{Notify, oneshot};

const MODULE: &str = "/v1/modules/acme/vpc/aws";

/// A message that the receiver got.
#[derive(Debug, Clone)]
struct Got {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An HTTPS server on loopback that records what it gets. `/slow` gets no answer before the end.
struct Receiver {
    port: u16,
    got: Arc<Mutex<Vec<Got>>>,
    /// The statuses of the next answers; 204 after them.
    answers: Arc<Mutex<VecDeque<u16>>>,
    arrived: Arc<Notify>,
    authority: reqwest::Certificate,
    _folder: tempfile::TempDir,
    _stop: oneshot::Sender<()>,
}

impl Receiver {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = DevCa::new(system_time()).write(folder.path(), &["receiver.example"]);
        let server =
            Server::bind((Ipv4Addr::LOCALHOST, 0).into(), Some(files.tls())).await.unwrap();
        let port = server.address().unwrap().port();
        let (got, answers) =
            (Arc::<Mutex<Vec<Got>>>::default(), Arc::<Mutex<VecDeque<u16>>>::default());
        let arrived = Arc::new(Notify::new());
        let (all, next, ring) = (Arc::clone(&got), Arc::clone(&answers), Arc::clone(&arrived));
        let answer = move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let path = uri.path().to_owned();
            let is_slow = path == "/slow";
            all.lock().unwrap().push(Got { path, headers, body });
            ring.notify_waiters();
            let status = next.lock().unwrap().pop_front().unwrap_or(204);
            async move {
                if is_slow {
                    std::future::pending::<()>().await;
                }
                let location = [("location", "https://receiver.example/elsewhere")];
                (StatusCode::from_u16(status).unwrap(), location)
            }
        };
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server.run(Router::new().fallback(answer), async {
            let _ = stopped.await;
        }));
        let authority = reqwest::Certificate::from_pem(&std::fs::read(&files.ca).unwrap()).unwrap();
        Self { port, got, answers, arrived, authority, _folder: folder, _stop: stop }
    }

    fn url(&self, path: &str) -> String {
        format!("https://receiver.example:{}{path}", self.port)
    }

    /// Returns a client that finds the receiver under every name, and may connect to loopback.
    fn client(&self) -> WebhookClient {
        let lookup = |_| -> Lookup { Box::pin(async { Ok(vec![Ipv4Addr::LOCALHOST.into()]) }) };
        WebhookClient::for_test(lookup, |address| address.is_loopback(), &self.authority).unwrap()
    }

    fn answers(&self, statuses: &[u16]) {
        self.answers.lock().unwrap().extend(statuses);
    }

    fn take(&self) -> Vec<Got> {
        std::mem::take(&mut *self.got.lock().unwrap())
    }

    /// Waits until that many messages have arrived at the path since the last take.
    async fn wait_for(&self, path: &str, count: usize) {
        let came = time_limits::wait(async {
            loop {
                let arrived = self.arrived.notified();
                let at = self.got.lock().unwrap().iter().filter(|got| got.path == path).count();
                if at >= count {
                    return;
                }
                arrived.await;
            }
        });
        assert!(came.await.is_some(), "nothing arrived at {path}");
    }
}

async fn add(test: &TestBroker, name: &str, url: &str) -> Webhook {
    let url = stile_core::webhook::WebhookUrl::parse(url).unwrap();
    let added = test.store().add_webhook(&operator(), name.parse().unwrap(), url, test.time());
    match added.await.unwrap() {
        WebhookAdded::Done(webhook) => *webhook,
        other => panic!("{other:?}"),
    }
}

/// Starts a registry whose broker can reach the receiver, and a token of a publisher.
async fn registry() -> Option<(TestBroker, Receiver, String)> {
    let first = TestBroker::start_on(super::BACKEND).await?;
    first.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = first.token(&deploy(), &[Download, Upload]).await;
    let receiver = Receiver::start().await;
    let test = first.sending(Events::new(receiver.client()));
    Some((test, receiver, token))
}

async fn publish(test: &TestBroker, version: &str, token: &str) -> u16 {
    let published = test.publish("acme/vpc/aws", version, module_zip(version), token).await;
    published.status.as_u16()
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

fn sent(delivered: usize, failed: usize) -> Sent {
    Sent { delivered, failed }
}

#[tokio::test]
async fn an_event_that_nobody_listens_for_is_not_kept() {
    let Some((test, receiver, token)) = registry().await else { return };
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    let webhook = add(&test, "ci", &receiver.url("/")).await;
    test.advance(10);
    assert_eq!(send_due(&test.broker, None).await, sent(0, 0));
    let destination = Destination::Webhook(webhook.id);
    let due = test.store().due_deliveries(&destination, i64::MAX, 10).await.unwrap();
    assert_eq!(due, []);
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
    assert_eq!(send_due(&test.broker, None).await, sent(5, 0));
    assert_eq!(send_due(&test.broker, None).await, sent(0, 0));
    let got = receiver.take();
    let types: Vec<Value> = got.iter().map(|got| got.json()["type"].clone()).collect();
    let expected = ["published", "deprecated", "undeprecated", "unpublished", "restored"];
    assert_eq!(types, expected.map(|word| json!(format!("module.{word}"))));
    let ids: BTreeSet<&str> = got.iter().map(|got| got.header("webhook-id")).collect();
    assert_eq!(ids.len(), 5);
    let secret = webhook.secret.expose();
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    for got in &got {
        let event = got.json();
        let (id, at) = (got.header("webhook-id"), got.header("webhook-timestamp"));
        assert_eq!((event["id"].as_str(), at), (Some(id), test.time().to_string().as_str()));
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{id}.{at}.").as_bytes());
        mac.update(&got.body);
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(got.header("webhook-signature"), expected);
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
async fn a_receiver_that_fails_twice_gets_the_same_event_later() {
    let Some((test, receiver, token)) = registry().await else { return };
    add(&test, "ci", &receiver.url("/")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    receiver.answers(&[503, 302]);
    assert_eq!(send_due(&test.broker, None).await, sent(0, 1));
    assert_eq!(send_due(&test.broker, None).await, sent(0, 0), "the next attempt is not due yet");
    test.advance(1);
    assert_eq!(send_due(&test.broker, None).await, sent(0, 1), "no redirect is followed");
    test.advance(1);
    assert_eq!(send_due(&test.broker, None).await, sent(0, 0));
    test.advance(1);
    assert_eq!(send_due(&test.broker, None).await, sent(1, 0));
    let got = receiver.take();
    let (ids, paths): (BTreeSet<_>, BTreeSet<_>) =
        got.iter().map(|got| (got.header("webhook-id").to_owned(), got.path.as_str())).unzip();
    assert_eq!((got.len(), ids.len(), paths), (3, 1, BTreeSet::from(["/"])));
    test.advance(3600);
    assert_eq!(send_due(&test.broker, None).await, sent(0, 0));
}

#[tokio::test]
async fn an_event_outlives_the_broker_that_kept_it() {
    let Some((test, receiver, token)) = registry().await else { return };
    add(&test, "ci", &receiver.url("/")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    // Nothing of this broker sends: it is as if it was killed after the commit.
    let after = test.sending(Events::new(receiver.client()));
    drop(test);
    assert_eq!(send_due(&after.broker, None).await, sent(1, 0));
    assert_eq!(receiver.take()[0].json()["version"], "1.0.0");
}

#[tokio::test]
async fn an_event_is_dropped_after_three_days_of_attempts() {
    let Some((test, receiver, token)) = registry().await else { return };
    let webhook = add(&test, "ci", &receiver.url("/")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    receiver.answers(&[500, 500, 500]);
    for seconds in [0, 3 * 24 * 3600 - 1, 3600] {
        test.advance(seconds);
        assert_eq!(send_due(&test.broker, None).await, sent(0, 1), "{seconds}");
    }
    let destination = Destination::Webhook(webhook.id);
    let due = test.store().due_deliveries(&destination, i64::MAX, 10).await.unwrap();
    assert_eq!(due, []);
}

#[tokio::test]
async fn a_receiver_that_is_gone_gets_no_more_events_until_it_is_added_again() {
    let Some((test, receiver, token)) = registry().await else { return };
    let webhook = add(&test, "ci", &receiver.url("/")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    receiver.answers(&[410]);
    assert_eq!(send_due(&test.broker, None).await, sent(0, 1));
    test.advance(3600);
    let token = test.token(&deploy(), &[Download, Upload]).await;
    assert_eq!(publish(&test, "1.1.0", &token).await, 201);
    assert_eq!(send_due(&test.broker, None).await, sent(0, 0));
    let listed = test.store().webhooks(&operator()).await.unwrap();
    assert_eq!(listed[0].disabled_at, Some(test.time() - 3600));
    let name = &webhook.name;
    assert!(test.store().remove_webhook(&operator(), name).await.unwrap());
    assert!(!test.store().remove_webhook(&operator(), name).await.unwrap());
    let again = add(&test, "ci", &receiver.url("/")).await;
    assert!(again.disabled_at.is_none() && again.secret != webhook.secret);
    test.advance(10);
    assert_eq!(publish(&test, "1.2.0", &token).await, 201);
    assert_eq!(send_due(&test.broker, None).await, sent(1, 0));
    let versions: Vec<Value> =
        receiver.take().iter().map(|got| got.json()["version"].clone()).collect();
    assert_eq!(versions, ["1.0.0", "1.2.0"]);
}

#[tokio::test]
async fn a_slow_receiver_delays_neither_another_one_nor_a_publish() {
    let Some((test, receiver, token)) = registry().await else { return };
    add(&test, "a-slow", &receiver.url("/slow")).await;
    add(&test, "b-good", &receiver.url("/good")).await;
    assert_eq!(publish(&test, "1.0.0", &token).await, 201);
    let broker = Arc::clone(&test.broker);
    let first = tokio::spawn(async move { send_due(&broker, None).await });
    receiver.wait_for("/slow", 1).await;
    receiver.wait_for("/good", 1).await;
    assert_eq!(publish(&test, "1.1.0", &token).await, 201);
    let broker = Arc::clone(&test.broker);
    let second = tokio::spawn(async move { send_due(&broker, None).await });
    receiver.wait_for("/good", 2).await;
    let slow = receiver.take().iter().filter(|got| got.path == "/slow").count();
    assert_eq!(slow, 1, "one attempt at a time");
    first.abort();
    second.abort();
}

#[tokio::test]
async fn a_registry_has_few_webhooks_and_each_name_once() {
    let Some((test, receiver, _)) = registry().await else { return };
    for n in 0..stile_core::webhook::MAX_WEBHOOKS {
        add(&test, &format!("hook-{n}"), &receiver.url("/")).await;
    }
    for (name, expected) in [("hook-0", WebhookAdded::Exists), ("one-more", WebhookAdded::TooMany)]
    {
        let url = stile_core::webhook::WebhookUrl::parse("https://example.com/").unwrap();
        let added = test.store().add_webhook(&operator(), name.parse().unwrap(), url, 7).await;
        assert_eq!(added.unwrap(), expected);
    }
}

fn delivery(id: &str) -> Delivery {
    Delivery {
        destination: Destination::Webhook(id.to_owned()),
        event: "evt_1".to_owned(),
        kind: "module.published".to_owned(),
        body: "{}".to_owned(),
        created_at: 7,
        attempts: 0,
        due_at: 7,
    }
}

#[tokio::test]
async fn no_connection_is_made_to_an_address_that_is_not_public_whatever_the_name() {
    let Some((test, receiver, _)) = registry().await else { return };
    let webhook = add(&test, "ci", &receiver.url("/")).await;
    for address in [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
    ] {
        let address: IpAddr = address.parse().unwrap();
        let lookup = move |_| -> Lookup { Box::pin(async move { Ok(vec![address]) }) };
        let client = WebhookClient::for_test(lookup, is_global, &receiver.authority).unwrap();
        let error = client.send(&webhook, &delivery(&webhook.id), 7).await.unwrap_err();
        let error = stile_broker::error_chain::error_chain(&error);
        assert!(error.contains("not public"), "{address}: {error}");
    }
    assert_eq!(receiver.take().len(), 0);
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_a_moment_later_is_looked_up_and_checked_again() {
    let Some((test, receiver, _)) = registry().await else { return };
    let webhook = add(&test, "ci", &receiver.url("/")).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let lookup = move |_| -> Lookup {
        let last = if counted.fetch_add(1, Ordering::SeqCst) == 0 { 1 } else { 2 };
        Box::pin(async move { Ok(vec![Ipv4Addr::new(127, 0, 0, last).into()]) })
    };
    let only_first = |address: IpAddr| address == IpAddr::from(Ipv4Addr::LOCALHOST);
    let client = WebhookClient::for_test(lookup, only_first, &receiver.authority).unwrap();
    client.send(&webhook, &delivery(&webhook.id), 7).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the address that was checked is connected to");
    client.send(&webhook, &delivery(&webhook.id), 7).await.unwrap_err();
    assert_eq!(receiver.take().len(), 1);
}
