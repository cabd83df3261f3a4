//! Trusts on every store: their life, the grants and the tokens of their principal, and two operators
//! at once.

use std::time::Duration;

use serde_json::{Value, json};
use stile_core::grants::{Grant, Pin, Refusal};
use stile_core::principal::Principal;
use stile_core::trust::{MAX_TRUSTS, TermsError};
use stile_protocol::names::Permission::{self, Download, Upload};
use stile_store::{Created, SingleUseOutcome, TrustCreated, TrustDeleted, TrustUpdated};
use stile_tests::broker::operator::{AsOperator as _, operator};
use stile_tests::broker::trusts::{ISSUER, trust_name, trust_terms};
use stile_tests::broker::{Backend, TestBroker, deploy, module_zip, role};
use stile_tests::process::home::Home;
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::time_limits;

/// The grants of a trust that a deletion is killed in the middle of.
const MANY: usize = 60;

const CI: &str = "oidc:ci";
const VERSIONS: &str = "/v1/modules/acme/vpc/aws/versions";

fn ci() -> Principal {
    Principal::parse_stored(CI).unwrap()
}

/// Starts a registry with one published module. Returns `None` if a tool is missing.
async fn registry() -> Option<TestBroker> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &Permission::ALL).await;
    let token = test.token(&deploy(), &Permission::ALL).await;
    let published = test.publish("acme/vpc/aws", "1.0.0", module_zip("1"), &token).await;
    assert_eq!(published.status, 201, "{published:?}");
    Some(test)
}

/// Returns the status and the code of a list of versions with this token.
async fn versions(test: &TestBroker, token: &str) -> u16 {
    test.get(VERSIONS, token).await.status.as_u16()
}

async fn pin(test: &TestBroker) -> Pin {
    test.store().principal_state(vec![ci()]).await.unwrap().pin
}

async fn grant_ci(test: &TestBroker) -> Created {
    let grant = Grant {
        principal: ci(),
        namespace: "acme".parse().unwrap(),
        permissions: [Download].into_iter().collect(),
        expires_at: None,
        created_by: "test".to_owned(),
        created_at: test.time(),
    };
    test.store().as_operator().create_grant(grant, None).await.unwrap()
}

/// Changes the text of a trust's record.
async fn spoil(test: &TestBroker, name: &str, change: impl Fn(&mut Value)) {
    let changed = |text: &str| {
        let mut record: Value = serde_json::from_str(text).unwrap();
        change(&mut record);
        record.to_string()
    };
    match test.backend() {
        Backend::Embedded => {
            let database = rusqlite::Connection::open(test.data().join("stile.sqlite3")).unwrap();
            let sql = "SELECT record FROM trusts WHERE name = ?1";
            let text: String = database.query_row(sql, [name], |row| row.get(0)).unwrap();
            let sql = "UPDATE trusts SET record = ?2 WHERE name = ?1";
            assert_eq!(database.execute(sql, [name, &changed(&text)]).unwrap(), 1);
        }
        Backend::Aws => {
            let key = json!({ "pk": { "S": "trusts" }, "sk": { "S": name } });
            let mut item =
                test.aws().dynamodb("GetItem", json!({ "Key": key })).await["Item"].clone();
            let text = changed(item["record"]["S"].as_str().unwrap());
            item["record"] = json!({ "S": text });
            test.aws().dynamodb("PutItem", json!({ "Item": item })).await;
        }
    }
}

#[tokio::test]
async fn a_trust_that_believes_too_much_or_has_a_used_name_is_not_created() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let github = "https://token.actions.githubusercontent.com";
    let refused = test.create_trust("ci", trust_terms(github, "ref=refs/heads/main")).await;
    assert!(matches!(refused, TrustCreated::Refused(TermsError::NoOwner(_))), "{refused:?}");
    let trust = test.trust("ci").await;
    let other = trust_terms("https://other.corp.example", "project_id=74");
    assert_eq!(
        test.create_trust("ci", other).await,
        TrustCreated::Exists(Box::new(trust.clone())),
        "it keeps the old one"
    );
    assert_eq!(test.store().trusts().await.unwrap(), [trust]);
    let missing = test.update_trust("other", "project_id=75").await;
    assert_eq!(missing, TrustUpdated::Absent);
}

#[tokio::test]
async fn a_registry_has_a_maximum_number_of_trusts() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    for n in 0..MAX_TRUSTS {
        test.trust(&format!("t{n}")).await;
    }
    let terms = trust_terms(ISSUER, "project_id=74");
    assert_eq!(test.create_trust("one-more", terms).await, TrustCreated::TooMany);
    assert_eq!(test.store().trusts().await.unwrap().len(), MAX_TRUSTS);
}

#[tokio::test]
async fn a_grant_needs_its_trust_and_pins_it() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    assert_eq!(grant_ci(&test).await, Created::NoTrust);
    assert_eq!(pin(&test).await, Pin::Unpinned);
    let trust = test.trust("ci").await;
    assert!(matches!(grant_ci(&test).await, Created::Done { .. }));
    assert_eq!(pin(&test).await, Pin::Pinned(trust.id.clone()));
    assert!(matches!(grant_ci(&test).await, Created::Exists { .. }));
    assert_eq!(
        test.delete_trust("ci").await,
        TrustDeleted::HasGrants(vec!["acme".to_owned()]),
        "a grant names it"
    );
    test.delete_grant(CI, "acme").await;
    assert_eq!(test.delete_trust("ci").await, TrustDeleted::Done(Some(Box::new(trust))));
    assert_eq!(pin(&test).await, Pin::Unpinned, "the pin goes with the trust");
    assert_eq!(test.delete_trust("ci").await, TrustDeleted::Absent);
    assert_eq!(grant_ci(&test).await, Created::NoTrust);
}

#[tokio::test]
async fn an_exchange_that_was_late_leaves_a_pin_that_only_an_operator_removes() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let old = test.trust("ci").await;
    test.delete_trust("ci").await;
    // The exchange read the trust before it was deleted.
    let (operator, now) = (test.store().as_operator(), test.time());
    let late = operator.claim([7; 32], now, Some((ci(), old.id.clone())), now);
    assert!(matches!(late.await.unwrap(), SingleUseOutcome::Recorded(_)));
    let new = test.trust("ci").await;
    assert_eq!(grant_ci(&test).await, Created::PinnedOtherwise(Pin::Pinned(old.id)));
    assert!(test.store().as_operator().unpin(ci()).await.unwrap());
    assert!(matches!(grant_ci(&test).await, Created::Done { .. }));
    assert_eq!(pin(&test).await, Pin::Pinned(new.id));
}

#[tokio::test]
async fn a_token_of_a_trust_ends_within_ten_seconds_of_its_change() {
    let Some(test) = registry().await else { return };
    let trust = test.trust("ci").await;
    test.grant(CI, "acme", &[Download]).await;
    let token = test.trust_token(&trust, &[Download]).await.unwrap();
    assert_eq!(versions(&test, &token).await, 200);
    let other = test.restarted();
    let TrustUpdated::Done { after, .. } = test.update_trust("ci", "project_id=75").await else {
        panic!("the trust is there")
    };
    assert_eq!((after.id.clone(), after.revision), (trust.id.clone(), 2));
    assert_eq!(versions(&other, &token).await, 401, "a broker that reads it now");
    test.advance(9);
    assert_eq!(versions(&test, &token).await, 200, "a broker that read it 9 s ago");
    test.advance(1);
    assert_eq!(versions(&test, &token).await, 401);
    let refused = test.trust_token(&trust, &[Download]).await.unwrap_err();
    assert_eq!(refused, Refusal::TrustChanged { principal: ci() }, "an exchange that is late");
    let token = test.trust_token(&after, &[Download]).await.unwrap();
    assert_eq!(versions(&test, &token).await, 200, "its grants stay");
    let unchanged = test.update_trust("ci", "project_id=75").await;
    assert_eq!(unchanged, TrustUpdated::Unchanged(after));
    test.advance(10);
    assert_eq!(versions(&test, &token).await, 200, "nothing changed");
}

#[tokio::test]
async fn a_token_of_a_trust_ends_within_ten_seconds_of_its_deletion() {
    let Some(test) = registry().await else { return };
    let trust = test.trust("ci").await;
    test.grant(CI, "acme", &[Download]).await;
    let token = test.trust_token(&trust, &[Download]).await.unwrap();
    assert_eq!(versions(&test, &token).await, 200);
    test.delete_grant(CI, "acme").await;
    test.delete_trust("ci").await;
    test.advance(10);
    assert_eq!(versions(&test, &token).await, 401);
    assert_eq!(test.get("/v1/whoami", &token).await.status, 401);
    let refused = test.trust_token(&trust, &[Download]).await.unwrap_err();
    assert_eq!(refused, Refusal::TrustChanged { principal: ci() });
}

#[tokio::test]
async fn a_later_trust_of_the_same_name_has_nothing_of_the_old_one() {
    let Some(test) = registry().await else { return };
    let old = test.trust("ci").await;
    test.grant(CI, "acme", &[Download, Upload]).await;
    let token = test.trust_token(&old, &[Download, Upload]).await.unwrap();
    test.delete_grant(CI, "acme").await;
    test.delete_trust("ci").await;
    let new = test.trust_of("ci", "https://other.corp.example").await;
    assert_ne!(new.id, old.id);
    test.advance(10);
    let refused = test.trust_token(&new, &[Download]).await.unwrap_err();
    assert!(matches!(refused, Refusal::NoGrant { .. }), "{refused:?}");
    // Also if the new one has the same grant.
    test.grant(CI, "acme", &[Download, Upload]).await;
    test.advance(10);
    assert_eq!(test.get(VERSIONS, &token).await.status, 403);
    let published = test.publish("acme/vpc/aws", "1.1.0", module_zip("2"), &token).await;
    assert_eq!(published.status, 403);
    assert!(published.text().contains("was deleted and recreated after"), "{published:?}");
    let whoami = test.get("/v1/whoami", &token).await.json();
    assert_eq!(whoami["grants"], json!([]), "{whoami}");
    let refused = test.trust_token(&old, &[Download]).await.unwrap_err();
    assert_eq!(refused, Refusal::Recreated { principal: ci() });
    let token = test.trust_token(&new, &[Download]).await.unwrap();
    assert_eq!(versions(&test, &token).await, 200);
}

#[tokio::test]
async fn a_revoked_trust_has_no_access_until_it_is_lifted() {
    let Some(test) = registry().await else { return };
    let trust = test.trust("ci").await;
    test.grant(CI, "acme", &[Download]).await;
    let token = test.trust_token(&trust, &[Download]).await.unwrap();
    test.store().as_operator().revoke_principal(ci(), test.time()).await.unwrap();
    test.advance(10);
    assert_eq!(versions(&test, &token).await, 401);
    let refused = test.trust_token(&trust, &[Download]).await.unwrap_err();
    assert_eq!(refused, Refusal::Revoked { caller: ci(), principal: ci() });
    test.store().as_operator().lift(ci()).await.unwrap();
    test.advance(10);
    assert_eq!(versions(&test, &token).await, 200);
}

#[tokio::test]
async fn of_two_operators_who_create_a_trust_one_does_and_the_other_sees_it() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let create = |issuer| test.create_trust("ci", trust_terms(issuer, "project_id=74"));
    let (first, second) = tokio::join!(create(ISSUER), create("https://other.corp.example"));
    let (done, seen) = match (first, second) {
        (TrustCreated::Done(done), TrustCreated::Exists(seen))
        | (TrustCreated::Exists(seen), TrustCreated::Done(done)) => (done, seen),
        other => panic!("{other:?}"),
    };
    assert_eq!(done, seen);
    assert_eq!(test.store().trusts().await.unwrap(), [*done]);
}

#[tokio::test]
async fn two_changes_at_once_are_two_revisions_and_lose_nothing() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.trust("ci").await;
    let (first, second) = tokio::join!(
        test.update_trust("ci", "project_id=75"),
        test.update_trust("ci", "project_id=76"),
    );
    let mut revisions = [&first, &second].map(|updated| match updated {
        TrustUpdated::Done { before, after } => (before.revision, after.revision),
        other => panic!("{other:?}"),
    });
    revisions.sort_unstable();
    assert_eq!(revisions, [(1, 2), (2, 3)]);
}

#[tokio::test]
async fn a_grant_and_a_deletion_at_once_leave_a_grant_with_its_trust_or_neither() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    for _ in 0..10 {
        let trust = test.trust("ci").await;
        let (granted, deleted) = tokio::join!(grant_ci(&test), test.delete_trust("ci"));
        match (granted, deleted) {
            (Created::Done { .. }, TrustDeleted::HasGrants(_)) => {
                assert_eq!(pin(&test).await, Pin::Pinned(trust.id));
                test.delete_grant(CI, "acme").await;
                test.delete_trust("ci").await;
            }
            (Created::NoTrust, TrustDeleted::Done(_)) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(test.store().as_operator().grants(Some(ci()), None).await.unwrap(), []);
        assert_eq!(pin(&test).await, Pin::Unpinned);
    }
}

/// Returns a home whose `stile-admin` uses the store of this broker.
fn home(test: &TestBroker) -> Home {
    let mut home = Home::temporary();
    match test.backend() {
        Backend::Embedded => home.variable("STILE_DATA", test.data()),
        Backend::Aws => {
            for (name, value) in test.aws().environment() {
                home.variable(name, value);
            }
        }
    }
    home
}

#[tokio::test]
async fn a_deletion_that_is_killed_half_way_goes_on_when_it_is_repeated() {
    let Some(test) = registry().await else { return };
    let trust = test.trust("ci").await;
    for n in 0..MANY {
        test.grant(CI, &format!("n{n}"), &[Download]).await;
    }
    let token = test.trust_token(&trust, &[Download]).await.unwrap();
    let grants = async || test.store().as_operator().grants(Some(ci()), None).await.unwrap().len();
    let home = home(&test);
    let delete = ["trust", "delete", "ci", "--with-grants"];
    let mut child = home.command(&program(ADMIN), delete).spawn().unwrap();
    let half = time_limits::wait(async {
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while grants().await == MANY {
            tick.tick().await;
        }
    });
    half.await.expect("the program deletes grants");
    child.kill().await.unwrap();
    let (left, trusts) = (grants().await, test.store().trusts().await.unwrap());
    if left > 0 {
        assert_eq!(trusts, [trust], "the trust goes last");
        assert!(matches!(test.delete_trust("ci").await, TrustDeleted::HasGrants(_)));
    }
    let ran = home.run(&program(ADMIN), &delete).await;
    // The program can have been faster than the kill.
    assert_eq!(ran.code, Some(i32::from(trusts.is_empty())), "{left} were left: {ran:?}");
    assert_eq!((grants().await, pin(&test).await), (0, Pin::Unpinned));
    assert_eq!(test.store().trusts().await.unwrap(), []);
    test.advance(10);
    assert_eq!(versions(&test, &token).await, 401);
}

#[tokio::test]
async fn a_grant_giver_grants_to_a_trust_that_exists_and_pins_it() {
    let Some(test) = registry().await else { return };
    let token = test.token(&deploy(), &Permission::ALL).await;
    let body = json!({ "principal": CI, "namespace": "acme", "permissions": ["download"] });
    let refused = test.ask("POST", "/v1/grants", &token, &body).await;
    assert_eq!(refused.error(), "409 conflict", "{}", refused.text());
    assert!(refused.json()["message"].as_str().unwrap().contains("no trust"), "{refused:?}");
    let old = test.trust("ci").await;
    test.delete_trust("ci").await;
    let late = Some((ci(), old.id));
    test.store().as_operator().claim([7; 32], test.time(), late, test.time()).await.unwrap();
    let trust = test.trust("ci").await;
    let refused = test.ask("POST", "/v1/grants", &token, &body).await;
    assert_eq!(refused.error(), "409 conflict");
    let hint = refused.json()["hint"].as_str().unwrap().to_owned();
    assert!(hint.contains("grant repin --principal oidc:ci"), "{hint}");
    test.store().as_operator().unpin(ci()).await.unwrap();
    let created = test.ask("POST", "/v1/grants", &token, &body).await;
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(pin(&test).await, Pin::Pinned(trust.id.clone()));
    let token = test.trust_token(&trust, &[Download]).await.unwrap();
    assert_eq!(versions(&test, &token).await, 200);
}

#[tokio::test]
async fn a_trust_that_cannot_be_read_believes_nothing_and_can_be_deleted() {
    let Some(test) = registry().await else { return };
    let trust = test.trust("ci").await;
    let other = test.trust("other").await;
    test.grant(CI, "acme", &[Download]).await;
    let token = test.trust_token(&trust, &[Download]).await.unwrap();
    spoil(&test, "ci", |record| {
        record["crit"] = json!(["hours"]);
        record["hours"] = json!("9-17");
    })
    .await;
    assert_eq!(test.store().trusts().await.unwrap(), [other]);
    let name = trust_name("ci");
    assert_eq!(test.store().unreadable_trusts(&operator()).await.unwrap(), [Some(name.clone())]);
    assert!(test.store().trust(&operator(), &name).await.is_err());
    test.advance(10);
    assert_eq!(versions(&test, &token).await, 200, "its id and its revision are the same");
    test.delete_grant(CI, "acme").await;
    assert_eq!(test.delete_trust("ci").await, TrustDeleted::Done(None));
    assert_eq!(test.store().unreadable_trusts(&operator()).await.unwrap(), []);
}

/// Deletes the row of a trust by hand.
async fn lose(test: &TestBroker, name: &str) {
    match test.backend() {
        Backend::Embedded => {
            let database = rusqlite::Connection::open(test.data().join("stile.sqlite3")).unwrap();
            let deleted = database.execute("DELETE FROM trusts WHERE name = ?1", [name]);
            assert_eq!(deleted.unwrap(), 1);
        }
        Backend::Aws => {
            let key = json!({ "pk": { "S": "trusts" }, "sk": { "S": name } });
            test.aws().dynamodb("DeleteItem", json!({ "Key": key })).await;
        }
    }
}

#[tokio::test]
async fn a_check_finds_trusts_that_cannot_be_read_and_grants_whose_trust_is_gone() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let home = home(&test);
    let check = async || {
        let arguments = ["store", "check", "--output", "json", "--quiet"];
        let ran = home.run(&program(ADMIN), &arguments).await;
        let found: Value = serde_json::from_str(&ran.stdout).unwrap();
        (ran.code, found)
    };
    for name in ["ci", "gone", "good"] {
        test.trust(name).await;
        test.grant(&format!("oidc:{name}"), "acme", &[Download]).await;
    }
    assert_eq!(check().await, (Some(0), json!([])));
    spoil(&test, "ci", |record| record["crit"] = json!(["hours"])).await;
    lose(&test, "gone").await;
    let faults = json!([
        { "kind": "unreadable_trust", "trust": "ci" },
        { "kind": "grants_without_trust", "trust": "gone" },
    ]);
    assert_eq!(check().await, (Some(1), faults));
    for name in ["ci", "gone"] {
        let delete = ["trust", "delete", name, "--with-grants"];
        let ran = home.run(&program(ADMIN), &delete).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stdout.contains("and its grant"), "{ran:?}");
    }
    assert_eq!(check().await, (Some(0), json!([])));
    test.trust("gone").await;
    test.grant("oidc:gone", "acme", &[Download]).await;
}

#[tokio::test]
async fn a_change_keeps_what_a_newer_release_added_to_a_trust() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.trust("ci").await;
    spoil(&test, "ci", |record| record["note"] = json!("for the migration")).await;
    assert!(matches!(test.update_trust("ci", "project_id=75").await, TrustUpdated::Done { .. }));
    spoil(&test, "ci", |record| assert_eq!(record["note"], json!("for the migration"))).await;
}

#[tokio::test]
async fn a_broker_reads_the_trusts_once_in_ten_seconds_and_goes_on_for_five_minutes_without_the_store()
 {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let recent = async || test.broker.trust_cache.recent(test.store(), test.time()).await;
    assert!(recent().await.unwrap().is_empty());
    let trust = test.trust("ci").await;
    test.advance(9);
    assert!(recent().await.unwrap().is_empty(), "read 9 s ago");
    test.advance(1);
    assert_eq!(*recent().await.unwrap(), std::slice::from_ref(&trust));
    lose_trusts(&test, true);
    test.advance(10);
    assert_eq!(
        *recent().await.unwrap(),
        std::slice::from_ref(&trust),
        "10 s old, while the store is down"
    );
    test.advance(289);
    assert_eq!(*recent().await.unwrap(), std::slice::from_ref(&trust), "299 s old");
    test.advance(1);
    assert!(recent().await.is_err(), "too old");
    lose_trusts(&test, false);
    assert!(recent().await.is_err(), "a failed read is not repeated at once");
    test.advance(10);
    assert_eq!(*recent().await.unwrap(), [trust]);
}

/// Makes the trusts unreachable, or undoes it.
fn lose_trusts(test: &TestBroker, lost: bool) {
    match test.backend() {
        Backend::Embedded => {
            let database = rusqlite::Connection::open(test.data().join("stile.sqlite3")).unwrap();
            let (from, to) = if lost { ("trusts", "lost") } else { ("lost", "trusts") };
            database.execute(&format!("ALTER TABLE {from} RENAME TO {to}"), []).unwrap();
        }
        Backend::Aws if lost => test.break_store(),
        Backend::Aws => test.repair_store(),
    }
}
