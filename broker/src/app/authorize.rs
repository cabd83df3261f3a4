//! Authenticates the bearer of a token, and decides what the bearer may do.
//!
//! Each function takes the event of its decision, so none can be made without one.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use stile_protocol::names::{ModuleAddress, ModuleName, NameError, Namespace, Permission, System};

use super::broker::Broker;
use crate::tokens::{KeyError, OpenError};
use stile_core::audit::Event;
use stile_core::grants::{
    Access, Grant, PackageAccess, PermittedNamespaces, PrincipalState, Refusal, Right, decide,
    permitted_namespaces,
};
use stile_core::package::PackageAddress;
use stile_core::principal::Principal;
use stile_core::token::{Claims, MAX_TOKEN_LEN};
use stile_store::StoreError;

/// The bearer of a token that opened and is not revoked, with the bearer's grants. Made only by [`authenticate`].
#[derive(Debug)]
pub struct Bearer {
    token: SecretString,
    claims: Claims,
    state: Arc<PrincipalState>,
    now: i64,
}

/// Why a token authenticates nobody.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// There is no token, or it is not a live token of this registry. Every such token gets the same answer.
    #[error("a valid token is needed")]
    Invalid,
    /// The keys cannot be reached, so nobody can say whether the token is valid.
    #[error(transparent)]
    Key(KeyError),
    /// The store cannot be reached, so nobody can say whether the token is revoked.
    #[error(transparent)]
    Store(StoreError),
}

/// Why a bearer gets no access to a package.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The namespace is out of its grammar. Nobody can hold a grant on it.
    #[error(transparent)]
    NoNamespace(NameError),
    /// The bearer does not have the right.
    #[error(transparent)]
    Refused(Refusal),
    /// The bearer has the right, and the rest of the address is out of its grammar.
    #[error(transparent)]
    BadName(NameError),
}

/// Why a decision did not hold a second time.
#[derive(Debug, thiserror::Error)]
pub enum DecideAgainError {
    /// The token is not good any more, or nobody can say so now.
    #[error(transparent)]
    Authenticate(#[from] AuthenticateError),
    /// The right is gone.
    #[error(transparent)]
    Refused(Refusal),
}

/// Reads the value of an `Authorization` header: the scheme in any case, one space, one token (RFC 6750, section 2.1).
pub fn token_of(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let plain = !token.is_empty()
        && token.len() <= MAX_TOKEN_LEN
        && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    (scheme.eq_ignore_ascii_case("bearer") && plain).then_some(token)
}

/// Opens the token, and looks up whether it or its principal is revoked.
pub async fn authenticate(
    broker: &Broker,
    token: Option<&SecretString>,
    event: &mut Event,
) -> Result<Bearer, AuthenticateError> {
    let token = token.ok_or(AuthenticateError::Invalid)?;
    let now = broker.clock.now();
    let opened = broker.tokens.open(token.expose_secret(), &broker.store, now).await?;
    let claims = opened.claims.clone();
    event.bearer(&claims);
    let state = broker
        .principal_cache
        .recent(claims.principal(), &broker.store, now)
        .await
        .map_err(AuthenticateError::Store)?;
    broker.tokens.confirm(&opened.key_id, &state.keyring, &broker.store, now).await?;
    if state.revoked.is_some() || state.revoked_tokens.contains(claims.id()) {
        return Err(AuthenticateError::Invalid);
    }
    // A clock that was set back must neither make a state younger nor a grant live again.
    let now = broker.tokens.never_back(now);
    Ok(Bearer { token: token.clone(), claims, state, now })
}

impl Bearer {
    /// Decides the same access a second time: during a long upload the token may end, or the grant be taken away.
    pub async fn decide_again<R: Right>(
        &self,
        broker: &Broker,
        access: &PackageAccess<R>,
        event: &mut Event,
    ) -> Result<PackageAccess<R>, DecideAgainError> {
        let PackageAddress::Module(ModuleAddress { namespace, name, system }) = access.address();
        let bearer = authenticate(broker, Some(&self.token), event).await?;
        let access = bearer.access::<R>(namespace, event).map_err(DecideAgainError::Refused)?;
        Ok(access.module(name.clone(), system.clone()))
    }

    /// Decides the right on a module. The right comes first, then the address: a bearer without the right learns
    /// nothing of what exists.
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

    /// Decides the right on a namespace that a client wrote.
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
        decide(&self.claims, &self.state, namespace, self.now)
    }

    /// Every namespace in which the bearer has the permission.
    pub fn reach(&self, permission: Permission) -> PermittedNamespaces {
        permitted_namespaces(&self.claims, &self.state, permission, self.now)
    }

    /// Who it is.
    pub const fn principal(&self) -> &Principal {
        self.claims.principal()
    }

    /// What the token says.
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The grants that apply to the bearer.
    pub fn grants(&self) -> &[Grant] {
        &self.state.grants
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
