//! The events of versions on a bus of EventBridge, and what a killed broker leaves to the next one.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use stile_broker::app::event_sender::{Sent, send_waiting};
use stile_broker::app::events::Events;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::aws::event_bus::EmulatedBus;
use stile_tests::aws::proxy::Fault;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{Backend, Place, TestBroker, deploy, module_zip, role};
use stile_tests::process::programs::{Broker, Setup, free_port};
use stile_tests::sts::local::LocalSts;
use stile_tests::sts::proof::{Proof, document};
use stile_tests::time_limits::BACKSTOP;
use stile_tests::webhook_receiver::WebhookReceiver;

/// Starts an emulated AWS, and a registry whose store is there or in a folder.
async fn start() -> Option<(TestBroker, Arc<EmulatedAws>)> {
    let aws = Arc::new(EmulatedAws::start().await?);
    let place = match super::BACKEND {
        Backend::Aws => Place::Aws(Arc::clone(&aws)),
        Backend::Embedded => Place::new(Backend::Embedded).await?,
    };
    Some((TestBroker::start_in_place(place), aws))
}

/// Starts the same with a publisher, and mints a token.
async fn registry() -> Option<(TestBroker, Arc<EmulatedAws>, String)> {
    let (test, aws) = start().await?;
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    Some((test, aws, token))
}

/// Starts a broker of the same registry that sends to the bus.
async fn with_bus(test: &TestBroker, bus: &EmulatedBus<'_>, name: &str) -> TestBroker {
    let receiver = WebhookReceiver::start().await;
    test.sending(Events::new(receiver.client(), Some(bus.client_of(name))))
}

async fn publish(test: &TestBroker, version: &str, token: &str) {
    let published = test.publish("acme/vpc/aws", version, module_zip(version), token).await;
    assert_eq!(published.status, 201, "{}", published.text());
}

async fn send(test: &TestBroker) -> Sent {
    send_waiting(&test.broker, BACKSTOP).await
}

fn sent(delivered: usize, failed: usize) -> Sent {
    Sent { delivered, failed, ..Sent::default() }
}

#[tokio::test]
async fn an_event_arrives_at_the_bus_by_its_name_and_by_its_arn() {
    let Some((first, aws, token)) = registry().await else { return };
    let bus = EmulatedBus::create(&aws).await;
    for (version, name) in [("1.0.0", bus.name().to_owned()), ("1.1.0", bus.arn())] {
        let test = with_bus(&first, &bus, &name).await;
        publish(&test, version, &token).await;
        assert_eq!(bus.take().await, [Value::Null; 0], "no publish waits for the bus");
        assert_eq!(send(&test).await, sent(1, 0));
        let events = bus.take().await;
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(
            (&events[0]["source"], &events[0]["detail-type"]),
            (&json!("stile"), &json!("module.published"))
        );
        let detail = &events[0]["detail"];
        assert_eq!(
            (&detail["module"], &detail["version"], &detail["principal"]),
            (&json!("acme/vpc/aws"), &json!(version), &json!(role("deploy")))
        );
        assert!(detail["id"].as_str().unwrap().starts_with("evt_"), "{detail}");
    }
}

#[tokio::test]
async fn an_event_that_the_bus_does_not_take_is_kept_and_sent_later() {
    let Some((first, aws, token)) = registry().await else { return };
    let bus = EmulatedBus::create(&aws).await;
    let test = with_bus(&first, &bus, bus.name()).await;
    publish(&test, "1.0.0", &token).await;
    let faults = [Fault::RefuseEntries, Fault::Portal, Fault::Close];
    for (at, fault) in faults.into_iter().enumerate() {
        aws.proxy.inject("events PutEvents", .., fault.clone());
        assert_eq!(send(&test).await, sent(0, 1), "{fault:?}");
        aws.proxy.repair();
        assert_eq!(send(&test).await, sent(0, 0), "{fault:?}");
        test.advance(5 << at);
    }
    assert_eq!(send(&test).await, sent(1, 0));
    assert_eq!(bus.take().await.len(), 1);
    let gone = with_bus(&first, &bus, "nothing-here").await;
    publish(&gone, "1.1.0", &token).await;
    assert_eq!(send(&gone).await, sent(0, 1), "there is no such bus");
    assert_eq!(send(&test).await, sent(1, 0));
}

#[tokio::test]
async fn a_bus_and_a_webhook_get_the_same_event_and_neither_waits_for_the_other() {
    let Some((first, aws, token)) = registry().await else { return };
    let bus = EmulatedBus::create(&aws).await;
    let receiver = WebhookReceiver::start().await;
    let test = first.sending(Events::new(receiver.client(), Some(bus.client())));
    test.add_webhook("ci", &receiver.url("/")).await;
    publish(&test, "1.0.0", &token).await;
    receiver.answers(&[500]);
    assert_eq!(send(&test).await, sent(1, 1));
    test.advance(5);
    assert_eq!(send(&test).await, sent(1, 0));
    let (on_bus, got) = (bus.take().await, receiver.take());
    let ids: BTreeSet<_> = got.iter().map(|got| got.event()["id"].clone().to_string()).collect();
    assert_eq!((on_bus.len(), got.len()), (1, 2));
    assert_eq!(ids, [on_bus[0]["detail"]["id"].to_string()].into());
}

/// The program of the broker on the store of a test, whose clock is the system's.
struct Program {
    broker: Broker,
    token: String,
}

impl Program {
    /// Starts it with that bus, and mints a token.
    async fn start(test: &TestBroker, sts: &LocalSts, setup: Setup, log: &std::path::Path) -> Self {
        let broker = setup.sts(&sts.endpoint()).start(log).await;
        let identity = deploy();
        sts.add_identity(identity.clone());
        let document = document(3600, Namespaces::All, &[Download, Upload]);
        let proof = Proof::new(&identity)
            .audience(test.host())
            .now(system_time())
            .document(&document)
            .build();
        let request = broker.client().post(broker.url("/v1/token"));
        let request = request.header("content-type", "application/json").body(proof.to_string());
        let answer: Value = request.send().await.unwrap().text().await.unwrap().parse().unwrap();
        Self { token: answer["token"].as_str().unwrap().to_owned(), broker }
    }

    async fn publish(&self, version: &str) {
        let url = self.broker.url(&format!("/v1/modules/acme/vpc/aws/{version}"));
        let request = self.broker.client().post(url).bearer_auth(&self.token);
        let request = request.header("content-type", "application/zip").body(module_zip(version));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }
}

#[tokio::test]
async fn the_most_detailed_log_has_no_secret_of_a_webhook() {
    let Some((first, aws)) = start().await else { return };
    first.follow_system_time(0);
    first.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let webhook = first.add_webhook("ci", "https://receiver.example/").await;
    let sts = LocalSts::start([], Arc::new(system_time));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let setup = match super::BACKEND {
        Backend::Aws => Setup::on_aws(free_port(), &aws),
        Backend::Embedded => Setup::new(free_port(), first.data()),
    };
    let setup = setup.env("STILE_HOST", first.host()).env("STILE_LOG", "trace");
    let mut program = Program::start(&first, &sts, setup, &log).await;
    program.publish("1.0.0").await;
    program.broker.terminate().await;
    let log = program.broker.log();
    assert!(log.contains("TRACE"), "{log}");
    assert_eq!(log.contains("aws_smithy_runtime"), super::BACKEND == Backend::Aws, "{log}");
    let secret = webhook.secret.expose();
    assert!(!log.contains(secret.strip_prefix("whsec_").unwrap()), "{log}");
}

#[tokio::test]
async fn a_check_says_whether_the_bus_is_there() {
    let Some((_, aws)) = start().await else { return };
    let bus = EmulatedBus::create(&aws).await;
    for name in [bus.name().to_owned(), bus.arn()] {
        assert!(bus.client_of(&name).look().await.is_ok(), "{name}");
    }
    let missing = bus.client_of("nothing-here").look().await.unwrap_err();
    assert_eq!(missing.to_string(), "there is no event bus `nothing-here`");
    aws.proxy.inject("events DescribeEventBus", .., Fault::Close);
    let down = bus.client().look().await.unwrap_err();
    assert!(down.to_string().starts_with("cannot look whether event bus"), "{down}");
}

#[tokio::test]
async fn nothing_is_sent_to_a_bus_that_is_not_there() {
    let Some((first, aws, token)) = registry().await else { return };
    let bus = EmulatedBus::create(&aws).await;
    let gone = with_bus(&first, &bus, "nothing-here").await;
    publish(&gone, "1.0.0", &token).await;
    aws.proxy.take_counts();
    assert_eq!(send(&gone).await, sent(0, 1));
    let counts = aws.proxy.take_counts();
    assert_eq!(counts.get("events PutEvents"), None, "EventBridge would lose it: {counts:?}");
    let test = with_bus(&first, &bus, bus.name()).await;
    test.advance(5);
    assert_eq!(send(&test).await, sent(1, 0));
    publish(&test, "1.1.0", &token).await;
    assert_eq!(send(&test).await, sent(1, 0));
    let counts = aws.proxy.take_counts();
    assert_eq!(counts.get("events DescribeEventBus"), Some(&1), "{counts:?}");
    assert_eq!(bus.take().await.len(), 2);
}

#[tokio::test]
async fn an_event_of_a_broker_that_is_killed_before_it_was_sent_arrives_from_the_next_one() {
    let Some((first, aws)) = start().await else { return };
    first.follow_system_time(0);
    first.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let bus = EmulatedBus::create(&aws).await;
    let sts = LocalSts::start([], Arc::new(system_time));
    let folder = tempfile::tempdir().unwrap();
    let (port, log) = (free_port(), folder.path().join("log"));
    let setup = || {
        let setup = match super::BACKEND {
            Backend::Aws => Setup::on_aws(port, &aws),
            Backend::Embedded => aws
                .environment()
                .iter()
                .filter(|(name, _)| name.starts_with("AWS_"))
                .fold(Setup::new(port, first.data()), |setup, (name, value)| {
                    setup.env(name, value)
                }),
        };
        setup.env("STILE_HOST", first.host()).env("STILE_EVENT_BUS", bus.name())
    };
    // The bus gets the event, and never answers.
    aws.proxy.inject("events PutEvents", .., Fault::Hang);
    let mut program = Program::start(&first, &sts, setup(), &log).await;
    aws.proxy.take_counts();
    program.publish("1.0.0").await;
    aws.proxy.wait_for_calls("events PutEvents", 1).await;
    program.broker.kill_9();
    drop(program);
    assert_eq!(bus.take().await, [Value::Null; 0]);
    aws.proxy.repair();
    // Another broker, a minute later, in which the claim of the killed one ends.
    let next = with_bus(&first, &bus, bus.name()).await;
    next.follow_system_time(60);
    assert_eq!(send(&next).await, sent(1, 0));
    assert_eq!(bus.take().await[0]["detail"]["version"], "1.0.0");
    let program = Program::start(&first, &sts, setup(), &log).await;
    program.publish("1.1.0").await;
    let events = bus.wait().await;
    assert_eq!(events[0]["detail"]["version"], "1.1.0", "the program sends by itself");
}
