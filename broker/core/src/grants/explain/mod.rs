//! Explains a decision about a caller: which grants give access, or the nearest grant and its
//! differences.
//!
//! It uses the same check as the decision itself. Sometimes that check depends on a fact about the
//! caller that the store does not have. The explanation is then a condition, and never a plain yes.

mod condition;
mod difference;
mod question;
mod sentences;
mod spelling;
#[cfg(test)]
mod tests;

use stile_protocol::exchange::Namespaces;

use super::{Grant, GrantNamespace, Pin, PrincipalState, check_grants};
use crate::principal::Principal;

pub use condition::Condition;
pub use difference::Difference;
pub use question::{AccessQuestion, AskedNamespace, AskedToken};
pub use spelling::nearest_spelling;

use spelling::spelling_distance;

/// The answer to an [`AccessQuestion`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explanation {
    /// The caller has access.
    Yes {
        /// The grants that give it.
        by: Vec<Grant>,
        /// The broker refuses the caller unless this holds.
        condition: Option<Condition>,
    },
    /// An operator revoked the caller, its permission set or its account. The value says which, for
    /// those who may know it.
    Revoked(Option<Principal>),
    /// The token of the caller gives no access, whatever the grants are.
    Token(Difference),
    /// The caller has no access. The value is the nearest grant, if one is similar.
    No(Option<NearestGrant>),
}

/// The grant that is nearest to the access, and how it differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearestGrant {
    /// The grant.
    pub grant: Grant,
    /// The differences, the least significant one first. Never empty.
    pub differences: Vec<Difference>,
}

/// An explanation in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The broker gives access.
    Yes,
    /// The broker gives access if a condition holds.
    YesIf,
    /// The broker refuses.
    No,
}

impl Verdict {
    /// Returns the word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::YesIf => "yes_if",
            Self::No => "no",
        }
    }

    /// Returns whether the caller has access. `None` if it depends on the condition.
    pub const fn allowed(self) -> Option<bool> {
        match self {
            Self::Yes => Some(true),
            Self::YesIf => None,
            Self::No => Some(false),
        }
    }
}

impl Explanation {
    /// Returns the explanation in one word.
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Yes { condition: None, .. } => Verdict::Yes,
            Self::Yes { condition: Some(_), .. } => Verdict::YesIf,
            Self::Revoked(_) | Self::Token(_) | Self::No(_) => Verdict::No,
        }
    }

    /// Returns the code of what prevents access, or of what the condition depends on. For several
    /// differences, it is that of the first. `None` if nothing prevents access.
    pub fn difference(&self) -> Option<&'static str> {
        match self {
            Self::Yes { condition: None, .. } => None,
            Self::Yes { condition: Some(condition), .. } => Some(condition.code()),
            Self::Revoked(_) => Some(REVOKED),
            Self::Token(difference) => Some(difference.code()),
            Self::No(nearest) => Some(
                nearest
                    .as_ref()
                    .and_then(|nearest| nearest.differences.first())
                    .map_or(NO_SIMILAR_GRANT, Difference::code),
            ),
        }
    }

    /// Returns the explanation without what only operators may know: which principal is revoked, and
    /// which unique id is pinned.
    #[must_use]
    pub fn without_secrets_of_operators(self) -> Self {
        match self {
            Self::Yes { by, condition } => {
                let condition = condition.map(|condition| match condition {
                    Condition::UniqueId(_) => Condition::UniqueId(None),
                    Condition::NoneOf(_) => Condition::NoneOf(Vec::new()),
                });
                Self::Yes { by, condition }
            }
            Self::Revoked(_) => Self::Revoked(None),
            Self::No(Some(mut nearest)) => {
                for difference in &mut nearest.differences {
                    if let Difference::UniqueId(pinned) = difference {
                        *pinned = None;
                    }
                }
                Self::No(Some(nearest))
            }
            Self::Token(_) | Self::No(None) => self,
        }
    }
}

/// The code of a revoked principal, in [`Explanation::difference`].
pub(super) const REVOKED: &str = "revoked";

/// The code of a caller to whose access no grant is similar.
const NO_SIMILAR_GRANT: &str = "no_similar_grant";

/// Returns the principals whose grants apply to the caller, its own first.
pub fn principals_of(caller: &Principal) -> Vec<Principal> {
    let mut principals = vec![caller.clone()];
    principals.extend(caller.aliases());
    if let Principal::PermissionSet(set) = caller {
        // Every user of a permission set has a role of the account.
        let account = format!("account:{}:{}", set.partition(), set.account());
        principals.extend(Principal::parse_stored(&account));
    }
    principals
}

impl AccessQuestion<'_> {
    /// Answers the question.
    ///
    /// `state` is the state of [`principals_of`] the caller, `others` are the grants that can be the
    /// nearest one, and `revoked` are all revoked principals.
    pub fn explain(
        &self,
        state: &PrincipalState,
        others: &[Grant],
        revoked: &[Principal],
    ) -> Explanation {
        if let Some(principal) = &state.revoked {
            return Explanation::Revoked(Some(principal.clone()));
        }
        if let Some(difference) = self.token_differs(state) {
            return Explanation::Token(difference);
        }
        let pinned = match &state.pin {
            Pin::Pinned(id) => Some(id),
            Pin::Unpinned | Pin::Disabled => None,
        };
        // If no id is pinned and none is known, any id has the same result.
        let live = state.trust.as_ref().map(|trust| &trust.id);
        let id = self.unique_id.or(pinned).or(live);
        let allows = |grant: &&Grant| {
            let namespace = match (self.namespace, &grant.namespace) {
                (AskedNamespace::One(namespace), _) => Some(namespace),
                (AskedNamespace::Any, _) | (AskedNamespace::All, GrantNamespace::All) => None,
                (AskedNamespace::All, GrantNamespace::One(_)) => return false,
            };
            let single = PrincipalState { grants: vec![(*grant).clone()], ..state.clone() };
            check_grants(self.caller, id, &single, namespace, self.permission, self.now).is_ok()
        };
        let by: Vec<Grant> = state.grants.iter().filter(allows).cloned().collect();
        if by.is_empty() {
            return Explanation::No(self.nearest(state, others));
        }
        let only_by_name = by.iter().all(|grant| grant.principal.has_unique_id());
        let pinned = pinned.filter(|_| self.unique_id.is_none() && only_by_name);
        let condition = pinned.cloned().map(Some).map(Condition::UniqueId);
        Explanation::Yes { by, condition: condition.or_else(|| self.none_of(revoked)) }
    }

    /// Returns why the token gives no access, as far as the question has facts about it.
    fn token_differs(&self, state: &PrincipalState) -> Option<Difference> {
        let AskedToken { id, namespaces, permissions } = self.token;
        if id.is_some_and(|id| state.revoked_tokens.contains(id)) {
            return Some(Difference::TokenRevoked);
        }
        if let Some(only) = permissions.filter(|only| !only.contains(self.permission)) {
            return Some(Difference::TokenPermissions(only.to_string()));
        }
        let covers = |only: &Namespaces| match self.namespace {
            AskedNamespace::One(namespace) => only.cover(namespace),
            AskedNamespace::All => *only == Namespaces::All,
            AskedNamespace::Any => true,
        };
        let only = namespaces.filter(|only| !covers(only))?;
        Some(Difference::TokenNamespaces(only.to_string()))
    }

    /// Returns the condition that the caller is no revoked part of this permission set or account.
    fn none_of(&self, revoked: &[Principal]) -> Option<Condition> {
        let is_part =
            |part: &&Principal| *part != self.caller && principals_of(part).contains(self.caller);
        let parts: Vec<Principal> = revoked.iter().filter(is_part).cloned().collect();
        (!parts.is_empty()).then_some(Condition::NoneOf(parts))
    }

    /// Returns the grant with the fewest and least significant differences.
    fn nearest(&self, state: &PrincipalState, others: &[Grant]) -> Option<NearestGrant> {
        let principals = principals_of(self.caller);
        let near = others.iter().filter_map(|grant| {
            let mut differences = difference::between_principals(&principals, &grant.principal)?;
            self.rest_differs(state, grant, &mut differences);
            differences.sort();
            // The grants are read after the state. One without a difference was created between them.
            (!differences.is_empty()).then_some((grant, differences))
        });
        let rank = |grant: &Grant| match grant.principal {
            Principal::Role(_)
            | Principal::User(_)
            | Principal::Trust(_)
            | Principal::Service(_) => 0,
            Principal::PermissionSet(_) => 1,
            Principal::Account(_) => 2,
        };
        near.min_by_key(|(grant, differences)| {
            (differences.len(), differences.clone(), rank(grant))
        })
        .map(|(grant, differences)| NearestGrant { grant: grant.clone(), differences })
    }

    fn rest_differs(
        &self,
        state: &PrincipalState,
        grant: &Grant,
        differences: &mut Vec<Difference>,
    ) {
        let covered = match self.namespace {
            AskedNamespace::One(namespace) => grant.namespace.covers(namespace),
            AskedNamespace::All => grant.namespace == GrantNamespace::All,
            AskedNamespace::Any => true,
        };
        if !covered {
            let granted = grant.namespace.to_string();
            let typing_errors = spelling_distance(&self.namespace.to_string(), &granted);
            differences.push(Difference::Namespace { typing_errors, granted });
        }
        if !grant.permissions.contains(self.permission) {
            differences.push(Difference::Permission(grant.permissions.to_string()));
        }
        if let Some(end) = grant.expires_at.filter(|end| *end <= self.now) {
            differences.push(Difference::Expiry(end));
        }
        if let (Pin::Pinned(pinned), Some(id)) = (&state.pin, self.unique_id)
            && pinned != id
            && grant.principal == *self.caller
        {
            differences.push(Difference::UniqueId(Some(pinned.as_str().to_owned())));
        }
    }
}
