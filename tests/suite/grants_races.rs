//! Delegated grants on AWS: an operator takes the rights of a bearer while its change is on its way.

use serde_json::{Value, json};
use stile_core::principal::Principal;
use stile_protocol::names::Permission::{self, Upload};
use stile_protocol::names::Permissions;
use stile_store::Change;
use stile_tests::aws::proxy::HeldCall;
use stile_tests::broker::grants::path_of;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{TestBroker, deploy, role};

const ALL: [Permission; 4] = Permission::ALL;

/// Waits until the broker has made that many calls, and holds back the last one.
async fn nth_call(test: &TestBroker, nth: usize) -> HeldCall {
    let mut held = test.aws().proxy.hold("POST", "/");
    for _ in 1..nth {
        held.arrived().await;
        let next = test.aws().proxy.hold("POST", "/");
        held.release();
        held = next;
    }
    held.arrived().await;
    held
}

/// What an operator does while a call of the broker is held back.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    DeleteGrant,
    ClearUpload,
    Revoke,
}

async fn operate(test: &TestBroker, what: Meanwhile, giver: &str) {
    let of = Principal::parse_stored(giver).unwrap();
    let (store, on) = (test.store(), "acme".parse().unwrap());
    let operator = store.as_operator();
    match what {
        Meanwhile::DeleteGrant => drop(operator.delete_grant(of, on).await.unwrap()),
        Meanwhile::ClearUpload => {
            let change = Change { clear: Permissions::NONE.with(Upload), ..Change::default() };
            drop(operator.update_grant(of, on, change).await.unwrap());
        }
        Meanwhile::Revoke => drop(operator.revoke_principal(of, test.time()).await.unwrap()),
    }
}

#[tokio::test]
async fn a_right_that_an_operator_takes_before_the_write_changes_nothing() {
    let Some(test) = TestBroker::start_alone_on_aws().await else { return };
    let (me, account) = (role("deploy"), "account:aws:111122223333".to_owned());
    let (ci, other) = (role("ci"), role("other"));
    test.grant(&me, "elsewhere", &ALL).await;
    test.grant(&me, "acme", &ALL).await;
    let token = test.token(&deploy(), &ALL).await;
    assert_eq!(test.get("/v1/grants", &token).await.status, 200);
    let upload = |who: &str| json!({"principal": who, "namespace": "acme", "set": ["upload"]});
    let new = |who: &str| json!({"principal": who, "namespace": "acme", "permissions": ["upload"]});
    let plain = "/v1/grants".to_owned();
    let delete = path_of(&ci, "acme");
    // The first call reads the rights, the second one the grants of the principal, and the last one
    // writes.
    for (method, path, body, giver, nth, meanwhile) in [
        ("PATCH", &plain, upload(&me), &me, 2, Meanwhile::ClearUpload),
        ("POST", &plain, new(&me), &me, 2, Meanwhile::DeleteGrant),
        ("POST", &plain, new(&other), &me, 2, Meanwhile::DeleteGrant),
        ("POST", &plain, new(&other), &me, 4, Meanwhile::DeleteGrant),
        ("POST", &plain, new(&other), &me, 4, Meanwhile::ClearUpload),
        ("POST", &plain, new(&other), &account, 4, Meanwhile::DeleteGrant),
        ("POST", &plain, new(&other), &me, 4, Meanwhile::Revoke),
        ("POST", &plain, new(&other), &account, 2, Meanwhile::Revoke),
        ("PATCH", &plain, upload(&ci), &me, 3, Meanwhile::DeleteGrant),
        ("PATCH", &plain, upload(&ci), &account, 3, Meanwhile::DeleteGrant),
        ("PATCH", &plain, upload(&ci), &me, 3, Meanwhile::Revoke),
        ("DELETE", &delete, Value::Null, &me, 3, Meanwhile::DeleteGrant),
        ("DELETE", &delete, Value::Null, &me, 3, Meanwhile::Revoke),
    ] {
        let what = format!("{method} {body} {giver} {nth} {meanwhile:?}");
        // Only this principal of the bearer has the right.
        for principal in [&ci, &other, &me, &account] {
            operate(&test, Meanwhile::DeleteGrant, principal).await;
        }
        test.grant(&ci, "acme", &[Permission::Download]).await;
        test.grant(giver, "acme", &ALL).await;
        let operating = async {
            let held = nth_call(&test, nth).await;
            operate(&test, meanwhile, giver).await;
            let then = test.stored_grants().await;
            held.release();
            then
        };
        let (reply, then) = tokio::join!(test.ask(method, path, &token, &body), operating);
        let expected = match meanwhile {
            Meanwhile::Revoke => "401 unauthorized",
            Meanwhile::DeleteGrant | Meanwhile::ClearUpload => "403 no_grant",
        };
        assert_eq!(reply.error(), expected, "{what}: {}", reply.text());
        assert_eq!(test.stored_grants().await, then, "{what}");
        let revoked = Principal::parse_stored(giver).unwrap();
        test.store().as_operator().lift(revoked).await.unwrap();
    }
}

#[tokio::test]
async fn a_change_by_another_that_takes_no_right_only_repeats_the_decision() {
    let Some(test) = TestBroker::start_alone_on_aws().await else { return };
    test.grant(&role("deploy"), "acme", &ALL).await;
    let token = test.token(&deploy(), &ALL).await;
    assert_eq!(test.get("/v1/grants", &token).await.status, 200);
    let new = json!({"principal": role("ci"), "namespace": "acme", "permissions": ["upload"]});
    let stranger = Principal::parse_stored(&role("stranger")).unwrap();
    let operating = async {
        let held = nth_call(&test, 4).await;
        test.store().as_operator().revoke_principal(stranger, test.time()).await.unwrap();
        test.grant(&role("deploy"), "prod", &ALL).await;
        held.release();
    };
    let asked = test.ask("POST", "/v1/grants", &token, &new);
    let (reply, ()) = tokio::join!(asked, operating);
    assert_eq!(reply.status, 201, "{}", reply.text());
}
