//! The whole way to a token: the cache, and else AWS credentials, a proof, the exchange.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};

use crate::cache::CacheSlot;
use crate::call::{self, CallError};
use crate::clock::{self, Clock};
use crate::config::{Environment, RegistryConfig, TokenScope};
use crate::credentials::{self, CredentialsError};
use crate::exchange::{self, ExchangeError};

/// A bearer token and what is known of it.
#[derive(Debug, Clone)]
pub struct Token {
    pub(crate) secret: SecretString,
    /// When it ends, by the broker's clock.
    pub expires_at: DateTime<Utc>,
    /// Whom it is for, canonical.
    pub principal: String,
    /// How far the broker's clock is before ours, where it was in the way of this exchange.
    pub skew: Option<TimeDelta>,
    /// Whether it was got earlier and only read from its file.
    pub cached: bool,
}

impl Token {
    /// The token itself, for the header or the one place where it is the product.
    pub fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    /// What to say of a clock that is wrong, if this exchange found that it is.
    pub fn clock_notice(&self) -> Option<String> {
        Some(format!(
            "this computer's clock is {} the registry's; signed by the registry's",
            clock::describe_skew(self.skew?)
        ))
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Nothing to sign with.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No client for the address.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The exchange failed.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

impl TokenError {
    /// The next step, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Credentials(error) => Some(error.hint().to_owned()),
            Self::Call(error) => error.hint().map(str::to_owned),
            Self::Exchange(error) => error.hint(),
        }
    }
}

/// The token that an earlier call left, without any work beyond reading one file.
pub fn cached(
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
    now: DateTime<Utc>,
) -> Option<Token> {
    CacheSlot::of(registry, scope, environment)?.read(now)
}

/// A token for a registry, from the cache or new; parallel processes get one between them.
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
    let _turn = slot.lock_fetch();
    // Whoever had the turn before has most likely left the token we want.
    if let Some(token) = slot.read(clock.now()) {
        return Ok(token);
    }
    let token = mint(registry, scope, environment, clock).await?;
    slot.write(&token);
    slot.sweep(clock.now());
    Ok(token)
}

/// A new token, which no later call will get.
pub async fn mint(
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
    clock: Clock,
) -> Result<Token, TokenError> {
    let client = call::client(&registry.url, environment)?;
    let loaded = credentials::load(registry, environment, clock.now()).await?;
    let exchanged = exchange::exchange(&client, registry, &loaded, scope, clock).await?;
    Ok(Token {
        secret: exchanged.reply.token.into(),
        expires_at: exchanged.expires_at,
        principal: crate::message::one_line(&exchanged.reply.principal),
        skew: exchanged.skew,
        cached: false,
    })
}

/// Drops the one token that the cache has for this, so that the next is a new one; other scopes' tokens stay.
pub fn forget(
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
) -> std::io::Result<()> {
    CacheSlot::of(registry, scope, environment).map_or(Ok(()), |slot| slot.clear())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_told_by_how_much_and_which_way() {
        let token = |skew| Token {
            secret: "x".into(),
            expires_at: DateTime::UNIX_EPOCH,
            principal: String::new(),
            skew: Some(TimeDelta::seconds(skew)),
            cached: false,
        };
        for (skew, expected) in [
            (843, "clock is 14 min 3 s behind the registry's"),
            (-200, "clock is 3 min 20 s ahead of the registry's"),
        ] {
            assert!(token(skew).clock_notice().unwrap().contains(expected), "{skew}");
        }
        assert!(!format!("{:?}", token(0)).contains("\"x\""));
    }
}
