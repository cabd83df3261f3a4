//! The words of the modules of recent namespaces: fresh for 10 s, so that a search seldom reads the
//! store.

use std::convert::Infallible;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use stile_protocol::names::Namespace;
use tokio::sync::Mutex;

use stile_core::grants::PermittedNamespaces;
use stile_core::search::SearchIndex;
use stile_store::{Store, StoreError};

/// The time for which words are fresh, in seconds. After it, every broker finds a new version.
const FRESH: i64 = 10;

/// The capacity of the cache, in modules. One needs about 3 KB.
const MODULES: u64 = 20_000;

/// The capacity of the cache, in namespaces.
const NAMESPACES: usize = 1_000;

/// The words of one namespace.
#[derive(Debug, Clone)]
struct CachedIndex {
    index: Arc<SearchIndex>,
    read_at: i64,
}

/// Weighs a namespace by its modules.
#[derive(Debug, Clone)]
struct ByModules;

impl Weighter<Namespace, CachedIndex> for ByModules {
    fn weight(&self, _: &Namespace, cached: &CachedIndex) -> u64 {
        u64::try_from(cached.index.len()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// The cache of one process.
#[derive(Debug)]
pub struct SearchCache {
    indexes: Cache<Namespace, CachedIndex, ByModules>,
    /// A reader holds the lock during its read, so that one request reads a namespace, and the others
    /// wait for it.
    readers: Cache<Namespace, Arc<Mutex<()>>>,
}

impl Default for SearchCache {
    fn default() -> Self {
        Self {
            indexes: Cache::with_weighter(NAMESPACES, MODULES, ByModules),
            readers: Cache::new(NAMESPACES),
        }
    }
}

impl SearchCache {
    /// Returns the words of a namespace that the reach permits. They are empty if it does not.
    pub async fn recent(
        &self,
        reach: &PermittedNamespaces,
        namespace: &Namespace,
        store: &Store,
        now: i64,
    ) -> Result<Arc<SearchIndex>, StoreError> {
        if !reach.permits(namespace) {
            return Ok(Arc::default());
        }
        if let Some(index) = self.fresh(namespace, now) {
            return Ok(index);
        }
        let reader =
            self.readers.get_or_insert_with(namespace, || Ok::<_, Infallible>(Arc::default()));
        let reader = reader.unwrap_or_default();
        let _reading = reader.lock().await;
        if let Some(index) = self.fresh(namespace, now) {
            return Ok(index);
        }
        let entries = store.search_entries(reach, namespace).await?;
        // It takes a tenth of a second for thousands of modules.
        let index = tokio::task::spawn_blocking(move || SearchIndex::new(entries)).await;
        let index = Arc::new(index.map_err(|error| {
            StoreError::unavailable("cannot read the words of a namespace", error)
        })?);
        let cached = CachedIndex { index: Arc::clone(&index), read_at: now };
        self.indexes.insert(namespace.clone(), cached);
        Ok(index)
    }

    /// Forgets a namespace, in which this process has just changed a module.
    pub fn forget(&self, namespace: &Namespace) {
        self.indexes.remove(namespace);
    }

    /// Returns cached words that are fresh. A clock that was set back makes them too old.
    fn fresh(&self, namespace: &Namespace, now: i64) -> Option<Arc<SearchIndex>> {
        let cached = self.indexes.get(namespace)?;
        (0..FRESH).contains(&now.saturating_sub(cached.read_at)).then_some(cached.index)
    }
}
