//! May the holder of this token do this, now?

use std::collections::BTreeSet;
use std::marker::PhantomData;

use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{ModuleAddress, ModuleName, Namespace, Permission, System};

use super::{Grant, GrantNamespace, PrincipalState, Refusal, check_grants};
use crate::package::PackageAddress;
use crate::principal::Principal;
use crate::token::Claims;

/// One permission as a type, so that a right to read cannot be handed to what writes.
pub trait Right: sealed::Sealed {
    /// The permission.
    const PERMISSION: Permission;
}

mod sealed {
    /// Keeps the list of rights closed.
    pub trait Sealed {}
}

macro_rules! right {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub enum $name {}

        impl sealed::Sealed for $name {}

        impl Right for $name {
            const PERMISSION: Permission = Permission::$name;
        }
    )*};
}

right! {
    /// Give others what one holds.
    CreateGrant
    /// Take grants away.
    DeleteGrant
    /// Read packages.
    Download
    /// Publish packages.
    Upload
}

/// The right to do one thing in one namespace, now. Made only by [`decide`].
///
/// Whatever reads or changes a package demands one, so code that forgets to decide does not compile.
#[derive(Debug)]
pub struct Access<R> {
    principal: Principal,
    namespace: Namespace,
    right: PhantomData<fn() -> R>,
}

impl<R: Right> Access<R> {
    /// Who has it.
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Where.
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What for.
    pub const fn permission(&self) -> Permission {
        R::PERMISSION
    }

    /// The same right, on one module of the namespace it was decided for.
    pub fn module(self, name: ModuleName, system: System) -> PackageAccess<R> {
        let namespace = self.namespace.clone();
        let address = PackageAddress::Module(ModuleAddress { namespace, name, system });
        PackageAccess { access: self, address }
    }
}

/// The right to do one thing with one package, now.
///
/// Its address is built from the namespace that was decided on, so a right on one namespace never reaches another.
#[derive(Debug)]
pub struct PackageAccess<R> {
    access: Access<R>,
    address: PackageAddress,
}

impl<R: Right> PackageAccess<R> {
    /// Which package.
    pub const fn address(&self) -> &PackageAddress {
        &self.address
    }

    /// The right on the namespace.
    pub const fn access(&self) -> &Access<R> {
        &self.access
    }

    /// Who has it.
    pub const fn principal(&self) -> &Principal {
        self.access.principal()
    }
}

/// Decides one request: the token must be for it, and its principal must be granted it now.
pub fn decide<R: Right>(
    claims: &Claims,
    state: &PrincipalState,
    namespace: &Namespace,
    now: i64,
) -> Result<Access<R>, Refusal> {
    allowed(claims, state, namespace, R::PERMISSION, now)?;
    Ok(Access {
        principal: claims.principal().clone(),
        namespace: namespace.clone(),
        right: PhantomData,
    })
}

fn allowed(
    claims: &Claims,
    state: &PrincipalState,
    namespace: &Namespace,
    permission: Permission,
    now: i64,
) -> Result<(), Refusal> {
    if let Some(principal) = &state.revoked {
        return Err(Refusal::Revoked { principal: principal.clone() });
    }
    if !claims.permissions().contains(permission) || !claims.namespaces().cover(namespace) {
        return Err(Refusal::OutOfScope { namespace: namespace.clone(), permission });
    }
    check_grants(claims.principal(), claims.unique_id(), state, Some(namespace), permission, now)
}

/// Every namespace the holder may do something in, now. Made only by [`reach`].
#[derive(Debug, PartialEq, Eq)]
pub enum PermittedNamespaces {
    /// All there are.
    All,
    /// These; may be none.
    Only(BTreeSet<Namespace>),
}

/// Where the holder of this token may do this; nothing it may not see is in it.
pub fn permitted_namespaces(
    claims: &Claims,
    state: &PrincipalState,
    permission: Permission,
    now: i64,
) -> PermittedNamespaces {
    let named = match claims.namespaces() {
        Namespaces::List(list) => list.clone(),
        Namespaces::All => {
            let on_every = |grant: &Grant| {
                grant.namespace == GrantNamespace::All
                    && grant.allows(permission, now)
                    && state.counts(grant, claims.unique_id())
            };
            if state.revoked.is_none()
                && claims.permissions().contains(permission)
                && state.grants.iter().any(on_every)
            {
                return PermittedNamespaces::All;
            }
            state
                .grants
                .iter()
                .filter_map(|grant| match &grant.namespace {
                    GrantNamespace::One(namespace) => Some(namespace.clone()),
                    GrantNamespace::All => None,
                })
                .collect()
        }
    };
    PermittedNamespaces::Only(
        named
            .into_iter()
            .filter(|namespace| allowed(claims, state, namespace, permission, now).is_ok())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{grant, namespace, principal, state_of};
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
        let state = state_of(vec![
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
            let outcome = match allowed(claims, &state, &namespace(on), permission, 0) {
                Ok(()) => "allowed",
                Err(Refusal::OutOfScope { .. }) => "out of scope",
                Err(Refusal::NoGrant { .. }) => "no grant",
                Err(other) => panic!("{other}"),
            };
            assert_eq!(outcome, expected, "{on} {permission}");
        }
    }

    #[test]
    fn a_revoked_principal_may_nothing() {
        let mut state = state_of(vec![grant(DEPLOY, "*", &[Permission::Download], None)]);
        state.revoked = Some(principal("account:aws:111122223333"));
        let claims = claims(Namespaces::All, &[Permission::Download]);
        assert!(matches!(
            decide::<Download>(&claims, &state, &namespace("a"), 0),
            Err(Refusal::Revoked { .. })
        ));
        assert_eq!(
            permitted_namespaces(&claims, &state, Permission::Download, 0),
            PermittedNamespaces::Only(BTreeSet::new())
        );
    }

    #[test]
    fn reach_is_what_decide_would_allow() {
        let state = state_of(vec![
            grant(DEPLOY, "a", &[Permission::Download], None),
            grant(DEPLOY, "b", &[Permission::Upload], None),
            grant(DEPLOY, "c", &[Permission::Download], Some(0)),
            grant(DEPLOY, "*", &[Permission::CreateGrant], None),
        ]);
        let all = claims(Namespaces::All, &[Permission::Download, Permission::CreateGrant]);
        assert_eq!(
            permitted_namespaces(&all, &state, Permission::Download, 0),
            PermittedNamespaces::Only([namespace("a")].into())
        );
        assert_eq!(
            permitted_namespaces(&all, &state, Permission::CreateGrant, 0),
            PermittedNamespaces::All
        );
        assert_eq!(
            permitted_namespaces(&all, &state, Permission::Upload, 0),
            PermittedNamespaces::Only(BTreeSet::new())
        );
        let listed =
            claims(Namespaces::List(vec![namespace("a"), namespace("z")]), &[Permission::Download]);
        assert_eq!(
            permitted_namespaces(&listed, &state, Permission::Download, 0),
            PermittedNamespaces::Only([namespace("a")].into())
        );
    }
}
