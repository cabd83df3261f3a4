//! Returns a token for a registry: from the cache, or from an exchange of AWS credentials or a JWT.
//!
//! A variable or a file has one JWT, which a registry accepts once. So a job with such JWTs asks for
//! one token with all permissions of the registry's table, and shares it among its calls.

mod shared;

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use secrecy::SecretString;
use stile_protocol::reply::ErrorCode;

pub use crate::bearer::Token;

use crate::cache::CacheSlot;
use crate::call::{self, CallError, Refusal};
use crate::clock::Clock;
use crate::config::{Environment, Proof, RegistryConfig, TokenScope};
use crate::credentials::{self, CredentialsError, FoundCredentials};
use crate::exchange::{self, ExchangeError, ExchangedToken};
use crate::id_token::{self, FixedIdToken, FixedIdTokens, IdTokenError, IdTokens};
use crate::jwt_exchange;
use crate::message;

/// Longest time that a check may take, so that an outage of the registry does not stop Terraform.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum number of notices that the helper takes from one answer.
const MAX_NOTICES: usize = 20;

/// The error codes that are about the caller's AWS credentials.
const CREDENTIAL_CODES: [ErrorCode; 3] =
    [ErrorCode::SignatureMismatch, ErrorCode::InvalidCredentials, ErrorCode::ExpiredCredentials];

/// Why the helper got no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The helper found no credentials to sign with.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The helper found no JWT to send.
    #[error(transparent)]
    IdToken(#[from] IdTokenError),
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
            Self::Credentials(error) => Some(error.hint()),
            Self::IdToken(error) => Some(error.hint()),
            Self::Call(error) => error.hint().map(str::to_owned),
            Self::Exchange(error) => error.hint(),
        }
    }

    /// Tells whether the registry refused the token, because the caller has no grant for its scope.
    pub fn is_no_grant(&self) -> bool {
        self.code() == Some(ErrorCode::NoGrant.as_str())
    }

    /// Returns the code with which the registry refused.
    fn code(&self) -> Option<&str> {
        let Self::Exchange(ExchangeError::Refused(refusal)) = self else { return None };
        refusal.code.as_deref()
    }
}

/// Returns the cached token, if it was checked less than a minute ago. It only reads one file.
///
/// It returns no token whose identity the settings do not fix.
pub fn cached_and_checked(
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
    now: DateTime<Utc>,
) -> Option<Token> {
    let scope = &shared::scope(registry, scope);
    let token = CacheSlot::of(registry, scope, environment)?.read_checked(now)?;
    token.access_key_id.is_none().then_some(token)
}

/// Returns the cached token of this identity, if there is a usable one.
pub async fn cached(
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
    clock: Clock,
) -> Result<Option<Token>, TokenError> {
    let scope = &shared::scope(registry, scope);
    let Some(slot) = CacheSlot::of(registry, scope, environment) else { return Ok(None) };
    TokenRequest::new(registry, scope, environment, clock).own(slot.read(clock.now())).await
}

/// Returns a token for Terraform, which cannot ask for another one after a 401.
///
/// It checks a cached token once a minute, so that a revoked one does not stay until it expires.
/// Parallel processes share one check.
///
/// # Errors
///
/// It fails only without a cached token, or if the registry rejects that and issues no other.
/// It also fails if the identity is not fixed by the settings, and the credentials do not load.
pub async fn for_terraform(
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
    clock: Clock,
) -> Result<Token, TokenError> {
    let scope = &shared::scope(registry, scope);
    let mut request = TokenRequest::new(registry, scope, environment, clock);
    if let Some(slot) = CacheSlot::of(registry, scope, environment)
        && request.own(slot.read(clock.now())).await?.is_some()
    {
        let lock = slot.lock_fetch(CHECK_TIMEOUT * 3 / 2);
        // The previous holder of the lock has most likely checked or replaced the token.
        if let Some(token) = request.own(slot.read_checked(clock.now())).await? {
            return Ok(token);
        }
        if let Some(token) = request.own(slot.read(clock.now())).await? {
            if lock.is_held_by_another() {
                return Ok(token);
            }
            if !is_rejected(registry, environment, &token).await {
                slot.mark_checked(&token, clock.now());
                return Ok(token);
            }
            // Processes that wait for the lock must not use the rejected token.
            let _cleared = slot.clear();
            return request.mint_and_cache(&slot).await;
        }
    }
    request.cached_or_new().await
}

/// Tells whether the registry rejects a token. Only a 401 says so, and no other outcome.
async fn is_rejected(registry: &RegistryConfig, environment: &Environment, token: &Token) -> bool {
    let check = async {
        let client = call::client(&registry.url, environment).ok()?;
        let url = registry.url_for("/v1/whoami").ok()?;
        call::send(client.get(url).bearer_auth(token.expose()), environment).await.ok()
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
    let scope = &shared::scope(registry, scope);
    TokenRequest::new(registry, scope, environment, clock).cached_or_new().await
}

/// Tells whether the caller can get any number of tokens. A job with fixed JWTs cannot.
pub fn mints_freely(registry: &RegistryConfig) -> bool {
    !id_token::is_fixed(registry)
}

/// Mints a new token and does not cache it.
///
/// A job with fixed JWTs gets the token that its calls share, unless it has a JWT to spare.
pub async fn mint(
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
    clock: Clock,
) -> Result<Token, TokenError> {
    if id_token::is_fixed(registry) {
        return shared::mint(registry, scope, environment, clock).await;
    }
    TokenRequest::new(registry, scope, environment, clock).mint().await
}

/// A request for a token. It loads AWS credentials at most once, and only if it needs them.
struct TokenRequest<'a> {
    registry: &'a RegistryConfig,
    scope: &'a TokenScope,
    environment: &'a Environment,
    clock: Clock,
    found: Option<FoundCredentials>,
}

impl<'a> TokenRequest<'a> {
    const fn new(
        registry: &'a RegistryConfig,
        scope: &'a TokenScope,
        environment: &'a Environment,
        clock: Clock,
    ) -> Self {
        Self { registry, scope, environment, clock, found: None }
    }

    async fn credentials(&mut self) -> Result<&FoundCredentials, TokenError> {
        let found = match self.found.take() {
            Some(found) => found,
            None => credentials::find(self.registry, self.environment, self.clock.now()).await?,
        };
        Ok(self.found.insert(found))
    }

    /// Returns a cached token unless it may be another identity's.
    ///
    /// If the settings do not fix the identity, the access key must be that of the token.
    async fn own(&mut self, cached: Option<Token>) -> Result<Option<Token>, TokenError> {
        let Some(token) = cached else { return Ok(None) };
        let Some(access_key_id) = &token.access_key_id else { return Ok(Some(token)) };
        let found = self.credentials().await?;
        let is_own = found.loaded.credentials.access_key_id() == access_key_id;
        Ok(is_own.then_some(token))
    }

    async fn cached_or_new(&mut self) -> Result<Token, TokenError> {
        let Some(slot) = CacheSlot::of(self.registry, self.scope, self.environment) else {
            return self.mint().await;
        };
        if let Some(token) = self.own(slot.read(self.clock.now())).await? {
            return Ok(token);
        }
        // The holder of the lock may take as long as a call, and some time for its credentials.
        let _lock = slot.lock_fetch(call::timeout(self.environment) * 3 / 2);
        // The previous holder of the lock has most likely cached the token.
        if let Some(token) = self.own(slot.read(self.clock.now())).await? {
            return Ok(token);
        }
        self.mint_and_cache(&slot).await
    }

    /// Mints a new token and caches it. The caller holds the lock, if it got it in time.
    async fn mint_and_cache(&mut self, slot: &CacheSlot) -> Result<Token, TokenError> {
        let token = self.mint().await?;
        slot.write(&token, self.clock.now());
        slot.sweep(self.clock.now());
        Ok(token)
    }

    async fn mint(&mut self) -> Result<Token, TokenError> {
        match self.registry.proof {
            Proof::Sigv4 | Proof::WebIdentity => self.mint_with_credentials().await,
            Proof::Oidc => match IdTokens::find(self.registry)? {
                IdTokens::Github(job) => {
                    let jwt = job.fetch(self.registry.jwt_audience(), self.environment).await?;
                    self.send(&jwt).await.map(|exchanged| self.token(exchanged, None))
                }
                IdTokens::Fixed(tokens) => self.mint_with_fixed(tokens).await,
            },
        }
    }

    async fn mint_with_credentials(&mut self) -> Result<Token, TokenError> {
        let (registry, scope, clock) = (self.registry, self.scope, self.clock);
        let environment = self.environment;
        // Check the settings of the client before anything is sent to AWS.
        let client = call::client(&registry.url, environment)?;
        let found = self.credentials().await?;
        let FoundCredentials { loaded, may_change_identity, .. } = found;
        let exchanged = if registry.proof == Proof::WebIdentity {
            let (audience, profile) = (registry.jwt_audience(), registry.profile.as_deref());
            let jwt = id_token::web_identity(audience, loaded, profile, environment).await?;
            jwt_exchange::exchange(&client, registry, &jwt, scope, environment).await
        } else {
            exchange::exchange(&client, registry, loaded, scope, clock, environment).await
        };
        let exchanged = exchanged.map_err(|error| of_credentials(error, found))?;
        let access_key_id = loaded.credentials.access_key_id().to_owned();
        let access_key_id = may_change_identity.then_some(access_key_id);
        Ok(self.token(exchanged, access_key_id))
    }

    /// Uses the first JWT that the registry has not accepted before.
    async fn mint_with_fixed(&self, tokens: Vec<FixedIdToken>) -> Result<Token, TokenError> {
        let (host, timeout) = (&self.registry.host, call::timeout(self.environment) * 3 / 2);
        let now = self.clock.now();
        let fixed = FixedIdTokens::locked(host, tokens, self.environment, now, timeout);
        for token in fixed.unused() {
            match self.send(&token.jwt).await {
                Ok(exchanged) => {
                    fixed.record(&token);
                    return Ok(self.token(exchanged, None));
                }
                // Another computer of the job has used it, or the answer to its use got lost.
                Err(error) if error.code() == Some(ErrorCode::JwtReplayed.as_str()) => {
                    fixed.record(&token);
                }
                Err(error) => return Err(error),
            }
        }
        Err(fixed.all_used().into())
    }

    async fn send(&self, jwt: &SecretString) -> Result<ExchangedToken, TokenError> {
        let client = call::client(&self.registry.url, self.environment)?;
        let (registry, scope, environment) = (self.registry, self.scope, self.environment);
        Ok(jwt_exchange::exchange(&client, registry, jwt, scope, environment).await?)
    }

    fn token(&self, exchanged: ExchangedToken, access_key_id: Option<String>) -> Token {
        Token {
            notices: notices(&exchanged.reply.notices),
            secret: exchanged.reply.token.into(),
            expires_at: exchanged.expires_at,
            principal: message::one_line(&exchanged.reply.principal),
            skew: exchanged.skew,
            shortened_from: exchanged.shortened.then_some(self.scope.ttl),
            access_key_id,
            more_than_asked: None,
            cached: false,
        }
    }
}

/// Returns the notices of a registry as printable lines, at most [`MAX_NOTICES`].
fn notices(texts: &[String]) -> Vec<String> {
    let lines = texts.iter().map(|text| message::one_line(text));
    lines.filter(|line| !line.is_empty()).take(MAX_NOTICES).collect()
}

/// Names the credentials in the error, if AWS does not accept them.
fn of_credentials(error: ExchangeError, found: &FoundCredentials) -> TokenError {
    let refused = |refusal: &Refusal| {
        CREDENTIAL_CODES.iter().any(|code| Some(code.as_str()) == refusal.code.as_deref())
    };
    match error {
        ExchangeError::Refused(refusal) if refused(&refusal) => {
            let (provider, profile) = (found.loaded.provider, found.profile.clone());
            let reason = refusal.message_with_id();
            CredentialsError::Rejected { provider, profile, reason }.into()
        }
        other => other.into(),
    }
}

/// Deletes the cached token of one scope, so that the next call mints a new one.
pub fn forget(
    registry: &RegistryConfig,
    scope: &TokenScope,
    environment: &Environment,
) -> std::io::Result<()> {
    let scope = &shared::scope(registry, scope);
    CacheSlot::of(registry, scope, environment).map_or(Ok(()), |slot| slot.clear())
}
