//! The parts of a broker that the use cases share, and the readiness check.

use std::sync::Arc;

use stile_protocol::audience::Audience;
use stile_protocol::region::Region;

use super::download_counts::DownloadCounts;
use super::events::Events;
use super::limits::Limits;
use super::refused_exchange_limits::RefusedExchangeLimits;
use crate::audit::AuditLog;
use crate::authn::jwt::Jwts;
use crate::authn::sigv4::{SingleFlight, Sts};
use crate::metrics::{Current, Format, Metrics};
use crate::principal_cache::PrincipalCache;
use crate::search_cache::SearchCache;
use crate::service_token_cache::ServiceTokenCache;
use crate::shared_failure_mutex::SharedFailureMutex;
use crate::tokens::{KeyError, Tokens};
use crate::trust_cache::TrustCache;
use stile_core::clock::Clock;
use stile_core::token::KeyringSummary;
use stile_store::{Store, StoreError, StoreErrorKind};

/// The time for which a good result of [`Broker::ready`] is valid, in seconds.
///
/// The route is open to everyone, and each check writes to the store.
const READY: i64 = 2;

/// The parts of one broker. The module `boot` assembles them.
#[derive(Debug)]
pub struct Broker {
    /// The registry host.
    pub audience: Audience,
    /// The URL of the registry without a path, for example `https://registry.example.com`.
    pub origin: String,
    /// The regions for which a proof may be signed.
    pub regions: Vec<&'static Region>,
    /// The client of STS, which identifies the signer of a proof.
    pub sts: Sts,
    /// The keys of the issuers of JWTs.
    pub jwts: Jwts,
    /// The proofs in progress.
    pub single_flight: SingleFlight,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// The limits for concurrent work.
    pub limits: Limits,
    /// The records of refused exchanges that callers left.
    pub refused_exchange_limits: RefusedExchangeLimits,
    /// The records, archives and keys.
    pub store: Store,
    /// The state of recent principals: grants and revocations.
    pub principal_cache: PrincipalCache,
    /// Recent service tokens.
    pub service_token_cache: ServiceTokenCache,
    /// The words of the modules of recent namespaces.
    pub search_cache: SearchCache,
    /// All trusts.
    pub trust_cache: TrustCache,
    /// The lifetime of a signed URL for an archive, in seconds.
    pub link_ttl: i64,
    /// The keys, which mint and open tokens.
    pub tokens: Tokens,
    /// The lifetime of a token for callers that ask for none, in seconds.
    pub default_ttl: i64,
    /// The number of days for which a data folder keeps audit events. `None`: for ever.
    pub audit_days: Option<u32>,
    /// Whether `/openapi.json` answers the OpenAPI document of the API.
    pub serves_openapi: bool,
    /// The clock.
    pub clock: Clock,
    /// The downloads that the store has not counted yet.
    pub download_counts: DownloadCounts,
    /// The events of versions, and where they go.
    pub events: Events,
    /// The time of the last good readiness check.
    pub readiness: Readiness,
    /// What the broker counts.
    pub metrics: Arc<Metrics>,
}

/// The last good readiness check, so that not every probe costs a check.
#[derive(Debug, Default)]
pub struct Readiness(SharedFailureMutex<Option<GoodCheck>>);

/// The result of a good readiness check, in Unix seconds.
#[derive(Debug, Clone, Copy)]
struct GoodCheck {
    at: i64,
    key_created_at: i64,
}

/// The result of a readiness check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The age of the key that mints, in seconds.
    pub key_age: i64,
    /// Whether the broker refuses to publish, because the disk has too little free space.
    pub disk_is_full: bool,
}

/// The reason why the broker is not ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker has no key to mint with.
    #[error("the broker has no key to mint tokens with")]
    Key(#[from] KeyError),
}

impl Broker {
    /// Checks that the store answers, and that the broker has a key to mint with.
    ///
    /// On a full disk, the broker is ready: everything works except publishing.
    pub async fn ready(&self) -> Result<Ready, NotReady> {
        let key_age = self.key_age().await?;
        let disk_is_full = match self.store.check_space() {
            Ok(()) => false,
            Err(error) if error.kind() == StoreErrorKind::Full => true,
            Err(error) => return Err(error.into()),
        };
        Ok(Ready { key_age, disk_is_full })
    }

    /// Returns the age of the key that mints, in seconds, if the store answers.
    async fn key_age(&self) -> Result<i64, NotReady> {
        let now = self.clock.now();
        let mut last = self.readiness.0.lock().await;
        if let Some(good) = last.filter(|good| (0..READY).contains(&now.saturating_sub(good.at))) {
            return Ok(now.saturating_sub(good.key_created_at));
        }
        if last.failed_while_waiting() {
            return Err(StoreError::busy("the store was not ready a moment ago").into());
        }
        *last = None;
        let checked = self.health_check(now).await;
        match &checked {
            Ok(created_at) => *last = Some(GoodCheck { at: now, key_created_at: *created_at }),
            Err(_) => last.record_failure(),
        }
        checked.map(|created_at| now.saturating_sub(created_at))
    }

    /// Returns the time of creation of the key that mints, in Unix seconds.
    async fn health_check(&self, now: i64) -> Result<i64, NotReady> {
        self.store.health_check().await?;
        // Check the keyring in the store, and not the cached one.
        self.tokens
            .follow(&KeyringSummary::from(&self.store.keyring().await?), &self.store, now)
            .await?;
        Ok(self.tokens.minting_key(&self.store, now).await?.created_at())
    }

    /// Returns all metrics as text. It calls no service and does not wait for the store.
    pub fn metrics_in(&self, format: Format) -> String {
        let now = self.clock.now();
        let current = Current {
            now,
            key_created_at: self.tokens.key_created_at(now),
            exchanges: self.limits.open_exchanges(),
            uploads: self.limits.open_uploads(),
        };
        self.metrics.encode(current, format)
    }

    /// Returns the region of this name, if the operator enabled it.
    pub fn region(&self, name: &str) -> Option<&'static Region> {
        self.regions.iter().copied().find(|region| region.name == name)
    }
}
