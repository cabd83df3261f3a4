//! A cache of records of the store: fresh for 10 s, and used for 5 min while the store is down.

use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use quick_cache::sync::Cache;

use crate::metrics::{self, Metrics};
use crate::shared_failure_mutex::SharedFailureMutex;
use stile_store::{StoreError, StoreErrorKind};

/// The time for which a cached record is fresh, in seconds. After it, every broker has seen a deleted
/// grant or a revocation.
pub const FRESH: i64 = 10;

/// The time for which the broker uses a cached record while the store is down, in seconds.
pub const STALE: i64 = 300;

/// The capacity of a cache, in records.
pub const CAPACITY: usize = 10_000;

#[derive(Debug)]
struct CacheEntry<V> {
    cached: RwLock<Option<Cached<V>>>,
    /// The time and the kind of the last failed read. A reader holds the lock during its read, so
    /// that only one request reads a record.
    failed_at: SharedFailureMutex<Option<(i64, StoreErrorKind)>>,
}

#[derive(Debug)]
struct Cached<V> {
    value: Arc<V>,
    read_at: i64,
}

impl<V> Cached<V> {
    /// Returns whether the record is younger than this. A clock that was set back makes it too old.
    ///
    /// The age is by the wall clock, because the monotonic clock stops in a suspended Lambda
    /// function.
    fn younger_than(&self, seconds: i64, now: i64) -> bool {
        (0..seconds).contains(&now.saturating_sub(self.read_at))
    }
}

/// The recent records of one kind, in one process.
#[derive(Debug)]
pub struct RecentCache<K: Eq + Hash, V> {
    entries: Cache<K, Arc<CacheEntry<V>>>,
    /// What the records are, for messages.
    what: &'static str,
    counted_as: metrics::Cache,
    metrics: Arc<Metrics>,
}

impl<K: Clone + Eq + Hash, V> RecentCache<K, V> {
    /// Creates an empty cache.
    pub fn new(
        what: &'static str,
        counted_as: metrics::Cache,
        capacity: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { entries: Cache::new(capacity), what, counted_as, metrics }
    }

    /// Returns a record: from the cache for ten seconds, then from `read`.
    ///
    /// While `read` fails, the cached record is used for five minutes.
    pub async fn recent(
        &self,
        key: &K,
        now: i64,
        read: impl AsyncFnOnce() -> Result<V, StoreError>,
    ) -> Result<Arc<V>, StoreError> {
        let entry = self.entry(key);
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
        let what = self.what;
        if failed_at.failed_while_waiting() {
            let kind = failed_at.map_or(StoreErrorKind::Unavailable, |(_, kind)| kind);
            let problem = format!("the {what} could not be read a moment ago");
            return Err(StoreError::new(kind, problem));
        }
        self.metrics.missed(self.counted_as);
        match (read().await, usable) {
            (Ok(value), _) => {
                let value = Arc::new(value);
                *entry.cached.write().unwrap_or_else(PoisonError::into_inner) =
                    Some(Cached { value: Arc::clone(&value), read_at: now });
                *failed_at = None;
                Ok(value)
            }
            (Err(error), Some(cached)) => {
                failed_at.record_failure();
                *failed_at = Some((now, error.kind()));
                if error.kind() == StoreErrorKind::Corrupt {
                    tracing::error!(
                        alarm = "corrupt_store",
                        error = &error as &dyn std::error::Error,
                        "the store contains an unreadable record; the broker uses an old {what}"
                    );
                } else {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the store does not answer; the broker uses an old {what}"
                    );
                }
                Ok(cached.value)
            }
            (Err(error), None) => {
                failed_at.record_failure();
                *failed_at = Some((now, error.kind()));
                Err(error)
            }
        }
    }

    /// Returns whether the cache has a record of this key, or has begun to read it.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Keeps a record that the caller read at this time.
    pub fn put(&self, key: &K, value: V, now: i64) {
        let entry = self.entry(key);
        *entry.cached.write().unwrap_or_else(PoisonError::into_inner) =
            Some(Cached { value: Arc::new(value), read_at: now });
    }

    fn entry(&self, key: &K) -> Arc<CacheEntry<V>> {
        match self.entries.get(key) {
            Some(entry) => entry,
            None => self
                .entries
                .get_or_insert_with(key, || Ok::<_, std::convert::Infallible>(Arc::default()))
                .unwrap_or_default(),
        }
    }

    /// Counts an answer of the cache, and returns it.
    fn hit(&self, cached: &Cached<V>) -> Arc<V> {
        self.metrics.hit(self.counted_as);
        Arc::clone(&cached.value)
    }
}

impl<V> CacheEntry<V> {
    fn cached(&self) -> Option<Cached<V>> {
        self.cached.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<V> Default for CacheEntry<V> {
    fn default() -> Self {
        Self { cached: RwLock::default(), failed_at: SharedFailureMutex::default() }
    }
}

impl<V> Clone for Cached<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), read_at: self.read_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::unread;

    #[tokio::test]
    async fn a_cache_of_records_does_not_grow_beyond_its_capacity() {
        let cache = RecentCache::new("number", metrics::Cache::Principals, 50, unread());
        for n in 0..500 {
            cache.recent(&n, 0, async || Ok(n)).await.unwrap();
        }
        assert!(cache.entries.len() <= 50, "{}", cache.entries.len());
    }
}
