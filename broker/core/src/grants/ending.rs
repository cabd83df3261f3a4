//! Finds what a caller soon loses because a grant ends, for a notice in time.

use std::collections::HashMap;

use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Permission, Permissions};

use super::{Access, Entitlement, Grant, GrantNamespace, PrincipalState, Right};
use crate::principal::Principal;
use crate::token::Claims;

/// How long before its end a grant is worth a notice, in seconds: two weeks.
const SOON: i64 = 14 * 24 * 3600;

/// Permissions on a namespace that a caller soon loses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndingGrant {
    /// The namespace of the grant.
    pub namespace: GrantNamespace,
    /// The permissions that no other grant gives for longer.
    pub permissions: Permissions,
    /// The end of the grant, in Unix seconds.
    pub expires_at: i64,
}

/// Returns what the caller of a mint loses within two weeks, of what the token is for. The first one
/// ends first.
pub fn ending_grants(
    entitlement: &Entitlement,
    state: &PrincipalState,
    now: i64,
) -> Vec<EndingGrant> {
    let shown = entitlement.caller().shown_id();
    let soon = now.saturating_add(SOON);
    let (namespaces, permissions) = (entitlement.namespaces(), entitlement.permissions());
    let current: Vec<&Grant> =
        state.grants.iter().filter(|grant| state.counts(grant, shown)).collect();
    let ends = LastEnds::of(&current);
    let mut ending: Vec<EndingGrant> = current
        .iter()
        .filter_map(|grant| {
            let expires_at = grant.expires_at.filter(|end| (now + 1..=soon).contains(end))?;
            let wanted = wanted(&grant.namespace, namespaces);
            let lost = |permission: &Permission| {
                let ends_here = |namespace: &GrantNamespace| {
                    ends.of_permission(namespace, *permission) <= expires_at
                };
                permissions.contains(*permission) && wanted.iter().any(ends_here)
            };
            let permissions: Permissions = grant.permissions.iter().filter(lost).collect();
            let namespace = grant.namespace.clone();
            (!permissions.is_empty()).then_some(EndingGrant { namespace, permissions, expires_at })
        })
        .collect();
    ending.sort_by(|a, b| (a.expires_at, &a.namespace).cmp(&(b.expires_at, &b.namespace)));
    ending
}

/// Returns what the bearer of a token soon loses of a right that it has: `None` if that lasts longer than
/// two weeks.
pub fn ending_access<R: Right>(
    access: &Access<R>,
    claims: &Claims,
    state: &PrincipalState,
    now: i64,
) -> Option<EndingGrant> {
    let (namespace, permission) = (access.namespace(), R::PERMISSION);
    let gives = |grant: &&Grant| {
        state.counts(grant, claims.shown_id())
            && grant.namespace.covers(namespace)
            && grant.permissions.contains(permission)
    };
    let ends = state.grants.iter().filter(gives).map(|grant| grant.expires_at.unwrap_or(i64::MAX));
    let ends = ends.max().map(|end| match claims.principal() {
        // The token of a service cannot be renewed by its holder, so its end counts, too.
        Principal::Service(_) => end.min(claims.expires_at()),
        _ => end,
    });
    let expires_at = ends.filter(|end| (now + 1..=now.saturating_add(SOON)).contains(end))?;
    Some(EndingGrant {
        namespace: GrantNamespace::One(namespace.clone()),
        permissions: Permissions::NONE.with(permission),
        expires_at,
    })
}

/// When each permission on each namespace ends, of all grants together. A caller can have thousands of
/// grants, so they are read once.
struct LastEnds<'a>(HashMap<(&'a GrantNamespace, Permission), i64>);

impl<'a> LastEnds<'a> {
    fn of(grants: &[&'a Grant]) -> Self {
        let mut ends = HashMap::new();
        for grant in grants {
            let end = grant.expires_at.unwrap_or(i64::MAX);
            for permission in grant.permissions.iter() {
                let last = ends.entry((&grant.namespace, permission)).or_insert(end);
                *last = end.max(*last);
            }
        }
        Self(ends)
    }

    /// Returns the end of a permission on a namespace, also by a grant on all namespaces.
    fn of_permission(&self, namespace: &GrantNamespace, permission: Permission) -> i64 {
        let end = |namespace| self.0.get(&(namespace, permission)).copied().unwrap_or(i64::MIN);
        end(namespace).max(end(&GrantNamespace::All))
    }
}

/// Returns the part of a grant's namespace that the token is for.
fn wanted(granted: &GrantNamespace, namespaces: &Namespaces) -> Vec<GrantNamespace> {
    match namespaces {
        Namespaces::All => vec![granted.clone()],
        Namespaces::List(list) => list
            .iter()
            .filter(|namespace| granted.covers(namespace))
            .map(|namespace| GrantNamespace::One(namespace.clone()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use stile_protocol::exchange::RequestDocument;
    use stile_protocol::names::Permission::{Download, Upload};
    use stile_protocol::region::Partition;

    use super::super::entitle;
    use super::super::tests::{grant, namespace, state_of};
    use super::*;
    use crate::identity::{Identity, Issuer};

    const DEPLOY: &str = "aws:111122223333:role/deploy";
    const DAY: i64 = 24 * 3600;
    const NOW: i64 = 1000;

    /// Returns what a session of the role `deploy` with these grants loses soon, as text.
    fn ending(grants: &[(&str, &[Permission], Option<i64>)], of: &Namespaces) -> Vec<String> {
        let grants = grants.iter().map(|(on, permissions, end)| {
            grant(DEPLOY, on, permissions, end.map(|days| NOW + days * DAY))
        });
        let lasting = grant(DEPLOY, "lasting", &[Download, Upload], None);
        let state = state_of(grants.chain([lasting]).collect());
        let identity = Identity::from_iam(
            Issuer::Sts,
            "111122223333",
            "arn:aws:sts::111122223333:assumed-role/deploy/i-0abc",
            "AROAEXAMPLEEXAMPLE222:i-0abc",
            &[Partition::Aws],
        );
        let permissions = Permissions::NONE.with(Download);
        let document = RequestDocument::new(3600, of.clone(), permissions).unwrap();
        let entitlement = entitle(identity.unwrap(), &document, &state, NOW).unwrap();
        let ending = ending_grants(&entitlement, &state, NOW);
        let days = |end: i64| (end - NOW) / DAY;
        ending
            .iter()
            .map(|grant| {
                format!("{} {} {}", grant.namespace, grant.permissions, days(grant.expires_at))
            })
            .collect()
    }

    #[test]
    fn only_what_no_other_grant_gives_for_longer_is_about_to_end() {
        let all = Namespaces::All;
        let acme = Namespaces::List(vec![namespace("acme")]);
        let both: &[Permission] = &[Download, Upload];
        for (grants, namespaces, expected) in [
            (vec![("acme", both, None)], &all, vec![]),
            (vec![("acme", both, Some(15))], &all, vec![]),
            (vec![("acme", both, Some(0))], &all, vec![]),
            (vec![("acme", &[Upload][..], Some(9)), ("acme2", both, None)], &all, vec![]),
            (vec![("acme", both, Some(9)), ("*", both, None)], &all, vec![]),
            (vec![("other", both, Some(9)), ("acme", both, None)], &acme, vec![]),
            (vec![("acme", both, Some(14))], &all, vec!["acme download 14"]),
            (vec![("acme", both, Some(3)), ("*", both, Some(10))], &all, vec!["* download 10"]),
            (vec![("acme", both, Some(9))], &acme, vec!["acme download 9"]),
            (vec![("acme", both, Some(9)), ("*", &[Upload], None)], &all, vec!["acme download 9"]),
            (vec![("*", both, Some(9)), ("acme", both, None)], &acme, vec![]),
            (vec![("*", both, Some(9)), ("acme", both, None)], &all, vec!["* download 9"]),
            (vec![("*", both, Some(9)), ("a", both, None)], &acme, vec!["* download 9"]),
            (
                vec![("b", both, Some(9)), ("a", both, Some(9)), ("c", both, Some(3))],
                &all,
                vec!["c download 3", "a download 9", "b download 9"],
            ),
        ] {
            assert_eq!(ending(&grants, namespaces), expected, "{grants:?}");
        }
    }
}
