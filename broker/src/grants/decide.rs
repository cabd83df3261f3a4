//! May the holder of this token do this, now?

use std::collections::BTreeSet;

use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Namespace, Permission};

use super::{Grant, GrantNamespace, Refusal, Standing, granted};
use crate::principal::Principal;
use crate::token::Claims;

/// The right to do one thing in one namespace, now. Made only by [`decide`].
///
/// What hands out or changes a package takes one, so a forgotten check does not compile.
#[derive(Debug)]
pub struct Access {
    principal: Principal,
    namespace: Namespace,
    permission: Permission,
}

impl Access {
    /// Who has it.
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Where.
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Whether it is for exactly this.
    pub fn is_for(&self, namespace: &Namespace, permission: Permission) -> bool {
        self.namespace == *namespace && self.permission == permission
    }

    /// What for.
    pub const fn permission(&self) -> Permission {
        self.permission
    }
}

/// Decides one request: the token must be for it, and its principal must be granted it now.
pub fn decide(
    claims: &Claims,
    standing: &Standing,
    namespace: &Namespace,
    permission: Permission,
    now: i64,
) -> Result<Access, Refusal> {
    if let Some(principal) = &standing.revoked {
        return Err(Refusal::Revoked { principal: principal.clone() });
    }
    if !claims.permissions().contains(permission) || !claims.namespaces().cover(namespace) {
        return Err(Refusal::OutOfScope { namespace: namespace.clone(), permission });
    }
    granted(claims.principal(), claims.unique_id(), standing, Some(namespace), permission, now)?;
    Ok(Access { principal: claims.principal().clone(), namespace: namespace.clone(), permission })
}

/// Every namespace the holder may do something in, now. Made only by [`reach`].
#[derive(Debug, PartialEq, Eq)]
pub enum Reach {
    /// All there are.
    Every,
    /// These; may be none.
    Some(BTreeSet<Namespace>),
}

/// Where the holder of this token may do this; nothing it may not see is in it.
pub fn reach(claims: &Claims, standing: &Standing, permission: Permission, now: i64) -> Reach {
    let named = match claims.namespaces() {
        Namespaces::List(list) => list.clone(),
        Namespaces::All => {
            let on_every = |grant: &Grant| {
                grant.namespace == GrantNamespace::Every
                    && grant.allows(permission, now)
                    && standing.counts(grant, claims.unique_id())
            };
            if standing.revoked.is_none()
                && claims.permissions().contains(permission)
                && standing.grants.iter().any(on_every)
            {
                return Reach::Every;
            }
            standing
                .grants
                .iter()
                .filter_map(|grant| match &grant.namespace {
                    GrantNamespace::One(namespace) => Some(namespace.clone()),
                    GrantNamespace::Every => None,
                })
                .collect()
        }
    };
    Reach::Some(
        named
            .into_iter()
            .filter(|namespace| decide(claims, standing, namespace, permission, now).is_ok())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{grant, namespace, principal, standing};
    use super::*;
    use crate::token::Claims;

    const DEPLOY: &str = "aws:111122223333:role/deploy";

    fn claims(namespaces: Namespaces, permissions: &[Permission]) -> Claims {
        Claims::for_test(
            principal(DEPLOY),
            namespaces,
            permissions.iter().copied().collect(),
            0,
            3600,
        )
    }

    #[test]
    fn the_token_and_the_grants_must_both_allow_it() {
        let standing = standing(vec![
            grant(DEPLOY, "a", &[Permission::Download, Permission::Upload], None),
            grant(DEPLOY, "b", &[Permission::Download], None),
        ]);
        let narrow = claims(Namespaces::List(vec![namespace("a")]), &[Permission::Download]);
        let wide = claims(Namespaces::All, &[Permission::Download, Permission::Upload]);
        for (claims, on, permission, expected) in [
            (&narrow, "a", Permission::Download, "allowed"),
            (&narrow, "a", Permission::Upload, "out of scope"),
            (&narrow, "b", Permission::Download, "out of scope"),
            (&wide, "b", Permission::Upload, "no grant"),
            (&wide, "c", Permission::Download, "no grant"),
        ] {
            let outcome = match decide(claims, &standing, &namespace(on), permission, 0) {
                Ok(_) => "allowed",
                Err(Refusal::OutOfScope { .. }) => "out of scope",
                Err(Refusal::NoGrant { .. }) => "no grant",
                Err(other) => panic!("{other}"),
            };
            assert_eq!(outcome, expected, "{on} {permission}");
        }
    }

    #[test]
    fn a_revoked_principal_may_nothing() {
        let mut standing = standing(vec![grant(DEPLOY, "*", &[Permission::Download], None)]);
        standing.revoked = Some(principal("account:aws:111122223333"));
        let claims = claims(Namespaces::All, &[Permission::Download]);
        assert!(matches!(
            decide(&claims, &standing, &namespace("a"), Permission::Download, 0),
            Err(Refusal::Revoked { .. })
        ));
        assert_eq!(
            reach(&claims, &standing, Permission::Download, 0),
            Reach::Some(BTreeSet::new())
        );
    }

    #[test]
    fn reach_is_what_decide_would_allow() {
        let standing = standing(vec![
            grant(DEPLOY, "a", &[Permission::Download], None),
            grant(DEPLOY, "b", &[Permission::Upload], None),
            grant(DEPLOY, "c", &[Permission::Download], Some(0)),
            grant(DEPLOY, "*", &[Permission::CreateGrant], None),
        ]);
        let all = claims(Namespaces::All, &[Permission::Download, Permission::CreateGrant]);
        assert_eq!(
            reach(&all, &standing, Permission::Download, 0),
            Reach::Some([namespace("a")].into())
        );
        assert_eq!(reach(&all, &standing, Permission::CreateGrant, 0), Reach::Every);
        assert_eq!(reach(&all, &standing, Permission::Upload, 0), Reach::Some(BTreeSet::new()));
        let listed =
            claims(Namespaces::List(vec![namespace("a"), namespace("z")]), &[Permission::Download]);
        assert_eq!(
            reach(&listed, &standing, Permission::Download, 0),
            Reach::Some([namespace("a")].into())
        );
    }
}
