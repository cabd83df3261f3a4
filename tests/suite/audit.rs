//! The audit log: callers through a gateway, clients that disconnect, and a flood of garbage that
//! must not fill a disk.

use axum::body::Body;
use futures_util::{FutureExt as _, stream};
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::Store;
use stile_tests::broker::journal::Journal;
use stile_tests::broker::{TestBroker, deploy, role};
use stile_tests::lambda::events::golden;
use stile_tests::process::programs::{Setup, free_port};
use stile_tests::time_limits;

use crate::gateway::URL;
use crate::lambda::answer;

#[tokio::test]
async fn a_token_by_way_of_a_gateway_has_one_event_that_says_so() {
    let journal = Journal::start();
    let test = TestBroker::start();
    let function = test.function(Some(URL), None);
    for (granted, decision) in [(false, "refused"), (true, "minted")] {
        if granted {
            test.grant(&role("deploy"), "acme", &[Download]).await;
        }
        journal.taken();
        answer(&function, &golden("iam_function_url")).await.unwrap();
        let [event] = &journal.taken().audit()[..] else { panic!("one event") };
        assert_eq!(
            (&event["event"], &event["decision"], &event["by"], &event["principal"]),
            (&"exchange".into(), &decision.into(), &"gateway".into(), &role("deploy").into())
        );
        assert_eq!(event["code"] == "no_grant", !granted, "{event}");
        assert_eq!(event["token_id"].is_string(), granted, "{event}");
        let subject = event["subject"].as_str().unwrap();
        assert!(subject.starts_with("arn:aws:sts::111122223333:assumed-role/deploy/"), "{event}");
    }
}

#[tokio::test]
async fn a_client_that_disconnects_during_an_upload_has_an_event_by_name() {
    let journal = Journal::start();
    let test = TestBroker::start();
    test.grant(&role("deploy"), "acme", &[Upload]).await;
    let token = test.token(&deploy(), &[Upload]).await;
    journal.taken();
    let (asked, first) = tokio::sync::oneshot::channel();
    let mut asked = Some(asked);
    let body = Body::from_stream(stream::poll_fn(move |_| {
        asked.take().map(|asked| asked.send(()));
        std::task::Poll::<Option<Result<Vec<u8>, std::io::Error>>>::Pending
    }));
    {
        let sent = test.publish("acme/vpc/aws", "1.0.0", body, &token).fuse();
        tokio::pin!(sent);
        tokio::select! {
            reply = &mut sent => panic!("{reply:?}"),
            begun = first => begun.unwrap(),
        }
        assert!(journal.taken().audit().is_empty(), "the broker has not decided yet");
    }
    let [event] = &journal.taken().audit()[..] else { panic!("one event") };
    assert_eq!(
        (&event["event"], &event["decision"], &event["principal"], &event["package"]),
        (&"publish".into(), &"abandoned".into(), &role("deploy").into(), &"acme/vpc/aws".into())
    );
}

#[tokio::test]
async fn a_flood_of_garbage_is_counted_to_the_last_and_is_a_few_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    Store::init_folder(&data, time_limits::embedded()).unwrap();
    let mut broker = Setup::new(free_port(), &data).start(&log).await;
    for _ in 0..300 {
        let sent = broker.client().get(broker.url("/v1/whoami")).bearer_auth("garbage").send();
        assert_eq!(sent.await.unwrap().status(), 401);
    }
    assert!(broker.terminate().await.success());
    let log = broker.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("decision=\"refused\"")).collect();
    let counted: u64 = lines
        .iter()
        .map(|line| {
            assert!(line.contains("event=\"whoami\"") && line.contains("code=\"unauthorized\""));
            assert!(line.contains("network=127.0.0.0/24"), "{line}");
            let count = line.split("count=").nth(1).unwrap();
            count.split(' ').next().unwrap().parse::<u64>().unwrap()
        })
        .sum();
    assert_eq!(counted, 300, "{log}");
    assert!(lines.len() < 30, "{} lines", lines.len());
}
