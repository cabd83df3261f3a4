//! Delegated grants: a bearer lists, creates, changes and deletes grants within its own rights.
//!
//! A change reads the rights of the bearer from the store first, past the cache: a grant outlives the
//! token, so a right that has ended must not make one.

use super::authorize::{AuthenticateError, Bearer};
use super::broker::Broker;
use stile_core::audit::{Event, Outcome};
use stile_core::grants::{DelegationRefusal, Grant, GrantNamespace, MAX_GRANTS};
use stile_core::principal::Principal;
use stile_protocol::names::Permissions;
use stile_store::{
    AfterGrant, AwsCause, Change, ChangeTerms, Created, DelegatedDeletion, DelegatedUpdate,
    StoreError,
};

/// The grant that a request is about: whose, and on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The principal of the grant.
    pub principal: Principal,
    /// The namespace of the grant.
    pub namespace: GrantNamespace,
}

/// The reason why a grant does not change, or why a bearer does not see it.
#[derive(Debug, thiserror::Error)]
pub enum GrantsError {
    /// The token is no longer valid, or the broker cannot verify it now.
    #[error(transparent)]
    Authenticate(#[from] AuthenticateError),
    /// The bearer may not do it.
    #[error(transparent)]
    Refused(#[from] DelegationRefusal),
    /// The grant does not exist.
    #[error("`{}` has no grant on namespace `{}`", .0.principal.display_name(), .0.namespace)]
    Absent(Target),
    /// A different grant exists.
    #[error("`{}` already has `{}` on namespace `{}`, with another content or another end", .0.principal.display_name(), .0.permissions, .0.namespace)]
    Exists(Box<Grant>),
    /// A principal with grants has a name that differs only by case.
    #[error("`{principal}` differs only by case from `{twin}`, which already has grants")]
    DiffersByCase {
        /// The principal of the request.
        principal: Principal,
        /// The principal with grants.
        twin: Principal,
    },
    /// The principal cannot have one more grant, or a larger one.
    #[error("`{}` has the maximum number of grants, which is {MAX_GRANTS}", .0.display_name())]
    Full(Principal),
    /// The change would leave no permission.
    #[error("the change would remove the last permission of the grant")]
    WouldBeEmpty,
    /// The grant is not in the state that the client has seen.
    #[error("the grant has changed since the client read it, so nothing changed now")]
    Differs,
    /// The broker's own role may not write grants.
    #[error("this registry does not let its broker change grants")]
    NotDelegated(#[source] StoreError),
    /// The store is down.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for GrantsError {
    fn from(error: StoreError) -> Self {
        if AwsCause::is_denied_write(&error) {
            Self::NotDelegated(error)
        } else {
            Self::Store(error)
        }
    }
}

/// One page of grants.
#[derive(Debug)]
pub struct GrantsPage {
    /// The grants, in order.
    pub grants: Vec<Grant>,
    /// Where the next page begins, if there is one.
    pub next: Option<AfterGrant>,
}

/// Returns a page of the grants that the bearer may see.
pub async fn list(
    broker: &Broker,
    bearer: &Bearer,
    principal: Option<Principal>,
    namespace: Option<GrantNamespace>,
    after: Option<AfterGrant>,
    limit: usize,
    event: &mut Event,
) -> Result<GrantsPage, GrantsError> {
    if let Some(principal) = &principal {
        event.about(principal);
    }
    if let Some(namespace) = &namespace {
        event.grant(namespace, None);
    }
    let visible = bearer.visible_grants(namespace.as_ref())?;
    // Read one grant more than `limit`, to find out whether another page follows.
    let found = broker.store.visible_grants(&visible, principal, namespace, after, limit + 1);
    let mut grants = found.await?;
    let more = grants.len() > limit;
    grants.truncate(limit);
    let next = grants.last().filter(|_| more).map(|last| AfterGrant {
        principal: last.principal.clone(),
        namespace: last.namespace.clone(),
    });
    Ok(GrantsPage { grants, next })
}

/// Creates a grant. Returns it, and whether it is new: an identical one stays as it is.
pub async fn create(
    broker: &Broker,
    bearer: &Bearer,
    target: &Target,
    permissions: Permissions,
    expires_at: Option<i64>,
    event: &mut Event,
) -> Result<(Grant, bool), GrantsError> {
    event.about(&target.principal);
    event.grant(&target.namespace, Some(permissions.to_string()));
    let access = bearer.current(broker).await?.delegate(&target.principal, &target.namespace)?;
    let wanted = access.create(permissions, expires_at)?;
    match broker.store.create_delegated_grant(wanted).await? {
        Created::Done { grant, .. } => {
            event.outcome(Outcome::Created);
            Ok((grant, true))
        }
        Created::Exists { grant, .. }
            if grant.permissions == permissions && grant.expires_at == expires_at =>
        {
            event.outcome(Outcome::Unchanged);
            Ok((grant, false))
        }
        Created::Exists { grant, .. } => {
            event.outcome(Outcome::Conflict);
            Err(GrantsError::Exists(Box::new(grant)))
        }
        Created::DiffersByCase(twin) => {
            event.outcome(Outcome::Conflict);
            Err(GrantsError::DiffersByCase { principal: target.principal.clone(), twin })
        }
        // The request has no pin, so no pin is another one.
        Created::TooMany | Created::PinnedOtherwise(_) => {
            event.outcome(Outcome::Full);
            Err(GrantsError::Full(target.principal.clone()))
        }
    }
}

/// Changes a grant, and returns it.
pub async fn update(
    broker: &Broker,
    bearer: &Bearer,
    target: &Target,
    change: Change,
    terms: &ChangeTerms,
    event: &mut Event,
) -> Result<Grant, GrantsError> {
    event.about(&target.principal);
    event.grant(&target.namespace, None);
    let access = bearer.current(broker).await?.delegate(&target.principal, &target.namespace)?;
    match broker.store.update_delegated_grant(&access, change, terms).await? {
        DelegatedUpdate::Done(grant) => {
            event.grant(&target.namespace, Some(grant.permissions.to_string()));
            event.outcome(Outcome::Changed);
            Ok(grant)
        }
        DelegatedUpdate::Unchanged(grant) => {
            event.grant(&target.namespace, Some(grant.permissions.to_string()));
            event.outcome(Outcome::Unchanged);
            Ok(grant)
        }
        DelegatedUpdate::Absent => Err(GrantsError::Absent(target.clone())),
        DelegatedUpdate::WouldBeEmpty => Err(GrantsError::WouldBeEmpty),
        DelegatedUpdate::Differs => Err(GrantsError::Differs),
        DelegatedUpdate::Refused(refusal) => Err(refused(refusal, event)),
        DelegatedUpdate::Full => {
            event.outcome(Outcome::Full);
            Err(GrantsError::Full(target.principal.clone()))
        }
    }
}

/// Deletes a grant.
pub async fn delete(
    broker: &Broker,
    bearer: &Bearer,
    target: &Target,
    terms: &ChangeTerms,
    event: &mut Event,
) -> Result<(), GrantsError> {
    event.about(&target.principal);
    event.grant(&target.namespace, None);
    let access = bearer.current(broker).await?.delegate(&target.principal, &target.namespace)?;
    match broker.store.delete_delegated_grant(&access, terms).await? {
        DelegatedDeletion::Done => {
            event.outcome(Outcome::Deleted);
            Ok(())
        }
        DelegatedDeletion::Absent => Err(GrantsError::Absent(target.clone())),
        DelegatedDeletion::Differs => Err(GrantsError::Differs),
        DelegatedDeletion::Refused(refusal) => Err(refused(refusal, event)),
    }
}

fn refused(refusal: DelegationRefusal, event: &mut Event) -> GrantsError {
    if matches!(refusal, DelegationRefusal::LastGrantGiver(_)) {
        event.outcome(Outcome::Conflict);
    }
    refusal.into()
}
