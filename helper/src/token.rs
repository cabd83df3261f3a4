//! Returns a token for a registry: from the cache, or from an exchange of AWS credentials.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::StatusCode;

pub use crate::bearer::Token;

use crate::cache::CacheSlot;
use crate::call::{self, CallError};
use crate::clock::Clock;
use crate::config::{Environment, RegistryConfig, TokenScope};
use crate::credentials::{self, CredentialsError};
use crate::exchange::{self, ExchangeError};

/// Longest time that a check may take, so that an outage of the registry does not stop Terraform.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

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

/// Returns the cached token, if it was checked less than a minute ago. It only reads one file.
pub fn cached_and_checked(
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
    now: DateTime<Utc>,
) -> Option<Token> {
    CacheSlot::of(registry, scope, environment)?.read_checked(now)
}

/// Returns a token for Terraform, which cannot ask for another one after a 401.
///
/// It checks a cached token once a minute, so that a revoked one does not stay until it expires.
/// Parallel processes share one check.
///
/// # Errors
///
/// It fails only without a cached token, or if the registry rejects that and issues no other.
pub async fn for_terraform(
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
    clock: Clock,
) -> Result<Token, TokenError> {
    if let Some(slot) = CacheSlot::of(registry, scope, environment)
        && slot.read(clock.now()).is_some()
    {
        let lock = slot.lock_fetch(CHECK_TIMEOUT * 3 / 2);
        // The previous holder of the lock has most likely checked or replaced the token.
        if let Some(token) = slot.read_checked(clock.now()) {
            return Ok(token);
        }
        if let Some(token) = slot.read(clock.now()) {
            if !lock.is_held() {
                return Ok(token);
            }
            if !is_rejected(registry, environment, &token).await {
                slot.mark_checked(&token, clock.now());
                return Ok(token);
            }
            // Processes that wait for the lock must not use the rejected token.
            let _cleared = slot.clear();
            return mint_and_cache(&slot, registry, scope, environment, clock).await;
        }
    }
    for_host(registry, scope, environment, clock).await
}

/// Tells whether the registry rejects a token. Only a 401 says so, and no other outcome.
async fn is_rejected(registry: &RegistryConfig, environment: &Environment, token: &Token) -> bool {
    let check = async {
        let client = call::client(&registry.url, environment).ok()?;
        let url = registry.url_for("/v1/whoami").ok()?;
        call::send(client.get(url).bearer_auth(token.expose())).await.ok()
    };
    let response = tokio::time::timeout(CHECK_TIMEOUT, check).await.ok().flatten();
    response.is_some_and(|response| response.status == StatusCode::UNAUTHORIZED)
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
    mint_and_cache(&slot, registry, scope, environment, clock).await
}

/// Mints a new token and caches it. The caller holds the lock, if it got it in time.
async fn mint_and_cache(
    slot: &CacheSlot,
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
    clock: Clock,
) -> Result<Token, TokenError> {
    let token = mint(registry, scope, environment, clock).await?;
    slot.write(&token, clock.now());
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
        shortened_from: exchanged.shortened.then_some(scope.ttl),
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
