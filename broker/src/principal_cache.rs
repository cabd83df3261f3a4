//! Per-principal cache of grants and revocations: fresh for 10 s, bypassed when minting.

use std::sync::{Arc, PoisonError, RwLock};

use quick_cache::sync::Cache;

use crate::metrics::{self, Metrics};
use crate::shared_failure_mutex::SharedFailureMutex;
use stile_core::grants::PrincipalState;
use stile_core::token::Holder;
use stile_store::{Store, StoreError, StoreErrorKind};

/// The time for which a cached state is fresh, in seconds. After it, every broker has seen a
/// deleted grant or a revocation.
pub const FRESH: i64 = 10;

/// The time for which the broker uses a cached state while the store is down, in seconds.
pub const STALE: i64 = 300;

/// The capacity of the cache, in principals.
const CAPACITY: usize = 10_000;

#[derive(Debug, Default)]
struct CacheEntry {
    cached: RwLock<Option<CachedState>>,
    /// The time and the kind of the last failed read. A reader holds the lock during its read, so
    /// that only one request reads the state of a principal.
    failed_at: SharedFailureMutex<Option<(i64, StoreErrorKind)>>,
}

#[derive(Debug, Clone)]
struct CachedState {
    state: Arc<PrincipalState>,
    read_at: i64,
}

impl CachedState {
    /// Returns whether the state is younger than this. A clock that was set back makes it too old.
    ///
    /// The age is by the wall clock, because the monotonic clock stops in a suspended Lambda
    /// function.
    fn younger_than(&self, seconds: i64, now: i64) -> bool {
        (0..seconds).contains(&now.saturating_sub(self.read_at))
    }
}

/// The cache of principal states of one process.
#[derive(Debug)]
pub struct PrincipalCache {
    entries: Cache<Holder, Arc<CacheEntry>>,
    metrics: Arc<Metrics>,
}

impl PrincipalCache {
    /// Creates an empty cache.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { entries: Cache::new(CAPACITY), metrics }
    }

    /// Returns the state of a token's holder: from the cache for ten seconds, then from the
    /// store.
    ///
    /// While the store is down, the cached state is used for five minutes.
    pub async fn recent(
        &self,
        holder: &Holder,
        store: &Store,
        now: i64,
    ) -> Result<Arc<PrincipalState>, StoreError> {
        let entry = match self.entries.get(holder) {
            Some(entry) => entry,
            None => self
                .entries
                .get_or_insert_with(holder, || Ok::<_, std::convert::Infallible>(Arc::default()))
                .unwrap_or_default(),
        };
        if let Some(cached) = entry.cached().filter(|cached| cached.younger_than(FRESH, now)) {
            return Ok(self.hit(&cached));
        }
        let mut failed_at = entry.failed_at.lock().await;
        let cached = entry.cached();
        if let Some(cached) = cached.as_ref().filter(|cached| cached.younger_than(FRESH, now)) {
            return Ok(self.hit(cached));
        }
        let usable = cached.filter(|cached| cached.younger_than(STALE, now));
        let failed_recently = failed_at.failed_while_waiting()
            || failed_at.is_some_and(|(at, _)| (0..FRESH).contains(&now.saturating_sub(at)));
        if let Some(cached) = usable.as_ref().filter(|_| failed_recently) {
            return Ok(self.hit(cached));
        }
        if failed_at.failed_while_waiting() {
            let kind = failed_at.map_or(StoreErrorKind::Unavailable, |(_, kind)| kind);
            return Err(StoreError::new(
                kind,
                "the state of the principal could not be read a moment ago",
            ));
        }
        self.metrics.missed(metrics::Cache::Principals);
        match (store.principal_state(holder.principals()).await, usable) {
            (Ok(state), _) => {
                let state = Arc::new(state);
                *entry.cached.write().unwrap_or_else(PoisonError::into_inner) =
                    Some(CachedState { state: Arc::clone(&state), read_at: now });
                *failed_at = None;
                self.metrics.revocations_read(now);
                Ok(state)
            }
            (Err(error), Some(cached)) => {
                failed_at.record_failure();
                *failed_at = Some((now, error.kind()));
                if error.kind() == StoreErrorKind::Corrupt {
                    tracing::error!(
                        alarm = "corrupt_store",
                        error = &error as &dyn std::error::Error,
                        "the store contains an unreadable record; the broker uses an old principal state"
                    );
                } else {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the store does not answer; the broker uses an old principal state"
                    );
                }
                Ok(cached.state)
            }
            (Err(error), None) => {
                failed_at.record_failure();
                *failed_at = Some((now, error.kind()));
                Err(error)
            }
        }
    }
}

impl PrincipalCache {
    /// Counts an answer of the cache, and returns it.
    fn hit(&self, cached: &CachedState) -> Arc<PrincipalState> {
        self.metrics.hit(metrics::Cache::Principals);
        Arc::clone(&cached.state)
    }
}

impl CacheEntry {
    fn cached(&self) -> Option<CachedState> {
        self.cached.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::unread;
    use stile_core::principal::Principal;
    use stile_store::EmbeddedDeadlines;

    #[tokio::test]
    async fn the_principal_cache_does_not_grow_beyond_its_capacity() {
        let folder = tempfile::tempdir().unwrap();
        Store::init_folder(folder.path(), EmbeddedDeadlines::default()).unwrap();
        let store = Store::open_folder(folder.path(), EmbeddedDeadlines::default()).unwrap();
        let principal_cache =
            PrincipalCache { entries: Cache::new(50), ..PrincipalCache::new(unread()) };
        for n in 0..500 {
            let principal =
                Principal::parse_stored(&format!("aws:111122223333:role/r{n}")).unwrap();
            let holder = Holder::plain(principal);
            principal_cache.recent(&holder, &store, 0).await.unwrap();
        }
        assert!(principal_cache.entries.len() <= 50, "{}", principal_cache.entries.len());
        assert!(PrincipalCache::new(unread()).entries.capacity() <= CAPACITY as u64);
    }
}
