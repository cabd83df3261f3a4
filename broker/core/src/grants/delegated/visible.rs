//! Which grants a bearer may see: those that it may change, and its own.

use std::collections::{BTreeSet, HashSet};

use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Namespace, Permission, Permissions};

use super::super::decide::{PermittedNamespaces, allowed, permitted_namespaces};
use super::super::{Grant, GrantNamespace, PrincipalState};
use super::DelegationRefusal;
use crate::principal::Principal;
use crate::token::Claims;

/// The rights with which a bearer may see the grants of others on a namespace.
const RIGHTS: [Permission; 2] = [Permission::CreateGrant, Permission::DeleteGrant];

/// The grants that a bearer may see. Only [`visible_grants`] creates it.
#[derive(Debug, Clone)]
pub struct VisibleGrants {
    /// The namespaces on which the bearer has each of the rights.
    on: [PermittedNamespaces; RIGHTS.len()],
    /// The bearer's own grants, as far as the scope of the token covers them.
    own: HashSet<(Principal, GrantNamespace)>,
    /// The permissions of the token.
    scope: Permissions,
}

/// A grant as a bearer may see it. Only [`VisibleGrants`] creates one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShownGrant {
    /// The whole grant, because the bearer may change the grants on its namespace.
    Whole(Grant),
    /// A grant of the bearer itself, with only the permissions that the scope of the token covers.
    /// Nothing in an answer may depend on who created it and when.
    Own(Grant),
}

impl ShownGrant {
    /// Returns the grant, with the permissions that the bearer may see.
    pub const fn grant(&self) -> &Grant {
        match self {
            Self::Whole(grant) | Self::Own(grant) => grant,
        }
    }
}

impl VisibleGrants {
    /// Returns what the bearer may see of the grant.
    ///
    /// Only a holder on all namespaces sees grants of others on all namespaces.
    pub fn show(&self, grant: &Grant) -> Option<ShownGrant> {
        let permitted = |on: &PermittedNamespaces| match (on, &grant.namespace) {
            (PermittedNamespaces::All, _) => true,
            (PermittedNamespaces::Only(_), GrantNamespace::All) => false,
            (PermittedNamespaces::Only(some), GrantNamespace::One(one)) => some.contains(one),
        };
        if self.on.iter().any(permitted) {
            return Some(ShownGrant::Whole(grant.clone()));
        }
        if !self.own.contains(&(grant.principal.clone(), grant.namespace.clone())) {
            return None;
        }
        let permissions = within_scope(grant.permissions, self.scope);
        let own = ShownGrant::Own(Grant { permissions, ..grant.clone() });
        (!permissions.is_empty()).then_some(own)
    }

    /// Returns the namespaces whose grants the bearer may see. `None` if it may see all grants.
    pub fn namespaces(&self) -> Option<BTreeSet<Namespace>> {
        let mut namespaces = BTreeSet::new();
        for on in &self.on {
            match on {
                PermittedNamespaces::All => return None,
                PermittedNamespaces::Only(some) => namespaces.extend(some.iter().cloned()),
            }
        }
        Some(namespaces)
    }

    /// Returns the principals of the bearer that have grants.
    pub fn own_principals(&self) -> BTreeSet<Principal> {
        self.own.iter().map(|(principal, _)| principal.clone()).collect()
    }
}

/// Returns the part of each of the bearer's grants that the scope of its token covers.
///
/// For a token with a list of namespaces, a grant on all namespaces becomes one for each namespace of
/// the list. So a token shows nothing beyond what its holder may use it for. A grant that the pin does
/// not let the bearer use is not among them.
pub fn grants_in_scope(claims: &Claims, state: &PrincipalState) -> Vec<Grant> {
    let mut covered = Vec::new();
    for grant in state.grants.iter().filter(|grant| state.counts(grant, claims.shown_id())) {
        let permissions = within_scope(grant.permissions, claims.permissions());
        if permissions.is_empty() {
            continue;
        }
        let namespaces = match claims.namespaces() {
            Namespaces::All => vec![grant.namespace.clone()],
            Namespaces::List(list) => list
                .iter()
                .filter(|namespace| grant.namespace.covers(namespace))
                .map(|namespace| GrantNamespace::One(namespace.clone()))
                .collect(),
        };
        covered.extend(namespaces.into_iter().map(|namespace| Grant {
            namespace,
            permissions,
            ..grant.clone()
        }));
    }
    covered
}

fn within_scope(permissions: Permissions, scope: Permissions) -> Permissions {
    permissions.iter().filter(|permission| scope.contains(*permission)).collect()
}

/// Decides which grants a bearer may see: on one namespace, or everywhere.
///
/// A grant of the bearer itself is visible if the scope of the token covers its namespace, and at
/// least one of its permissions.
///
/// # Errors
///
/// [`DelegationRefusal`], if the bearer has neither `create_grant` nor `delete_grant` on the namespace.
pub fn visible_grants(
    claims: &Claims,
    state: &PrincipalState,
    namespace: Option<&GrantNamespace>,
    now: i64,
) -> Result<VisibleGrants, DelegationRefusal> {
    let on = RIGHTS.map(|right| permitted_namespaces(claims, state, right, now));
    match namespace {
        Some(GrantNamespace::All) if !on.contains(&PermittedNamespaces::All) => {
            return Err(DelegationRefusal::ListsAllNamespaces);
        }
        None | Some(GrantNamespace::All) => {}
        Some(GrantNamespace::One(one)) => {
            let [create, delete] = RIGHTS.map(|right| allowed(claims, state, one, right, now));
            create
                .or_else(|refusal| delete.map_err(|_| refusal))
                .map_err(DelegationRefusal::Refused)?;
        }
    }
    // A part of a grant on all namespaces is no grant in the store, so no list has it.
    let stored: HashSet<_> =
        state.grants.iter().map(|grant| (&grant.principal, &grant.namespace)).collect();
    let is_stored = |part: &Grant| stored.contains(&(&part.principal, &part.namespace));
    let own = grants_in_scope(claims, state).into_iter().filter(is_stored);
    let own = own.map(|part| (part.principal, part.namespace)).collect();
    let scope = claims.permissions();
    Ok(VisibleGrants { on, own, scope })
}

#[cfg(test)]
mod tests {
    use stile_protocol::names::Permission::{CreateGrant, DeleteGrant, Download, Upload};

    use super::super::super::Pin;
    use super::super::super::tests::{grant, namespace, principal, state_of};
    use super::*;
    use crate::principal::UniqueId;

    const DEPLOY: &str = "aws:111122223333:role/deploy";
    const OTHER: &str = "aws:111122223333:role/other";
    const ACCOUNT: &str = "account:aws:111122223333";

    fn claims(namespaces: Namespaces, permissions: &[Permission]) -> Claims {
        let permissions = permissions.iter().copied().collect();
        Claims::for_test(principal(DEPLOY), namespaces, permissions, 0, 3600)
    }

    /// Returns which of these grants the bearer sees.
    fn seen(claims: &Claims, grants: &[Grant]) -> Vec<String> {
        let own = |grant: &&Grant| grant.principal.as_str() != OTHER;
        let state = state_of(grants.iter().filter(own).cloned().collect());
        let visible = visible_grants(claims, &state, None, 100).unwrap();
        let shown = grants.iter().filter(|grant| visible.show(grant).is_some());
        shown
            .map(|grant| format!("{} {}", grant.principal.name().unwrap_or("-"), grant.namespace))
            .collect()
    }

    #[test]
    fn a_bearer_sees_the_grants_that_it_may_change_and_its_own_in_the_scope_of_the_token() {
        let grants = [
            grant(DEPLOY, "create", &[CreateGrant], None),
            grant(DEPLOY, "delete", &[DeleteGrant], Some(101)),
            grant(DEPLOY, "ended", &[CreateGrant, Download], Some(100)),
            grant(DEPLOY, "read", &[Download], None),
            grant(ACCOUNT, "*", &[Upload], None),
            grant(OTHER, "*", &[Download], None),
            grant(OTHER, "create", &[Download], None),
            grant(OTHER, "delete", &[Download], None),
            grant(OTHER, "ended", &[Download], None),
            grant(OTHER, "read", &[Download], None),
        ];
        let some =
            |names: &[&str]| Namespaces::List(names.iter().copied().map(namespace).collect());
        let all = [CreateGrant, DeleteGrant, Download, Upload];
        for (claims, expected) in [
            (claims(some(&["nothing"]), &all), &[][..]),
            (claims(Namespaces::All, &[Download]), &["deploy ended", "deploy read"]),
            (claims(Namespaces::All, &[Upload]), &["- *"]),
            (
                claims(some(&["read", "create"]), &all),
                &["deploy create", "deploy read", "other create"],
            ),
            (claims(Namespaces::All, &[DeleteGrant]), &["deploy delete", "other delete"]),
            (
                claims(Namespaces::All, &all),
                &[
                    "deploy create",
                    "deploy delete",
                    "deploy ended",
                    "deploy read",
                    "- *",
                    "other create",
                    "other delete",
                ],
            ),
        ] {
            assert_eq!(seen(&claims, &grants), expected, "{claims:?}");
        }
    }

    #[test]
    fn an_own_grant_shows_only_what_the_token_covers_and_what_the_pin_admits() {
        let both = grant(DEPLOY, "read", &[Download, Upload], None);
        let mut state = state_of(vec![both.clone(), grant(DEPLOY, "give", &[CreateGrant], None)]);
        let of_account = grant(ACCOUNT, "read", &[Download, Upload], None);
        state.grants.push(of_account.clone());
        let claims = claims(Namespaces::All, &[Download, CreateGrant]);
        let visible = visible_grants(&claims, &state, None, 100).unwrap();
        let part = Grant { permissions: Permissions::NONE.with(Download), ..both.clone() };
        assert_eq!(visible.show(&both), Some(ShownGrant::Own(part)));
        let whole = grant(OTHER, "give", &[Download, Upload], None);
        assert_eq!(visible.show(&whole), Some(ShownGrant::Whole(whole.clone())));

        state.pin = Pin::Pinned(UniqueId::parse("AROAOTHEROTHEROTHER22").unwrap());
        let visible = visible_grants(&claims, &state, None, 100).unwrap();
        assert_eq!((visible.show(&both), visible.show(&whole)), (None, None));
        assert!(visible.show(&of_account).is_some());
        assert_eq!(grants_in_scope(&claims, &state).len(), 1);
    }

    #[test]
    fn a_list_of_one_namespace_needs_a_right_there_and_a_list_of_all_one_on_all() {
        let state = state_of(vec![
            grant(DEPLOY, "a", &[CreateGrant, Download], None),
            grant(DEPLOY, "b", &[DeleteGrant], None),
        ]);
        let everywhere = state_of(vec![grant(DEPLOY, "*", &[DeleteGrant], None)]);
        let all = claims(Namespaces::All, &Permission::ALL);
        let only_b = claims(Namespaces::List(vec![namespace("b")]), &Permission::ALL);
        let read = claims(Namespaces::All, &[Download]);
        for (claims, state, on, expected) in [
            (&all, &state, "c", Some("no `create_grant` on namespace `c`")),
            (&all, &state, "*", Some("on all namespaces lists")),
            (&read, &state, "a", Some("not for `create_grant` on namespace `a`")),
            (&only_b, &state, "a", Some("not for `create_grant` on namespace `a`")),
            (&only_b, &everywhere, "*", Some("on all namespaces lists")),
            (&all, &state, "a", None),
            (&only_b, &state, "b", None),
            (&all, &everywhere, "c", None),
            (&all, &everywhere, "*", None),
        ] {
            let visible = visible_grants(claims, state, Some(&on.parse().unwrap()), 100);
            match (visible, expected) {
                (Ok(_), None) => {}
                (Err(refusal), Some(expected)) => {
                    assert!(refusal.to_string().contains(expected), "{on}: {refusal}");
                }
                (visible, _) => panic!("{on}: {visible:?}"),
            }
        }
    }
}
