//! The question about an access: who, where, what, and with which token.

use std::fmt;

use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Namespace, Permission, Permissions};

use super::super::GrantNamespace;
use crate::principal::{Principal, UniqueId};
use crate::token::TokenId;

/// The question whether a caller has a permission.
#[derive(Debug, Clone, Copy)]
pub struct AccessQuestion<'a> {
    /// The role or user that calls. A permission set or an account stands for each of its callers.
    pub caller: &'a Principal,
    /// The caller's unique id, if it is known.
    pub unique_id: Option<&'a UniqueId>,
    /// Where the caller needs the permission.
    pub namespace: AskedNamespace<'a>,
    /// The permission.
    pub permission: Permission,
    /// What is known about the caller's token.
    pub token: AskedToken<'a>,
    /// The time of the question, in Unix seconds.
    pub now: i64,
}

/// Where a caller needs a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedNamespace<'a> {
    /// On this namespace.
    One(&'a Namespace),
    /// On all namespaces, including future ones. Only a grant on `*` gives it.
    All,
    /// On one namespace or more, as an exchange for all namespaces needs it.
    Any,
}

impl<'a> From<&'a GrantNamespace> for AskedNamespace<'a> {
    fn from(namespace: &'a GrantNamespace) -> Self {
        match namespace {
            GrantNamespace::All => Self::All,
            GrantNamespace::One(one) => Self::One(one),
        }
    }
}

impl fmt::Display for AskedNamespace<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(namespace) => namespace.fmt(formatter),
            Self::All => formatter.write_str("*"),
            Self::Any => formatter.write_str("any namespace"),
        }
    }
}

/// What is known about the token of a caller. By default nothing, so that only the grants decide.
#[derive(Debug, Clone, Copy, Default)]
pub struct AskedToken<'a> {
    /// The id, which an operator can revoke.
    pub id: Option<&'a TokenId>,
    /// The namespaces of its scope.
    pub namespaces: Option<&'a Namespaces>,
    /// The permissions of its scope.
    pub permissions: Option<Permissions>,
}
