//! The words of the modules of recent namespaces: fresh for 10 s, so that a search seldom reads the
//! store.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
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

/// The namespaces that have modules.
#[derive(Debug, Clone)]
struct CachedNamespaces {
    namespaces: Arc<[Namespace]>,
    read_at: i64,
}

/// Returns whether what was read then is fresh. A clock that was set back makes it too old.
fn is_fresh(read_at: i64, now: i64) -> bool {
    (0..FRESH).contains(&now.saturating_sub(read_at))
}

/// Weighs a namespace by its modules. One with more than half of the capacity is cached, too, because
/// each search would read it again.
#[derive(Debug, Clone)]
struct ByModules;

impl Weighter<Namespace, CachedIndex> for ByModules {
    fn weight(&self, _: &Namespace, cached: &CachedIndex) -> u64 {
        let modules = u64::try_from(cached.index.len()).unwrap_or(u64::MAX);
        modules.saturating_add(1).min(MODULES / 2)
    }
}

/// The cache of one process.
#[derive(Debug)]
pub struct SearchCache {
    indexes: Cache<Namespace, CachedIndex, ByModules>,
    /// A reader holds the lock during its read, so that one request reads a namespace, and the others
    /// wait for it.
    readers: Cache<Namespace, Arc<Mutex<()>>>,
    /// For callers who may read every namespace.
    namespaces: SyncMutex<Option<CachedNamespaces>>,
    /// The same lock for `namespaces`.
    reader_of_namespaces: Mutex<()>,
}

impl Default for SearchCache {
    fn default() -> Self {
        // With several shards, each has a part of the capacity. A namespace of thousands of modules
        // would fit into none.
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(NAMESPACES).weight_capacity(MODULES).shards(1);
        // The other options have defaults.
        let options = options.build().unwrap_or_else(|_| unreachable!("the capacities are set"));
        let (hasher, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
        Self {
            indexes: Cache::with_options(options, ByModules, hasher, lifecycle),
            readers: Cache::new(NAMESPACES),
            namespaces: SyncMutex::default(),
            reader_of_namespaces: Mutex::default(),
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

    /// Returns the namespaces that the reach permits and that have modules.
    pub async fn namespaces(
        &self,
        reach: &PermittedNamespaces,
        store: &Store,
        now: i64,
    ) -> Result<Arc<[Namespace]>, StoreError> {
        if let PermittedNamespaces::Only(namespaces) = reach {
            return Ok(namespaces.iter().cloned().collect());
        }
        if let Some(namespaces) = self.fresh_namespaces(now) {
            return Ok(namespaces);
        }
        let _reading = self.reader_of_namespaces.lock().await;
        if let Some(namespaces) = self.fresh_namespaces(now) {
            return Ok(namespaces);
        }
        let modules = store.modules(reach, None, 0, usize::MAX).await?;
        let namespaces: BTreeSet<Namespace> =
            modules.into_iter().map(|module| module.address.namespace).collect();
        let namespaces: Arc<[Namespace]> = namespaces.into_iter().collect();
        let cached = CachedNamespaces { namespaces: Arc::clone(&namespaces), read_at: now };
        *self.namespaces.lock().unwrap_or_else(PoisonError::into_inner) = Some(cached);
        Ok(namespaces)
    }

    /// Forgets a namespace, in which this process has just changed a module.
    pub fn forget(&self, namespace: &Namespace) {
        self.indexes.remove(namespace);
        let mut cached = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.as_ref().is_some_and(|cached| !cached.namespaces.contains(namespace)) {
            *cached = None;
        }
    }

    /// Returns the words of a namespace that the reach permits, if they are cached and fresh.
    pub fn fresh(
        &self,
        reach: &PermittedNamespaces,
        namespace: &Namespace,
        now: i64,
    ) -> Option<Arc<SearchIndex>> {
        let cached = reach.permits(namespace).then(|| self.indexes.get(namespace))??;
        is_fresh(cached.read_at, now).then_some(cached.index)
    }

    fn fresh_namespaces(&self, now: i64) -> Option<Arc<[Namespace]>> {
        let cached = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        is_fresh(cached.read_at, now).then_some(cached.namespaces)
    }
}

#[cfg(test)]
mod tests {
    use stile_core::package::{SearchText, Version};
    use stile_core::search::SearchEntry;

    use super::*;

    /// Returns the words of a namespace with that many modules.
    fn index(modules: usize) -> Arc<SearchIndex> {
        let version = Version::parse("1.0.0").unwrap();
        let entry = |number: usize| SearchEntry {
            address: format!("acme/m{number}/aws").parse().unwrap(),
            version: version.clone(),
            published_at: 0,
            text: SearchText::default(),
        };
        Arc::new(SearchIndex::new((0..modules).map(entry).collect()))
    }

    #[test]
    fn a_namespace_of_any_number_of_modules_is_cached_for_ten_seconds() {
        for modules in [0, 1, 5_000, 19_999, 25_000] {
            let cache = SearchCache::default();
            let index = index(modules);
            let namespaces: Vec<Namespace> =
                ["acme", "other"].map(|name| name.parse().unwrap()).to_vec();
            for namespace in &namespaces {
                let cached = CachedIndex { index: Arc::clone(&index), read_at: 100 };
                cache.indexes.insert(namespace.clone(), cached);
            }
            let reach = PermittedNamespaces::All;
            for (now, expected) in [(99, false), (100, true), (109, true), (110, false)] {
                let found = cache.fresh(&reach, &namespaces[1], now).is_some();
                assert_eq!(found, expected, "{modules} modules, {now}");
            }
            let none = PermittedNamespaces::Only(BTreeSet::new());
            assert!(cache.fresh(&none, &namespaces[1], 100).is_none());
            cache.forget(&namespaces[1]);
            assert!(cache.fresh(&reach, &namespaces[1], 100).is_none());
        }
    }

    #[test]
    fn the_cache_does_not_grow_beyond_its_capacity() {
        let (cache, index) = (SearchCache::default(), index(1_500));
        for number in 0..100 {
            let namespace: Namespace = format!("n{number}").parse().unwrap();
            cache
                .indexes
                .insert(namespace, CachedIndex { index: Arc::clone(&index), read_at: 100 });
        }
        assert!((10..=13).contains(&cache.indexes.len()), "{}", cache.indexes.len());
    }
}
