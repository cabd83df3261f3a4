//! What the store is asked about service tokens, and what it answers.

use stile_core::grants::{DelegationRefusal, Grant};
use stile_core::service_token::{ServiceToken, TooManyTokens};
use stile_core::token::TokenId;
use stile_protocol::names::Namespace;

/// A service token, and its last use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredServiceToken {
    /// The token.
    pub token: ServiceToken,
    /// The day of its last use, in days since 1970. `None` if no broker has recorded one.
    pub last_used: Option<i64>,
}

/// All service tokens of a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedServiceTokens {
    /// The tokens, in order of name and then of creation.
    pub tokens: Vec<StoredServiceToken>,
    /// The ids of those that this program cannot read, so that they allow nothing here.
    pub unreadable: Vec<TokenId>,
}

/// What a new token changed.
#[derive(Debug, PartialEq, Eq)]
pub struct IssuedServiceToken {
    /// The record of the token.
    pub token: ServiceToken,
    /// The grants that the commit created or widened, as they are now.
    pub grants: Vec<Grant>,
    /// The namespaces that the store did not know before. A mistyped name is new, too.
    pub new_namespaces: Vec<Namespace>,
}

/// The result of issuing a service token.
#[derive(Debug, PartialEq, Eq)]
pub enum ServiceTokenIssued {
    /// The store has the token.
    Done(Box<IssuedServiceToken>),
    /// There are too many service tokens. No token is new.
    TooMany(TooManyTokens),
    /// The service has the maximum number of grants. Nothing changed.
    TooManyGrants,
    /// The bearer may not give this. Nothing changed.
    Refused(DelegationRefusal),
    /// The namespace has the maximum number of grants that the API creates. Nothing changed.
    NamespaceFull(usize),
    /// The token to replace is gone, or has changed since. Nothing changed.
    Absent,
    /// The rights of the bearer have changed since the decision. The caller must decide again.
    Stale,
}

/// The result of revoking a service token, or of its adoption.
#[derive(Debug, PartialEq, Eq)]
pub enum ServiceTokenChanged {
    /// The store made the change. `None` if nobody could read the record.
    Done(Option<Box<ServiceToken>>),
    /// The token already was as it should be.
    Unchanged(Box<ServiceToken>),
    /// There is no such token.
    Absent,
}
