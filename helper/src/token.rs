//! Returns a token for a registry: from the cache, or from an exchange of AWS credentials.

use chrono::{DateTime, Utc};

pub use crate::bearer::Token;

use crate::cache::CacheSlot;
use crate::call::{self, CallError};
use crate::clock::Clock;
use crate::config::{Environment, RegistryConfig, TokenScope};
use crate::credentials::{self, CredentialsError};
use crate::exchange::{self, ExchangeError};

/// Why the helper got no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The helper found no credentials to sign with.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The helper could not build an HTTP client.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The exchange failed.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

impl TokenError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Credentials(error) => Some(error.hint().to_owned()),
            Self::Call(error) => error.hint().map(str::to_owned),
            Self::Exchange(error) => error.hint(),
        }
    }
}

/// Returns the cached token, if there is a usable one. It only reads one file.
pub fn cached(
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
    now: DateTime<Utc>,
) -> Option<Token> {
    CacheSlot::of(registry, scope, environment)?.read(now)
}

/// Returns a token from the cache, or mints one. Parallel processes share one new token.
pub async fn for_host(
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
    clock: Clock,
) -> Result<Token, TokenError> {
    let Some(slot) = CacheSlot::of(registry, scope, environment) else {
        return mint(registry, scope, environment, clock).await;
    };
    if let Some(token) = slot.read(clock.now()) {
        return Ok(token);
    }
    // The holder of the lock may take as long as a call, and some time for its credentials.
    let _lock = slot.lock_fetch(call::timeout(environment) * 3 / 2);
    // The previous holder of the lock has most likely cached the token.
    if let Some(token) = slot.read(clock.now()) {
        return Ok(token);
    }
    let token = mint(registry, scope, environment, clock).await?;
    slot.write(&token);
    slot.sweep(clock.now());
    Ok(token)
}

/// Mints a new token and does not cache it.
pub async fn mint(
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
    clock: Clock,
) -> Result<Token, TokenError> {
    let client = call::client(&registry.url, environment)?;
    let loaded = credentials::load(registry, environment, clock.now()).await?;
    let timeout = call::timeout(environment);
    let exchanged = exchange::exchange(&client, registry, &loaded, scope, clock, timeout).await?;
    Ok(Token {
        secret: exchanged.reply.token.into(),
        expires_at: exchanged.expires_at,
        principal: crate::message::one_line(&exchanged.reply.principal),
        skew: exchanged.skew,
        cached: false,
    })
}

/// Deletes the cached token of one scope, so that the next call mints a new one.
pub fn forget(
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
) -> std::io::Result<()> {
    CacheSlot::of(registry, scope, environment).map_or(Ok(()), |slot| slot.clear())
}
