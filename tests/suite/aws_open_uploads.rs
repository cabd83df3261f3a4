//! Open uploads on AWS: how many a principal and a namespace may have, and what a limit of the
//! namespace does to them.

use std::collections::BTreeMap;

use serde_json::json;
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::LimitChange::{At, Keep, Unlimited};
use stile_tests::broker::journal::Journal;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{ACCOUNT, Reply, large_zip, role};
use stile_tests::sts::identity::Identity;

use crate::aws_uploads::{LARGE, Registry, announced};

/// The most open uploads of one principal to one namespace.
const OF_ONE: usize = 48;

/// The most open uploads to one namespace.
const IN_ALL: usize = 64;

async fn begin(registry: &Registry, version: &str, archive: &[u8], token: &str) -> Reply {
    registry.post(&format!("{version}/uploads"), &announced(archive).to_string(), token).await
}

/// Begins that many uploads, which must succeed.
async fn begin_all(registry: &Registry, count: usize, archive: &[u8], token: &str) {
    for n in 0..count {
        let reply = begin(registry, &format!("9.0.{n}"), archive, token).await;
        assert_eq!(reply.status, 201, "{n}: {}", reply.text());
    }
}

fn is_busy(reply: &Reply, what: &str) {
    assert_eq!(reply.status, 429, "{what}: {}", reply.text());
    assert!(reply.headers.contains_key("retry-after"), "{what}");
    assert!(reply.text().contains("too many uploads are open; hint: "), "{}", reply.text());
}

#[tokio::test]
async fn a_principal_and_a_namespace_have_so_many_open_uploads_and_others_can_begin() {
    let Some(registry) = Registry::start().await else { return };
    let (test, archive) = (&registry.test, large_zip(LARGE));
    test.grant(&role("other"), "acme", &[Download, Upload]).await;
    test.grant(&role("third"), "acme", &[Download, Upload]).await;
    let token = async |name: &str| {
        test.token(&Identity::role(ACCOUNT, name, "i-0abc"), &[Download, Upload]).await
    };
    let (other, third) = (token("other").await, token("third").await);
    begin_all(&registry, OF_ONE - 1, &archive, &registry.token).await;
    let last = registry.begin("1.0.0", &archive).await;
    let journal = Journal::start();
    is_busy(&begin(&registry, "1.0.1", &archive, &registry.token).await, "of one principal");
    let [event] = &journal.taken().audit()[..] else { panic!("one event") };
    assert_eq!(
        (&event["event"], &event["decision"], &event["code"]),
        (&"upload".into(), &"failed".into(), &"throttled".into())
    );
    begin_all(&registry, IN_ALL - OF_ONE, &archive, &other).await;
    for (what, token) in [("to the namespace", &other), ("of nobody yet", &third)] {
        is_busy(&begin(&registry, "1.0.1", &archive, token).await, what);
    }

    // An upload that ends makes room for one.
    last.put(&archive).await;
    assert_eq!(registry.complete("1.0.0", &last).await.status, 201);
    assert_eq!(begin(&registry, "1.0.1", &archive, &third).await.status, 201);
    is_busy(&begin(&registry, "1.0.2", &archive, &third).await, "full again");

    // An hour after they began, no client can complete them, so they do not count.
    test.advance(3599);
    let tokens = [token("deploy").await, token("third").await];
    is_busy(&begin(&registry, "1.0.2", &archive, &tokens[1]).await, "a second before");
    test.advance(1);
    for token in &tokens {
        assert_eq!(begin(&registry, "1.0.2", &archive, token).await.status, 201);
    }
    let key = json!({"pk": {"S": "uploads acme"}, "sk": {"S": "open"}});
    let row = test.aws().dynamodb("GetItem", json!({"Key": key})).await["Item"].clone();
    let row: BTreeMap<String, serde_json::Value> = serde_json::from_value(row).unwrap();
    let open = row.keys().filter(|name| name.starts_with("upload_")).count();
    assert_eq!(open, 2, "the item does not grow: {row:?}");
}

#[tokio::test]
async fn an_upload_past_a_limit_does_not_begin_and_one_that_began_is_not_published() {
    let Some(registry) = Registry::start().await else { return };
    let (test, archive) = (&registry.test, large_zip(LARGE));
    let set = async |max_bytes, max_versions| {
        let store = test.store().as_operator();
        store.set_limits("acme", max_bytes, max_versions, test.time()).await.unwrap();
    };
    let begun = registry.begin("1.0.0", &archive).await;
    begun.put(&archive).await;
    for (max_bytes, max_versions) in
        [(At(LARGE as u64 - 1), Unlimited), (Unlimited, At(0)), (At(LARGE as u64), At(0))]
    {
        let what = format!("{max_bytes:?} {max_versions:?}");
        set(max_bytes, max_versions).await;
        let journal = Journal::start();
        let reply = begin(&registry, "1.0.1", &archive, &registry.token).await;
        let completed = registry.complete("1.0.0", &begun).await;
        for reply in [&reply, &completed] {
            assert_eq!(reply.status, 413, "{what}: {}", reply.text());
            assert!(reply.text().contains("stile-admin namespace set acme"), "{}", reply.text());
        }
        let events = journal.taken().audit();
        let decisions: Vec<_> =
            events.iter().map(|event| (&event["event"], &event["decision"])).collect();
        let full = &"full".into();
        assert_eq!(decisions, [(&"upload".into(), full), (&"publish".into(), full)], "{what}");
        assert_eq!(test.archives().await, 1, "{what}: only the uploaded object");
    }
    set(At(LARGE as u64), At(1)).await;
    assert_eq!(registry.complete("1.0.0", &begun).await.status, 201, "the upload stayed open");
    assert_eq!(registry.fetched("1.0.0").await, (200, archive.clone()));
    let full = begin(&registry, "1.0.1", &archive, &registry.token).await;
    assert_eq!(full.status, 413, "{}", full.text());
    set(Keep, Unlimited).await;
    let same = begin(&registry, "1.0.0", &archive, &registry.token).await;
    assert_eq!((same.status.as_u16(), same.json()["status"].as_str()), (200, Some("unchanged")));
}

#[tokio::test]
async fn an_upload_that_an_earlier_release_began_can_be_completed() {
    let Some(registry) = Registry::start().await else { return };
    let archive = large_zip(LARGE);
    let begun = registry.begin("1.0.0", &archive).await;
    begun.put(&archive).await;
    let key = json!({"pk": {"S": "uploads acme"}, "sk": {"S": "open"}});
    registry.test.aws().dynamodb("DeleteItem", json!({ "Key": key })).await;
    assert_eq!(registry.complete("1.0.0", &begun).await.status, 201);
    registry.begin("1.0.1", &archive).await;
}
