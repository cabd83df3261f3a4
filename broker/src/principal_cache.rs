//! What is known of callers: read anew for a mint, at most ten seconds old for everything else.

use std::sync::{Arc, PoisonError, RwLock};

use quick_cache::sync::Cache;

use crate::shared_failure_mutex::SharedFailureMutex;
use stile_core::grants::PrincipalState;
use stile_core::principal::Principal;
use stile_store::{Store, StoreError, StoreErrorKind};

/// How long a caller's state is believed, in seconds of the wall clock: so fast does a removed grant work everywhere.
pub const FRESH: i64 = 10;

/// How long reads go on with what is known while the store is down, in seconds.
pub const STALE: i64 = 300;

/// How many callers are remembered.
const REMEMBERED: usize = 10_000;

#[derive(Debug, Default)]
struct Entry {
    known: RwLock<Option<Known>>,
    /// When the store was last asked and did not answer; held while it is asked, so that one asks at a time.
    failed_at: SharedFailureMutex<Option<(i64, StoreErrorKind)>>,
}

#[derive(Debug, Clone)]
struct Known {
    state: Arc<PrincipalState>,
    read_at: i64,
}

impl Known {
    /// By the wall clock, since a suspended Lambda stops the other kind; a clock that was set back makes it stale.
    fn younger_than(&self, seconds: i64, now: i64) -> bool {
        (0..seconds).contains(&now.saturating_sub(self.read_at))
    }
}

/// The callers this process has met lately.
#[derive(Debug)]
pub struct PrincipalCache {
    entries: Cache<Principal, Arc<Entry>>,
}

impl Default for PrincipalCache {
    fn default() -> Self {
        Self { entries: Cache::new(REMEMBERED) }
    }
}

impl PrincipalCache {
    /// What is known of the holder of a token: from memory for ten seconds, then from the store, or, while that is down,
    /// from memory for five minutes.
    pub async fn recent(
        &self,
        principal: &Principal,
        store: &Store,
        now: i64,
    ) -> Result<Arc<PrincipalState>, StoreError> {
        let entry = match self.entries.get(principal) {
            Some(entry) => entry,
            None => self
                .entries
                .get_or_insert_with(principal, || Ok::<_, std::convert::Infallible>(Arc::default()))
                .unwrap_or_default(),
        };
        if let Some(known) = entry.known().filter(|known| known.younger_than(FRESH, now)) {
            return Ok(known.state);
        }
        let mut failed_at = entry.failed_at.lock().await;
        let known = entry.known();
        if let Some(known) = known.as_ref().filter(|known| known.younger_than(FRESH, now)) {
            return Ok(Arc::clone(&known.state));
        }
        let usable = known.filter(|known| known.younger_than(STALE, now));
        let tried_lately = failed_at.failed_meanwhile()
            || failed_at.is_some_and(|(at, _)| (0..FRESH).contains(&now.saturating_sub(at)));
        if let Some(known) = usable.as_ref().filter(|_| tried_lately) {
            return Ok(Arc::clone(&known.state));
        }
        if failed_at.failed_meanwhile() {
            let kind = failed_at.map_or(StoreErrorKind::Unavailable, |(_, kind)| kind);
            return Err(StoreError::new(kind, "a caller's state could not be read a moment ago"));
        }
        let principals = std::iter::once(principal.clone()).chain(principal.aliases()).collect();
        match (store.principal_state(principals).await, usable) {
            (Ok(state), _) => {
                let state = Arc::new(state);
                *entry.known.write().unwrap_or_else(PoisonError::into_inner) =
                    Some(Known { state: Arc::clone(&state), read_at: now });
                *failed_at = None;
                Ok(state)
            }
            (Err(error), Some(known)) => {
                failed_at.failed();
                *failed_at = Some((now, error.kind()));
                if error.kind() == StoreErrorKind::Corrupt {
                    tracing::error!(
                        alarm = "corrupt_store",
                        error = &error as &dyn std::error::Error,
                        "the store holds something that cannot be read; a caller's state is used although it is old"
                    );
                } else {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the store gives no answer; a caller's state is used although it is old"
                    );
                }
                Ok(known.state)
            }
            (Err(error), None) => {
                failed_at.failed();
                *failed_at = Some((now, error.kind()));
                Err(error)
            }
        }
    }
}

impl Entry {
    fn known(&self) -> Option<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stile_store::EmbeddedDeadlines;

    #[tokio::test]
    async fn no_more_callers_are_remembered_than_there_is_room_for() {
        let folder = tempfile::tempdir().unwrap();
        Store::init_folder(folder.path(), EmbeddedDeadlines::default()).unwrap();
        let store = Store::open_folder(folder.path(), EmbeddedDeadlines::default()).unwrap();
        let principal_cache = PrincipalCache { entries: Cache::new(50) };
        for n in 0..500 {
            let principal =
                Principal::parse_stored(&format!("aws:111122223333:role/r{n}")).unwrap();
            principal_cache.recent(&principal, &store, 0).await.unwrap();
        }
        assert!(principal_cache.entries.len() <= 50, "{}", principal_cache.entries.len());
        assert!(PrincipalCache::default().entries.capacity() <= REMEMBERED as u64);
    }
}
