//! Proof types for the signing keys of a namespace: who may list them, and who may change them.

use stile_protocol::names::Namespace;

use super::{Access, CreateGrant, OperatorAccess, Upload};

/// The right to list the signing keys of one namespace.
pub trait ListsSigningKeys: sealed::Sealed + Sync {
    /// Returns the namespace.
    fn namespace(&self) -> &Namespace;
}

/// The right to change the signing keys of one namespace.
///
/// Only a bearer with `create_grant` and an operator have it. The right `upload` is not enough: a
/// stolen upload token could otherwise bring its own key, and clients would trust what that signs.
pub trait ChangesSigningKeys: ListsSigningKeys {
    /// Returns who changes the keys, for records.
    fn actor(&self) -> String;
}

/// The right of an operator on the signing keys of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorKeyAccess {
    operator: String,
    namespace: Namespace,
}

impl OperatorAccess {
    /// Returns the right to change the signing keys of a namespace.
    pub fn key_access(&self, namespace: Namespace) -> OperatorKeyAccess {
        OperatorKeyAccess { operator: self.operator().to_owned(), namespace }
    }
}

mod sealed {
    /// Prevents other crates from adding rights.
    pub trait Sealed {}
}

impl sealed::Sealed for Access<Upload> {}
impl sealed::Sealed for Access<CreateGrant> {}
impl sealed::Sealed for OperatorKeyAccess {}

impl ListsSigningKeys for Access<Upload> {
    fn namespace(&self) -> &Namespace {
        self.namespace()
    }
}

impl ListsSigningKeys for Access<CreateGrant> {
    fn namespace(&self) -> &Namespace {
        self.namespace()
    }
}

impl ChangesSigningKeys for Access<CreateGrant> {
    fn actor(&self) -> String {
        self.principal().to_string()
    }
}

impl ListsSigningKeys for OperatorKeyAccess {
    fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

impl ChangesSigningKeys for OperatorKeyAccess {
    fn actor(&self) -> String {
        self.operator.clone()
    }
}
