//! Authorises requests: combines a token's claims with the current grants of its principal.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{
    ModuleAddress, ModuleName, Namespace, Permission, ProviderAddress, ProviderType, System,
};

use super::{Grant, GrantNamespace, PrincipalState, Refusal, allowing_grant};
use crate::package::PackageAddress;
use crate::principal::Principal;
use crate::token::{Claims, TokenId};

/// One permission as a type, so that code that writes cannot accept a right to read.
pub trait Right: sealed::Sealed {
    /// The permission.
    const PERMISSION: Permission;
}

mod sealed {
    /// Prevents other crates from adding rights.
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
    /// Grant permissions that the holder has to others.
    CreateGrant
    /// Delete grants.
    DeleteGrant
    /// Read packages.
    Download
    /// Publish packages.
    Upload
}

/// Proof that [`decide`] allowed one permission in one namespace. Only [`decide`] creates one.
///
/// Code that reads or changes a package requires one. So code that does not call [`decide`] does not
/// compile.
#[derive(Debug)]
pub struct Access<R> {
    principal: Principal,
    token_id: TokenId,
    namespace: Namespace,
    grant: Grant,
    right: PhantomData<fn() -> R>,
}

impl<R: Right> Access<R> {
    /// Returns the principal that has the right.
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns the id of the token that gave the right, for records.
    pub const fn token_id(&self) -> &TokenId {
        &self.token_id
    }

    /// Returns the namespace.
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns the grant that allowed it, for records.
    pub const fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Returns the permission.
    pub const fn permission(&self) -> Permission {
        R::PERMISSION
    }

    /// Narrows the right to one module of its namespace.
    pub fn module(self, name: ModuleName, system: System) -> PackageAccess<R> {
        let namespace = self.namespace.clone();
        let address = PackageAddress::Module(ModuleAddress { namespace, name, system });
        PackageAccess { access: self, address }
    }

    /// Narrows the right to one provider of its namespace.
    pub fn provider(self, provider_type: ProviderType) -> PackageAccess<R> {
        let namespace = self.namespace.clone();
        let address = PackageAddress::Provider(ProviderAddress { namespace, provider_type });
        PackageAccess { access: self, address }
    }

    /// Narrows the right to the package with this name in its namespace.
    pub fn package(self, address: &PackageAddress) -> PackageAccess<R> {
        match address {
            PackageAddress::Module(module) => {
                self.module(module.name.clone(), module.system.clone())
            }
            PackageAddress::Provider(provider) => self.provider(provider.provider_type.clone()),
        }
    }
}

/// Proof that [`decide`] allowed one permission on one package.
///
/// The address contains the namespace of the decision, so the right cannot apply to another
/// namespace.
#[derive(Debug)]
pub struct PackageAccess<R> {
    access: Access<R>,
    address: PackageAddress,
}

impl<R: Right> PackageAccess<R> {
    /// Returns the address of the package.
    pub const fn address(&self) -> &PackageAddress {
        &self.address
    }

    /// Returns the right on the namespace.
    pub const fn access(&self) -> &Access<R> {
        &self.access
    }

    /// Returns the principal that has the right.
    pub const fn principal(&self) -> &Principal {
        self.access.principal()
    }
}

/// Authorises one request: the token must cover it, and a current grant must allow it.
///
/// # Errors
///
/// [`Refusal`], with the reason.
pub fn decide<R: Right>(
    claims: &Claims,
    state: &PrincipalState,
    namespace: &Namespace,
    now: i64,
) -> Result<Access<R>, Refusal> {
    let grant = allowed_by(claims, state, namespace, R::PERMISSION, now)?.clone();
    Ok(Access {
        principal: claims.principal().clone(),
        token_id: claims.id().clone(),
        namespace: namespace.clone(),
        grant,
        right: PhantomData,
    })
}

/// Decides one permission without creating a right.
pub(super) fn allowed(
    claims: &Claims,
    state: &PrincipalState,
    namespace: &Namespace,
    permission: Permission,
    now: i64,
) -> Result<(), Refusal> {
    allowed_by(claims, state, namespace, permission, now).map(drop)
}

/// Decides one permission, and returns the grant that allows it.
pub(super) fn allowed_by<'a>(
    claims: &Claims,
    state: &'a PrincipalState,
    namespace: &Namespace,
    permission: Permission,
    now: i64,
) -> Result<&'a Grant, Refusal> {
    if let Some(principal) = &state.revoked {
        let (caller, principal) = (claims.principal().clone(), principal.clone());
        return Err(Refusal::Revoked { caller, principal });
    }
    if !claims.permissions().contains(permission) || !claims.namespaces().cover(namespace) {
        let (principal, namespace) = (claims.principal().clone(), namespace.clone());
        return Err(Refusal::OutOfScope { principal, namespace, permission });
    }
    allowing_grant(claims.principal(), claims.shown_id(), state, Some(namespace), permission, now)
}

/// The namespaces in which a token's holder has a permission. Only [`permitted_namespaces`] creates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermittedNamespaces {
    /// All namespaces.
    All,
    /// Only these namespaces. The set can be empty.
    Only(BTreeSet<Namespace>),
}

impl PermittedNamespaces {
    /// Returns whether the namespace is one of them.
    pub fn permits(&self, namespace: &Namespace) -> bool {
        match self {
            Self::All => true,
            Self::Only(namespaces) => namespaces.contains(namespace),
        }
    }
}

/// Returns the namespaces in which [`decide`] would allow the permission to the token's holder.
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
                    && state.counts(grant, claims.shown_id())
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
    fn a_request_needs_the_token_and_a_grant() {
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
    fn a_revoked_principal_has_no_access() {
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
    fn permitted_namespaces_are_those_that_decide_allows() {
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
