//! The parts of a broker that the use cases share, and the readiness check.

use std::sync::Arc;

use stile_protocol::audience::Audience;
use stile_protocol::region::Region;

use super::limits::Limits;
use crate::audit::AuditLog;
use crate::authn::sigv4::{SingleFlight, Sts};
use crate::principal_cache::PrincipalCache;
use crate::shared_failure_mutex::SharedFailureMutex;
use crate::tokens::{KeyError, Tokens};
use stile_core::clock::Clock;
use stile_core::token::KeyringSummary;
use stile_store::{Store, StoreError};

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
    /// The proofs in progress.
    pub single_flight: SingleFlight,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// The limits for concurrent work.
    pub limits: Limits,
    /// The records, archives and keys.
    pub store: Store,
    /// The state of recent principals: grants and revocations.
    pub principal_cache: PrincipalCache,
    /// The lifetime of a signed URL for an archive, in seconds.
    pub link_ttl: i64,
    /// The keys, which mint and open tokens.
    pub tokens: Tokens,
    /// The lifetime of a token for callers that ask for none, in seconds.
    pub default_ttl: i64,
    /// The clock.
    pub clock: Clock,
    /// The time of the last good readiness check.
    pub readiness: Readiness,
}

/// The time of the last good readiness check, so that not every probe costs a check.
#[derive(Debug, Default)]
pub struct Readiness(SharedFailureMutex<Option<i64>>);

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
    pub async fn ready(&self) -> Result<(), NotReady> {
        let now = self.clock.now();
        let mut ready_at = self.readiness.0.lock().await;
        if ready_at.is_some_and(|at| (0..READY).contains(&now.saturating_sub(at))) {
            return Ok(());
        }
        if ready_at.failed_while_waiting() {
            return Err(StoreError::busy("the store was not ready a moment ago").into());
        }
        *ready_at = None;
        let checked = self.health_check(now).await;
        match checked {
            Ok(()) => *ready_at = Some(now),
            Err(_) => ready_at.record_failure(),
        }
        checked
    }

    async fn health_check(&self, now: i64) -> Result<(), NotReady> {
        self.store.health_check().await?;
        // Check the keyring in the store, and not the cached one.
        self.tokens
            .follow(&KeyringSummary::from(&self.store.keyring().await?), &self.store, now)
            .await?;
        self.tokens.minting_key(&self.store, now).await?;
        Ok(())
    }

    /// Returns the region of this name, if the operator enabled it.
    pub fn region(&self, name: &str) -> Option<&'static Region> {
        self.regions.iter().copied().find(|region| region.name == name)
    }
}
