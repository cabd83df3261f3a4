//! Delegated grants: which grants the bearer of a token may create, change and delete for others.
//!
//! Nobody gives what they lack, or for longer than they have it. [`delegate`] takes a token and the
//! current grants of its holder, as [`decide`](super::decide()) does, so the scope of the token limits
//! what its holder gives, too.

#[cfg(test)]
mod attempts;
mod explained;
mod visible;

use stile_protocol::names::{Namespace, Permission, Permissions};

pub use explained::{DelegatedExplanation, ExplainAccess, ExplainFacts, GivenBy, explain_access};
pub use visible::{ShownGrant, VisibleGrants, grants_in_scope, visible_grants};

use super::decide::{allowed, allowed_by};
use super::{Grant, GrantNamespace, PrincipalState, Refusal, StateRevisions, never_granted};
use crate::clock::rfc3339;
use crate::principal::Principal;
use crate::token::Claims;

/// The end of something that has none, in Unix seconds.
const NEVER: i64 = i64::MAX;

/// The reason why a bearer may not change a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DelegationRefusal {
    /// The bearer does not have a right that the change needs.
    #[error(transparent)]
    Refused(Refusal),
    /// The grant would end later than the bearer's own right.
    #[error("`{}` has `{permission}` on namespace `{namespace}` until {}, so it cannot give a permission there for longer", .giver.display_name(), rfc3339(*.until))]
    TooLong {
        /// The bearer.
        giver: Principal,
        /// The namespace.
        namespace: Namespace,
        /// The permission of the bearer that ends first.
        permission: Permission,
        /// Its end in Unix seconds.
        until: i64,
    },
    /// The grant would allow nothing, because its end is in the past.
    #[error("the grant would end at {}, which is in the past", rfc3339(*.0))]
    Ended(i64),
    /// The grant would have no permission.
    #[error("a grant needs at least one permission")]
    NoPermission,
    /// The grant is on all namespaces.
    #[error("only an operator changes grants on all namespaces (`*`)")]
    AllNamespaces,
    /// The grant is for all roles and users of an account.
    #[error("only an operator changes grants of a whole account (`{0}`)")]
    Account(Principal),
    /// The grant is for an organization, an organizational unit or a tag.
    #[error("only an operator changes grants of a group of AWS callers (`{0}`)")]
    Group(Principal),
    /// The principal is a service, whose grants never have this permission.
    #[error("a grant of a service never has `{0}`, only `download` and `upload`")]
    NeverOfService(Permission),
    /// The list would show grants on all namespaces.
    #[error(
        "only a holder of `create_grant` or `delete_grant` on all namespaces lists the grants on `*`"
    )]
    ListsAllNamespaces,
    /// The explanation would be about grants on all namespaces.
    #[error("only a holder of `create_grant` on all namespaces has access to `*` explained")]
    ExplainsAllNamespaces,
    /// Nobody could create grants on the namespace for as long as before.
    #[error("{}", last_grant_giver(.namespace, *.until))]
    LastGrantGiver {
        /// The namespace.
        namespace: Namespace,
        /// The time in Unix seconds from which nobody could. `None` if it is now.
        until: Option<i64>,
    },
}

/// The right of a bearer to change the grant of one principal on one namespace, within the limits of
/// what the bearer has there.
///
/// Only [`delegate`] creates one.
#[derive(Debug)]
pub struct DelegatedAccess {
    giver: Principal,
    principal: Principal,
    namespace: Namespace,
    /// Until when the bearer has each permission of [`Permission::ALL`], in Unix seconds, or why it
    /// does not have it.
    held: [Result<i64, Refusal>; Permission::ALL.len()],
    /// The grant that gives the bearer the right to change grants.
    grant: Grant,
    /// The revisions of the records of the decision.
    revisions: StateRevisions,
    now: i64,
}

/// A grant as a bearer may make it, while the records of the decision have not changed. Only a
/// [`DelegatedAccess`] creates one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegatedGrant {
    grant: Grant,
    revisions: StateRevisions,
}

impl DelegatedGrant {
    /// Returns the grant.
    pub fn into_grant(self) -> Grant {
        self.grant
    }

    /// Returns the revisions of the records of the decision.
    pub const fn revisions(&self) -> &StateRevisions {
        &self.revisions
    }
}

/// Decides which right a bearer has to change the grant of a principal on a namespace. `needs` is the
/// right that the change needs as far as known, which a refusal names.
///
/// # Errors
///
/// [`DelegationRefusal`], if the bearer has neither `create_grant` nor `delete_grant` there, or if only
/// an operator changes such grants.
pub fn delegate(
    claims: &Claims,
    state: &PrincipalState,
    principal: Principal,
    namespace: &GrantNamespace,
    needs: Permission,
    now: i64,
) -> Result<DelegatedAccess, DelegationRefusal> {
    let GrantNamespace::One(namespace) = namespace else {
        return Err(DelegationRefusal::AllNamespaces);
    };
    match principal {
        Principal::Account(_) => return Err(DelegationRefusal::Account(principal)),
        Principal::AwsGroup(_) => return Err(DelegationRefusal::Group(principal)),
        Principal::Role(_)
        | Principal::User(_)
        | Principal::PermissionSet(_)
        | Principal::Trust(_)
        | Principal::Service(_) => {}
    }
    let held =
        Permission::ALL.map(|permission| held_until(claims, state, namespace, permission, now));
    let by = |right| allowed_by(claims, state, namespace, right, now);
    // One of both rights is enough here. A refusal names the right that the change needs.
    let grant = by(needs)
        .or_else(|refusal| by(Permission::CreateGrant).map_err(|_| refusal))
        .or_else(|refusal| by(Permission::DeleteGrant).map_err(|_| refusal))
        .map_err(DelegationRefusal::Refused)?;
    Ok(DelegatedAccess {
        giver: claims.principal().clone(),
        principal,
        namespace: namespace.clone(),
        held,
        grant: grant.clone(),
        revisions: state.revisions.clone(),
        now,
    })
}

/// Returns until when the bearer has a permission on a namespace: the end of its longest grant.
fn held_until(
    claims: &Claims,
    state: &PrincipalState,
    namespace: &Namespace,
    permission: Permission,
    now: i64,
) -> Result<i64, Refusal> {
    allowed(claims, state, namespace, permission, now)?;
    let gives = |grant: &&Grant| {
        grant.namespace.covers(namespace)
            && grant.allows(permission, now)
            && state.counts(grant, claims.shown_id())
    };
    // The token's own end is no limit: every token ends soon, and the grant does not depend on it.
    Ok(state.grants.iter().filter(gives).map(end_of).max().unwrap_or(now))
}

fn end_of(grant: &Grant) -> i64 {
    grant.expires_at.unwrap_or(NEVER)
}

impl DelegatedAccess {
    /// Returns the principal whose grant may change.
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns the namespace of the grant.
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns the grant that gives the bearer the right, for records.
    pub const fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Returns the revisions of the records of the decision.
    pub const fn revisions(&self) -> &StateRevisions {
        &self.revisions
    }

    /// Returns the time of the decision, in Unix seconds.
    pub const fn now(&self) -> i64 {
        self.now
    }

    /// Decides whether the bearer may create a grant with these permissions and this end.
    ///
    /// # Errors
    ///
    /// [`DelegationRefusal`], with the first reason.
    pub fn create(
        &self,
        permissions: Permissions,
        expires_at: Option<i64>,
    ) -> Result<DelegatedGrant, DelegationRefusal> {
        let grant = Grant {
            principal: self.principal.clone(),
            namespace: GrantNamespace::One(self.namespace.clone()),
            permissions,
            expires_at,
            created_by: self.giver.to_string(),
            created_at: self.now,
        };
        self.may_give(&grant)?;
        Ok(self.delegated(grant))
    }

    /// Decides whether the bearer may give an existing grant these permissions and this end.
    ///
    /// More permissions or a later end need what [`Self::create`] needs. Fewer permissions or an
    /// earlier end need `delete_grant`. A change can need both.
    ///
    /// # Errors
    ///
    /// [`DelegationRefusal`], with the first reason.
    pub fn change(
        &self,
        before: &Grant,
        permissions: Permissions,
        expires_at: Option<i64>,
    ) -> Result<DelegatedGrant, DelegationRefusal> {
        let after = Grant {
            principal: self.principal.clone(),
            namespace: GrantNamespace::One(self.namespace.clone()),
            permissions,
            expires_at,
            ..before.clone()
        };
        let ends = end_of(&after).cmp(&end_of(before));
        if ends.is_lt() || !within(before.permissions, permissions) {
            self.may_take()?;
        }
        if ends.is_gt() || !within(permissions, before.permissions) {
            self.may_give(&after)?;
        }
        if ends.is_lt() {
            self.is_current(&after)?;
        }
        if permissions.is_empty() {
            return Err(DelegationRefusal::NoPermission);
        }
        Ok(self.delegated(after))
    }

    fn delegated(&self, grant: Grant) -> DelegatedGrant {
        DelegatedGrant { grant, revisions: self.revisions.clone() }
    }

    /// Decides whether the bearer may take something from a grant, or delete it.
    ///
    /// # Errors
    ///
    /// [`DelegationRefusal`], if the bearer does not have `delete_grant`.
    pub fn may_take(&self) -> Result<(), DelegationRefusal> {
        self.held(Permission::DeleteGrant).map(drop)
    }

    /// Decides whether the bearer may give everything in a grant, until its end.
    fn may_give(&self, grant: &Grant) -> Result<(), DelegationRefusal> {
        let gives_until = self.held(Permission::CreateGrant)?;
        if grant.permissions.is_empty() {
            return Err(DelegationRefusal::NoPermission);
        }
        if let Some(permission) = never_granted(&self.principal, grant.permissions) {
            return Err(DelegationRefusal::NeverOfService(permission));
        }
        self.is_current(grant)?;
        for permission in grant.permissions.iter() {
            let has_until = self.held(permission)?;
            let (permission, until) = if has_until < gives_until {
                (permission, has_until)
            } else {
                (Permission::CreateGrant, gives_until)
            };
            if end_of(grant) > until {
                let (giver, namespace) = (self.giver.clone(), self.namespace.clone());
                return Err(DelegationRefusal::TooLong { giver, namespace, permission, until });
            }
        }
        Ok(())
    }

    fn is_current(&self, grant: &Grant) -> Result<(), DelegationRefusal> {
        match grant.expires_at {
            Some(end) if end <= self.now => Err(DelegationRefusal::Ended(end)),
            _ => Ok(()),
        }
    }

    fn held(&self, permission: Permission) -> Result<i64, DelegationRefusal> {
        let mut held = Permission::ALL.into_iter().zip(&self.held);
        // `held` has every permission. If it lacked one, the bearer would not have it.
        match held.find(|(of, _)| *of == permission) {
            Some((_, Ok(until))) => Ok(*until),
            Some((_, Err(refusal))) => Err(DelegationRefusal::Refused(refusal.clone())),
            None => Err(DelegationRefusal::NoPermission),
        }
    }
}

fn last_grant_giver(namespace: &Namespace, until: Option<i64>) -> String {
    match until {
        None => format!("nobody else has `create_grant` on namespace `{namespace}`"),
        Some(until) => format!(
            "nobody would have `create_grant` on namespace `{namespace}` from {} on",
            rfc3339(until)
        ),
    }
}

/// Returns whether `few` has no permission that `many` lacks.
fn within(few: Permissions, many: Permissions) -> bool {
    few.union(many) == many
}
