//! Service tokens through the API: a bearer lists, issues and revokes them within its own rights.
//!
//! A token outlives the request, so each change is decided with the rights in the store, past the
//! cache. It takes effect only if these rights have not changed at the write, or else it decides again.

use super::authorize::{AuthenticateError, Bearer};
use super::broker::Broker;
use stile_core::audit::{Event, Kept, Outcome};
use stile_core::grants::{
    Access, CreateGrant, DelegatedAccess, DelegationRefusal, GrantNamespace, Refusal,
};
use stile_core::service_token::{NewSecret, ServiceTokenTerms, TokenIssuer, TooManyTokens};
use stile_core::token::TokenId;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission;
use stile_store::{
    AwsCause, IssuedServiceToken, Retry, ServiceTokenChanged, ServiceTokenIssued, StoreError,
    StoredServiceToken,
};

/// The reason why a service token is not issued, not shown or not revoked.
#[derive(Debug, thiserror::Error)]
pub enum ServiceTokensError {
    /// The token of the request is no longer valid, or the broker cannot verify it now.
    #[error(transparent)]
    Authenticate(#[from] AuthenticateError),
    /// The bearer may not do it.
    #[error(transparent)]
    Refused(#[from] DelegationRefusal),
    /// A trust believed a JWT of AWS of the bearer.
    #[error("a caller that shows a JWT of AWS cannot issue a service token")]
    ByTrust,
    /// The token would work only in networks, and this broker does not know where a client is.
    #[error(
        "this broker does not know the addresses of its clients, so no token can have networks"
    )]
    NoAddress,
    /// There is no such token for this bearer.
    #[error("there is no service token {} that you may revoke", .0.as_str())]
    Absent(TokenId),
    /// The registry, the bearer or a namespace has the maximum number of service tokens.
    #[error(transparent)]
    TooMany(TooManyTokens),
    /// The service, or the namespace, has the maximum number of grants that the API creates.
    #[error("the service or a namespace has the maximum number of grants that the API creates")]
    TooManyGrants,
    /// The broker's own role may not write grants.
    #[error("this registry does not let its broker change grants")]
    NotDelegated(#[source] StoreError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The store is down.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for ServiceTokensError {
    fn from(error: StoreError) -> Self {
        if AwsCause::is_denied_write(&error) {
            Self::NotDelegated(error)
        } else {
            Self::Store(error)
        }
    }
}

/// Returns the service tokens whose namespaces are all among those in which the bearer may create
/// grants.
pub async fn list(
    broker: &Broker,
    bearer: &Bearer,
) -> Result<Vec<StoredServiceToken>, ServiceTokensError> {
    bearer.has_anywhere(Permission::CreateGrant).map_err(DelegationRefusal::Refused)?;
    let of = bearer.permitted_namespaces(Permission::CreateGrant);
    Ok(broker.store.visible_service_tokens(&of).await?)
}

/// Issues a service token within the rights of the bearer. Returns it with its secret.
pub async fn issue(
    broker: &Broker,
    bearer: &Bearer,
    terms: &ServiceTokenTerms,
    event: &mut Event,
) -> Result<(IssuedServiceToken, NewSecret), ServiceTokensError> {
    event.service_terms(terms);
    // Such a token would outlive the trust and the groups that its issuer has its rights from.
    if bearer.claims().trust().is_some() {
        return Err(ServiceTokensError::ByTrust);
    }
    // With the rights in the cache, so that a refusal costs no read.
    let first = accesses(bearer, terms)?;
    for access in &first {
        access.create(terms.permissions(), Some(terms.expires_at()))?;
    }
    if !terms.networks().is_empty() && bearer.address().is_none() {
        return Err(ServiceTokensError::NoAddress);
    }
    let secret = NewSecret::random().map_err(|_| ServiceTokensError::Random)?;
    let mut retry = Retry::default();
    let issued = loop {
        let current = bearer.current(broker).await?;
        let accesses = accesses(&current, terms)?;
        if let Some(access) = accesses.first() {
            event.allowed_by(access.grant());
        }
        let kept = Kept::new(event, broker.clock.now());
        let claims = current.claims();
        let issuer = TokenIssuer::Delegate {
            principal: claims.principal().clone(),
            unique_id: claims.unique_id().cloned().ok_or(ServiceTokensError::ByTrust)?,
            trust_revision: claims.trust_revision(),
        };
        let issued = broker.store.issue_delegated_service_token(
            &accesses,
            issuer,
            &secret,
            terms.clone(),
            &kept,
        );
        match issued.await? {
            ServiceTokenIssued::Stale => retry.wait().await?,
            issued => break issued,
        }
    };
    match issued {
        ServiceTokenIssued::Done(issued) => {
            event.service_token(&issued.token);
            event.outcome(Outcome::Created);
            Ok((*issued, secret))
        }
        ServiceTokenIssued::Refused(refusal) => Err(refusal.into()),
        ServiceTokenIssued::TooMany(limit) => {
            event.outcome(Outcome::Full);
            Err(ServiceTokensError::TooMany(limit))
        }
        ServiceTokenIssued::TooManyGrants
        | ServiceTokenIssued::NamespaceFull(_)
        | ServiceTokenIssued::Absent
        | ServiceTokenIssued::Stale => {
            event.outcome(Outcome::Full);
            Err(ServiceTokensError::TooManyGrants)
        }
    }
}

/// Revokes a service token, if the bearer may create grants on all of its namespaces.
pub async fn revoke(
    broker: &Broker,
    bearer: &Bearer,
    id: &TokenId,
    event: &mut Event,
) -> Result<(), ServiceTokensError> {
    bearer.has_anywhere(Permission::CreateGrant).map_err(DelegationRefusal::Refused)?;
    let absent = || ServiceTokensError::Absent(id.clone());
    let current = bearer.current(broker).await?;
    let stored = broker.store.service_token(id).await?.ok_or_else(absent)?;
    let Namespaces::List(list) = stored.token.namespaces() else { return Err(absent()) };
    let accesses: Result<Vec<Access<CreateGrant>>, Refusal> =
        list.iter().map(|namespace| current.may_create_grants(namespace)).collect();
    let accesses = accesses.map_err(|_| absent())?;
    event.service_token(&stored.token);
    let kept = Kept::new(event, broker.clock.now());
    match broker.store.revoke_delegated_service_token(&accesses, id, &kept).await? {
        ServiceTokenChanged::Absent => Err(absent()),
        ServiceTokenChanged::Done(_) | ServiceTokenChanged::Unchanged(_) => {
            event.outcome(Outcome::Revoked);
            Ok(())
        }
    }
}

/// Decides the right to give on each namespace of a token.
fn accesses(
    bearer: &Bearer,
    terms: &ServiceTokenTerms,
) -> Result<Vec<DelegatedAccess>, DelegationRefusal> {
    let access =
        |on: &GrantNamespace| bearer.delegate(&terms.principal(), on, Permission::CreateGrant);
    terms.grant_namespaces().iter().map(access).collect()
}
