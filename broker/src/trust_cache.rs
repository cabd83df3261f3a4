//! All trusts of the registry: fresh for 10 s, so that an exchange with a JWT reads no trust.
//!
//! A trust from here only chooses whose keys verify a JWT. The mint reads the trust once more, and
//! refuses one that changed.

use std::sync::{Arc, PoisonError, RwLock};

use crate::metrics::{self, Metrics};
use crate::shared_failure_mutex::SharedFailureMutex;
use stile_core::trust::Trust;
use stile_store::{Store, StoreError, StoreErrorKind};

/// The time for which the trusts are fresh, in seconds. After it, every broker knows a new trust.
const FRESH: i64 = 10;

/// The time for which the broker uses the trusts while the store is down, in seconds.
const STALE: i64 = 300;

#[derive(Debug, Clone)]
struct CachedTrusts {
    trusts: Arc<Vec<Trust>>,
    read_at: i64,
}

impl CachedTrusts {
    /// Returns whether the trusts are younger than this. A clock that was set back makes them too old.
    fn younger_than(&self, seconds: i64, now: i64) -> bool {
        (0..seconds).contains(&now.saturating_sub(self.read_at))
    }
}

/// The trusts that one process knows.
#[derive(Debug)]
pub struct TrustCache {
    cached: RwLock<Option<CachedTrusts>>,
    /// The time and the kind of the last failed read. A reader holds the lock during its read, so that
    /// a flood of JWTs costs one read every ten seconds.
    failed_at: SharedFailureMutex<Option<(i64, StoreErrorKind)>>,
    metrics: Arc<Metrics>,
}

impl TrustCache {
    /// Creates an empty cache.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { cached: RwLock::default(), failed_at: SharedFailureMutex::default(), metrics }
    }

    /// Returns all trusts: from the cache for ten seconds, then from the store.
    ///
    /// While the store is down, the cached trusts are used for five minutes. Without any, it is an
    /// error, and the next read waits ten seconds.
    pub async fn recent(&self, store: &Store, now: i64) -> Result<Arc<Vec<Trust>>, StoreError> {
        if let Some(trusts) = self.fresh(now) {
            return Ok(trusts);
        }
        let mut failed_at = self.failed_at.lock().await;
        if let Some(trusts) = self.fresh(now) {
            return Ok(trusts);
        }
        let usable = self.cached().filter(|cached| cached.younger_than(STALE, now));
        let recently = |at: i64| (0..FRESH).contains(&now.saturating_sub(at));
        let failed = failed_at.filter(|(at, _)| failed_at.failed_while_waiting() || recently(*at));
        if let Some((_, kind)) = failed {
            return usable
                .map(|cached| cached.trusts)
                .ok_or_else(|| StoreError::new(kind, "the trusts could not be read a moment ago"));
        }
        self.metrics.missed(metrics::Cache::Trusts);
        match store.trusts().await {
            Ok(trusts) => {
                let trusts = Arc::new(trusts);
                let cached = CachedTrusts { trusts: Arc::clone(&trusts), read_at: now };
                *self.cached.write().unwrap_or_else(PoisonError::into_inner) = Some(cached);
                *failed_at = None;
                Ok(trusts)
            }
            Err(error) => {
                failed_at.record_failure();
                *failed_at = Some((now, error.kind()));
                let Some(cached) = usable else { return Err(error) };
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the store does not answer; the broker uses old trusts"
                );
                Ok(cached.trusts)
            }
        }
    }

    /// Makes the next exchange read the trusts. While the store is down, they are used as before.
    pub fn expire(&self, now: i64) {
        if let Some(cached) = &mut *self.cached.write().unwrap_or_else(PoisonError::into_inner) {
            cached.read_at = cached.read_at.min(now.saturating_sub(FRESH));
        }
    }

    /// Returns the trusts of the cache, if they are fresh.
    fn fresh(&self, now: i64) -> Option<Arc<Vec<Trust>>> {
        let cached = self.cached().filter(|cached| cached.younger_than(FRESH, now))?;
        self.metrics.hit(metrics::Cache::Trusts);
        Some(cached.trusts)
    }

    fn cached(&self) -> Option<CachedTrusts> {
        self.cached.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
