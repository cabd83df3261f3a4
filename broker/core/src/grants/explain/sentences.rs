//! The sentences of an explanation. No other place makes them.

use std::fmt;

use super::{AccessQuestion, Condition, Difference, Explanation};
use crate::clock::rfc3339;

impl AccessQuestion<'_> {
    /// Returns the answer as one sentence, without the nearest grant and its differences.
    pub fn sentence(&self, explanation: &Explanation) -> String {
        let Self { namespace, permission, .. } = self;
        let caller = self.caller.display_name();
        match explanation {
            Explanation::Yes { condition, .. } => {
                let only_if =
                    condition.as_ref().map_or_else(String::new, |holds| format!(", if {holds}"));
                format!("yes{only_if}: {caller} may {permission} on {namespace}")
            }
            Explanation::Revoked(Some(principal)) => {
                format!("no: {caller} has no access, because {principal} is revoked")
            }
            Explanation::Revoked(None) => {
                format!("no: {caller} has no access, because an operator revoked it")
            }
            Explanation::Token(_) => {
                format!("no: the token of {caller} is not for {permission} on {namespace}")
            }
            Explanation::No(_) => format!("no: {caller} may not {permission} on {namespace}"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.label())?;
        match self {
            Self::Expiry(end) => write!(formatter, "the grant expired at {}", rfc3339(*end)),
            Self::UniqueId(None) => {
                formatter.write_str("another id is pinned, so the principal was recreated")
            }
            Self::UniqueId(Some(pinned)) => {
                write!(formatter, "`{pinned}` is pinned, so the principal was recreated")
            }
            Self::Case(granted, own) => {
                write!(formatter, "the grant is for `{granted}`, not `{own}`")
            }
            Self::OtherSuffix(role) => write!(
                formatter,
                "the grant is for exactly `{role}`, an earlier role of the permission set"
            ),
            Self::NoSuffix(suffix) => {
                write!(
                    formatter,
                    "`{suffix}` is not 16 lower-case hex digits, so the role has no permission set"
                )
            }
            Self::Permission(permissions) => write!(formatter, "the grant allows {permissions}"),
            Self::Namespace { granted, .. } => write!(formatter, "the grant is on {granted}"),
            Self::Partition(partition) => write!(formatter, "the grant is for {partition}"),
            Self::Account(account) => write!(formatter, "the grant is for {account}"),
            Self::Kind(kind) => write!(formatter, "the grant is for a {kind} of the same name"),
            Self::NoTrust => formatter.write_str("there is no trust of this name"),
            Self::TokenRevoked => formatter.write_str("an operator revoked the token"),
            Self::TokenPermissions(only) => write!(formatter, "the token is only for {only}"),
            Self::TokenNamespaces(only) => write!(formatter, "the token is only for {only}"),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UniqueId(Some(id)) => {
                write!(formatter, "its unique id is still `{}`", id.as_str())
            }
            Self::UniqueId(None) => formatter.write_str("its unique id is still the pinned one"),
            Self::NoneOf(parts) if parts.is_empty() => {
                formatter.write_str("an operator has not revoked the caller itself")
            }
            Self::NoneOf(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| format!("`{part}`")).collect();
                write!(formatter, "the caller is not the revoked {}", parts.join(" or "))
            }
        }
    }
}
