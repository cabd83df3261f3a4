//! Delegated grants: a bearer lists, creates, changes and deletes grants within its own rights.
//!
//! A change reads the rights of the bearer from the store, past the cache: a grant outlives the token,
//! so a right that has ended must not make one. It takes effect only if these rights have not changed at
//! the write, or else it decides again.

use super::authorize::{AuthenticateError, Bearer};
use super::broker::Broker;
use stile_core::audit::{Event, Kept, Outcome};
use stile_core::grants::{
    DelegatedAccess, DelegatedExplanation, DelegationRefusal, Grant, GrantNamespace,
};
use stile_core::principal::Principal;
use stile_protocol::names::{Permission, Permissions};
use stile_store::{
    AfterGrant, AwsCause, Change, ChangeTerms, DelegatedCreation, DelegatedDeletion,
    DelegatedUpdate, ExpiryChange, LISTED_NAMESPACES, Retry, StoreError, VisiblePage,
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
    /// A principal with a grant on the namespace has a name that differs only by case.
    #[error("`{principal}` differs only by case from `{twin}`, which already has a grant there")]
    DiffersByCase {
        /// The principal of the request.
        principal: Principal,
        /// The principal with grants.
        twin: Principal,
    },
    /// The principal cannot have one more grant through the API.
    #[error("`{}` has the maximum number of grants that the API creates, which is {limit}", .principal.display_name())]
    PrincipalFull {
        /// The principal.
        principal: Principal,
        /// The number.
        limit: usize,
    },
    /// The namespace cannot have one more grant through the API.
    #[error(
        "namespace `{namespace}` has the maximum number of grants that the API creates, which is {limit}"
    )]
    NamespaceFull {
        /// The namespace.
        namespace: GrantNamespace,
        /// The number.
        limit: usize,
    },
    /// The principal is a trust, and there is none of that name.
    #[error("there is no trust for `{0}`")]
    NoTrust(Principal),
    /// An earlier trust of that name has the pin of its grants.
    #[error("`{0}` was deleted and recreated after it was granted")]
    TrustRecreated(Principal),
    /// The bearer may change grants on more namespaces than one list has.
    #[error(
        "you may change grants on more than {LISTED_NAMESPACES} namespaces, which is too many for one list"
    )]
    TooManyNamespaces,
    /// The grants of the principal fill their document.
    #[error("the grants of `{}` have no more space", .0.display_name())]
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

/// Returns a page of the grants that the bearer may see.
pub async fn list(
    broker: &Broker,
    bearer: &Bearer,
    principal: Option<Principal>,
    namespace: Option<GrantNamespace>,
    after: Option<AfterGrant>,
    limit: usize,
    event: &mut Event,
) -> Result<VisiblePage, GrantsError> {
    if let Some(principal) = &principal {
        event.about(principal);
    }
    if let Some(namespace) = &namespace {
        event.grant(namespace, None);
    }
    let visible = bearer.visible_grants(namespace.as_ref())?;
    let page = broker.store.visible_grants(&visible, principal, namespace, after, limit).await?;
    page.ok_or(GrantsError::TooManyNamespaces)
}

/// Explains whether the principal of the target has a permission on its namespace.
pub async fn explain(
    broker: &Broker,
    bearer: &Bearer,
    target: &Target,
    permission: Permission,
    event: &mut Event,
) -> Result<DelegatedExplanation, GrantsError> {
    event.about(&target.principal);
    event.grant(&target.namespace, None);
    let access = bearer.explain_access(&target.namespace)?;
    let facts = broker.store.explain_facts(&access, &target.principal).await?;
    Ok(access.explain(&target.principal, permission, &facts))
}

/// Decides a change of a bearer, again for each attempt.
struct Decision<'a> {
    broker: &'a Broker,
    bearer: &'a Bearer,
    target: &'a Target,
    /// The right that the change needs, as far as the request says.
    needs: Permission,
    retry: Retry,
}

impl<'a> Decision<'a> {
    fn new(broker: &'a Broker, bearer: &'a Bearer, target: &'a Target, needs: Permission) -> Self {
        Self { broker, bearer, target, needs, retry: Retry::default() }
    }

    /// Decides with the rights in the cache. A refusal of these costs no read.
    fn at_first(&self) -> Result<DelegatedAccess, DelegationRefusal> {
        self.bearer.delegate(&self.target.principal, &self.target.namespace, self.needs)
    }

    /// Decides with the rights in the store.
    async fn now(&self, event: &mut Event) -> Result<DelegatedAccess, GrantsError> {
        let bearer = self.bearer.current(self.broker).await?;
        let access = bearer.delegate(&self.target.principal, &self.target.namespace, self.needs)?;
        event.allowed_by(access.grant());
        Ok(access)
    }

    /// Returns what a change that is made now says of itself.
    fn kept(&self, event: &Event) -> Kept {
        Kept::new(event, self.broker.clock.now())
    }

    /// Waits before the next attempt. The last decision was on records that have changed since it.
    async fn wait(&mut self) -> Result<(), GrantsError> {
        Ok(self.retry.wait().await?)
    }
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
    event.grant_end(expires_at);
    let mut decision = Decision::new(broker, bearer, target, Permission::CreateGrant);
    decision.at_first()?.create(permissions, expires_at)?;
    let created = loop {
        let wanted = decision.now(event).await?.create(permissions, expires_at)?;
        match broker.store.create_delegated_grant(wanted, &decision.kept(event)).await? {
            DelegatedCreation::Stale => decision.wait().await?,
            created => break created,
        }
    };
    let principal = target.principal.clone();
    match created {
        DelegatedCreation::Done(grant) => {
            event.outcome(Outcome::Created);
            Ok((grant, true))
        }
        DelegatedCreation::Exists(grant)
            if grant.permissions == permissions && grant.expires_at == expires_at =>
        {
            event.outcome(Outcome::Unchanged);
            Ok((grant, false))
        }
        DelegatedCreation::Exists(grant) => {
            event.outcome(Outcome::Conflict);
            Err(GrantsError::Exists(Box::new(grant)))
        }
        DelegatedCreation::DiffersByCase(twin) => {
            event.outcome(Outcome::Conflict);
            Err(GrantsError::DiffersByCase { principal, twin })
        }
        DelegatedCreation::PrincipalFull(limit) => {
            event.outcome(Outcome::Full);
            Err(GrantsError::PrincipalFull { principal, limit })
        }
        DelegatedCreation::NamespaceFull(limit) => {
            event.outcome(Outcome::Full);
            Err(GrantsError::NamespaceFull { namespace: target.namespace.clone(), limit })
        }
        DelegatedCreation::NoTrust => {
            event.outcome(Outcome::Conflict);
            Err(GrantsError::NoTrust(principal))
        }
        DelegatedCreation::TrustRecreated => {
            event.outcome(Outcome::Conflict);
            Err(GrantsError::TrustRecreated(principal))
        }
        DelegatedCreation::Stale => Err(GrantsError::Full(principal)),
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
    event.grant_change(change.set, change.clear);
    event.forced(terms.force);
    match change.expires_at {
        ExpiryChange::Keep => {}
        ExpiryChange::Never => event.grant_end(None),
        ExpiryChange::At(end) => event.grant_end(Some(end)),
    }
    let only_takes = change.set.is_empty() && change.expires_at == ExpiryChange::Keep;
    let needs = if only_takes { Permission::DeleteGrant } else { Permission::CreateGrant };
    let mut decision = Decision::new(broker, bearer, target, needs);
    decision.at_first()?;
    loop {
        let access = decision.now(event).await?;
        let kept = decision.kept(event);
        return match broker.store.update_delegated_grant(&access, change, terms, &kept).await? {
            DelegatedUpdate::Stale => {
                decision.wait().await?;
                continue;
            }
            DelegatedUpdate::Done { before, after } => {
                event.grant_changed(&before, &after);
                event.outcome(Outcome::Changed);
                Ok(after)
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
        };
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
    event.forced(terms.force);
    let mut decision = Decision::new(broker, bearer, target, Permission::DeleteGrant);
    decision.at_first()?.may_take()?;
    loop {
        let access = decision.now(event).await?;
        let kept = decision.kept(event);
        return match broker.store.delete_delegated_grant(&access, terms, &kept).await? {
            DelegatedDeletion::Stale => {
                decision.wait().await?;
                continue;
            }
            DelegatedDeletion::Done(before) => {
                event.grant_before(&before);
                event.outcome(Outcome::Deleted);
                Ok(())
            }
            DelegatedDeletion::Absent => Err(GrantsError::Absent(target.clone())),
            DelegatedDeletion::Differs => Err(GrantsError::Differs),
            DelegatedDeletion::Refused(refusal) => Err(refused(refusal, event)),
        };
    }
}

fn refused(refusal: DelegationRefusal, event: &mut Event) -> GrantsError {
    if matches!(refusal, DelegationRefusal::LastGrantGiver { .. }) {
        event.outcome(Outcome::Conflict);
    }
    refusal.into()
}
