//! Which grants a bearer may see: those that it may change, and its own.

use std::collections::HashSet;

use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission;

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
    /// The bearer's own grants.
    own: HashSet<(Principal, GrantNamespace)>,
}

impl VisibleGrants {
    /// Returns whether the bearer may see the grant.
    ///
    /// Only a holder on all namespaces sees grants of others on all namespaces.
    pub fn shows(&self, grant: &Grant) -> bool {
        let permitted = |on: &PermittedNamespaces| match (on, &grant.namespace) {
            (PermittedNamespaces::All, _) => true,
            (PermittedNamespaces::Only(_), GrantNamespace::All) => false,
            (PermittedNamespaces::Only(some), GrantNamespace::One(one)) => some.contains(one),
        };
        self.on.iter().any(permitted)
            || self.own.contains(&(grant.principal.clone(), grant.namespace.clone()))
    }
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
        None => {}
        Some(GrantNamespace::All) => {
            if !on.contains(&PermittedNamespaces::All) {
                return Err(DelegationRefusal::ListsAllNamespaces);
            }
        }
        Some(GrantNamespace::One(one)) => {
            let [create, delete] = RIGHTS.map(|right| allowed(claims, state, one, right, now));
            create
                .or_else(|refusal| delete.map_err(|_| refusal))
                .map_err(DelegationRefusal::Refused)?;
        }
    }
    let covered = |grant: &&Grant| {
        let namespace = match (claims.namespaces(), &grant.namespace) {
            (Namespaces::All, _) => true,
            (Namespaces::List(_), GrantNamespace::All) => false,
            (Namespaces::List(list), GrantNamespace::One(one)) => list.contains(one),
        };
        namespace && grant.permissions.iter().any(|of| claims.permissions().contains(of))
    };
    let own = state.grants.iter().filter(covered);
    let own = own.map(|grant| (grant.principal.clone(), grant.namespace.clone())).collect();
    Ok(VisibleGrants { on, own })
}

#[cfg(test)]
mod tests {
    use stile_protocol::names::Permission::{CreateGrant, DeleteGrant, Download, Upload};

    use super::super::super::tests::{grant, namespace, principal, state_of};
    use super::*;

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
        let shown = grants.iter().filter(|grant| visible.shows(grant));
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
