//! Senders that occupy upload slots and send almost nothing. The server disconnects them, and
//! others get a slot meanwhile.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures_util::stream;
use stile_protocol::names::Permission::Upload;
use stile_tests::broker::{ACCOUNT, TestBroker, module_zip, role};
use stile_tests::sts::identity::Identity;

/// A body that sends one byte every 29 seconds: each pause is shorter than the limit.
fn dripping() -> Body {
    Body::from_stream(stream::unfold((), |()| async {
        tokio::time::advance(Duration::from_secs(29)).await;
        Some((Ok::<_, std::io::Error>(vec![b'P']), ()))
    }))
}

/// A body that never sends anything.
fn silent() -> Body {
    Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>())
}

#[tokio::test]
async fn an_upload_that_drips_is_cut_off_after_half_a_minute_and_not_after_fifteen() {
    let test = TestBroker::start();
    test.grant(&role("slow"), "acme", &[Upload]).await;
    let token = test.token(&Identity::role(ACCOUNT, "slow", "i-0abc"), &[Upload]).await;
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let reply = test.publish("acme/vpc/aws", "1.0.0", dripping(), &token).await;
    assert_eq!(
        (reply.status.as_u16(), reply.text().contains("less than 2 KiB per second")),
        (408, true),
        "{}",
        reply.text()
    );
    assert!(begun.elapsed() <= Duration::from_secs(60), "{:?}", begun.elapsed());
}

/// Begins 32 uploads of these roles to one namespace in turns. Then another publisher must succeed.
async fn others_can_publish_next_to(greedy: &[&str]) {
    let test = Arc::new(TestBroker::start());
    let mut tokens = Vec::new();
    for name in greedy {
        test.grant(&role(name), "greedy", &[Upload]).await;
        tokens.push(test.token(&Identity::role(ACCOUNT, name, "i-0abc"), &[Upload]).await);
    }
    test.grant(&role("other"), "other", &[Upload]).await;
    let other = test.token(&Identity::role(ACCOUNT, "other", "i-0abc"), &[Upload]).await;
    let uploads: Vec<_> = (0..32)
        .map(|n| {
            let (test, token) = (Arc::clone(&test), tokens[n % tokens.len()].clone());
            tokio::spawn(async move {
                test.publish("greedy/vpc/aws", &format!("1.0.{n}"), silent(), &token).await.status
            })
        })
        .collect();
    let mut refused = 0;
    // The broker rejects all at once, except those with a slot, which wait for the rest of their
    // archives.
    while uploads.iter().filter(|upload| upload.is_finished()).count() < 8 {
        tokio::task::yield_now().await;
    }
    let published = test.publish("other/vpc/aws", "1.0.0", module_zip("x"), &other).await;
    assert_eq!(published.status, 201, "{}", published.text());
    for upload in uploads {
        if upload.is_finished() {
            assert_eq!(upload.await.unwrap(), 429);
            refused += 1;
        } else {
            upload.abort();
        }
    }
    assert_eq!(refused, 8, "24 for one namespace, of 32 in all: {greedy:?}");
}

#[tokio::test]
async fn a_publisher_that_takes_all_it_can_leaves_room_for_others() {
    others_can_publish_next_to(&["greedy"]).await;
}

#[tokio::test]
async fn several_roles_of_one_team_that_take_all_they_can_leave_room_for_others() {
    others_can_publish_next_to(&["greedy", "second"]).await;
    others_can_publish_next_to(&["greedy", "second", "third", "fourth"]).await;
}
