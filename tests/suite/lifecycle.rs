//! How rights end: revoked, lifted, repinned and expired, in every process, and with the store
//! away.

use stile_core::principal::Principal;
use stile_core::token::TokenId;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{TestBroker, deploy, module_zip, role};

const VERSIONS: &str = "/v1/modules/acme/vpc/aws/versions";

/// The targets of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Revoked {
    Token,
    Principal,
    Account,
    Everyone,
}

fn principal(text: &str) -> Principal {
    Principal::parse_stored(text).unwrap()
}

/// Returns the id of a token, as the audit log shows it. Only the registry itself can read it from
/// the token.
async fn token_id(test: &TestBroker, token: &str) -> TokenId {
    test.broker.tokens.open(token, test.store(), test.time()).await.unwrap().claims.id().clone()
}

#[tokio::test]
async fn whatever_is_revoked_is_good_for_nothing_in_any_process_after_ten_seconds_and_mints_nothing_at_once()
 {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let first = test.token(&deploy(), &[Download, Upload]).await;
    assert_eq!(test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &first).await.status, 201);
    let processes = [test.restarted(), test.restarted()];
    for revoked in [Revoked::Token, Revoked::Principal, Revoked::Account, Revoked::Everyone] {
        let who = if revoked == Revoked::Account {
            principal("account:aws:111122223333")
        } else {
            principal(&role("deploy"))
        };
        let (token, another) =
            (test.token(&deploy(), &[Download]).await, test.token(&deploy(), &[Download]).await);
        for process in &processes {
            process.set_time(test.time());
            for token in [&token, &another] {
                assert_eq!(process.get(VERSIONS, token).await.status, 200, "{revoked:?}");
            }
        }
        let store = test.store();
        match revoked {
            Revoked::Token => store
                .as_operator()
                .revoke_token(token_id(&test, &token).await, test.time())
                .await
                .unwrap(),
            Revoked::Principal | Revoked::Account => {
                assert!(
                    store.as_operator().revoke_principal(who.clone(), test.time()).await.unwrap()
                );
            }
            Revoked::Everyone => {
                assert_eq!(store.as_operator().drop_keys().await.unwrap(), Some(1));
            }
        }
        for process in &processes {
            let identity = deploy();
            process.sts.add_identity(identity.clone());
            let minted = process.exchange(&process.proof(&identity).build()).await;
            let expected = if [Revoked::Principal, Revoked::Account].contains(&revoked) {
                "403 principal_revoked"
            } else {
                "200 -"
            };
            assert_eq!(minted.error(), expected, "{revoked:?}: {}", minted.text());
            process.advance(10);
            for path in
                [VERSIONS, "/v1/modules/acme/vpc/aws/1.0.0/download", "/v1/modules", "/v1/whoami"]
            {
                let reply = process.get(path, &token).await;
                assert_eq!(
                    (reply.status.as_u16(), reply.header("www-authenticate")),
                    (401, "Bearer"),
                    "{revoked:?} {path}"
                );
            }
            assert_eq!(
                process.publish("acme/vpc/aws", "2.0.0", module_zip("y"), &token).await.status,
                401,
                "{revoked:?}"
            );
            let others = if revoked == Revoked::Token { 200 } else { 401 };
            assert_eq!(
                process.get(VERSIONS, &another).await.status,
                others,
                "{revoked:?}: another token"
            );
        }
        if [Revoked::Principal, Revoked::Account].contains(&revoked) {
            assert!(test.store().as_operator().lift(who).await.unwrap());
            for process in &processes {
                process.advance(10);
                assert_eq!(
                    process.get(VERSIONS, &another).await.status,
                    200,
                    "{revoked:?}, after the lift"
                );
            }
        }
        test.advance(30);
    }
}

#[tokio::test]
async fn a_recreated_role_has_access_after_a_repin_and_the_tokens_of_the_earlier_role_end() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let original = deploy();
    let token = test.token(&original, &[Download]).await;
    let other = test.restarted();
    assert_eq!(other.get("/v1/modules/acme", &token).await.status, 200);
    let next_role = original.clone().recreated();
    test.sts.add_identity(next_role.clone());
    assert_eq!(
        test.exchange(&test.proof(&next_role).build()).await.error(),
        "403 principal_recreated"
    );
    assert!(test.store().as_operator().unpin(principal(&role("deploy"))).await.unwrap());
    let next = test.token(&next_role, &[Download]).await;
    for process in [&test, &other] {
        process.advance(10);
        assert_eq!(process.get("/v1/modules/acme", &next).await.status, 200);
        let reply = process.get("/v1/modules/acme", &token).await;
        assert_eq!(reply.status, 403, "the token of the earlier role: {}", reply.text());
        assert!(reply.text().contains("grant repin"), "{}", reply.text());
    }
    test.sts.add_identity(original.clone());
    assert_eq!(
        test.exchange(&test.proof(&original).build()).await.error(),
        "403 principal_recreated",
        "and the earlier role mints nothing"
    );
}

#[tokio::test]
async fn a_grant_ends_at_its_second_whatever_is_remembered_and_whatever_the_table_has_not_cleared_away()
 {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    for (namespace, ends) in [
        ("acme", Some(test.time() + 25)),
        ("past", Some(i64::MIN)),
        ("future", Some(i64::MAX)),
        ("open", None),
    ] {
        let grant = stile_core::grants::Grant {
            principal: principal(&role("deploy")),
            namespace: namespace.parse().unwrap(),
            permissions: [Download].into_iter().collect(),
            expires_at: ends,
            created_by: "test".to_owned(),
            created_at: test.time(),
        };
        test.store().as_operator().create_grant(grant, None).await.unwrap();
    }
    let token = test.token(&deploy(), &[Download]).await;
    for (seconds, expected) in [(0, 200), (20, 200), (4, 200), (1, 403), (0, 403)] {
        test.advance(seconds);
        assert_eq!(
            test.get("/v1/modules/acme", &token).await.status,
            expected,
            "after {seconds} more"
        );
        assert_eq!(test.get("/v1/modules/past", &token).await.status, 403);
        assert_eq!(test.get("/v1/modules/future", &token).await.status, 200);
        assert_eq!(test.get("/v1/modules/open", &token).await.status, 200);
    }
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let only = stile_tests::sts::proof::document(
        600,
        stile_tests::broker::namespaces(&["acme"]),
        &[Download],
    );
    assert_eq!(
        test.exchange(&test.proof(&identity).document(&only).build()).await.error(),
        "403 no_grant"
    );
    assert_eq!(
        test.get("/v1/whoami", &token).await.status,
        200,
        "and the command reports times that no calendar has"
    );
    test.advance(-20);
    assert_eq!(
        test.get("/v1/modules/acme", &token).await.status,
        403,
        "and the grant stays ended after the clock is set back"
    );
}

#[tokio::test]
async fn with_the_store_away_minting_stops_at_once_and_what_was_revoked_before_stays_revoked() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let (token, revoked) =
        (test.token(&deploy(), &[Download]).await, test.token(&deploy(), &[Download]).await);
    test.store()
        .as_operator()
        .revoke_token(token_id(&test, &revoked).await, test.time())
        .await
        .unwrap();
    assert_eq!(test.get("/v1/whoami", &token).await.status, 200);
    let cold = test.restarted();
    test.break_store();
    let identity = deploy();
    for (seconds, read, refused) in [(0, 200, 401), (150, 200, 401), (149, 200, 401), (1, 503, 503)]
    {
        test.advance(seconds);
        cold.advance(seconds);
        test.sts.add_identity(identity.clone());
        let minted = test.exchange(&test.proof(&identity).build()).await;
        assert_eq!(
            (minted.status.as_u16(), minted.json()["token"].is_null()),
            (503, true),
            "after {seconds} more"
        );
        assert_eq!(test.get("/v1/whoami", &token).await.status, read, "after {seconds} more");
        assert_eq!(test.get("/v1/whoami", &revoked).await.status, refused, "after {seconds} more");
        assert_eq!(
            cold.get("/v1/whoami", &token).await.status,
            503,
            "a process with empty caches gives no one access"
        );
        assert_eq!(test.get_anonymously("/readyz").await.status, 503);
    }
    test.repair_store();
    cold.advance(10);
    for process in [&test, &cold] {
        assert_eq!(process.get("/v1/whoami", &token).await.status, 200);
        assert_eq!(process.get("/v1/whoami", &revoked).await.status, 401);
        assert_eq!(process.get_anonymously("/readyz").await.status, 200);
    }
    assert_eq!(test.exchange(&test.proof(&identity).build()).await.status, 200);
}
