//! The parts of one registry that every use case works with, and whether they can do their work.

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

/// How long a good answer of [`Broker::ready`] holds, in seconds: anybody may ask, and each check writes.
const READY: i64 = 2;

/// One registry's parts. The module `boot` assembles them.
#[derive(Debug)]
pub struct Broker {
    /// The registry's host.
    pub audience: Audience,
    /// The regions that a proof may be signed for.
    pub regions: Vec<&'static Region>,
    /// Asks who signed a proof.
    pub sts: Sts,
    /// Identical proofs in flight.
    pub single_flight: SingleFlight,
    /// Every decision.
    pub audit: Arc<AuditLog>,
    /// How much runs at once.
    pub limits: Limits,
    /// Records, archives and keys.
    pub store: Store,
    /// Grants and revocations of the principals that called lately.
    pub principal_cache: PrincipalCache,
    /// How long a signed URL of an archive is good for, in seconds.
    pub link_ttl: i64,
    /// Mints and opens tokens.
    pub tokens: Tokens,
    /// The life of a token that names none, in seconds.
    pub default_ttl: i64,
    /// The time.
    pub clock: Clock,
    /// When the broker was last ready.
    pub readiness: Readiness,
}

/// When the broker was last ready, so that a probe does not cost a check each time.
#[derive(Debug, Default)]
pub struct Readiness(SharedFailureMutex<Option<i64>>);

/// Why the broker cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no key to mint with.
    #[error("there is no key to mint with")]
    Key(#[from] KeyError),
}

impl Broker {
    /// Whether the store answers and there is a key to mint with.
    pub async fn ready(&self) -> Result<(), NotReady> {
        let now = self.clock.now();
        let mut ready_at = self.readiness.0.lock().await;
        if ready_at.is_some_and(|at| (0..READY).contains(&now.saturating_sub(at))) {
            return Ok(());
        }
        if ready_at.failed_meanwhile() {
            return Err(StoreError::busy("it was not ready a moment ago").into());
        }
        *ready_at = None;
        let checked = self.health_check(now).await;
        match checked {
            Ok(()) => *ready_at = Some(now),
            Err(_) => ready_at.failed(),
        }
        checked
    }

    async fn health_check(&self, now: i64) -> Result<(), NotReady> {
        self.store.health_check().await?;
        // The keyring in the store, not the one that this process remembers.
        self.tokens
            .follow(&KeyringSummary::from(&self.store.keyring().await?), &self.store, now)
            .await?;
        self.tokens.minting_key(&self.store, now).await?;
        Ok(())
    }

    /// The region of that name, if the operator enabled it.
    pub fn region(&self, name: &str) -> Option<&'static Region> {
        self.regions.iter().copied().find(|region| region.name == name)
    }
}
