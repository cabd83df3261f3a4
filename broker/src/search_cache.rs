//! The words of the modules of recent namespaces: fresh for 10 s, so that a search seldom reads the
//! store.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, MutexGuard, PoisonError};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use stile_protocol::names::Namespace;
use tokio::sync::Mutex;

use crate::metrics::{self, Metrics};
use stile_core::grants::PermittedNamespaces;
use stile_core::search::SearchIndex;
use stile_store::{Store, StoreError};

/// The time for which words are fresh, in seconds. After it, every broker finds a new version.
const FRESH: i64 = 10;

/// The capacity of the cache, in bytes. A module with many words needs about 3 KB, and one with as
/// many as possible 12 KB.
const BYTES: u64 = 96 << 20;

/// The capacity of the cache, in namespaces.
const NAMESPACES: usize = 2_000;

/// The words of one namespace.
#[derive(Debug, Clone)]
struct CachedIndex {
    index: Arc<SearchIndex>,
    read_at: i64,
}

/// The namespaces that have modules.
#[derive(Debug)]
struct CachedNamespaces {
    namespaces: Arc<BTreeSet<Namespace>>,
    read_at: i64,
}

/// Weighs a namespace by the memory of its words.
#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Namespace, CachedIndex> for ByBytes {
    fn weight(&self, _: &Namespace, cached: &CachedIndex) -> u64 {
        // In addition to the words, the entry itself.
        u64::try_from(cached.index.bytes()).unwrap_or(u64::MAX).saturating_add(1_000)
    }
}

/// The cache of one process.
#[derive(Debug)]
pub struct SearchCache {
    indexes: Cache<Namespace, CachedIndex, ByBytes>,
    /// A reader holds the lock during its read, so that one request reads a namespace, and the others
    /// wait for it.
    readers: Cache<Namespace, Arc<Mutex<()>>>,
    namespaces: std::sync::Mutex<Option<CachedNamespaces>>,
    /// Its holder reads the list of modules.
    namespaces_reader: Mutex<()>,
    metrics: Arc<Metrics>,
}

impl SearchCache {
    /// Creates an empty cache.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            indexes: indexes(),
            readers: Cache::new(NAMESPACES),
            namespaces: std::sync::Mutex::default(),
            namespaces_reader: Mutex::default(),
            metrics,
        }
    }

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
        if let Some(index) = self.fresh(reach, namespace, now) {
            return Ok(index);
        }
        let reader =
            self.readers.get_or_insert_with(namespace, || Ok::<_, Infallible>(Arc::default()));
        let reader = reader.unwrap_or_default();
        let _reading = reader.lock().await;
        if let Some(index) = self.fresh(reach, namespace, now) {
            return Ok(index);
        }
        self.metrics.missed(metrics::Cache::Search);
        let entries = store.search_entries(reach, namespace).await?;
        // It takes a tenth of a second for thousands of modules.
        let index = tokio::task::spawn_blocking(move || SearchIndex::new(entries)).await;
        let index = Arc::new(index.map_err(|error| {
            StoreError::unavailable("cannot read the words of a namespace", error)
        })?);
        self.keep(namespace, &index, now);
        Ok(index)
    }

    /// Returns the namespaces that have modules, as far as the reach permits them.
    ///
    /// It reads the list of all modules once for all callers.
    pub async fn namespaces(
        &self,
        reach: &PermittedNamespaces,
        store: &Store,
        now: i64,
    ) -> Result<Vec<Namespace>, StoreError> {
        let namespaces = match self.fresh_namespaces(now) {
            Some(namespaces) => namespaces,
            None => self.read_namespaces(store, now).await?,
        };
        Ok(namespaces.iter().filter(|namespace| reach.permits(namespace)).cloned().collect())
    }

    async fn read_namespaces(
        &self,
        store: &Store,
        now: i64,
    ) -> Result<Arc<BTreeSet<Namespace>>, StoreError> {
        let _reading = self.namespaces_reader.lock().await;
        if let Some(namespaces) = self.fresh_namespaces(now) {
            return Ok(namespaces);
        }
        let namespaces = Arc::new(store.namespaces_with_modules().await?);
        let cached = CachedNamespaces { namespaces: Arc::clone(&namespaces), read_at: now };
        *self.cached_namespaces() = Some(cached);
        Ok(namespaces)
    }

    /// Forgets a namespace, in which this process has just changed a module.
    pub fn forget(&self, namespace: &Namespace) {
        self.indexes.remove(namespace);
        self.cached_namespaces().take_if(|cached| !cached.namespaces.contains(namespace));
    }

    fn keep(&self, namespace: &Namespace, index: &Arc<SearchIndex>, now: i64) {
        let cached = CachedIndex { index: Arc::clone(index), read_at: now };
        self.indexes.insert(namespace.clone(), cached);
    }

    fn cached_namespaces(&self) -> MutexGuard<'_, Option<CachedNamespaces>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh_namespaces(&self, now: i64) -> Option<Arc<BTreeSet<Namespace>>> {
        let cached = self.cached_namespaces();
        let cached = cached.as_ref().filter(|cached| is_fresh(cached.read_at, now))?;
        Some(Arc::clone(&cached.namespaces))
    }

    /// Returns the words of a namespace that the reach permits, if they are cached and fresh.
    pub fn fresh(
        &self,
        reach: &PermittedNamespaces,
        namespace: &Namespace,
        now: i64,
    ) -> Option<Arc<SearchIndex>> {
        let cached = reach.permits(namespace).then(|| self.indexes.get(namespace))??;
        let index = is_fresh(cached.read_at, now).then_some(cached.index)?;
        self.metrics.hit(metrics::Cache::Search);
        Some(index)
    }
}

/// Returns whether something is fresh that was read at a time. A clock that was set back makes it
/// too old.
fn is_fresh(read_at: i64, now: i64) -> bool {
    (0..FRESH).contains(&now.saturating_sub(read_at))
}

/// Creates the cache of words, in one piece.
///
/// By default, the cache divides its capacity into a piece for each processor, several times, and
/// never keeps what is larger than one piece: the words of a large namespace.
fn indexes() -> Cache<Namespace, CachedIndex, ByBytes> {
    let mut options = OptionsBuilder::new();
    options.estimated_items_capacity(NAMESPACES).weight_capacity(BYTES).shards(1);
    match options.build() {
        Ok(options) => Cache::with_options(
            options,
            ByBytes,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        ),
        Err(_) => Cache::with_weighter(NAMESPACES, BYTES, ByBytes),
    }
}

#[cfg(test)]
mod tests {
    use stile_core::package::{SearchText, Version};
    use stile_core::search::SearchEntry;

    use super::*;
    use crate::metrics::unread;

    const NOW: i64 = 1_800_000_000;

    /// Returns an index of modules that each have many words, which no other module has.
    fn index(modules: usize) -> Arc<SearchIndex> {
        let entries = (0..modules).map(|n| {
            let readme: String = (0..100).map(|m| format!("readme{n}word{m} ")).collect();
            SearchEntry {
                address: format!("acme/m{n}/aws").parse().unwrap(),
                version: Version::parse("1.0.0").unwrap(),
                published_at: NOW,
                text: SearchText::new(None, [], &readme),
            }
        });
        Arc::new(SearchIndex::new(entries.collect()))
    }

    #[test]
    fn the_words_of_a_namespace_with_thousands_of_modules_stay_in_memory_for_ten_seconds() {
        let cache = SearchCache::new(unread());
        let namespace: Namespace = "acme".parse().unwrap();
        let index = index(5_000);
        assert!(index.bytes() > 16 << 20, "{} bytes", index.bytes());
        cache.keep(&namespace, &index, NOW);
        for (now, is_there) in [(NOW, true), (NOW + 9, true), (NOW + 10, false), (NOW - 1, false)] {
            assert_eq!(
                cache.fresh(&PermittedNamespaces::All, &namespace, now).is_some(),
                is_there,
                "{now}"
            );
        }
        let none = PermittedNamespaces::Only(BTreeSet::new());
        assert!(cache.fresh(&none, &namespace, NOW).is_none());
        cache.forget(&namespace);
        assert!(cache.fresh(&PermittedNamespaces::All, &namespace, NOW).is_none());
    }

    #[test]
    fn many_namespaces_take_no_more_memory_than_the_capacity() {
        let cache = SearchCache::new(unread());
        let index = index(500);
        let bytes = u64::try_from(index.bytes()).unwrap();
        let namespaces = 3 * BYTES / bytes;
        for n in 0..namespaces {
            cache.keep(&format!("n{n}").parse().unwrap(), &index, NOW);
        }
        assert!(cache.indexes.weight() <= BYTES, "{}", cache.indexes.weight());
        assert!(cache.indexes.weight() > BYTES / 2, "{}", cache.indexes.weight());
    }
}
