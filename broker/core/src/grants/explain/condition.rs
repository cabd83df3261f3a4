//! The conditions of access that depend on the caller, and not only on the store.

use super::REVOKED;
use super::difference::UNIQUE_ID;
use crate::principal::{Principal, UniqueId};

/// A condition. If it does not hold, the broker refuses the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The role or user has this pinned id, so that nobody recreated it. The question
    /// names no id. `None` for those who may not know the pinned one.
    UniqueId(Option<UniqueId>),
    /// The question is about a permission set or an account, and the caller is none of these revoked
    /// principals of it. Empty for those who may not know them.
    NoneOf(Vec<Principal>),
}

impl Condition {
    /// Returns the code of what the condition depends on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UniqueId(_) => UNIQUE_ID,
            Self::NoneOf(_) => REVOKED,
        }
    }
}
