//! Per-principal cache of grants and revocations: fresh for 10 s, bypassed when minting.

use std::sync::Arc;

use crate::metrics::{self, Metrics};
use crate::recent_cache::{CAPACITY, RecentCache};
use stile_core::grants::PrincipalState;
use stile_core::principal::Principal;
use stile_store::{Store, StoreError};

/// The cache of principal states of one process.
#[derive(Debug)]
pub struct PrincipalCache {
    states: RecentCache<Principal, PrincipalState>,
    metrics: Arc<Metrics>,
}

impl PrincipalCache {
    /// Creates an empty cache.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let counted_as = metrics::Cache::Principals;
        let states =
            RecentCache::new("principal state", counted_as, CAPACITY, Arc::clone(&metrics));
        Self { states, metrics }
    }

    /// Returns the state of a token's principal: from the cache for ten seconds, then from the
    /// store.
    ///
    /// While the store is down, the cached state is used for five minutes.
    pub async fn recent(
        &self,
        principal: &Principal,
        store: &Store,
        now: i64,
    ) -> Result<Arc<PrincipalState>, StoreError> {
        let read = async || {
            let principals =
                std::iter::once(principal.clone()).chain(principal.aliases()).collect();
            let state = store.principal_state(principals).await?;
            self.metrics.revocations_read(now);
            Ok(state)
        };
        self.states.recent(principal, now, read).await
    }
}
