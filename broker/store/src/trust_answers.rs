//! What operators choose of trusts, and the results of their changes.

use stile_core::principal::LocalName;
use stile_core::trust::{Condition, IssuerUrl, TermsError, Trust, TrustTerms};

/// A change of a trust. What is `None` does not change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustChange {
    /// The new issuer.
    pub issuer: Option<IssuerUrl>,
    /// The new audience; `Some(None)` for the registry's host.
    pub audience: Option<Option<String>>,
    /// All new conditions, which replace the old ones.
    pub conditions: Option<Vec<Condition>>,
    /// The new age, in seconds.
    pub max_age: Option<i64>,
    /// The new keys; `Some(None)` for the issuer's own.
    pub keys: Option<Option<String>>,
}

impl TrustChange {
    /// Returns the terms after the change.
    #[must_use]
    pub fn after(&self, before: TrustTerms) -> TrustTerms {
        let Self { issuer, audience, conditions, max_age, keys } = self.clone();
        TrustTerms {
            issuer: issuer.unwrap_or(before.issuer),
            audience: audience.unwrap_or(before.audience),
            conditions: conditions.unwrap_or(before.conditions),
            max_age: max_age.unwrap_or(before.max_age),
            keys: keys.unwrap_or(before.keys),
        }
    }
}

/// The result of creating a trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustCreated {
    /// The store created the trust.
    Done(Box<Trust>),
    /// There is this trust with the name already. Nothing changed.
    Exists(Box<Trust>),
    /// The registry has the maximum number of trusts. Nothing changed.
    TooMany,
    /// No trust may have these terms.
    Refused(TermsError),
}

/// The result of changing a trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustUpdated {
    /// The trust changed, and its tokens end.
    Done {
        /// The trust before the change.
        before: Box<Trust>,
        /// The trust after the change.
        after: Box<Trust>,
    },
    /// The trust is like this already. Nothing changed, and its tokens go on.
    Unchanged(Box<Trust>),
    /// There is no trust with the name.
    Absent,
    /// No trust may have the terms after the change. Nothing changed.
    Refused(TermsError),
}

/// The result of deleting a trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustDeleted {
    /// The store deleted this trust. `None` for one that this program could not read.
    Done(Option<Box<Trust>>),
    /// There is no trust with the name, and no grant names it.
    Absent,
    /// Grants on these namespaces name it, as they are stored. Nothing changed. There may be no trust of
    /// the name any more.
    HasGrants(Vec<String>),
}

/// A trust that this program cannot read, by its name. `None` if it cannot read the name either.
pub type UnreadableTrust = Option<LocalName>;
