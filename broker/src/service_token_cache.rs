//! Cache of service tokens by their id: fresh for 10 s, also for ids that belong to no token.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::metrics::{self, Metrics};
use crate::recent_cache::{CAPACITY, RecentCache};
use stile_core::token::TokenId;
use stile_store::{Store, StoreError, StoredServiceToken};

/// A service token as the broker read it.
#[derive(Debug)]
pub struct CachedServiceToken {
    /// The token.
    pub stored: StoredServiceToken,
    /// The latest day of which this process has recorded a use.
    used: AtomicI64,
}

impl CachedServiceToken {
    fn new(stored: StoredServiceToken) -> Self {
        let used = AtomicI64::new(stored.last_used.unwrap_or(i64::MIN));
        Self { stored, used }
    }

    /// Returns whether nobody has recorded a use on this day. The caller then records it.
    pub fn takes_use(&self, day: i64) -> bool {
        self.used.fetch_max(day, Ordering::Relaxed) < day
    }
}

/// The cache of service tokens of one process.
///
/// An id that belongs to no token is remembered, too, so the same garbage costs one read. An id is
/// random, so one that belongs to no token now does not belong to the next one.
#[derive(Debug)]
pub struct ServiceTokenCache(RecentCache<TokenId, Option<CachedServiceToken>>);

impl ServiceTokenCache {
    /// Creates an empty cache.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let counted_as = metrics::Cache::ServiceTokens;
        Self(RecentCache::new("service token", counted_as, CAPACITY, metrics))
    }

    /// Returns the token of an id: from the cache for ten seconds, then from the store. `None` if there
    /// is none.
    pub async fn recent(
        &self,
        id: &TokenId,
        store: &Store,
        now: i64,
    ) -> Result<Arc<Option<CachedServiceToken>>, StoreError> {
        let read = async || Ok(store.service_token(id).await?.map(CachedServiceToken::new));
        self.0.recent(id, now, read).await
    }
}
