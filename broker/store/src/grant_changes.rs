//! The types of changes of grants: what operators and bearers choose, and the results.

use stile_core::grants::{DelegationRefusal, Grant, GrantNamespace, GrantTag, Pin, ShownGrant};
use stile_core::principal::Principal;
use stile_protocol::names::Permissions;

/// The creator's choices for a new grant. The evidence contains the namespace and the creator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGrant {
    /// The principal that gets the grant.
    pub principal: Principal,
    /// The permissions. Never empty.
    pub permissions: Permissions,
    /// End of the grant in Unix seconds.
    pub expires_at: Option<i64>,
    /// A pin to set with the grant. It never replaces another pin.
    pub pin: Option<Pin>,
}

/// The result of creating a grant.
#[derive(Debug, PartialEq, Eq)]
pub enum Created {
    /// The store created the grant.
    Done {
        /// The grant.
        grant: Grant,
        /// Whether the store knew nothing about its namespace before. A mistyped name is new, too.
        new_namespace: bool,
    },
    /// The principal has a grant on that namespace already. Nothing changed.
    Exists {
        /// The existing grant.
        grant: Grant,
        /// The pin of the principal.
        pin: Pin,
    },
    /// A principal with grants has a name that differs only by case. IAM treats both names as the
    /// same.
    DiffersByCase(Principal),
    /// The principal has the maximum number of grants.
    TooMany,
    /// The request contains a pin, and the principal has another one. A pin applies to all its
    /// grants.
    PinnedOtherwise(Pin),
    /// The principal is a trust, and there is none of that name.
    NoTrust,
}

/// The result of changing a grant.
#[derive(Debug, PartialEq, Eq)]
pub enum Updated {
    /// The grant changed.
    Done {
        /// The grant before the change.
        before: Grant,
        /// The grant after the change.
        after: Grant,
    },
    /// The grant does not exist.
    Absent,
    /// The grant would allow nothing. Nothing changed.
    WouldBeEmpty,
    /// The grant is not in the expected state, but in this one. Nothing changed.
    Differs(Grant),
}

/// The result of deleting a grant.
#[derive(Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The store deleted this grant. `None` for one that this program could not read.
    Done(Option<Grant>),
    /// The grant does not exist.
    Absent,
    /// The grant is not in the expected state, but in this one. Nothing changed.
    Differs(Grant),
}

/// A change of a grant. It does not change other permissions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Permissions to add.
    pub set: Permissions,
    /// Permissions to remove.
    pub clear: Permissions,
    /// The change of its end.
    pub expires_at: ExpiryChange,
}

impl Change {
    /// Returns the grant after the change. A permission that is added and removed is removed.
    pub(crate) fn after(&self, grant: &Grant) -> Grant {
        let added = grant.permissions.union(self.set);
        let expires_at = match self.expires_at {
            ExpiryChange::Keep => grant.expires_at,
            ExpiryChange::Never => None,
            ExpiryChange::At(end) => Some(end),
        };
        let permissions = self.clear.iter().fold(added, Permissions::without);
        Grant { permissions, expires_at, ..grant.clone() }
    }
}

/// The change of a grant's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExpiryChange {
    /// The end does not change.
    #[default]
    Keep,
    /// The grant has no end.
    Never,
    /// The grant ends at this time, in Unix seconds.
    At(i64),
}

/// The terms of a bearer's change of a grant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeTerms {
    /// The state of the grant in which the bearer has seen it. Without it, any state is right.
    pub expected: Option<GrantTag>,
    /// Whether the change may take away the last `create_grant` on the namespace.
    pub force: bool,
}

impl ChangeTerms {
    /// Returns whether the grant is not in the expected state.
    pub(crate) fn differs(&self, grant: &Grant) -> bool {
        self.expected.as_ref().is_some_and(|tag| !tag.is_of(grant))
    }
}

/// The result of creating a grant as a bearer.
#[derive(Debug, PartialEq, Eq)]
pub enum DelegatedCreation {
    /// The store created the grant.
    Done(Grant),
    /// The principal has this grant on that namespace already. Nothing changed.
    Exists(Grant),
    /// A principal with a grant on that namespace has a name that differs only by case.
    DiffersByCase(Principal),
    /// The principal has the maximum number of grants that bearers create, which is this one.
    PrincipalFull(usize),
    /// The namespace has the maximum number of grants that bearers create, which is this one.
    NamespaceFull(usize),
    /// The principal is a trust, and there is none of that name.
    NoTrust,
    /// Another trust of that name had grants, and an operator has not removed its pin.
    TrustRecreated,
    /// The records of the decision have changed since it, so the bearer must decide again.
    Stale,
}

/// The result of a bearer's change of a grant.
#[derive(Debug, PartialEq, Eq)]
pub enum DelegatedUpdate {
    /// The grant changed.
    Done {
        /// The grant before the change.
        before: Grant,
        /// The grant after the change.
        after: Grant,
    },
    /// The grant has all of this already. Nothing changed.
    Unchanged(Grant),
    /// The grant does not exist.
    Absent,
    /// The grant would allow nothing. Nothing changed.
    WouldBeEmpty,
    /// The grant is not in the expected state. Nothing changed.
    Differs,
    /// The bearer may not make the change. Nothing changed.
    Refused(DelegationRefusal),
    /// The document of the principal's grants cannot hold the change. Nothing changed.
    Full,
    /// The records of the decision have changed since it, so the bearer must decide again.
    Stale,
}

/// The result of a bearer's deletion of a grant.
#[derive(Debug, PartialEq, Eq)]
pub enum DelegatedDeletion {
    /// The store deleted this grant.
    Done(Grant),
    /// The grant does not exist.
    Absent,
    /// The grant is not in the expected state. Nothing changed.
    Differs,
    /// The bearer may not delete it. Nothing changed.
    Refused(DelegationRefusal),
    /// The records of the decision have changed since it, so the bearer must decide again.
    Stale,
}

/// One page of the grants that a bearer may see.
#[derive(Debug)]
pub struct VisiblePage {
    /// The grants, in order. There can be fewer than asked for, and none.
    pub grants: Vec<ShownGrant>,
    /// Where the next page begins, if there is one.
    pub next: Option<AfterGrant>,
}

/// The place in a list of grants after which a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AfterGrant {
    /// The principal.
    pub principal: Principal,
    /// The namespace.
    pub namespace: GrantNamespace,
}
