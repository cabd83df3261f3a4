//! Proof types for the store's administrative operations: who may change grants or operate the store.

use super::GrantNamespace;

/// The right of an operator, who has write access to the store itself.
///
/// IAM or the file system gave the operator this access, so Stile makes no decision here. Only
/// `stile-admin` creates one, and a test of the source code enforces this. The name is for records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorAccess {
    operator: String,
}

impl OperatorAccess {
    /// Creates the right of an operator who has opened the store.
    pub fn for_store_writer(operator: impl Into<String>) -> Self {
        Self { operator: operator.into() }
    }

    /// Returns the operator's name, as the operator's system reports it.
    pub fn operator(&self) -> &str {
        &self.operator
    }

    /// Returns the right to change grants on a namespace, or on all namespaces.
    pub fn grant_access(&self, namespace: GrantNamespace) -> GrantAccess {
        GrantAccess { actor: self.operator.clone(), namespace }
    }
}

/// The right to create, change or delete grants on one namespace, or on all namespaces.
///
/// Only an [`OperatorAccess`] gives it. The right `create_grant` of a bearer is not enough: nobody may
/// give what they lack. So a bearer has a [`DelegatedAccess`](super::DelegatedAccess).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantAccess {
    actor: String,
    namespace: GrantNamespace,
}

impl GrantAccess {
    /// Returns who changes the grants, for records: an operator's name.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Returns the namespace of the grants.
    pub const fn namespace(&self) -> &GrantNamespace {
        &self.namespace
    }
}
