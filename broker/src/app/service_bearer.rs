//! Authenticates the bearer of a service token: the token, its issuer, and the address of the client.

use std::net::IpAddr;
use std::sync::Arc;

use super::broker::Broker;
use stile_core::audit::Event;
use stile_core::clock::rfc3339;
use stile_core::grants::PrincipalState;
use stile_core::principal::Principal;
use stile_core::service_token::{HeldToken, PresentedToken, TokenIssuer};
use stile_core::token::{Claims, Holder};
use stile_core::usage::day;
use stile_store::StoreError;

/// How long before its end a token is worth an alarm each day, in seconds: two weeks.
const SOON: i64 = 14 * 24 * 3600;

/// The reason why a service token gives no access now.
#[derive(Debug, thiserror::Error)]
pub enum ServiceBearerError {
    /// The text is no token, or the token does not count here and now. The answer does not say why.
    #[error("a valid token is required")]
    Invalid,
    /// The store is down, so the broker cannot look the token up.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How old the records may be with which the broker decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// At most ten seconds.
    Recent,
    /// As they are now, for a change that outlives the token.
    Current,
}

/// The claims of a service token, and the state of its principal.
pub type ServiceBearer = (Claims, Arc<PrincipalState>);

/// Verifies a service token. `address` is the address of the client, if the broker knows it.
///
/// Text with a wrong checksum costs no read. The broker reads the rights of the service, and those of
/// the issuer of a delegated token, only after it has verified the secret.
pub async fn authenticate(
    broker: &Broker,
    token: &str,
    address: Option<IpAddr>,
    freshness: Freshness,
    event: &mut Event,
) -> Result<ServiceBearer, ServiceBearerError> {
    let presented = PresentedToken::parse(token).ok_or(ServiceBearerError::Invalid)?;
    let id = presented.unverified_id();
    let (cached, now);
    let stored = match freshness {
        Freshness::Recent => {
            now = broker.tokens.monotonic(broker.clock.now());
            cached =
                broker.service_token_cache.recent(id, &broker.store, broker.clock.now()).await?;
            Option::as_ref(&cached).map(|cached| (cached.stored.token.clone(), Some(cached)))
        }
        Freshness::Current => {
            now = broker.tokens.monotonic(broker.clock.now());
            broker.store.service_token(id).await?.map(|stored| (stored.token, None))
        }
    };
    let (token, cached) = stored.ok_or(ServiceBearerError::Invalid)?;
    let held = token.verify(&presented).ok_or(ServiceBearerError::Invalid)?;
    // The caller is known from here on, so the audit log names the token that is refused.
    event.service_bearer(&token);
    let claims = claims(broker, held, address, freshness, now).await?;
    let state = state(broker, claims.principal(), freshness).await?;
    if state.revoked.is_some() || state.revoked_tokens.contains(claims.id()) {
        return Err(ServiceBearerError::Invalid);
    }
    if cached.is_some_and(|cached| cached.takes_use(day(now))) {
        record_use(broker, held, now).await;
    }
    Ok((claims, state))
}

/// Returns the claims of a token, if it counts here and now.
async fn claims(
    broker: &Broker,
    held: HeldToken<'_>,
    address: Option<IpAddr>,
    freshness: Freshness,
    now: i64,
) -> Result<Claims, ServiceBearerError> {
    let issuer = match held.token().issuer() {
        TokenIssuer::Operator(_) => None,
        TokenIssuer::Delegate { principal, .. } => Some(state(broker, principal, freshness).await?),
    };
    held.claims(address, issuer.as_deref(), now).map_err(|refusal| {
        tracing::info!(token_id = held.token().id().as_str(), "{refusal}");
        ServiceBearerError::Invalid
    })
}

async fn state(
    broker: &Broker,
    principal: &Principal,
    freshness: Freshness,
) -> Result<Arc<PrincipalState>, StoreError> {
    match freshness {
        Freshness::Recent => {
            let now = broker.clock.now();
            broker
                .principal_cache
                .recent(&Holder::plain(principal.clone()), &broker.store, now)
                .await
        }
        Freshness::Current => {
            let principals = Holder::plain(principal.clone()).principals();
            Ok(Arc::new(broker.store.principal_state(principals).await?))
        }
    }
}

/// Records the first use of a token on a day, and raises the alarm if it ends soon.
///
/// The record is best effort: nothing is decided by it, so its failure fails no request.
async fn record_use(broker: &Broker, held: HeldToken<'_>, now: i64) {
    let token = held.token();
    let end = token.terms().expires_at();
    if end.saturating_sub(now) <= SOON && token.replaced_by().is_none() {
        tracing::warn!(
            alarm = "service_token_ends_soon",
            token_id = token.id().as_str(),
            service = %token.name(),
            expires_at = rfc3339(end),
            "a service token that is in use ends soon; hint: run `stile-admin token rotate`"
        );
    }
    if let Err(error) = broker.store.record_service_token_use(token, day(now)).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the last use of a service token is not recorded"
        );
    }
}
