//! Tests of explanations.

use std::collections::HashSet;

use stile_protocol::names::{Namespace, Permission, Permissions};

use super::super::StateRevisions;
use super::*;
use crate::principal::UniqueId;
use crate::token::KeyringSummary;

const NOW: i64 = 1000;
const DEPLOY: &str = "aws:111122223333:role/deploy";
const SSO: &str = "aws:111122223333:role/AWSReservedSSO_Admin_0123456789abcdef";

fn principal(text: &str) -> Principal {
    Principal::parse_stored(text).unwrap()
}

fn grant(who: &str, on: &str, expires_at: Option<i64>) -> Grant {
    let permissions = Permissions::NONE.with(Permission::Download);
    Grant {
        principal: principal(who),
        namespace: on.parse().unwrap(),
        permissions,
        expires_at,
        created_by: "x".to_owned(),
        created_at: 0,
    }
}

fn unique_id(text: &str) -> UniqueId {
    UniqueId::parse(text).unwrap()
}

fn state(grants: Vec<Grant>, pin: Pin) -> PrincipalState {
    PrincipalState {
        grants,
        pin,
        trust: None,
        revoked: None,
        revoked_tokens: HashSet::new(),
        keyring: KeyringSummary::default(),
        revisions: StateRevisions::default(),
    }
}

/// Explains `download` on `acme` for a caller with this pin.
fn explanation(caller: &str, id: Option<&str>, pin: Pin, all: &[Grant]) -> Explanation {
    explanation_with(caller, id, pin, all, &[])
}

/// Explains the same in a store with these revoked principals.
fn explanation_with(
    caller: &str,
    id: Option<&str>,
    pin: Pin,
    all: &[Grant],
    revoked: &[&str],
) -> Explanation {
    let (caller, id) = (principal(caller), id.map(unique_id));
    let namespace = "acme".parse::<GrantNamespace>().unwrap();
    let principals = principals_of(&caller);
    let grants =
        all.iter().filter(|grant| principals.contains(&grant.principal)).cloned().collect();
    let state = state(grants, pin);
    let permission = Permission::Download;
    let revoked: Vec<_> = revoked.iter().map(|text| principal(text)).collect();
    AccessQuestion {
        caller: &caller,
        unique_id: id.as_ref(),
        namespace: (&namespace).into(),
        permission,
        token: AskedToken::default(),
        now: NOW,
    }
    .explain(&state, all, &revoked)
}

#[test]
fn the_nearest_grant_has_the_fewest_and_least_significant_differences() {
    for (caller, all, nearest, words) in [
        (DEPLOY, vec![grant("aws:111122223333:role/other", "acme", None)], None, vec![]),
        (
            DEPLOY,
            vec![
                grant("aws:999922223333:role/deploy", "acme", None),
                grant("aws:111122223333:role/Deploy", "acme", None),
            ],
            Some(1),
            vec!["case"],
        ),
        (
            DEPLOY,
            vec![
                grant(DEPLOY, "tools", Some(NOW)),
                grant("aws:111122223333:user/deploy", "acme", None),
            ],
            Some(1),
            vec!["kind"],
        ),
        (
            DEPLOY,
            vec![grant(DEPLOY, "tools", None), grant(DEPLOY, "acme", Some(NOW))],
            Some(1),
            vec!["expiry"],
        ),
        (DEPLOY, vec![grant(DEPLOY, "acme-2", None)], Some(0), vec!["namespace"]),
        (DEPLOY, vec![grant("account:aws:999922223333", "*", None)], Some(0), vec!["account"]),
        (
            SSO,
            vec![grant("sso:aws-us-gov:111122223333/Admin", "acme", None)],
            Some(0),
            vec!["partition"],
        ),
    ] {
        let Explanation::No(found) = explanation(caller, None, Pin::Unpinned, &all) else {
            panic!("{caller} has access through {all:?}")
        };
        let expected = nearest.map(|at| all[at].clone());
        assert_eq!(found.as_ref().map(|near| near.grant.clone()), expected, "{all:?}");
        let found: Vec<_> =
            found.iter().flat_map(|near| &near.differences).map(Difference::label).collect();
        assert_eq!(found, words, "{all:?}");
    }
}

#[test]
fn the_explanation_names_each_grant_that_gives_access() {
    for (caller, who, on) in [
        (DEPLOY, DEPLOY, "acme"),
        (DEPLOY, DEPLOY, "*"),
        (DEPLOY, "account:aws:111122223333", "acme"),
        (SSO, SSO, "acme"),
        (SSO, "sso:aws:111122223333/Admin", "acme"),
        ("sso:aws:111122223333/Admin", "account:aws:111122223333", "*"),
    ] {
        let all =
            [grant(who, on, Some(NOW + 1)), grant("aws:111122223333:role/other", "acme", None)];
        let expected = Explanation::Yes { by: vec![all[0].clone()], condition: None };
        assert_eq!(explanation(caller, None, Pin::Unpinned, &all), expected, "{caller} {who} {on}");
    }
}

#[test]
fn a_pinned_id_affects_only_grants_by_name() {
    let (old, new) = ("AROAEXAMPLEEXAMPLE222", "AROAOTHEROTHEROTHER22");
    let by_name = [grant(DEPLOY, "acme", None)];
    let pin = || Pin::Pinned(unique_id(old));
    let yes = |by: &[Grant], condition: Option<&str>| Explanation::Yes {
        by: by.to_vec(),
        condition: condition.map(|id| Condition::UniqueId(Some(unique_id(id)))),
    };
    assert_eq!(explanation(DEPLOY, None, pin(), &by_name), yes(&by_name, Some(old)));
    assert_eq!(explanation(DEPLOY, Some(old), pin(), &by_name), yes(&by_name, None));
    assert_eq!(explanation(DEPLOY, Some(new), Pin::Disabled, &by_name), yes(&by_name, None));
    let no = Explanation::No(Some(NearestGrant {
        grant: by_name[0].clone(),
        differences: vec![Difference::UniqueId(Some(old.to_owned()))],
    }));
    assert_eq!(explanation(DEPLOY, Some(new), pin(), &by_name), no);
    let shown = no.without_secrets_of_operators();
    assert_eq!(shown.difference(), Some("unique_id"));
    assert!(!format!("{shown:?}").contains(old), "{shown:?}");
    let by_account = [grant("account:aws:111122223333", "acme", None)];
    assert_eq!(explanation(DEPLOY, Some(new), pin(), &by_account), yes(&by_account, None));
}

#[test]
fn an_explanation_is_true_for_every_unique_id_that_the_caller_can_have() {
    let ids = ["AROAEXAMPLEEXAMPLE222", "AROAOTHEROTHEROTHER22"].map(unique_id);
    let by_name = grant(DEPLOY, "acme", None);
    let by_account = grant("account:aws:111122223333", "*", None);
    let expired = grant("account:aws:111122223333", "acme", Some(NOW));
    let (caller, namespace) = (principal(DEPLOY), Namespace::parse("acme").unwrap());
    for grants in [
        vec![],
        vec![by_name.clone()],
        vec![by_account.clone()],
        vec![expired.clone()],
        vec![by_name.clone(), expired],
        vec![by_name, by_account],
    ] {
        for pin in [Pin::Unpinned, Pin::Disabled, Pin::Pinned(ids[0].clone())] {
            for given in [None, Some(&ids[0]), Some(&ids[1])] {
                let text = given.map(UniqueId::as_str);
                let explained = explanation(DEPLOY, text, pin.clone(), &grants);
                for id in ids.iter().filter(|id| given.is_none_or(|given| given == *id)) {
                    let state = state(grants.clone(), pin.clone());
                    let (on, permission) = (Some(&namespace), Permission::Download);
                    let allowed =
                        check_grants(&caller, Some(id), &state, on, permission, NOW).is_ok();
                    let expected = match &explained {
                        Explanation::Yes { condition: None, .. } => true,
                        Explanation::Yes { condition: Some(condition), .. } => {
                            *condition == Condition::UniqueId(Some(id.clone()))
                        }
                        Explanation::Revoked(_) | Explanation::Token(_) | Explanation::No(_) => {
                            false
                        }
                    };
                    assert_eq!(allowed, expected, "{grants:?} {pin:?} {given:?} {id:?}");
                }
            }
        }
    }
}

#[test]
fn a_revoked_part_of_a_permission_set_or_account_is_a_condition() {
    const SET: &str = "sso:aws:111122223333/Admin";
    const ACCOUNT: &str = "account:aws:111122223333";
    for (caller, revoked, none_of) in [
        (SET, vec![SSO], vec![SSO]),
        (SET, vec![DEPLOY, SSO], vec![SSO]),
        (ACCOUNT, vec![DEPLOY, SET, "aws:999922223333:role/x"], vec![DEPLOY, SET]),
        (ACCOUNT, vec!["aws-cn:111122223333:role/x"], vec![]),
        (SET, vec!["aws:111122223333:role/AWSReservedSSO_Other_0123456789abcdef"], vec![]),
        // The state of a role says whether it is revoked itself.
        (DEPLOY, vec!["aws:111122223333:role/other"], vec![]),
        (SSO, vec!["aws:111122223333:role/AWSReservedSSO_Admin_fedcba9876543210"], vec![]),
    ] {
        let all = [grant(ACCOUNT, "acme", None)];
        let none_of: Vec<_> = none_of.into_iter().map(principal).collect();
        let condition = (!none_of.is_empty()).then_some(Condition::NoneOf(none_of));
        assert_eq!(
            explanation_with(caller, None, Pin::Unpinned, &all, &revoked),
            Explanation::Yes { by: all.to_vec(), condition },
            "{caller} {revoked:?}"
        );
    }
}

#[test]
fn only_a_grant_on_all_namespaces_gives_access_to_all_namespaces() {
    let (caller, all) =
        (principal(DEPLOY), [grant(DEPLOY, "acme", None), grant(DEPLOY, "*", None)]);
    let namespace = GrantNamespace::All;
    let question = AccessQuestion {
        caller: &caller,
        unique_id: None,
        namespace: (&namespace).into(),
        permission: Permission::Download,
        token: AskedToken::default(),
        now: NOW,
    };
    for (grants, allowed) in [(&all[..1], false), (&all[..], true)] {
        let state = state(grants.to_vec(), Pin::Unpinned);
        assert_eq!(
            matches!(question.explain(&state, grants, &[]), Explanation::Yes { .. }),
            allowed
        );
    }
}
