//! A publisher with many archives: their checks wait for turns, and those of others do not.

use std::sync::Arc;
use std::time::Duration;

use stile_core::principal::Principal;
use stile_protocol::names::Permission::Upload;
use stile_tests::broker::{ACCOUNT, TestBroker, module_zip, role};
use stile_tests::sts::identity::Identity;

async fn publisher(test: &TestBroker, name: &str, namespace: &str) -> String {
    test.grant(&role(name), namespace, &[Upload]).await;
    test.token(&Identity::role(ACCOUNT, name, "i-0abc"), &[Upload]).await
}

#[tokio::test]
async fn twenty_four_archives_that_wait_for_their_check_do_not_delay_another_publisher() {
    let test = Arc::new(TestBroker::start());
    let greedy = publisher(&test, "greedy", "greedy").await;
    let other = publisher(&test, "other", "other").await;
    let principal = Principal::parse_stored(&role("greedy")).unwrap();
    let namespace = "greedy".parse().unwrap();
    let held = test.broker.limits.checks.take(&principal, &namespace).await.unwrap();
    let uploads: Vec<_> = (0..24)
        .map(|n| {
            let (test, token) = (Arc::clone(&test), greedy.clone());
            tokio::spawn(async move {
                let version = format!("1.0.{n}");
                test.publish("greedy/vpc/aws", &version, module_zip("x"), &token).await.status
            })
        })
        .collect();
    while test.broker.limits.upload(&principal, &namespace).is_some() {
        tokio::task::yield_now().await;
    }
    let published = test.publish("other/vpc/aws", "1.0.0", module_zip("x"), &other).await;
    assert_eq!(published.status, 201, "{}", published.text());
    assert!(uploads.iter().all(|upload| !upload.is_finished()), "the others still wait");
    drop(held);
    for upload in uploads {
        assert_eq!(upload.await.unwrap(), 201);
    }
}

#[tokio::test]
async fn an_archive_whose_check_cannot_begin_is_429_with_a_time_to_try_again() {
    let test = TestBroker::start();
    let token = publisher(&test, "deploy", "acme").await;
    let principal = Principal::parse_stored(&role("deploy")).unwrap();
    let namespace = "acme".parse().unwrap();
    let held = test.broker.limits.checks.take(&principal, &namespace).await.unwrap();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let reply = test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &token).await;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (429, "2"));
    assert!(reply.text().contains("publish fewer versions at once"), "{}", reply.text());
    assert!(begun.elapsed() >= Duration::from_secs(30), "{:?}", begun.elapsed());
    tokio::time::resume();
    drop(held);
    let reply = test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &token).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
}
