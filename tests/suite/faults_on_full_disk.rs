//! The embedded store on a full disk: no partial writes, reads continue, and every acknowledged
//! change is done.

use std::fs;
use std::sync::Arc;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use stile_core::grants::Grant;
use stile_core::principal::Principal;
use stile_core::token::TokenId;
use stile_protocol::names::Permission::{Download, Upload};
use stile_protocol::names::Permissions as Rights;
use stile_store::Change;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{HOST, TestBroker, deploy, embedded, module_zip, role};
use stile_tests::skipped::tool;
use stile_tests::small_disk::SmallDisk;
use stile_tests::time_limits;

use crate::faults_on_disk::{DOWNLOAD, Running, VERSIONS, is_down};

/// Returns data that does not compress.
fn noise(kilobytes: usize) -> Vec<u8> {
    let mut noise = vec![0; kilobytes * 512];
    getrandom::fill(&mut noise).unwrap();
    module_zip(&hex::encode(noise))
}

#[tokio::test]
async fn on_a_full_disk_reads_go_on_and_nothing_is_half_written() {
    // A limit on the size of files has the same effect as a full disk. The process ignores the
    // signal, so the write returns an error.
    let sh = tool("sh").unwrap();
    let running =
        Running::start(&[sh.to_str().unwrap(), "-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).await;
    let pid = Pid::from_raw(running.broker.id().try_into().unwrap()).unwrap();
    let inherited = getrlimit(Resource::Fsize);
    let limit = |bytes: Option<u64>| {
        let current = bytes.or(inherited.current);
        prlimit(Some(pid), Resource::Fsize, Rlimit { current, maximum: inherited.maximum })
            .unwrap();
    };
    // The disk is full at once, or in the middle of an archive.
    for (bytes, version) in [(0, "2.0.0"), (200_000, "3.0.0")] {
        let (proof, archive) = (running.proof(), noise(1000));
        limit(Some(bytes));
        assert_eq!(running.publish(version, archive.clone()).await, 503, "{bytes}");
        assert_eq!(running.incoming(), 0, "{bytes}: the broker deleted the partial archive");
        if bytes == 0 {
            let (status, answer) = running.mint(&proof).await;
            assert_eq!(
                (status, answer["error"].as_str()),
                (503, Some("store_unavailable")),
                "{answer}"
            );
            running.is_ready(503).await;
        }
        assert_eq!(running.get(VERSIONS).await.0, 200, "{bytes}");
        let (status, link) = running.get(DOWNLOAD).await;
        assert_eq!(status, 204, "{bytes}");
        let archive_there = running.broker.client().get(&link).send().await.unwrap();
        assert_eq!(
            (archive_there.status().as_u16(), archive_there.bytes().await.unwrap().to_vec()),
            (200, module_zip("hello"))
        );
        limit(None);
        running.is_ready(200).await;
        assert_eq!(running.mint(&proof).await.0, 200, "{bytes}: the proof is still unused");
        assert_eq!(
            running.get(&format!("/v1/modules/acme/vpc/aws/{version}/download")).await.0,
            404,
            "{bytes}"
        );
        assert_eq!(running.publish(version, archive).await, 201, "{bytes}");
    }
}

/// Returns everything that an operator sees, and the list of files.
async fn seen(test: &TestBroker) -> String {
    let grants = test.store().as_operator().grants(None, None).await.unwrap();
    let revoked = test.store().as_operator().revocations().await.unwrap();
    let keys = test.store().keyring().await.unwrap().revision;
    let pin = test
        .store()
        .principal_state(vec![Principal::parse_stored(&role("deploy")).unwrap()])
        .await
        .unwrap()
        .pin;
    let mut files: Vec<_> =
        fs::read_dir(test.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    format!("{grants:?} {revoked:?} {pin:?} {keys} {files:?} {}", test.archives().await)
}

/// The changes that an operator makes, each once.
const CHANGES: [&str; 8] = [
    "create",
    "update",
    "delete",
    "unpin",
    "revoke a token",
    "revoke a principal",
    "lift",
    "revoke all",
];

/// Makes a change. Returns whether the store reports success.
async fn change(test: &TestBroker, which: &str) -> bool {
    let (store, now) = (test.store(), test.time());
    let who = |name: &str| Principal::parse_stored(&role(name)).unwrap();
    match which {
        "create" => {
            let grant = Grant {
                principal: who("new"),
                namespace: "acme".parse().unwrap(),
                permissions: [Download].into_iter().collect(),
                expires_at: None,
                created_by: "test".to_owned(),
                created_at: now,
            };
            store.as_operator().create_grant(grant, None).await.is_ok()
        }
        "update" => {
            let change = Change {
                set: Rights::NONE,
                clear: [Upload].into_iter().collect(),
                ..Change::default()
            };
            store
                .as_operator()
                .update_grant(who("other"), "acme".parse().unwrap(), change)
                .await
                .is_ok()
        }
        "delete" => {
            store.as_operator().delete_grant(who("third"), "acme".parse().unwrap()).await.is_ok()
        }
        "unpin" => store.as_operator().unpin(who("deploy")).await.is_ok(),
        "revoke a token" => {
            store.as_operator().revoke_token(TokenId::random().unwrap(), now).await.is_ok()
        }
        "revoke a principal" => store.as_operator().revoke_principal(who("new"), now).await.is_ok(),
        "lift" => store.as_operator().lift(who("gone")).await.is_ok(),
        _ => store.as_operator().drop_keys().await.is_ok(),
    }
}

#[tokio::test]
async fn without_room_no_key_is_made_and_what_is_said_to_be_changed_is_and_nothing_else() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let data = Arc::new(tempfile::tempdir_in(disk.path()).unwrap());
    let test = TestBroker::start_with(HOST, 3600, data);
    let store = embedded(test.data(), time_limits::embedded());
    let test = test.over(store.with_disk_reserve(1 << 20));
    for name in ["deploy", "other", "third"] {
        test.grant(&role(name), "acme", &[Download, Upload]).await;
    }
    assert!(
        test.store()
            .as_operator()
            .revoke_principal(Principal::parse_stored(&role("gone")).unwrap(), test.time())
            .await
            .unwrap()
    );
    let token = test.token(&deploy(), &[Download, Upload]).await;
    assert_eq!(
        test.publish("acme/vpc/aws", "1.0.0", module_zip("hello"), &token).await.status,
        201
    );
    let identity = deploy();
    let before = seen(&test).await;
    test.sts.add_identity(identity.clone());
    let proof = test.proof(&identity).build();

    disk.fill();
    test.advance(2);
    for (what, reply) in [
        ("mint", test.exchange(&proof).await),
        ("readiness", test.get_anonymously("/readyz").await),
    ] {
        is_down(&reply, what);
    }
    let refused = test.publish("acme/vpc/aws", "2.0.0", module_zip("x"), &token).await;
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert_eq!(seen(&test).await, before);
    assert_eq!(test.get(VERSIONS, &token).await.status, 200);
    assert_eq!(test.get(DOWNLOAD, &token).await.status, 204);
    let mut reported_done = Vec::new();
    for which in CHANGES {
        disk.fill();
        let held = seen(&test).await;
        let done = change(&test, which).await;
        // A small write can fit into the space that a larger failed one released. Then it succeeds.
        assert_eq!(
            done,
            seen(&test).await != held,
            "{which}: the store did it if and only if it reports so"
        );
        reported_done.extend(done.then_some(which));
    }
    assert!(
        reported_done.len() < CHANGES.len() && !reported_done.contains(&"revoke all"),
        "there was space for {reported_done:?}"
    );
    // The newest key is a day old, and there is no space for the next.
    test.advance(25 * 3600);
    let next = test.proof(&identity).build();
    disk.fill();
    let held = seen(&test).await;
    is_down(&test.exchange(&next).await, "rotation");
    assert_eq!(seen(&test).await, held);

    disk.clear();
    let minted = test.exchange(&next).await;
    assert_eq!(minted.status, 200, "the proof is still unused: {}", minted.text());
    assert_eq!(test.store().keyring().await.unwrap().revision, 2, "the next key is there");
    let token = minted.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(test.restarted().get(VERSIONS, &token).await.status, 200);
    assert_eq!(test.get_anonymously("/readyz").await.status, 200);
    for which in CHANGES {
        assert!(change(&test, which).await, "{which}");
    }
}
