//! Tests of delegated grants: ways to raise oneself or others, as one table, and what is allowed.

use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::{CreateGrant, DeleteGrant, Download, Upload};

use super::super::tests::{grant, namespace, principal, state_of};
use super::super::{Pin, Refusal};
use super::*;
use crate::principal::UniqueId;

const GIVER: &str = "aws:111122223333:role/giver";
const OTHER: &str = "aws:444455556666:role/other";
const ACCOUNT: &str = "account:aws:111122223333";
const NOW: i64 = 1000;

/// The grants of the bearer: principal, namespace, permissions and end.
type Held = &'static [(&'static str, &'static str, &'static [Permission], Option<i64>)];

/// The permissions and the end of a grant.
type Terms = (&'static [Permission], Option<i64>);

/// What a bearer tries with the grant of a principal.
#[derive(Debug, Clone, Copy)]
enum Attempt {
    Create(Terms),
    /// From the first terms to the second.
    Change(Terms, Terms),
    Delete,
}

use Attempt::{Change, Create, Delete};

/// The scope of a token: namespaces, where `*` is all, and permissions.
type Scope = (&'static str, &'static [Permission]);

const ALL: &[Permission] = &Permission::ALL;
const ANY: Scope = ("*", ALL);

/// Everything on `acme`, without an end.
const OWNER: Held = &[(GIVER, "acme", ALL, None)];

/// Everything on `acme`, until 2000.
const UNTIL: Held = &[(GIVER, "acme", ALL, Some(2000))];

/// Only `create_grant` and `download` on `acme`.
const GIVES: Held = &[(GIVER, "acme", &[CreateGrant, Download], None)];

/// Only `delete_grant` and `download` on `acme`.
const TAKES: Held = &[(GIVER, "acme", &[DeleteGrant, Download], None)];

fn acme() -> GrantNamespace {
    "acme".parse().unwrap()
}

/// Returns the outcome of an attempt, in few words.
fn outcome(scope: Scope, held: Held, pin: &Pin, whose: &str, on: &str, attempt: Attempt) -> String {
    let namespaces = match scope.0 {
        "*" => Namespaces::All,
        list => Namespaces::List(list.split(',').map(namespace).collect()),
    };
    let permissions = scope.1.iter().copied().collect();
    let claims = Claims::for_test(principal(GIVER), namespaces, permissions, 0, NOW + 60);
    let grants = held.iter().map(|(who, on, may, end)| grant(who, on, may, *end)).collect();
    let state = PrincipalState { pin: pin.clone(), ..state_of(grants) };
    let needs = if matches!(attempt, Delete) { DeleteGrant } else { CreateGrant };
    let tried = delegate(&claims, &state, principal(whose), &on.parse().unwrap(), needs, NOW);
    let set = |permissions: &[Permission]| permissions.iter().copied().collect();
    let tried = tried.and_then(|access| match attempt {
        Create((may, end)) => access.create(set(may), end).map(drop),
        Change((may, end), (then, later)) => {
            access.change(&grant(whose, on, may, end), set(then), later).map(drop)
        }
        Delete => access.may_take(),
    });
    match tried {
        Ok(()) => "allowed".to_owned(),
        Err(DelegationRefusal::Refused(Refusal::NoGrant { permission, .. })) => {
            format!("no {permission}")
        }
        Err(DelegationRefusal::Refused(Refusal::OutOfScope { permission, .. })) => {
            format!("scope {permission}")
        }
        Err(DelegationRefusal::Refused(Refusal::Recreated { .. } | Refusal::NoUniqueId { .. })) => {
            "recreated".to_owned()
        }
        Err(DelegationRefusal::Refused(Refusal::Revoked { .. })) => "revoked".to_owned(),
        Err(DelegationRefusal::Refused(Refusal::TrustChanged { .. })) => "trust".to_owned(),
        Err(DelegationRefusal::TooLong { permission, until, .. }) => {
            format!("{permission} until {until}")
        }
        Err(
            DelegationRefusal::AllNamespaces
            | DelegationRefusal::Account(_)
            | DelegationRefusal::Group(_),
        ) => "operator".to_owned(),
        Err(DelegationRefusal::Ended(_)) => "ended".to_owned(),
        Err(DelegationRefusal::NoPermission) => "nothing".to_owned(),
        Err(
            other @ (DelegationRefusal::NeverOfService(_)
            | DelegationRefusal::ListsAllNamespaces
            | DelegationRefusal::ExplainsAllNamespaces
            | DelegationRefusal::LastGrantGiver { .. }),
        ) => panic!("{other}"),
    }
}

/// A token, the grants of its holder, whose grant on what is tried how, and the outcome.
type Row = (Scope, Held, &'static str, &'static str, Attempt, &'static str);

fn check(attempts: &[Row]) {
    for (scope, held, whose, on, attempt, expected) in attempts {
        let found = outcome(*scope, held, &Pin::Unpinned, whose, on, *attempt);
        assert_eq!(found, *expected, "{scope:?} {held:?} {whose} {on} {attempt:?}");
    }
}

#[test]
#[rustfmt::skip]
fn nobody_raises_themselves_or_others() {
    let attempts: &[Row] = &[
        // Without a right to give.
        (ANY, &[], OTHER, "acme", Create((&[Download], None)), "no create_grant"),
        (ANY, TAKES, OTHER, "acme", Create((&[Download], None)), "no create_grant"),
        (ANY, &[(GIVER, "acme", &[Download, Upload], None)], GIVER, "acme", Create((&[CreateGrant], None)), "no create_grant"),
        (ANY, &[(GIVER, "acme", ALL, Some(NOW))], OTHER, "acme", Create((&[Download], Some(NOW + 1))), "no create_grant"),
        (ANY, &[(GIVER, "acme", ALL, Some(NOW))], GIVER, "acme", Change((ALL, Some(NOW)), (ALL, None)), "no create_grant"),
        (ANY, &[(GIVER, "acme", ALL, Some(NOW - 1))], OTHER, "acme", Delete, "no delete_grant"),
        // On another namespace.
        (ANY, OWNER, GIVER, "acme-prod", Create((&[Download], None)), "no create_grant"),
        (ANY, OWNER, OTHER, "acm", Create((&[Download], None)), "no create_grant"),
        (ANY, OWNER, OTHER, "other", Delete, "no delete_grant"),
        (ANY, OWNER, GIVER, "*", Create((&[Download], None)), "operator"),
        (ANY, &[(GIVER, "*", ALL, None)], GIVER, "*", Create((&[Download], None)), "operator"),
        (ANY, &[(GIVER, "*", ALL, None)], OTHER, "*", Change((&[Download], None), (&[Upload], None)), "operator"),
        (ANY, &[(GIVER, "*", ALL, None)], OTHER, "*", Delete, "operator"),
        // For a whole account.
        (ANY, OWNER, ACCOUNT, "acme", Create((&[Download], None)), "operator"),
        (ANY, OWNER, ACCOUNT, "acme", Change((&[Download], None), (&[Upload], None)), "operator"),
        (ANY, OWNER, ACCOUNT, "acme", Delete, "operator"),
        (ANY, OWNER, "account:aws-cn:444455556666", "acme", Create((&[Download], None)), "operator"),
        // What the bearer lacks.
        (ANY, GIVES, GIVER, "acme", Create((&[Upload], None)), "no upload"),
        (ANY, GIVES, OTHER, "acme", Create((&[Download, Upload], None)), "no upload"),
        (ANY, GIVES, OTHER, "acme", Create((&[DeleteGrant], None)), "no delete_grant"),
        (ANY, GIVES, GIVER, "acme", Change((&[CreateGrant, Download], None), (ALL, None)), "no delete_grant"),
        (ANY, &[(GIVER, "acme", &[CreateGrant], None)], OTHER, "acme", Create((&[Download], None)), "no download"),
        (ANY, GIVES, OTHER, "acme", Change((&[Upload], None), (&[Download, Upload], None)), "no upload"),
        (ANY, GIVES, OTHER, "acme", Change((&[Upload], Some(1500)), (&[Upload], Some(1501))), "no upload"),
        (ANY, GIVES, OTHER, "acme", Change((&[Upload], Some(NOW)), (&[Upload], None)), "no upload"),
        (ANY, &[(GIVER, "acme", &[CreateGrant], None), (GIVER, "acme-b", &[Upload], None)], OTHER, "acme", Create((&[Upload], None)), "no upload"),
        (ANY, &[(GIVER, "acme", &[CreateGrant], None), (GIVER, "acme", &[Upload], Some(NOW))], OTHER, "acme", Create((&[Upload], None)), "no upload"),
        (ANY, &[(GIVER, "a", &[CreateGrant], None), (GIVER, "b", &[Upload], None)], OTHER, "b", Create((&[Upload], None)), "no create_grant"),
        // Outside of the scope of the token.
        (("*", &[Download]), OWNER, OTHER, "acme", Create((&[Download], None)), "scope create_grant"),
        (("*", &[CreateGrant]), OWNER, OTHER, "acme", Create((&[Download], None)), "scope download"),
        (("*", &[CreateGrant, Download]), OWNER, GIVER, "acme", Create((ALL, None)), "scope delete_grant"),
        (("*", &[CreateGrant, Download]), OWNER, OTHER, "acme", Change((&[Download], None), (&[Download, Upload], None)), "scope upload"),
        (("other", ALL), OWNER, OTHER, "acme", Create((&[Download], None)), "scope create_grant"),
        (("other", ALL), &[(GIVER, "*", ALL, None)], OTHER, "acme", Create((&[Download], None)), "scope create_grant"),
        (("acme,other", ALL), OWNER, OTHER, "other", Create((&[Download], None)), "no create_grant"),
        (("*", &[CreateGrant, Download]), OWNER, OTHER, "acme", Delete, "scope delete_grant"),
        (("*", &[Download, Upload]), OWNER, OTHER, "acme", Delete, "scope delete_grant"),
        (("*", &[CreateGrant, Download]), OWNER, OTHER, "acme", Change((&[Download, Upload], None), (&[Download], None)), "scope delete_grant"),
        // For longer than the bearer has it.
        (ANY, UNTIL, OTHER, "acme", Create((&[Download], None)), "create_grant until 2000"),
        (ANY, UNTIL, OTHER, "acme", Create((&[Download], Some(2001))), "create_grant until 2000"),
        (ANY, UNTIL, GIVER, "acme", Change((ALL, Some(2000)), (ALL, None)), "create_grant until 2000"),
        (ANY, UNTIL, GIVER, "acme", Change((ALL, Some(2000)), (ALL, Some(2001))), "create_grant until 2000"),
        (ANY, UNTIL, OTHER, "acme", Change((&[Download], None), (&[Download, Upload], None)), "create_grant until 2000"),
        (ANY, UNTIL, OTHER, "acme", Change((&[Upload], None), (&[Download], None)), "create_grant until 2000"),
        (ANY, &[(GIVER, "acme", &[CreateGrant], None), (GIVER, "*", &[Download], Some(1500))], OTHER, "acme", Create((&[Download], None)), "download until 1500"),
        (ANY, &[(GIVER, "acme", &[CreateGrant], None), (ACCOUNT, "acme", &[Upload], Some(1500))], OTHER, "acme", Create((&[Upload], Some(1501))), "upload until 1500"),
        (ANY, &[(GIVER, "acme", &[CreateGrant], Some(1400)), (GIVER, "acme", &[Download], Some(1500))], OTHER, "acme", Create((&[Download], Some(1500))), "create_grant until 1400"),
        (ANY, &[(GIVER, "acme", &[CreateGrant, Download], None), (ACCOUNT, "*", &[Upload], Some(1300))], OTHER, "acme", Create((&[Download, Upload], None)), "upload until 1300"),
        // Without the right to take.
        (ANY, GIVES, OTHER, "acme", Delete, "no delete_grant"),
        (ANY, GIVES, GIVER, "acme", Delete, "no delete_grant"),
        (ANY, GIVES, OTHER, "acme", Change((&[Download, Upload], None), (&[Download], None)), "no delete_grant"),
        (ANY, GIVES, OTHER, "acme", Change((&[Download], None), (&[Download], Some(1500))), "no delete_grant"),
        (ANY, GIVES, OTHER, "acme", Change((&[Upload], None), (&[Download], None)), "no delete_grant"),
        (ANY, GIVES, OTHER, "acme", Change((&[Upload], Some(1500)), (&[Download], None)), "no delete_grant"),
        // Without the right to give, but with the right to take.
        (ANY, TAKES, OTHER, "acme", Change((&[Download], None), (&[Download, DeleteGrant], None)), "no create_grant"),
        (ANY, TAKES, OTHER, "acme", Change((&[Download], Some(1500)), (&[Download], None)), "no create_grant"),
        (ANY, TAKES, OTHER, "acme", Change((&[Upload], None), (&[Download], None)), "no create_grant"),
        (ANY, TAKES, OTHER, "acme", Change((&[Download, Upload], Some(1500)), (&[Download], Some(1600))), "no create_grant"),
        // Nothing, or something that has ended.
        (ANY, OWNER, OTHER, "acme", Create((&[], None)), "nothing"),
        (ANY, OWNER, OTHER, "acme", Change((&[Download], None), (&[], None)), "nothing"),
        (ANY, OWNER, OTHER, "acme", Create((&[Download], Some(NOW))), "ended"),
        (ANY, OWNER, OTHER, "acme", Change((&[Download], None), (&[Download], Some(NOW))), "ended"),
        (ANY, OWNER, OTHER, "acme", Change((&[Download], Some(NOW)), (&[Download, Upload], Some(NOW))), "ended"),
    ];
    assert!(attempts.len() >= 40, "{}", attempts.len());
    check(attempts);
}

#[test]
#[rustfmt::skip]
fn who_has_a_right_gives_and_takes_within_it() {
    check(&[
        (ANY, OWNER, OTHER, "acme", Create((ALL, None)), "allowed"),
        (ANY, OWNER, "sso:aws:444455556666/Admin", "acme", Create((&[Download], None)), "allowed"),
        (ANY, OWNER, "aws:444455556666:user/alice", "acme", Create((&[Download], Some(NOW + 1))), "allowed"),
        (ANY, UNTIL, OTHER, "acme", Create((&[Download], Some(2000))), "allowed"),
        (("acme", ALL), OWNER, OTHER, "acme", Create((&[Download], None)), "allowed"),
        (("*", &[CreateGrant, Download]), OWNER, OTHER, "acme", Create((&[Download], None)), "allowed"),
        (ANY, &[(GIVER, "*", ALL, None)], OTHER, "new", Create((&[Download], None)), "allowed"),
        (ANY, &[(ACCOUNT, "*", &[Download], None), (GIVER, "acme", &[CreateGrant], None)], OTHER, "acme", Create((&[Download], None)), "allowed"),
        // Several grants cover the namespace, and the latest end of them counts.
        (ANY, &[(GIVER, "acme", ALL, Some(2000)), (ACCOUNT, "*", ALL, Some(3000))], OTHER, "acme", Create((&[Upload], Some(3000))), "allowed"),
        (ANY, GIVES, OTHER, "acme", Change((&[Download], Some(1500)), (&[Download], Some(1600))), "allowed"),
        (ANY, GIVES, OTHER, "acme", Change((&[CreateGrant], None), (&[CreateGrant, Download], None)), "allowed"),
        (ANY, TAKES, OTHER, "acme", Change((ALL, None), (&[Upload], Some(1500))), "allowed"),
        (ANY, TAKES, OTHER, "acme", Change((ALL, Some(NOW - 1)), (&[Upload], Some(NOW - 1))), "allowed"),
        (ANY, TAKES, OTHER, "acme", Delete, "allowed"),
        (("acme", &[DeleteGrant]), TAKES, OTHER, "acme", Delete, "allowed"),
        (ANY, OWNER, OTHER, "acme", Change((&[Upload], Some(1500)), (&[Download], None)), "allowed"),
        // A change that changes nothing needs one of both rights.
        (ANY, GIVES, OTHER, "acme", Change((ALL, None), (ALL, None)), "allowed"),
        (ANY, TAKES, OTHER, "acme", Change((ALL, None), (ALL, None)), "allowed"),
    ]);
}

#[test]
fn a_role_that_was_created_again_gives_only_what_its_account_has() {
    let other = Pin::Pinned(UniqueId::parse("AROAOTHEROTHEROTHER22").unwrap());
    let own = outcome(ANY, OWNER, &other, OTHER, "acme", Create((&[Download], None)));
    assert_eq!(own, "recreated");
    let held: Held =
        &[(ACCOUNT, "acme", &[CreateGrant, Download], Some(1500)), (GIVER, "acme", ALL, None)];
    let give = |terms| outcome(ANY, held, &other, OTHER, "acme", Create(terms));
    assert_eq!(give((&[Download], None)), "create_grant until 1500");
    assert_eq!(give((&[Upload], Some(1500))), "recreated");
    assert_eq!(give((&[Download], Some(1500))), "allowed");
}

#[test]
fn a_revoked_bearer_changes_no_grant() {
    let claims =
        Claims::for_test(principal(GIVER), Namespaces::All, ALL.iter().copied().collect(), 0, 3600);
    let mut state = state_of(vec![grant(GIVER, "*", ALL, None)]);
    state.revoked = Some(principal(ACCOUNT));
    let tried = delegate(&claims, &state, principal(OTHER), &acme(), CreateGrant, NOW);
    assert!(matches!(tried, Err(DelegationRefusal::Refused(Refusal::Revoked { .. }))), "{tried:?}");
}

#[test]
fn a_grant_of_a_bearer_has_its_creator_and_a_changed_grant_keeps_it() {
    let claims =
        Claims::for_test(principal(GIVER), Namespaces::All, ALL.iter().copied().collect(), 0, 3600);
    let state = state_of(vec![grant(GIVER, "acme", ALL, None)]);
    let access = delegate(&claims, &state, principal(OTHER), &acme(), CreateGrant, NOW).unwrap();
    let made = access.create(Permissions::NONE.with(Download), None).unwrap().into_grant();
    let expected = Grant {
        created_by: GIVER.to_owned(),
        created_at: NOW,
        ..grant(OTHER, "acme", &[Download], None)
    };
    assert_eq!(made, expected);
    let before = Grant { created_by: "alice".to_owned(), created_at: 7, ..made };
    let after = access.change(&before, Permissions::NONE.with(Upload), Some(2000)).unwrap();
    let expected =
        Grant { permissions: Permissions::NONE.with(Upload), expires_at: Some(2000), ..before };
    assert_eq!(after.into_grant(), expected);
}

#[test]
fn a_refusal_names_who_has_what_until_when() {
    let claims =
        Claims::for_test(principal(GIVER), Namespaces::All, ALL.iter().copied().collect(), 0, 3600);
    let state = state_of(vec![grant(GIVER, "acme", ALL, Some(2000))]);
    let access = delegate(&claims, &state, principal(OTHER), &acme(), CreateGrant, NOW).unwrap();
    let refused = access.create(Permissions::NONE.with(Download), None).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`arn:aws:iam::111122223333:role/giver` has `create_grant` on namespace `acme` until 1970-01-01T00:33:20Z, so it cannot give a permission there for longer"
    );
}
