//! Properties of every store: grants, pins and revocations, as operators and mints use them.

use std::sync::Arc;

use stile_core::grants::{Grant, GrantTag, Pin};
use stile_core::package::source::AllowedSources;
use stile_core::principal::{Principal, UniqueId};
use stile_core::token::TokenId;
use stile_protocol::exchange::MAX_TTL;
use stile_protocol::names::Permission::{self, CreateGrant, Download, Upload};
use stile_protocol::names::{Namespace, Permissions};
use stile_store::{
    Change, Created, Deleted, ExpiryChange, NamespaceCreated, NamespaceLimits, NamespaceRecord,
    NamespaceSummary, SingleUseOutcome, Store, Updated,
};
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{NOW, TestBroker, deploy, module_zip, role};

/// The margin for which the store remembers more than it needs, in seconds.
const DAY: i64 = 24 * 3600;

fn principal(text: &str) -> Principal {
    Principal::parse_stored(text).unwrap()
}

fn permissions(list: &[Permission]) -> Permissions {
    list.iter().copied().collect()
}

fn grant(who: &str, on: &str, list: &[Permission], expires_at: Option<i64>) -> Grant {
    Grant {
        principal: principal(who),
        namespace: on.parse().unwrap(),
        permissions: permissions(list),
        expires_at,
        created_by: "test".to_owned(),
        created_at: NOW,
    }
}

fn describe(grants: &[Grant]) -> Vec<String> {
    grants
        .iter()
        .map(|grant| format!("{} {} {:?}", grant.principal, grant.namespace, grant.expires_at))
        .collect()
}

#[tokio::test]
async fn a_grant_is_made_once_changed_by_name_and_removed_once() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let (store, deploy) = (test.store(), principal(&role("deploy")));
    let acme = || "acme".parse().unwrap();
    assert_eq!(
        store.as_operator().update_grant(deploy.clone(), acme(), Change::default()).await.unwrap(),
        Updated::Absent
    );
    assert!(!store.as_operator().delete_grant(deploy.clone(), acme()).await.unwrap());
    let first = grant(&role("deploy"), "acme", &[Download], Some(NOW + 60));
    let created = store.as_operator().create_grant(first.clone(), None).await.unwrap();
    assert_eq!(created, Created::Done { grant: first.clone(), new_namespace: true });
    let wider = grant(&role("deploy"), "acme", &[Download, Upload], None);
    assert_eq!(
        store.as_operator().create_grant(wider, None).await.unwrap(),
        Created::Exists { grant: first.clone(), pin: Pin::Unpinned }
    );
    assert_eq!(
        store.as_operator().create_grant(first.clone(), None).await.unwrap(),
        Created::Exists { grant: first.clone(), pin: Pin::Unpinned },
        "an identical grant"
    );
    let add = Change { set: permissions(&[Upload]), ..Change::default() };
    let added = Grant { permissions: permissions(&[Download, Upload]), ..first.clone() };
    assert_eq!(
        store.as_operator().update_grant(deploy.clone(), acme(), add).await.unwrap(),
        Updated::Done { before: first.clone(), after: added.clone() }
    );
    let swap = Change {
        clear: permissions(&[Download]),
        expires_at: ExpiryChange::At(NOW + 90),
        ..Change::default()
    };
    let swapped =
        Grant { permissions: permissions(&[Upload]), expires_at: Some(NOW + 90), ..first.clone() };
    assert_eq!(
        store.as_operator().update_grant(deploy.clone(), acme(), swap).await.unwrap(),
        Updated::Done { before: added, after: swapped.clone() }
    );
    let never = Change { expires_at: ExpiryChange::Never, ..Change::default() };
    let endless = Grant { expires_at: None, ..swapped.clone() };
    assert_eq!(
        store.as_operator().update_grant(deploy.clone(), acme(), never).await.unwrap(),
        Updated::Done { before: swapped, after: endless.clone() }
    );
    let none = Change { clear: permissions(&[Upload]), ..Change::default() };
    assert_eq!(
        store.as_operator().update_grant(deploy.clone(), acme(), none).await.unwrap(),
        Updated::WouldBeEmpty
    );
    for found in [
        store.as_operator().grants(Some(deploy.clone()), None).await.unwrap(),
        store.as_operator().grants(None, Some(acme())).await.unwrap(),
        store.as_operator().grants(Some(deploy.clone()), Some(acme())).await.unwrap(),
        store.as_operator().grants(None, None).await.unwrap(),
        store.principal_state(vec![deploy.clone()]).await.unwrap().grants,
    ] {
        assert_eq!(found, std::slice::from_ref(&endless));
    }
    assert!(store.as_operator().delete_grant(deploy.clone(), acme()).await.unwrap());
    assert!(!store.as_operator().delete_grant(deploy.clone(), acme()).await.unwrap());
    assert_eq!(store.as_operator().grants(None, None).await.unwrap(), []);
    assert_eq!(store.as_operator().grants(None, Some(acme())).await.unwrap(), []);
    assert_eq!(store.principal_state(vec![deploy]).await.unwrap().grants, []);
}

#[tokio::test]
async fn of_two_editors_who_saw_the_same_grant_only_the_first_changes_or_deletes_it() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let (store, deploy) = (test.store().as_operator(), principal(&role("deploy")));
    let acme = || "acme".parse().unwrap();
    let seen = grant(&role("deploy"), "acme", &[Download], None);
    let tag = GrantTag::of(&seen);
    let add = |permission| Change { set: permissions(&[permission]), ..Change::default() };
    let absent = store.update_grant_if(deploy.clone(), acme(), add(Upload), &tag).await.unwrap();
    assert_eq!(absent, Updated::Absent);
    let absent = store.delete_grant_if(deploy.clone(), acme(), &tag).await.unwrap();
    assert_eq!(absent, Deleted::Absent);
    store.create_grant(seen.clone(), None).await.unwrap();
    let (first, second) = tokio::join!(
        store.update_grant_if(deploy.clone(), acme(), add(Upload), &tag),
        store.update_grant_if(deploy.clone(), acme(), add(CreateGrant), &tag),
    );
    let (changed, refused) = match (first.unwrap(), second.unwrap()) {
        (Updated::Done { after, .. }, refused) | (refused, Updated::Done { after, .. }) => {
            (after, refused)
        }
        neither => panic!("{neither:?}"),
    };
    assert_eq!(refused, Updated::Differs(changed.clone()));
    let deleted = store.delete_grant_if(deploy.clone(), acme(), &tag).await.unwrap();
    assert_eq!(deleted, Deleted::Differs(changed.clone()));
    assert_eq!(store.grants(None, None).await.unwrap(), std::slice::from_ref(&changed));
    let tag = GrantTag::of(&changed);
    let deleted = store.delete_grant_if(deploy.clone(), acme(), &tag).await.unwrap();
    assert_eq!(deleted, Deleted::Done(Some(changed.clone())));
    let again = Grant { created_at: NOW + 1, ..changed };
    store.create_grant(again.clone(), None).await.unwrap();
    let deleted = store.delete_grant_if(deploy, acme(), &tag).await.unwrap();
    assert_eq!(deleted, Deleted::Differs(again), "one that was created again is another");
}

#[tokio::test]
async fn a_name_that_differs_by_case_alone_is_free_again_when_its_last_grant_is_gone() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let store = test.store();
    test.grant(&role("deploy"), "a", &[Download]).await;
    test.grant(&role("deploy"), "b", &[Download]).await;
    let twin = || grant(&role("Deploy"), "a", &[Download], None);
    let differs = Created::DiffersByCase(principal(&role("deploy")));
    assert_eq!(store.as_operator().create_grant(twin(), None).await.unwrap(), differs);
    test.delete_grant(&role("deploy"), "a").await;
    assert_eq!(store.as_operator().create_grant(twin(), None).await.unwrap(), differs);
    test.delete_grant(&role("deploy"), "b").await;
    let created = store.as_operator().create_grant(twin(), None).await.unwrap();
    assert_eq!(created, Created::Done { grant: twin(), new_namespace: false });
    let back = grant(&role("deploy"), "a", &[Download], None);
    assert_eq!(
        store.as_operator().create_grant(back, None).await.unwrap(),
        Created::DiffersByCase(principal(&role("Deploy")))
    );
}

#[tokio::test]
async fn lists_are_in_order_and_grants_that_are_made_at_once_are_all_there() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let store: Arc<Store> = Arc::new(test.store().clone());
    let made: Vec<_> = (0..12)
        .map(|n| {
            let (store, on) =
                (Arc::clone(&store), if n == 0 { "*".to_owned() } else { format!("n{n:02}") });
            tokio::spawn(async move {
                store
                    .as_operator()
                    .create_grant(grant(&role("deploy"), &on, &[Download], None), None)
                    .await
                    .unwrap()
            })
        })
        .collect();
    for task in made {
        assert!(matches!(task.await.unwrap(), Created::Done { .. }));
    }
    test.grant(&role("a"), "n01", &[Download]).await;
    test.grant(&role("deploy-2"), "n01", &[Download]).await;
    test.grant("account:aws:111122223333", "n01", &[Download]).await;
    let all = store.as_operator().grants(None, None).await.unwrap();
    assert_eq!(all.len(), 15);
    let mut sorted = all.clone();
    sorted.sort_by_key(|grant| (grant.principal.to_string(), grant.namespace.to_string()));
    assert_eq!(describe(&all), describe(&sorted));
    assert_eq!(
        describe(
            &store.as_operator().grants(Some(principal(&role("deploy"))), None).await.unwrap()
        )
        .len(),
        12
    );
    let on_one: Vec<String> = store
        .as_operator()
        .grants(None, Some("n01".parse().unwrap()))
        .await
        .unwrap()
        .iter()
        .map(|grant| grant.principal.to_string())
        .collect();
    assert_eq!(
        on_one,
        ["account:aws:111122223333".to_owned(), role("a"), role("deploy"), role("deploy-2")]
    );
}

#[tokio::test]
async fn the_first_mint_sets_a_pin_once_and_a_disabled_pin_is_never_set() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let store = test.store();
    let id = |text| UniqueId::parse(text).unwrap();
    let (old, new) = (id("AROAEXAMPLEEXAMPLE222"), id("AROAOTHEROTHEROTHER22"));
    let claim = async |digest: u8, who: &str, pin: &UniqueId| {
        store
            .as_operator()
            .claim([digest; 32], NOW + 900, Some((principal(&role(who)), pin.clone())), NOW)
            .await
            .unwrap()
    };
    assert!(matches!(claim(1, "deploy", &old).await, SingleUseOutcome::Recorded(_)));
    assert!(matches!(claim(1, "deploy", &old).await, SingleUseOutcome::Replayed));
    assert!(
        matches!(claim(2, "deploy", &old).await, SingleUseOutcome::Recorded(_)),
        "the same id again"
    );
    assert!(matches!(claim(3, "deploy", &new).await, SingleUseOutcome::PinnedToAnother));
    assert!(store.as_operator().unpin(principal(&role("deploy"))).await.unwrap());
    assert!(!store.as_operator().unpin(principal(&role("deploy"))).await.unwrap());
    assert!(matches!(claim(4, "deploy", &new).await, SingleUseOutcome::Recorded(_)));
    for (who, pin, stored) in [
        ("set", Pin::Pinned(old.clone()), Pin::Pinned(old.clone())),
        ("none", Pin::Disabled, Pin::Disabled),
        ("open", Pin::Unpinned, Pin::Unpinned),
    ] {
        let wanted = grant(&role(who), "acme", &[Download], None);
        let created = store.as_operator().create_grant(wanted.clone(), Some(pin)).await.unwrap();
        assert!(matches!(created, Created::Done { grant, .. } if grant == wanted), "{who}");
        assert_eq!(
            store.principal_state(vec![principal(&role(who))]).await.unwrap().pin,
            stored,
            "{who}"
        );
    }
    assert!(matches!(claim(5, "none", &new).await, SingleUseOutcome::Recorded(_)));
    assert_eq!(
        store.principal_state(vec![principal(&role("none"))]).await.unwrap().pin,
        Pin::Disabled
    );
    assert!(matches!(claim(6, "set", &new).await, SingleUseOutcome::PinnedToAnother));
    for other in [Pin::Disabled, Pin::Pinned(new)] {
        let another = grant(&role("set"), "other", &[Download], None);
        assert_eq!(
            store.as_operator().create_grant(another, Some(other)).await.unwrap(),
            Created::PinnedOtherwise(Pin::Pinned(old.clone()))
        );
    }
    let again = grant(&role("set"), "acme", &[Download], None);
    assert_eq!(
        store.as_operator().create_grant(again.clone(), None).await.unwrap(),
        Created::Exists { grant: again, pin: Pin::Pinned(old.clone()) }
    );
    for (on, same) in [("same", Some(Pin::Pinned(old))), ("none", None)] {
        let wanted = grant(&role("set"), on, &[Download], None);
        let created = store.as_operator().create_grant(wanted.clone(), same).await.unwrap();
        assert_eq!(created, Created::Done { grant: wanted, new_namespace: true });
    }
}

#[tokio::test]
async fn what_is_revoked_is_known_until_it_can_be_forgotten_or_is_lifted() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let (store, deploy, account) =
        (test.store(), principal(&role("deploy")), principal("account:aws:111122223333"));
    let (first, second) = (TokenId::random().unwrap(), TokenId::random().unwrap());
    store.as_operator().revoke_token(first.clone(), 1000).await.unwrap();
    for (now, remembered) in [(1000 + MAX_TTL + 60 + DAY, true), (1000 + MAX_TTL + 61 + DAY, false)]
    {
        store.as_operator().revoke_token(second.clone(), now).await.unwrap();
        let state = store.principal_state(vec![deploy.clone()]).await.unwrap();
        assert_eq!(
            (state.revoked_tokens.contains(&first), state.revoked_tokens.contains(&second)),
            (remembered, true),
            "{now}"
        );
        assert_eq!(
            store.as_operator().revocations().await.unwrap().tokens.len(),
            if remembered { 2 } else { 1 }
        );
    }
    assert!(!store.as_operator().lift(account.clone()).await.unwrap());
    assert!(store.as_operator().revoke_principal(account.clone(), 5).await.unwrap());
    assert!(
        !store.as_operator().revoke_principal(account.clone(), 9).await.unwrap(),
        "the time of the first revocation counts"
    );
    assert_eq!(store.as_operator().revocations().await.unwrap().principals[0].revoked_at, 5);
    assert_eq!(
        store.principal_state(vec![deploy.clone(), account.clone()]).await.unwrap().revoked,
        Some(account.clone())
    );
    assert_eq!(store.principal_state(vec![deploy.clone()]).await.unwrap().revoked, None);
    assert!(store.as_operator().lift(account.clone()).await.unwrap());
    assert_eq!(store.principal_state(vec![deploy, account]).await.unwrap().revoked, None);
}

#[tokio::test]
async fn a_namespace_has_one_record_from_its_first_grant_or_from_an_operator() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let store = test.store().clone();
    let named = |text: &str| text.parse::<Namespace>().unwrap();
    let known = async |text: &str| store.as_operator().namespace(&named(text)).await.unwrap();
    assert_eq!(known("acme").await, None);
    let record = |text: &str, at: i64, by: &str| NamespaceRecord {
        namespace: named(text),
        created_by: by.to_owned(),
        created_at: at,
        limits: NamespaceLimits::default(),
        sources: AllowedSources::default(),
    };
    // By an operator: the first creation counts, and its record stays.
    let made = store.as_operator().create_namespace(named("tools"), NOW).await.unwrap();
    let NamespaceCreated::Done(tools) = made else { panic!("{made:?}") };
    let again = store.as_operator().create_namespace(named("tools"), NOW + 5).await.unwrap();
    assert_eq!(again, NamespaceCreated::Exists(tools.clone()));
    // By a grant: only the first reports a new namespace. A grant on all namespaces creates none.
    for (who, on, expected) in [
        ("deploy", "*", false),
        ("deploy", "tools", false),
        ("deploy", "acme", true),
        ("other", "acme", false),
    ] {
        let wanted = grant(&role(who), on, &[Download], None);
        let created = store.as_operator().create_grant(wanted.clone(), None).await.unwrap();
        assert_eq!(created, Created::Done { grant: wanted, new_namespace: expected }, "{who} {on}");
    }
    let summary = |record: NamespaceRecord, grants: usize| NamespaceSummary {
        providers: 0,
        namespace: record.namespace.clone(),
        record: Some(record),
        grants,
        modules: 0,
        usage: None,
    };
    let expected = [summary(record("acme", NOW, "test"), 2), summary(tools, 1)];
    assert_eq!(store.as_operator().namespaces().await.unwrap(), expected);
    assert_eq!(known("acme").await.as_ref(), Some(&expected[0]));
    // The namespace exists even without grants.
    test.delete_grant(&role("deploy"), "acme").await;
    test.delete_grant(&role("other"), "acme").await;
    assert_eq!(known("acme").await, Some(summary(record("acme", NOW, "test"), 0)));
}

#[tokio::test]
async fn of_twenty_who_create_a_namespace_by_a_grant_one_has_created_it() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let store = Arc::new(test.store().clone());
    let tasks = (0..20).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let wanted = grant(&role(&format!("deploy-{n}")), "acme", &[Download], None);
            store.as_operator().create_grant(wanted, None).await.unwrap()
        })
    });
    let mut new = 0;
    for task in tasks.collect::<Vec<_>>() {
        let Created::Done { new_namespace, .. } = task.await.unwrap() else { panic!("created") };
        new += usize::from(new_namespace);
    }
    assert_eq!(new, 1);
    let namespaces = store.as_operator().namespaces().await.unwrap();
    assert_eq!((namespaces.len(), namespaces[0].grants), (1, 20));
}

#[tokio::test]
async fn a_namespace_with_a_module_and_no_record_is_known_and_its_next_grant_adds_the_record() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let everywhere = grant(&role("deploy"), "*", &[Download, Upload], None);
    test.store().as_operator().create_grant(everywhere, None).await.unwrap();
    let token = test.token(&deploy(), &[Download, Upload]).await;
    assert_eq!(test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &token).await.status, 201);
    let namespaces = test.store().as_operator().namespaces().await.unwrap();
    let [acme] = &namespaces[..] else { panic!("{namespaces:?}") };
    assert_eq!((acme.record.as_ref(), acme.grants, acme.modules), (None, 0, 1));
    let wanted = grant(&role("other"), "acme", &[Download], None);
    let created = test.store().as_operator().create_grant(wanted.clone(), None).await.unwrap();
    assert_eq!(created, Created::Done { grant: wanted, new_namespace: false });
    let acme = test.store().as_operator().namespace(&acme.namespace).await.unwrap().unwrap();
    assert_eq!((acme.record.map(|record| record.created_at), acme.grants), (Some(NOW), 1));
}
