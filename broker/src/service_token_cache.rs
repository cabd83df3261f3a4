//! Cache of service tokens by their id: fresh for 10 s, also for ids that belong to no token.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::metrics::{self, Metrics};
use crate::recent_cache::{CAPACITY, RecentCache};
use stile_core::token::TokenId;
use stile_store::{Store, StoreError, StoreErrorKind, StoredServiceToken};

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
pub struct ServiceTokenCache {
    /// The tokens, each of which was in the store when this process first read it.
    known: RecentCache<TokenId, Option<CachedServiceToken>>,
    /// Whether the store had a token of an id that a client sent for the first time.
    ///
    /// The attack: a stranger sends many tokens of his own making, and pushes the real ones out of the
    /// cache. When the store is down then, they do not work for the five minutes of grace.
    unknown: RecentCache<TokenId, bool>,
    first_reads: FirstReads,
}

/// How many reads of unknown ids this process begins in a second.
///
/// The attack: a stranger sends many tokens of his own making, and each costs a read of the store,
/// which others then cannot have.
const FIRST_READS_A_SECOND: u32 = 100;

/// The reads of unknown ids that began in the last second that had one.
#[derive(Debug, Default)]
struct FirstReads(Mutex<(i64, u32)>);

impl FirstReads {
    /// Counts a read. Returns false if there were too many in this second.
    fn admit(&self, now: i64) -> bool {
        let mut reads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (second, count) = *reads;
        let count = if second == now { count.saturating_add(1) } else { 1 };
        *reads = (now, count);
        count <= FIRST_READS_A_SECOND
    }
}

impl ServiceTokenCache {
    /// Creates an empty cache.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let counted_as = metrics::Cache::ServiceTokens;
        let known = RecentCache::new("service token", counted_as, CAPACITY, Arc::clone(&metrics));
        let unknown = RecentCache::new("service token", counted_as, CAPACITY, metrics);
        Self { known, unknown, first_reads: FirstReads::default() }
    }

    /// Returns the token of an id: from the cache for ten seconds, then from the store. `None` if there
    /// is none.
    ///
    /// # Errors
    ///
    /// The error of the store; or "busy", if too many clients sent unknown ids in this second.
    pub async fn recent(
        &self,
        id: &TokenId,
        store: &Store,
        now: i64,
    ) -> Result<Arc<Option<CachedServiceToken>>, StoreError> {
        if !self.known.contains(id) {
            let first = async || {
                if !self.first_reads.admit(now) {
                    let problem = "too many clients sent unknown service tokens in this second";
                    return Err(StoreError::new(StoreErrorKind::Busy, problem));
                }
                let stored = store.service_token(id).await?;
                let is_token = stored.is_some();
                if let Some(stored) = stored {
                    self.known.put(id, Some(CachedServiceToken::new(stored)), now);
                }
                Ok(is_token)
            };
            if !*self.unknown.recent(id, now, first).await? {
                return Ok(Arc::new(None));
            }
        }
        let read = async || Ok(store.service_token(id).await?.map(CachedServiceToken::new));
        self.known.recent(id, now, read).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_begins_a_bounded_number_of_reads_of_unknown_ids_in_a_second() {
        let reads = FirstReads::default();
        let admitted = |now| (0..500).filter(|_| reads.admit(now)).count();
        assert_eq!((admitted(7), admitted(7), admitted(8)), (100, 0, 100));
        assert_eq!(admitted(7), 100, "a clock that was set back locks nobody out");
    }
}
