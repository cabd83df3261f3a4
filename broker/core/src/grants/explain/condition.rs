//! The conditions of access that depend on the caller, and not only on the store.

use crate::principal::{Principal, UniqueId};

/// A condition. If it does not hold, the broker refuses the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The role or user has this pinned id, so that nobody recreated it. The question
    /// names no id.
    UniqueId(UniqueId),
    /// The question is about a permission set or an account, and the caller is none of these revoked
    /// principals of it.
    NoneOf(Vec<Principal>),
}
