//! Trusts: an operator wrote whose JWTs this registry believes, and what their claims must say.
//!
//! A trust makes one principal, `oidc:NAME`. Nothing here verifies a signature: the caller does that
//! with the keys of the trust's issuer before it asks a trust about the claims.

mod condition;
mod issuer;
mod issuer_keys;
mod live;
mod public_issuers;
mod terms;

use serde_json::{Map, Value};

pub use condition::{ClaimPath, Condition, ConditionError, Rule};
pub use issuer::{IssuerUrl, IssuerUrlError};
pub use issuer_keys::{IssuerKeysError, issuer_keys};
pub use live::{LiveTrust, TrustCheck, check_live};
pub use public_issuers::PublicIssuer;
pub use terms::{TermsError, TrustTerms};

use crate::principal::{LocalName, Principal, UniqueId};

/// The most trusts of a registry. A broker reads all of them at once.
pub const MAX_TRUSTS: usize = 200;

/// The most conditions of a trust.
pub const MAX_CONDITIONS: usize = 20;

/// How old a JWT may be by default, in seconds since its `iat`.
///
/// Some issuers give a JWT the lifetime of a whole job, so a stolen one would be good for a day.
pub const DEFAULT_MAX_AGE: i64 = 3600;

/// The longest age that a trust can allow, in seconds.
pub const LONGEST_MAX_AGE: i64 = 24 * 3600;

/// A trust, as an operator wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The id, which never changes. A later trust of the same name has another one.
    pub id: UniqueId,
    /// The name.
    pub name: LocalName,
    /// How often an operator changed what it believes, plus one. A token ends when it changes.
    pub revision: i64,
    /// The issuer of the JWTs.
    pub issuer: IssuerUrl,
    /// The audience of the JWTs. `None`: the registry's host, with or without `https://`.
    pub audience: Option<String>,
    /// What the claims must say, all of it.
    pub conditions: Vec<Condition>,
    /// How old a JWT may be, in seconds since its `iat`.
    pub max_age: i64,
    /// The keys of the issuer, a JWK set (RFC 7517, section 5), for an issuer that cannot be reached.
    /// `None`: the issuer's own, by its discovery document.
    pub keys: Option<String>,
    /// Name of the creator, as the creator's program reported it. For records only.
    pub created_by: String,
    /// Time of creation in Unix seconds.
    pub created_at: i64,
    /// Time of the last change in Unix seconds.
    pub changed_at: i64,
}

impl Trust {
    /// Returns the principal whose grants a caller has that this trust believes.
    pub fn principal(&self) -> Principal {
        Principal::trust(&self.name)
    }

    /// Returns the first condition that the claims do not meet, or `None`.
    pub fn unmet(&self, claims: &Map<String, Value>) -> Option<&Condition> {
        self.conditions.iter().find(|condition| !condition.is_met_by(claims))
    }
}
