//! Tests of records of service tokens, and of what makes one end.

use std::collections::HashSet;

use stile_protocol::names::Namespace;

use super::*;
use crate::grants::{Pin, StateRevisions};
use crate::token::KeyringSummary;
use crate::trust::LiveTrust;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "aws:111122223333:role/lead";
const ISSUER_ID: &str = "AROAEXAMPLEEXAMPLE222";

fn namespaces(list: &[&str]) -> Namespaces {
    Namespaces::List(list.iter().map(|name| Namespace::parse(name).unwrap()).collect())
}

fn terms(
    permissions: Permissions,
    networks: &[&str],
    end: i64,
) -> Result<ServiceTokenTerms, ServiceTokenError> {
    let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    let name = "renovate".parse().unwrap();
    ServiceTokenTerms::new(name, namespaces(&["acme", "tools"]), permissions, networks, end, NOW)
}

fn delegate() -> TokenIssuer {
    let principal = Principal::parse_stored(ISSUER).unwrap();
    TokenIssuer::Delegate {
        principal,
        unique_id: UniqueId::parse(ISSUER_ID).unwrap(),
        trust_revision: None,
    }
}

fn token(secret: &NewSecret, networks: &[&str], issuer: TokenIssuer) -> ServiceToken {
    let download = Permissions::NONE.with(Permission::Download);
    ServiceToken::new(secret, terms(download, networks, NOW + 100).unwrap(), issuer, NOW)
}

/// Returns the state of the issuer with a grant on each of the namespaces.
fn issuer_state(grants: &[(&str, &[Permission])]) -> PrincipalState {
    let grant = |(on, permissions): &(&str, &[Permission])| Grant {
        principal: Principal::parse_stored(ISSUER).unwrap(),
        namespace: on.parse().unwrap(),
        permissions: permissions.iter().copied().collect(),
        expires_at: None,
        created_by: "test".to_owned(),
        created_at: 0,
    };
    PrincipalState {
        grants: grants.iter().map(grant).collect(),
        pin: Pin::Pinned(UniqueId::parse(ISSUER_ID).unwrap()),
        trust: None,
        revoked: None,
        revoked_tokens: HashSet::new(),
        keyring: KeyringSummary::default(),
        revisions: StateRevisions::default(),
    }
}

const LEAD: &[Permission] = &[Permission::Download, Permission::CreateGrant];

#[test]
fn a_token_has_a_scope_an_end_and_only_rights_to_packages() {
    let (none, download) = (Permissions::NONE, Permissions::NONE.with(Permission::Download));
    for (permissions, end, expected) in [
        (none, NOW + 1, ServiceTokenError::NoPermission),
        (
            download.with(Permission::CreateGrant),
            NOW + 1,
            ServiceTokenError::Permission(Permission::CreateGrant),
        ),
        (
            none.with(Permission::DeleteGrant),
            NOW + 1,
            ServiceTokenError::Permission(Permission::DeleteGrant),
        ),
        (download, NOW, ServiceTokenError::Ended(NOW)),
        (download, NOW + MAX_LIFE + 1, ServiceTokenError::TooLong),
        (download, i64::MAX, ServiceTokenError::TooLong),
    ] {
        assert_eq!(terms(permissions, &[], end), Err(expected));
    }
    let many: Vec<String> = (0..=MAX_NAMESPACES).map(|n| format!("n{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for list in [vec![], many] {
        let refused = ServiceTokenTerms::new(
            "renovate".parse().unwrap(),
            namespaces(&list),
            download,
            Vec::new(),
            NOW + 1,
            NOW,
        );
        assert_eq!(refused, Err(ServiceTokenError::Namespaces));
    }
    let networks = vec!["10.0.0.0/8"; MAX_NETWORKS + 1];
    assert_eq!(terms(download, &networks, NOW + 1), Err(ServiceTokenError::Networks));
    assert!(terms(SERVICE_PERMISSIONS, &["10.0.0.0/8"], NOW + MAX_LIFE).is_ok());
}

#[test]
fn only_the_whole_secret_of_this_token_is_its_secret() {
    let (secret, other) = (NewSecret::random().unwrap(), NewSecret::random().unwrap());
    let token = token(&secret, &[], TokenIssuer::Operator("ops".to_owned()));
    let presented = |secret: &NewSecret| PresentedToken::parse(secret.expose()).unwrap();
    assert!(token.verify(&presented(&other)).is_none());
    let forged = text::for_test(secret.id.as_str(), &other.expose()[32..75]);
    assert!(token.verify(&PresentedToken::parse(&forged).unwrap()).is_none());
    assert!(token.verify(&presented(&secret)).is_some());
}

#[test]
fn a_token_ends_at_its_end_and_counts_only_in_its_networks() {
    let secret = NewSecret::random().unwrap();
    let presented = PresentedToken::parse(secret.expose()).unwrap();
    let anywhere = token(&secret, &[], TokenIssuer::Operator("ops".to_owned()));
    let held = anywhere.verify(&presented).unwrap();
    for now in [NOW + 100, NOW + 101, i64::MAX] {
        assert_eq!(held.claims(None, None, now), Err(ServiceTokenRefusal::Ended));
    }
    let claims = held.claims(None, None, NOW + 99).unwrap();
    assert_eq!(claims.principal().as_str(), "service:renovate");
    assert_eq!((claims.id(), claims.expires_at()), (anywhere.id(), NOW + 100));
    let here = token(&secret, &["10.0.0.0/8"], TokenIssuer::Operator("ops".to_owned()));
    let held = here.verify(&presented).unwrap();
    let at = |address: &str| held.claims(Some(address.parse().unwrap()), None, NOW);
    assert_eq!(held.claims(None, None, NOW), Err(ServiceTokenRefusal::Elsewhere));
    assert_eq!(at("192.0.2.1"), Err(ServiceTokenRefusal::Elsewhere));
    assert!(at("10.1.2.3").is_ok());
}

#[test]
fn a_delegated_token_ends_with_any_right_that_its_issuer_loses() {
    let secret = NewSecret::random().unwrap();
    let presented = PresentedToken::parse(secret.expose()).unwrap();
    let delegated = token(&secret, &[], delegate());
    let lost = |state: Option<&PrincipalState>| {
        delegated.verify(&presented).unwrap().claims(None, state, NOW).is_err()
    };
    let whole = issuer_state(&[("acme", LEAD), ("tools", LEAD)]);
    assert!(!lost(Some(&whole)));
    assert!(!lost(Some(&issuer_state(&[("*", LEAD)]))));
    assert!(lost(None), "nobody read the rights of the issuer");
    for grants in [
        &[][..],
        &[("acme", LEAD)],
        &[("acme", LEAD), ("tools", &[Permission::Download])],
        &[("acme", LEAD), ("tools", &[Permission::CreateGrant])],
    ] {
        assert!(lost(Some(&issuer_state(grants))), "{grants:?}");
    }
    let mut ended = whole.clone();
    ended.grants[0].expires_at = Some(NOW);
    let mut revoked = whole.clone();
    revoked.revoked = Some(Principal::parse_stored(ISSUER).unwrap());
    let mut recreated = whole;
    recreated.pin = Pin::Pinned(UniqueId::parse("AROAOTHEROTHEROTHER22").unwrap());
    for state in [ended, revoked, recreated] {
        assert!(lost(Some(&state)), "{state:?}");
    }
    let adopted = delegated.adopted("ops");
    assert!(adopted.verify(&presented).unwrap().claims(None, None, NOW).is_ok());
}

#[test]
fn a_token_of_a_trust_ends_when_the_trust_changes_or_is_gone_and_its_record_says_so() {
    let secret = NewSecret::random().unwrap();
    let presented = PresentedToken::parse(secret.expose()).unwrap();
    let ci = Principal::parse_stored("oidc:ci").unwrap();
    let id = UniqueId::random_trust().unwrap();
    let of_trust = |trust_revision| TokenIssuer::Delegate {
        principal: ci.clone(),
        unique_id: id.clone(),
        trust_revision,
    };
    let delegated = token(&secret, &[], of_trust(Some(3)));
    let mut whole = issuer_state(&[("acme", LEAD), ("tools", LEAD)]);
    whole.pin = Pin::Pinned(id.clone());
    for grant in &mut whole.grants {
        grant.principal = ci.clone();
    }
    let counts = |token: &ServiceToken, live: Option<(&UniqueId, i64)>| {
        let mut state = whole.clone();
        state.trust = live.map(|(id, revision)| LiveTrust { id: id.clone(), revision });
        token.verify(&presented).unwrap().claims(None, Some(&state), NOW).is_ok()
    };
    assert!(counts(&delegated, Some((&id, 3))));
    assert!(!counts(&delegated, Some((&id, 4))), "changed");
    assert!(!counts(&delegated, None), "deleted");
    assert!(!counts(&delegated, Some((&UniqueId::random_trust().unwrap(), 3))), "created again");
    assert!(!counts(&token(&secret, &[], of_trust(None)), Some((&id, 3))), "of no revision");

    let text = delegated.to_text();
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&record["delegate_rev"], &record["crit"]), (&json!(3), &json!(["delegate_rev"])));
    let read = ServiceToken::read(delegated.id(), &text).unwrap();
    assert_eq!((&read, read.to_text()), (&delegated, text));
    let mut damaged = record;
    damaged["delegate_rev"] = json!("3");
    assert_eq!(ServiceToken::read(delegated.id(), &damaged.to_string()), None);
    let adopted = read.adopted("ops");
    let record: Value = serde_json::from_str(&adopted.to_text()).unwrap();
    assert_eq!((record.get("delegate_rev"), record.get("crit")), (None, None));
}

#[test]
fn a_record_survives_a_round_trip_and_keeps_what_a_newer_program_added() {
    let secret = NewSecret::random().unwrap();
    for issuer in [TokenIssuer::Operator("ops".to_owned()), delegate()] {
        let token = token(&secret, &["10.0.0.0/8"], issuer).replaced(&secret.id, NOW + 5);
        assert_eq!(ServiceToken::read(token.id(), &token.to_text()), Some(token.clone()));
        let mut newer: Value = serde_json::from_str(&token.to_text()).unwrap();
        newer["hours"] = json!("09:00-17:00");
        let read = ServiceToken::read(token.id(), &newer.to_string()).unwrap();
        let again: Value = serde_json::from_str(&read.to_text()).unwrap();
        assert_eq!(again, newer);
        newer["crit"] = json!(["hours"]);
        assert_eq!(ServiceToken::read(token.id(), &newer.to_string()), None);
    }
}

#[test]
fn a_damaged_record_allows_nothing() {
    let secret = NewSecret::random().unwrap();
    let token = token(&secret, &[], delegate());
    let good: Value = serde_json::from_str(&token.to_text()).unwrap();
    for (field, bad) in [
        ("name", json!("Renovate")),
        ("sha256", json!("00")),
        ("namespaces", json!([])),
        ("permissions", json!([])),
        ("permissions", json!(["download", "create_grant"])),
        ("networks", json!(["10.0.0.1/8"])),
        ("networks", json!("10.0.0.0/8")),
        ("operator", json!("ops")),
        ("delegate", json!("lead")),
        ("delegate", Value::Null),
        ("delegate_id", json!("x")),
        ("delegate_id", Value::Null),
        ("created_at", json!("1")),
        ("expires_at", Value::Null),
        ("replaced_by", json!("x")),
    ] {
        let mut record = good.clone();
        record[field] = bad;
        assert_eq!(ServiceToken::read(token.id(), &record.to_string()), None, "{field}");
    }
    for text in ["", "{}", "[]", "null"] {
        assert_eq!(ServiceToken::read(token.id(), text), None, "{text}");
    }
}

/// Returns a token on these namespaces with this end. Its issuer is an operator, or a role.
fn issued(issuer: Option<&str>, on: &[&str], end: i64) -> ServiceToken {
    let issuer = match issuer {
        None => TokenIssuer::Operator("ops".to_owned()),
        Some(role) => TokenIssuer::Delegate {
            principal: Principal::parse_stored(&format!("aws:111122223333:role/{role}")).unwrap(),
            unique_id: UniqueId::parse(ISSUER_ID).unwrap(),
            trust_revision: None,
        },
    };
    let mut token = token(&NewSecret::random().unwrap(), &[], issuer);
    token.terms.namespaces = namespaces(on);
    token.terms.expires_at = end;
    token
}

#[test]
fn no_bearer_takes_the_tokens_of_another_or_of_an_operator() {
    let room = |new: &ServiceToken, held: &[ServiceToken], unreadable| {
        check_room(new, held.iter(), unreadable, NOW)
    };
    let new = issued(Some("lead"), &["acme"], NOW + 1);
    let of_lead = |end| (0..MAX_OF_ISSUER).map(move |_| issued(Some("lead"), &["tools"], end));
    let current: Vec<_> = of_lead(NOW + 1).collect();
    assert_eq!(room(&new, &current, 0), Err(TooManyTokens::OfIssuer));
    assert_eq!(room(&new, &current[1..], 0), Ok(()));
    assert_eq!(room(&new, &of_lead(NOW).collect::<Vec<_>>(), 0), Ok(()), "they have ended");
    let other = issued(Some("other"), &["acme", "tools"], NOW + 1);
    let full = TooManyTokens::OnNamespace(Namespace::parse("tools").unwrap());
    assert_eq!(room(&other, &current, 0), Err(full));
    assert_eq!(room(&issued(Some("other"), &["acme"], NOW + 1), &current, 0), Ok(()));
    assert_eq!(room(&issued(None, &["tools"], NOW + 1), &current, 0), Ok(()));
    let of_operators: Vec<_> = (0..MAX_SERVICE_TOKENS - RESERVED_FOR_OPERATORS)
        .map(|_| issued(None, &["acme"], NOW + 1))
        .collect();
    assert_eq!(room(&new, &of_operators, 0), Err(TooManyTokens::InRegistry));
    assert_eq!(room(&new, &of_operators[1..], 1), Err(TooManyTokens::InRegistry));
    assert_eq!(room(&new, &of_operators[1..], 0), Ok(()));
    let operator = issued(None, &["acme"], NOW + 1);
    assert_eq!(room(&operator, &of_operators, RESERVED_FOR_OPERATORS - 1), Ok(()));
    let full = room(&operator, &of_operators, RESERVED_FOR_OPERATORS);
    assert_eq!(full, Err(TooManyTokens::InRegistry));
}

#[test]
fn a_new_token_pushes_out_records_that_ended_long_ago_and_those_for_which_there_is_no_room() {
    let days = |days: i64| NOW - days * 24 * 3600;
    let held = [
        issued(None, &["acme"], days(30)),
        issued(None, &["acme"], days(30) + 1),
        issued(None, &["acme"], NOW + 1),
        issued(Some("lead"), &["acme"], days(400)),
    ];
    let ids = |of: &[usize]| of.iter().map(|n| held[*n].id().clone()).collect::<Vec<_>>();
    assert_eq!(forgotten(held.iter(), NOW), ids(&[3, 0]));
    let current: Vec<_> =
        (0..MAX_SERVICE_TOKENS - 4).map(|_| issued(None, &["acme"], NOW + 1)).collect();
    let full = || held.iter().chain(&current);
    assert_eq!(forgotten(full(), NOW), ids(&[3, 0]));
    let more: Vec<_> = (0..2).map(|_| issued(None, &["acme"], NOW + 1)).collect();
    assert_eq!(forgotten(full().chain(&more), NOW), ids(&[3, 0, 1]));
    let outdated: Vec<_> = (0..30).map(|_| issued(None, &["acme"], days(90))).collect();
    assert_eq!(forgotten(outdated.iter(), NOW).len(), 20, "a commit has a bounded size");
}
