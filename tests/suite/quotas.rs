//! Limits of a namespace: a version past one is refused and not stored, also if several come at
//! once.

use std::sync::Arc;

use serde_json::json;
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::LimitChange::{self, At, Keep, Unlimited};
use stile_store::{LimitsSet, NamespaceLimits, NamespaceUsage};
use stile_tests::broker::journal::Journal;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{Backend, Reply, TestBroker, deploy, module_zip, role};

async fn registry() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    for namespace in ["acme", "acme-x"] {
        test.grant(&role("deploy"), namespace, &[Download, Upload]).await;
    }
    let token = test.token(&deploy(), &[Download, Upload]).await;
    Some((test, token))
}

/// Sets the limits of `acme`, and returns what it has.
async fn set(
    test: &TestBroker,
    max_bytes: LimitChange,
    max_versions: LimitChange,
) -> Option<NamespaceUsage> {
    let store = test.store();
    let set = store.as_operator().set_limits("acme", max_bytes, max_versions, test.time()).await;
    match set.unwrap() {
        LimitsSet::Done { usage, .. } => usage,
        LimitsSet::Absent => panic!("the namespace exists"),
    }
}

fn used(bytes: usize, versions: u64) -> Option<NamespaceUsage> {
    Some(NamespaceUsage { bytes: bytes as u64, versions })
}

/// Expects a refusal with these parts in its sentence.
fn refused(reply: &Reply, parts: &[&str], what: &str) {
    assert_eq!(reply.status, 413, "{what}: {}", reply.text());
    assert!(!reply.headers.contains_key("retry-after"), "{what}");
    let said = reply.json()["errors"][0].as_str().unwrap().to_owned();
    for part in ["namespace `acme`", "hint: ask an operator for `stile-admin namespace set acme"] {
        assert!(said.contains(part), "{what}: {said}");
    }
    assert!(parts.iter().all(|part| said.contains(part)), "{what}: {said}");
}

#[tokio::test]
async fn a_version_past_a_limit_is_refused_with_a_sentence_and_nothing_is_stored() {
    let Some((test, token)) = registry().await else { return };
    let archive = module_zip("x");
    let bytes = archive.len() as u64;
    let does_not_fit = format!("the archive of {bytes} bytes does not fit");
    let journal = Journal::start();
    for (max_bytes, max_versions, parts) in [
        (At(bytes - 1), Unlimited, [&*does_not_fit, "has 0 bytes"]),
        (At(0), Unlimited, [&*does_not_fit, "limit of 0"]),
        (Unlimited, At(0), ["has 0 versions", "its limit is 0"]),
        (At(bytes - 1), At(1), [&*does_not_fit, "--max-bytes SIZE"]),
        (At(bytes), At(0), ["its limit is 0", "--max-versions NUMBER"]),
    ] {
        let what = format!("{max_bytes:?} {max_versions:?}");
        set(&test, max_bytes, max_versions).await;
        journal.taken();
        let reply = test.publish("acme/vpc/aws", "1.0.0", archive.clone(), &token).await;
        refused(&reply, &parts, &what);
        let [event] = &journal.taken().audit()[..] else { panic!("one event: {what}") };
        assert_eq!(
            (&event["event"], &event["decision"], &event["namespace"], &event["package"]),
            (&"publish".into(), &"full".into(), &"acme".into(), &"acme/vpc/aws 1.0.0".into()),
            "{what}"
        );
        assert_eq!(test.archives().await, 0, "{what}");
        let listed = test.get("/v1/modules/acme/vpc/aws/versions", &token).await;
        assert_eq!(listed.status, 404, "{what}");
    }
    let elsewhere = test.publish("acme-x/vpc/aws", "1.0.0", archive.clone(), &token).await;
    assert_eq!(elsewhere.status, 201, "another namespace has no limit");
    set(&test, At(bytes), At(1)).await;
    assert_eq!(test.publish("acme/vpc/aws", "1.0.0", archive, &token).await.status, 201);
    assert_eq!(set(&test, Keep, Keep).await, used(bytes as usize, 1));
}

#[tokio::test]
async fn of_many_who_publish_at_once_only_those_within_a_limit_succeed() {
    let Some((test, token)) = registry().await else { return };
    let test = Arc::new(test);
    let archive = module_zip("x");
    let bytes = archive.len() as u64;
    let mut before = 0;
    for (round, max_bytes, max_versions, expected) in [
        ("versions", Unlimited, At(3), 3),
        ("bytes", At(5 * bytes), Unlimited, 2),
        ("a byte less", At(7 * bytes - 1), At(100), 1),
        ("both", At(9 * bytes), At(8), 2),
    ] {
        set(&test, max_bytes, max_versions).await;
        let sent: Vec<_> = (0..10)
            .map(|n| {
                let (test, token, archive) = (Arc::clone(&test), token.clone(), archive.clone());
                let address = format!("acme/{}-{n}/aws", round.replace(' ', "-"));
                tokio::spawn(async move { test.publish(&address, "1.0.0", archive, &token).await })
            })
            .collect();
        let mut created = 0;
        for task in sent {
            let reply = task.await.unwrap();
            match reply.status.as_u16() {
                201 => created += 1,
                _ => refused(&reply, &[], round),
            }
        }
        assert_eq!(created, expected, "{round}");
        before += expected;
        let total = used(before as usize * archive.len(), before);
        assert_eq!(set(&test, Keep, Keep).await, total, "{round}: the count is exact");
    }
}

#[tokio::test]
async fn a_limit_below_what_exists_refuses_new_versions_only_and_can_be_removed() {
    let Some((test, token)) = registry().await else { return };
    let (one, two) = (module_zip("one"), module_zip("the other one"));
    let publish = async |address: &str, version: &str, archive: &[u8]| {
        test.publish(address, version, archive.to_vec(), &token).await
    };
    assert_eq!(publish("acme/vpc/aws", "1.0.0", &one).await.status, 201);
    assert_eq!(publish("acme/dns/aws", "1.0.0", &two).await.status, 201);
    assert_eq!(publish("acme-x/vpc/aws", "1.0.0", &two).await.status, 201);
    let has = one.len() + two.len();
    for (max_bytes, max_versions) in [
        (At(has as u64 - 1), Unlimited),
        (Unlimited, At(1)),
        (At(1), At(0)),
        (At(has as u64), At(2)),
    ] {
        let what = format!("{max_bytes:?} {max_versions:?}");
        let counted = set(&test, max_bytes, max_versions).await;
        assert_eq!(counted, used(has, 2), "{what}: it counts what existed before");
        for version in ["1.0.1", "2.0.0"] {
            refused(&publish("acme/vpc/aws", version, &one).await, &[], &what);
        }
        refused(&publish("acme/new/aws", "1.0.0", &one).await, &[], &what);
        let same = publish("acme/vpc/aws", "1.0.0", &one).await;
        assert_eq!(
            (same.status.as_u16(), same.json()["status"].as_str()),
            (200, Some("unchanged"))
        );
        assert_eq!(publish("acme/vpc/aws", "1.0.0", &two).await.status, 409, "{what}");
        let read = test.get("/v1/modules/acme/vpc/aws/1.0.0/download", &token).await;
        assert_eq!(test.fetch(read.header("x-terraform-get")).await, (200, one.clone()), "{what}");
        assert_eq!(set(&test, Keep, Keep).await, used(has, 2), "{what}: nothing was added");
    }
    let of_one = set(&test, Unlimited, At(3)).await;
    assert_eq!(of_one, used(has, 2));
    assert_eq!(publish("acme/vpc/aws", "1.0.1", &one).await.status, 201, "a higher limit");
    refused(&publish("acme/vpc/aws", "1.0.2", &one).await, &["its limit is 3"], "it is full again");
    set(&test, Unlimited, Unlimited).await;
    for version in ["1.0.2", "1.0.3"] {
        assert_eq!(publish("acme/vpc/aws", version, &one).await.status, 201, "without limits");
    }
    let counted = set(&test, Unlimited, At(5)).await;
    assert_eq!(counted, used(has + 3 * one.len(), 5), "it counts what came without a limit");
    refused(
        &publish("acme/vpc/aws", "1.0.4", &one).await,
        &["its limit is 5"],
        "the limit is back",
    );
}

#[tokio::test]
async fn limits_are_shown_and_one_that_is_not_named_does_not_change() {
    let Some((test, token)) = registry().await else { return };
    let store = test.store().clone();
    let shown = async |namespace: &str| {
        let summary = store.as_operator().namespace(&namespace.parse().unwrap()).await.unwrap();
        let listed = store.as_operator().namespaces().await.unwrap();
        let listed = listed.into_iter().find(|listed| listed.namespace.as_str() == namespace);
        assert_eq!(listed, summary, "{namespace}");
        summary.map(|summary| (summary.record.unwrap().limits, summary.usage))
    };
    let absent = store.as_operator().set_limits("nobody", At(1), Keep, test.time()).await.unwrap();
    assert_eq!((absent, shown("nobody").await), (LimitsSet::Absent, None), "nothing was created");
    let limits = |max_bytes, max_versions| NamespaceLimits { max_bytes, max_versions };
    assert_eq!(shown("acme").await, Some((limits(None, None), None)));
    for (max_bytes, max_versions, expected) in [
        (Keep, Keep, limits(None, None)),
        (Keep, At(7), limits(None, Some(7))),
        (At(9_000), Keep, limits(Some(9_000), Some(7))),
        (Keep, Unlimited, limits(Some(9_000), None)),
        (At(9_000), At(7), limits(Some(9_000), Some(7))),
        (Unlimited, Keep, limits(None, Some(7))),
    ] {
        set(&test, max_bytes, max_versions).await;
        assert_eq!(shown("acme").await.unwrap().0, expected, "{max_bytes:?} {max_versions:?}");
    }
    let archive = module_zip("x");
    assert_eq!(test.publish("acme/vpc/aws", "1.0.0", archive.clone(), &token).await.status, 201);
    assert_eq!(shown("acme").await, Some((limits(None, Some(7)), used(archive.len(), 1))));
    // An earlier release created namespaces without a record.
    test.grant(&role("other"), "*", &[Download]).await;
    assert_eq!(shown("acme-x").await, Some((limits(None, None), None)));
}

#[tokio::test]
async fn in_a_namespace_with_a_restriction_that_this_program_does_not_know_no_one_publishes() {
    let Some((test, token)) = registry().await else { return };
    set(&test, Keep, At(5)).await;
    let restrict = async |crit: Option<&str>| match test.backend() {
        Backend::Embedded => {
            let database = rusqlite::Connection::open(test.data().join("stile.sqlite3")).unwrap();
            let sql = "UPDATE namespaces SET crit = ?1 WHERE namespace = 'acme'";
            database.execute(sql, [crit]).unwrap();
        }
        Backend::Aws => {
            let key = json!({"pk": {"S": "namespaces"}, "sk": {"S": "acme"}});
            let row = test.aws().dynamodb("GetItem", json!({"Key": key})).await;
            let mut row = row["Item"].clone();
            row["crit"] = json!({ "S": crit.unwrap_or("[\"max_versions\"]") });
            test.aws().dynamodb("PutItem", json!({ "Item": row })).await;
        }
    };
    for crit in [r#"["hours"]"#, r#"["max_versions","hours"]"#, "max_versions", "[]"] {
        restrict(Some(crit)).await;
        let reply = test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &token).await;
        assert_eq!(reply.status, 500, "{crit}: {}", reply.text());
        let listed = test.get("/v1/modules/acme/vpc/aws/versions", &token).await;
        assert_eq!(listed.status, 404, "{crit}: nothing is published");
        let store = test.store().as_operator();
        store.set_limits("acme", Unlimited, Unlimited, test.time()).await.unwrap_err();
        let elsewhere = test.publish("acme-x/vpc/aws", "1.0.0", module_zip("x"), &token).await;
        assert!(elsewhere.status.is_success(), "{crit}: {}", elsewhere.text());
    }
    restrict(None).await;
    assert_eq!(
        test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &token).await.status,
        201,
        "once the restriction is gone"
    );
}
