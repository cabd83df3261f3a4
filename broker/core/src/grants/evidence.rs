//! Evidence for what is not a package: who may change grants, and who operates the store itself.

use stile_protocol::names::Namespace;

use super::{Access, CreateGrant, DeleteGrant, GrantNamespace};
use crate::principal::Principal;

/// The right of an operator: of someone who can write to the store directly, past the broker.
///
/// AWS, or the file system, has let the operator in, so Stile decides nothing here. Only `stile-admin` makes one, and a
/// test of the source holds that. The name is for the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorAccess {
    operator: String,
}

impl OperatorAccess {
    /// The operator of that name, who has the store open.
    pub fn for_store_writer(operator: impl Into<String>) -> Self {
        Self { operator: operator.into() }
    }

    /// The name, as the operator's system gives it.
    pub fn operator(&self) -> &str {
        &self.operator
    }

    /// The right to change grants on any namespace, or on all.
    pub fn grant_access(&self, namespace: GrantNamespace) -> GrantAccess {
        GrantAccess { actor: self.operator.clone(), namespace }
    }
}

/// The right to make, change or delete grants on one namespace, or, for an operator, on all.
///
/// Made from an [`OperatorAccess`], or from an [`Access`] that was decided for `create_grant` or `delete_grant`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantAccess {
    actor: String,
    namespace: GrantNamespace,
}

impl GrantAccess {
    /// Who changes the grants, for the records: a principal, or an operator's name.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// What the grants are on.
    pub const fn namespace(&self) -> &GrantNamespace {
        &self.namespace
    }

    fn of_principal(principal: &Principal, namespace: &Namespace) -> Self {
        Self { actor: principal.to_string(), namespace: GrantNamespace::One(namespace.clone()) }
    }
}

impl From<&Access<CreateGrant>> for GrantAccess {
    fn from(access: &Access<CreateGrant>) -> Self {
        Self::of_principal(access.principal(), access.namespace())
    }
}

impl From<&Access<DeleteGrant>> for GrantAccess {
    fn from(access: &Access<DeleteGrant>) -> Self {
        Self::of_principal(access.principal(), access.namespace())
    }
}
