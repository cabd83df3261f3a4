//! The conditions of access that depend on the caller, and not only on the store.

use std::fmt;

use stile_core::principal::{Principal, UniqueId};

/// A condition. If it does not hold, the broker refuses the caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// The role or user has this pinned id, so that nobody recreated it. The operator gave no id.
    UniqueId(UniqueId),
    /// The operator asked for a permission set or an account, and the caller is none of these
    /// revoked principals of it.
    NoneOf(Vec<Principal>),
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UniqueId(id) => write!(formatter, "its unique id is still `{}`", id.as_str()),
            Self::NoneOf(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| format!("`{part}`")).collect();
                write!(formatter, "the caller is not the revoked {}", parts.join(" or "))
            }
        }
    }
}
