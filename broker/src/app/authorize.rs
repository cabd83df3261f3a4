//! Authenticates the bearer of a token, and decides what the bearer may do.
//!
//! Each function takes the audit event of its decision, so no decision is without one.

use std::net::IpAddr;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use stile_protocol::names::{ModuleName, NameError, Namespace, Permission, ProviderType, System};

use super::broker::Broker;
use super::service_bearer::{self, Freshness, ServiceBearerError};
use crate::tokens::{KeyError, OpenError, Opened};
use stile_core::audit::{Event, Kind};
use stile_core::grants::{
    Access, CreateGrant, DelegatedAccess, DelegationRefusal, EndingGrant, ExplainAccess, Grant,
    GrantNamespace, PackageAccess, PermittedNamespaces, PrincipalState, Refusal, Right,
    VisibleGrants, check_grants, decide, delegate, ending_access, explain_access, grants_in_scope,
    permitted_namespaces, visible_grants,
};
use stile_core::principal::Principal;
use stile_core::service_token::PresentedToken;
use stile_core::token::{Claims, MAX_TOKEN_LEN};
use stile_core::trust::TrustCheck;
use stile_store::StoreError;

/// The bearer of a valid token that is not revoked, with the bearer's grants.
///
/// Only [`authenticate`] creates one.
#[derive(Debug)]
pub struct Bearer {
    token: SecretString,
    /// The address of the client, if the broker knows it.
    address: Option<IpAddr>,
    claims: Claims,
    state: Arc<PrincipalState>,
    now: i64,
}

/// The reason why a request is not authenticated.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// The token is missing, or is not a valid token of this registry. The answer does not say why.
    #[error("a valid token is required")]
    Invalid,
    /// The keys are down, so the broker cannot verify the token.
    #[error(transparent)]
    Key(KeyError),
    /// The store is down, so the broker cannot check whether the token is revoked.
    #[error(transparent)]
    Store(StoreError),
}

/// The reason why a bearer gets no access to a package.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The namespace is not valid. So no grant on it can exist.
    #[error(transparent)]
    NoNamespace(NameError),
    /// The bearer does not have the right.
    #[error(transparent)]
    Refused(Refusal),
    /// The bearer has the right, but the rest of the address is not valid.
    #[error(transparent)]
    BadName(NameError),
}

/// The reason why the second decision on an access differs from the first.
#[derive(Debug, thiserror::Error)]
pub enum DecideAgainError {
    /// The token is no longer valid, or the broker cannot verify it now.
    #[error(transparent)]
    Authenticate(#[from] AuthenticateError),
    /// The bearer no longer has the right.
    #[error(transparent)]
    Refused(Refusal),
}

/// Returns the token in the value of an `Authorization` header: the scheme in upper or lower case,
/// one space, one token (RFC 6750, section 2.1).
pub fn token_of(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let plain = !token.is_empty()
        && token.len() <= MAX_TOKEN_LEN
        && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    (scheme.eq_ignore_ascii_case("bearer") && plain).then_some(token)
}

/// Opens the token, and checks whether it or its principal is revoked.
///
/// `address` is the address of the client, if the broker knows it.
pub async fn authenticate(
    broker: &Broker,
    token: Option<&SecretString>,
    address: Option<IpAddr>,
    event: &mut Event,
) -> Result<Bearer, AuthenticateError> {
    let token = token.ok_or(AuthenticateError::Invalid)?;
    if PresentedToken::is_claimed(token.expose_secret()) {
        return by_service_token(broker, token, address, Freshness::Recent, event).await;
    }
    let now = broker.clock.now();
    let opened = broker.tokens.open(token.expose_secret(), &broker.store, now).await?;
    let claims = opened.claims.clone();
    event.bearer(&claims);
    let state = broker
        .principal_cache
        .recent(&claims.holder(), &broker.store, now)
        .await
        .map_err(AuthenticateError::Store)?;
    confirm(broker, &opened, &state, now).await?;
    // A clock that was set back must not make an expired grant valid again.
    let now = broker.tokens.monotonic(now);
    Ok(Bearer { token: token.clone(), address, claims, state, now })
}

/// Looks a service token up. No key seals it, so there is nothing to open.
async fn by_service_token(
    broker: &Broker,
    token: &SecretString,
    address: Option<IpAddr>,
    freshness: Freshness,
    event: &mut Event,
) -> Result<Bearer, AuthenticateError> {
    let text = token.expose_secret();
    let bearer = service_bearer::authenticate(broker, text, address, freshness, event);
    let (claims, state) = Box::pin(bearer).await?;
    let now = broker.tokens.monotonic(broker.clock.now());
    Ok(Bearer { token: token.clone(), address, claims, state, now })
}

/// Checks whether the token's key is dropped, the token or its principal revoked, or its trust changed
/// or deleted.
///
/// If another trust has the name, the bearer is known, and each decision refuses it.
async fn confirm(
    broker: &Broker,
    opened: &Opened,
    state: &PrincipalState,
    now: i64,
) -> Result<(), AuthenticateError> {
    broker.tokens.confirm(&opened.key_id, &state.keyring, &broker.store, now).await?;
    if state.revoked.is_some() || state.revoked_tokens.contains(opened.claims.id()) {
        return Err(AuthenticateError::Invalid);
    }
    if state.check_trust(&opened.claims) == TrustCheck::Changed {
        return Err(AuthenticateError::Invalid);
    }
    Ok(())
}

impl Bearer {
    /// Returns the same bearer with the state of its principal from the store, past the cache.
    ///
    /// It is for a change that outlives the token: a right that ended a moment ago must not make one.
    pub async fn current(&self, broker: &Broker) -> Result<Self, AuthenticateError> {
        if PresentedToken::is_claimed(self.token.expose_secret()) {
            // The decision has its event already.
            let (event, freshness) = (&mut Event::new(Kind::Whoami), Freshness::Current);
            return by_service_token(broker, &self.token, self.address, freshness, event).await;
        }
        let now = broker.clock.now();
        let opened = broker.tokens.open(self.token.expose_secret(), &broker.store, now).await?;
        let state = broker.store.principal_state(opened.claims.holder().principals()).await;
        let state = Arc::new(state.map_err(AuthenticateError::Store)?);
        confirm(broker, &opened, &state, now).await?;
        let now = broker.tokens.monotonic(now);
        let (token, address) = (self.token.clone(), self.address);
        Ok(Self { token, address, claims: opened.claims.clone(), state, now })
    }

    /// Decides which right the bearer has to change the grant of a principal on a namespace. A refusal
    /// names the right that the change `needs`.
    pub fn delegate(
        &self,
        principal: &Principal,
        namespace: &GrantNamespace,
        needs: Permission,
    ) -> Result<DelegatedAccess, DelegationRefusal> {
        delegate(&self.claims, &self.state, principal.clone(), namespace, needs, self.now)
    }

    /// Decides which grants the bearer may see: on one namespace, or everywhere.
    pub fn visible_grants(
        &self,
        namespace: Option<&GrantNamespace>,
    ) -> Result<VisibleGrants, DelegationRefusal> {
        visible_grants(&self.claims, &self.state, namespace, self.now)
    }

    /// Decides whether the bearer may have the accesses of others to a namespace explained.
    pub fn explain_access(
        &self,
        namespace: &GrantNamespace,
    ) -> Result<ExplainAccess, DelegationRefusal> {
        explain_access(&self.claims, &self.state, namespace, self.now)
    }

    /// Decides the same access a second time. During a long upload, the token may expire, or an
    /// operator may delete the grant.
    pub async fn decide_again<R: Right>(
        &self,
        broker: &Broker,
        access: &PackageAccess<R>,
        event: &mut Event,
    ) -> Result<PackageAccess<R>, DecideAgainError> {
        let bearer = authenticate(broker, Some(&self.token), self.address, event).await?;
        let again = bearer.access::<R>(access.address().namespace(), event);
        Ok(again.map_err(DecideAgainError::Refused)?.package(access.address()))
    }

    /// Decides the right on a module.
    ///
    /// This function decides the right first, and parses the rest of the address after that. So a
    /// bearer without the right cannot find out which modules exist.
    pub fn module<R: Right>(
        &self,
        unverified_namespace: &str,
        unverified_name: &str,
        unverified_system: &str,
        event: &mut Event,
    ) -> Result<PackageAccess<R>, AccessError> {
        let access = self.namespace(unverified_namespace, event)?;
        let name = ModuleName::parse(unverified_name).map_err(AccessError::BadName)?;
        let system = System::parse(unverified_system).map_err(AccessError::BadName)?;
        let access = access.module(name, system);
        event.package(access.address(), None);
        Ok(access)
    }

    /// Decides the right on a provider, in the same order as for a module.
    pub fn provider<R: Right>(
        &self,
        unverified_namespace: &str,
        unverified_type: &str,
        event: &mut Event,
    ) -> Result<PackageAccess<R>, AccessError> {
        let access = self.namespace(unverified_namespace, event)?;
        let provider_type = ProviderType::parse(unverified_type).map_err(AccessError::BadName)?;
        let access = access.provider(provider_type);
        event.package(access.address(), None);
        Ok(access)
    }

    /// Parses a namespace from a client, and decides the right on it.
    pub fn namespace<R: Right>(
        &self,
        unverified: &str,
        event: &mut Event,
    ) -> Result<Access<R>, AccessError> {
        let namespace = Namespace::parse(unverified).map_err(AccessError::NoNamespace)?;
        self.access(&namespace, event).map_err(AccessError::Refused)
    }

    /// Decides the right on a namespace.
    pub fn access<R: Right>(
        &self,
        namespace: &Namespace,
        event: &mut Event,
    ) -> Result<Access<R>, Refusal> {
        event.right(namespace, R::PERMISSION);
        let access = decide(&self.claims, &self.state, namespace, self.now)?;
        event.allowed_by(access.grant());
        Ok(access)
    }

    /// Decides whether the bearer may create grants on a namespace, for one of several in a list.
    pub fn may_create_grants(&self, namespace: &Namespace) -> Result<Access<CreateGrant>, Refusal> {
        decide(&self.claims, &self.state, namespace, self.now)
    }

    /// Decides whether the bearer has the permission on any namespace.
    pub fn has_anywhere(&self, permission: Permission) -> Result<(), Refusal> {
        let (principal, shown) = (self.claims.principal(), self.claims.shown_id());
        check_grants(principal, shown, &self.state, None, permission, self.now)
    }

    /// Returns what the bearer soon loses of a right that it has now.
    pub fn ending<R: Right>(&self, access: &Access<R>) -> Option<EndingGrant> {
        ending_access(access, &self.claims, &self.state, self.now)
    }

    /// Returns all namespaces in which the bearer has the permission.
    pub fn permitted_namespaces(&self, permission: Permission) -> PermittedNamespaces {
        permitted_namespaces(&self.claims, &self.state, permission, self.now)
    }

    /// Returns the address of the client, if the broker knows it.
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Returns the principal of the bearer.
    pub const fn principal(&self) -> &Principal {
        self.claims.principal()
    }

    /// Returns the claims of the token.
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Returns the part of each of the bearer's grants that the scope of the token covers.
    pub fn grants_in_scope(&self) -> Vec<Grant> {
        grants_in_scope(&self.claims, &self.state)
    }
}

impl From<ServiceBearerError> for AuthenticateError {
    fn from(error: ServiceBearerError) -> Self {
        match error {
            ServiceBearerError::Invalid => Self::Invalid,
            ServiceBearerError::Store(error) => Self::Store(error),
        }
    }
}

impl From<OpenError> for AuthenticateError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Invalid => Self::Invalid,
            OpenError::Key(error) => Self::Key(error),
        }
    }
}
