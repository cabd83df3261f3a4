//! KMS opens the keyring and seals the next one. While KMS is away, everything that needs neither
//! continues, and operators can revoke every token.

use stile_core::token::ROTATION_INTERVAL;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::aws::proxy::Fault;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{Backend, TestBroker, deploy, module_zip, role};
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::time_limits::BACKSTOP;

const VERSIONS: &str = "/v1/modules/acme/vpc/aws/versions";

const DOWNLOAD: &str = "/v1/modules/acme/vpc/aws/1.0.0/download";

/// A registry with one module, and another process of it with its own proxy.
async fn two_processes() -> Option<(TestBroker, TestBroker)> {
    let test = TestBroker::start_on(Backend::Aws).await?;
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    assert_eq!(test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &token).await.status, 201);
    let other = test.behind_another_proxy();
    assert_eq!(other.get(VERSIONS, &token).await.status, 200);
    Some((test, other))
}

/// Returns the number of calls to KMS since the last count.
fn asked_kms(test: &TestBroker) -> usize {
    test.aws()
        .proxy
        .take_counts()
        .into_iter()
        .filter(|(name, _)| name.starts_with("kms"))
        .map(|(_, count)| count)
        .sum()
}

#[tokio::test]
async fn every_token_is_revoked_while_kms_is_away_by_who_may_not_use_the_key() {
    let Some((test, other)) = two_processes().await else { return };
    let token = test.token(&deploy(), &[Download]).await;
    assert_eq!(other.get(VERSIONS, &token).await.status, 200);
    let operator = test.behind_another_proxy();
    for process in [&test, &other, &operator] {
        process.aws().proxy.inject("kms", .., Fault::Close);
    }
    let mut command = tokio::process::Command::new(program(ADMIN));
    command
        .args(["token", "revoke", "--all", "--yes"])
        .env_clear()
        .envs(operator.aws().environment());
    let ran = command.output().await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "revoked all tokens\n");
    assert_eq!(asked_kms(&operator), 0, "an operator has no right to use the key");
    for process in [&test, &other] {
        process.advance(10);
        asked_kms(process);
        assert_eq!(process.get(VERSIONS, &token).await.status, 401, "in every process");
        assert_eq!(asked_kms(process), 0);
    }
}

#[tokio::test]
async fn reading_goes_on_when_the_keyring_was_followed_while_kms_is_away() {
    let Some((test, other)) = two_processes().await else { return };
    test.advance(ROTATION_INTERVAL - 60);
    other.advance(ROTATION_INTERVAL - 60);
    let token = test.token(&deploy(), &[Download]).await;
    assert_eq!(other.get(VERSIONS, &token).await.status, 200);
    test.advance(60);
    other.advance(60);
    let next = test.token(&deploy(), &[Download]).await;
    assert!(test.store().keyring().await.unwrap().keys().len() == 2, "the rotation added a key");

    other.aws().proxy.inject("kms", .., Fault::Close);
    asked_kms(&other);
    for seconds in [10, 1, 1, 1] {
        other.advance(seconds);
        for token in [&token, &next] {
            assert_eq!(other.get(VERSIONS, token).await.status, 200);
            assert_eq!(other.get(DOWNLOAD, token).await.status, 204);
        }
    }
    assert!((1..=3).contains(&asked_kms(&other)), "one read, which the SDK tries three times");
    let identity = deploy();
    other.sts.add_identity(identity.clone());
    assert_eq!(
        other.exchange(&other.proof(&identity).build()).await.error(),
        "503 key_unavailable",
        "and the broker mints nothing"
    );

    other.aws().proxy.repair();
    other.advance(10);
    asked_kms(&other);
    assert_eq!(other.get(VERSIONS, &token).await.status, 200);
    assert_eq!(asked_kms(&other), 1, "the broker adds a key as soon as it can");
    assert_eq!(other.exchange(&other.proof(&identity).build()).await.error(), "200 -");
}

#[tokio::test]
async fn a_table_that_goes_away_after_a_rotation_does_not_end_the_reading() {
    let Some((test, _)) = two_processes().await else { return };
    test.advance(ROTATION_INTERVAL - 1);
    let token = test.token(&deploy(), &[Download]).await;
    assert_eq!(test.get("/v1/whoami", &token).await.status, 200);
    test.advance(1);
    test.token(&deploy(), &[Download]).await;
    test.break_store();
    for seconds in [0, 5, 10, 280] {
        test.advance(seconds);
        assert_eq!(
            test.get("/v1/whoami", &token).await.status,
            200,
            "after {seconds} more seconds"
        );
    }
}

#[tokio::test]
async fn many_who_come_when_the_keyring_was_removed_are_all_refused_and_nobody_waits_for_ever() {
    let Some((test, other)) = two_processes().await else { return };
    let identity = deploy();
    for round in 0..4 {
        let token = test.token(&identity, &[Download]).await;
        for process in [&test, &other] {
            assert_eq!(process.get(VERSIONS, &token).await.status, 200);
        }
        if round % 2 == 0 {
            let key = serde_json::json!({"pk": {"S": "keyring"}, "sk": {"S": "keyring"}});
            test.aws().dynamodb("DeleteItem", serde_json::json!({"Key": key})).await;
        } else {
            assert_eq!(test.store().as_operator().drop_keys().await.unwrap(), Some(1));
        }
        for process in [&test, &other] {
            process.advance(10);
            let all =
                futures_util::future::join_all((0..20).map(|_| process.get(VERSIONS, &token)));
            let answers = tokio::time::timeout(BACKSTOP, all)
                .await
                .expect("no two requests wait for each other");
            assert!(answers.iter().all(|answer| answer.status == 401), "{answers:?}");
        }
        test.sts.add_identity(identity.clone());
        let minted = tokio::time::timeout(BACKSTOP, test.exchange(&test.proof(&identity).build()))
            .await
            .expect("minting continues");
        assert_eq!(minted.error(), "200 -");
    }
}

#[tokio::test]
async fn a_table_that_was_restored_and_counted_on_opens_none_of_the_keys_it_has_no_more() {
    let Some((test, other)) = two_processes().await else { return };
    let before = test.store().keyring().await.unwrap();
    test.advance(ROTATION_INTERVAL);
    other.advance(ROTATION_INTERVAL);
    let token = test.token(&deploy(), &[Download]).await;
    assert_eq!(other.get(VERSIONS, &token).await.status, 200);
    let met = test.store().keyring().await.unwrap();
    // The table is restored to before the rotation, with every key dropped. Its revision equals
    // that of the keyring that both processes know.
    assert!(test.store().replace_keyring(met.revision, before).await.unwrap());
    assert_eq!(test.store().as_operator().drop_keys().await.unwrap(), Some(1));
    assert_eq!(test.store().keyring().await.unwrap().revision, met.revision);
    for process in [&test, &other] {
        process.advance(10);
        assert_eq!(process.get(VERSIONS, &token).await.status, 401);
    }
}
