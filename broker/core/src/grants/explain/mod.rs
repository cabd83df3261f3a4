//! Explains a decision about a caller: which grants give access, or the nearest grant and its
//! differences.
//!
//! It uses the same check as the decision itself. Where that check depends on a fact about the caller
//! that the store does not have, the explanation is a condition and never a plain yes.

mod condition;
mod difference;
mod sentences;
mod spelling;
#[cfg(test)]
mod tests;

use stile_protocol::names::Permission;

use super::{Grant, GrantNamespace, Pin, PrincipalState, check_grants};
use crate::principal::{Principal, UniqueId};

pub use condition::Condition;
pub use difference::Difference;
pub use spelling::nearest_spelling;

/// The question whether a caller has a permission.
#[derive(Debug, Clone, Copy)]
pub struct AccessQuestion<'a> {
    /// The role or user that calls. A permission set or an account stands for each of its callers.
    pub caller: &'a Principal,
    /// The caller's unique id, if it is known.
    pub unique_id: Option<&'a UniqueId>,
    /// The namespace, or all namespaces.
    pub namespace: &'a GrantNamespace,
    /// The permission.
    pub permission: Permission,
    /// The time of the question, in Unix seconds.
    pub now: i64,
}

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
    /// An operator revoked this principal: the caller, its permission set or its account.
    Revoked(Principal),
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
            Self::Revoked(_) | Self::No(_) => Verdict::No,
        }
    }
}

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
            return Explanation::Revoked(principal.clone());
        }
        let pinned = match &state.pin {
            Pin::Pinned(id) => Some(id),
            Pin::Unpinned | Pin::Disabled => None,
        };
        // If no id is pinned and none is known, any id has the same result.
        let id = self.unique_id.or(pinned);
        let allows = |grant: &&Grant| {
            let namespace = match (self.namespace, &grant.namespace) {
                (GrantNamespace::One(namespace), _) => Some(namespace),
                (GrantNamespace::All, GrantNamespace::All) => None,
                (GrantNamespace::All, GrantNamespace::One(_)) => return false,
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
        let condition = pinned.cloned().map(Condition::UniqueId);
        Explanation::Yes { by, condition: condition.or_else(|| self.none_of(revoked)) }
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
            Some((grant, differences))
        });
        let rank = |grant: &Grant| match grant.principal {
            Principal::Role(_) | Principal::User(_) => 0,
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
            GrantNamespace::One(namespace) => grant.namespace.covers(namespace),
            GrantNamespace::All => grant.namespace == GrantNamespace::All,
        };
        if !covered {
            differences.push(Difference::Namespace(grant.namespace.to_string()));
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
            differences.push(Difference::UniqueId(pinned.as_str().to_owned()));
        }
    }
}
