//! Tests of decisions about callers that AWS's own JWT named: they show no unique id, and have groups.

use serde_json::{Value, json};
use stile_protocol::exchange::{Namespaces, RequestDocument};
use stile_protocol::names::Permission::Download;
use stile_protocol::names::Permissions;
use stile_protocol::region::Partition;

use super::decide::allowed;
use super::tests::{grant, namespace, principal, state_of};
use super::{Entitlement, Pin, PrincipalState, Refusal, entitle};
use crate::identity::Identity;
use crate::principal::UniqueId;
use crate::token::{Claims, MAX_GROUPS};
use crate::trust::{AwsAccounts, AwsCaller, LiveTrust, TrustCheck, TrustStamp};

const DEPLOY: &str = "aws:111122223333:role/deploy";
const TRUST: &str = "OIDCABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn stamp(without_pin: bool) -> TrustStamp {
    let id = UniqueId::parse(TRUST).unwrap();
    TrustStamp { name: "aws".parse().unwrap(), id, revision: 2, without_pin }
}

fn caller(without_pin: bool) -> Identity {
    role_at("arn:aws:iam::111122223333:role/ci/deploy", without_pin)
}

fn role_at(arn: &str, without_pin: bool) -> Identity {
    let claims = json!({
        "sub": arn,
        "https://sts.amazonaws.com/": {
            "aws_account": "111122223333",
            "org_id": "o-a1b2c3d4e5",
            "principal_tags": {"team": "data"},
        },
    });
    let Value::Object(claims) = claims else { unreachable!("it is an object") };
    let of = AwsAccounts::One(Partition::Aws, "111122223333".to_owned());
    Identity::from_aws(stamp(without_pin), AwsCaller::read(&of, &claims).unwrap(), arn)
}

fn state(who: &str, pin: Pin) -> PrincipalState {
    let live = LiveTrust { id: UniqueId::parse(TRUST).unwrap(), revision: 2 };
    let grants = vec![grant(who, "acme", &[Download], None)];
    PrincipalState { pin, trust: Some(live), ..state_of(grants) }
}

fn pinned() -> Pin {
    Pin::Pinned(UniqueId::parse("AROAEXAMPLEEXAMPLE222").unwrap())
}

fn mint(caller: Identity, state: &PrincipalState) -> Result<Entitlement, Refusal> {
    let namespaces = Namespaces::List(vec![namespace("acme")]);
    let permissions = Permissions::NONE.with(Download);
    entitle(caller, &RequestDocument::new(3600, namespaces, permissions).unwrap(), state, 0)
}

fn claims(caller: Identity, state: &PrincipalState) -> Claims {
    mint(caller, state).unwrap().claims(3600, 0).unwrap()
}

fn may_read(claims: &Claims, state: &PrincipalState) -> Result<(), Refusal> {
    allowed(claims, state, &namespace("acme"), Download, 0)
}

#[test]
fn a_pinned_caller_is_refused_unless_its_trust_gives_up_pins() {
    let refused = mint(caller(false), &state(DEPLOY, pinned())).unwrap_err();
    assert!(matches!(refused, Refusal::NoUniqueId { .. }), "{refused}");
    for (without_pin, pin) in [(false, Pin::Unpinned), (false, Pin::Disabled), (true, pinned())] {
        let state = state(DEPLOY, pin.clone());
        let entitlement = mint(caller(without_pin), &state).unwrap();
        assert_eq!(entitlement.new_pin(), None, "it has no id to pin");
        let claims = entitlement.claims(3600, 0).unwrap();
        assert_eq!((claims.unique_id(), claims.trust()), (None, Some(&stamp(without_pin))));
        assert_eq!(may_read(&claims, &state), Ok(()), "{pin:?}");
    }
}

#[test]
fn a_later_pin_ends_the_token_of_a_caller_that_shows_no_id() {
    let token = claims(caller(false), &state(DEPLOY, Pin::Unpinned));
    let refused = may_read(&token, &state(DEPLOY, pinned())).unwrap_err();
    assert!(matches!(refused, Refusal::NoUniqueId { .. }), "{refused}");
    let waived = claims(caller(true), &state(DEPLOY, Pin::Unpinned));
    assert_eq!(may_read(&waived, &state(DEPLOY, pinned())), Ok(()));
    // A grant that is not by name does not depend on the pin.
    let by_account = state("account:aws:111122223333", pinned());
    assert_eq!(may_read(&claims(caller(false), &by_account), &by_account), Ok(()));
}

#[test]
fn a_trust_that_changed_or_went_gives_and_keeps_no_token() {
    let good = state(DEPLOY, Pin::Unpinned);
    let token = claims(caller(false), &good);
    assert_eq!(good.check_trust(&token), TrustCheck::Same);
    let other = UniqueId::parse("OIDCZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ").unwrap();
    let live = |id: &UniqueId, revision| Some(LiveTrust { id: id.clone(), revision });
    for trust in [None, live(&stamp(false).id, 3), live(&other, 2)] {
        let changed = PrincipalState { trust, ..good.clone() };
        let refused = mint(caller(false), &changed).unwrap_err();
        assert!(matches!(refused, Refusal::TrustChanged { .. }), "{refused}");
        assert_eq!(changed.check_trust(&token), TrustCheck::Changed);
    }
    // A grant to the name of the trust is not one to its callers.
    let refused = mint(caller(true), &state("oidc:aws", Pin::Disabled)).unwrap_err();
    assert!(matches!(refused, Refusal::NoUniqueId { .. } | Refusal::Recreated { .. }), "{refused}");
}

#[test]
fn a_role_that_only_looks_like_that_of_a_permission_set_never_gets_its_grants() {
    let set = "sso:aws:111122223333/Admin";
    let account = state("account:aws:111122223333", Pin::Unpinned);
    let of_set = state(set, Pin::Unpinned);
    let role = |path: &str| {
        let name = "AWSReservedSSO_Admin_0123456789abcdef";
        role_at(&format!("arn:aws:iam::111122223333:role/{path}{name}"), false)
    };
    for path in ["", "dev/", "aws-reserved/sso.amazonaws.com.evil/"] {
        let token = claims(role(path), &account);
        assert!(!token.holder().principals().contains(&principal(set)), "{path}");
        let groups = role(path).in_groups(&[], MAX_GROUPS);
        assert!(!claims(groups, &account).holder().principals().contains(&principal(set)));
    }
    let genuine = role("aws-reserved/sso.amazonaws.com/eu-west-1/").in_groups(&[], MAX_GROUPS);
    let token = claims(genuine, &of_set);
    assert!(token.holder().principals().contains(&principal(set)));
    assert_eq!(may_read(&token, &of_set), Ok(()));
}

#[test]
fn neither_other_groups_nor_namespaces_push_out_a_revoked_group_or_the_organization() {
    let revoked = principal("tag:team=data");
    let known: Vec<_> = [revoked.clone()]
        .into_iter()
        .chain((0..20).map(|n| principal(&format!("account:aws:111122223333/tag:team{n}=data"))))
        .collect();
    let arn = "arn:aws:iam::111122223333:role/deploy";
    let tags: serde_json::Map<String, Value> = (0..20)
        .map(|n| (format!("team{n}"), json!("data")))
        .chain([("team".to_owned(), json!("data"))])
        .collect();
    let Value::Object(of_many) = json!({
        "sub": arn,
        "https://sts.amazonaws.com/": {
            "aws_account": "111122223333", "org_id": "o-a1b2c3d4e5", "principal_tags": tags,
        },
    }) else {
        unreachable!("it is an object")
    };
    let of = AwsAccounts::One(Partition::Aws, "111122223333".to_owned());
    let caller = Identity::from_aws(stamp(false), AwsCaller::read(&of, &of_many).unwrap(), arn)
        .in_groups(&known, MAX_GROUPS);
    assert_eq!(caller.groups().len(), MAX_GROUPS);
    assert!(caller.principals().contains(&revoked));

    let namespaces: Vec<_> =
        (0..32).map(|n| namespace(&format!("{}{n:02}", "n".repeat(62)))).collect();
    let everywhere: Vec<_> = namespaces
        .iter()
        .map(|one| grant("account:aws:111122223333", one.as_str(), &[Download], None))
        .collect();
    let state = PrincipalState { grants: everywhere, ..state(DEPLOY, Pin::Unpinned) };
    let permissions = Permissions::NONE.with(Download);
    let document = RequestDocument::new(3600, Namespaces::List(namespaces), permissions).unwrap();
    let token = entitle(caller, &document, &state, 0).unwrap().claims(3600, 0).unwrap();
    assert_eq!(token.via()[0], principal("org:o-a1b2c3d4e5"));
}

#[test]
fn a_token_names_the_groups_of_its_caller_that_have_grants() {
    let known =
        ["tag:team=data", "tag:team=security", "ou:o-a1b2c3d4e5/r-ab12", "org:o-b1b2c3d4e5"];
    let known = known.map(principal);
    let grouped = caller(false).in_groups(&known, MAX_GROUPS);
    let texts = |principals: &[crate::principal::Principal]| {
        principals.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let groups = ["org:o-a1b2c3d4e5", "tag:team=data"];
    assert_eq!(texts(grouped.groups()), groups);
    assert_eq!(
        texts(grouped.principals()),
        [DEPLOY, "account:aws:111122223333", "oidc:aws", groups[0], groups[1]]
    );
    let state = state("tag:team=data", pinned());
    let token = claims(grouped.clone(), &state);
    assert_eq!(texts(token.via()), groups);
    assert_eq!(may_read(&token, &state), Ok(()), "a group has no pin");
    assert_eq!(caller(false).in_groups(&known, 1).groups().len(), 1);
    let revoked = Some(principal("tag:team=data"));
    let refused = mint(grouped, &PrincipalState { revoked, ..state }).unwrap_err();
    assert!(matches!(refused, Refusal::Revoked { .. }), "{refused}");
}
