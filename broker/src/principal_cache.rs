//! Per-principal cache of grants and revocations: fresh for 10 s, bypassed when minting.

use std::sync::Arc;

use crate::metrics::{self, Metrics};
use crate::recent_cache::{CAPACITY, RecentCache};
use stile_core::grants::PrincipalState;
use stile_core::token::Holder;
use stile_store::{Store, StoreError};

/// The cache of principal states of one process.
#[derive(Debug)]
pub struct PrincipalCache {
    states: RecentCache<Holder, PrincipalState>,
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
        let read = async || {
            let state = store.principal_state(holder.principals()).await?;
            self.metrics.revocations_read(now);
            Ok(state)
        };
        self.states.recent(holder, now, read).await
    }
}
