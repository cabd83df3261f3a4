//! Searches the modules that a bearer may read, by their words.

use std::sync::Arc;

use stile_protocol::names::{Namespace, Permission};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::authorize::Bearer;
use super::broker::Broker;
use stile_core::grants::PermittedNamespaces;
use stile_core::search::{FoundModule, SearchIndex, SearchQuery, page};
use stile_store::StoreError;

/// The most namespaces that a search reads at once.
const AT_ONCE: usize = 8;

/// The most namespaces of which a search reads each one. Of more, it reads the list of all modules
/// first: most callers with so many grants have some for namespaces that have no module.
const NAMESPACES: usize = 25;

/// One page of what a search found.
#[derive(Debug)]
pub struct SearchPage {
    /// The modules of this page, the best one first.
    pub modules: Vec<FoundModule>,
    /// Whether another page follows.
    pub more: bool,
}

/// Searches one namespace, or all that the bearer may read.
///
/// Returns at most `limit` modules, from `offset` on.
pub async fn search(
    broker: &Arc<Broker>,
    bearer: &Bearer,
    query: &SearchQuery,
    namespace: Option<&Namespace>,
    offset: usize,
    limit: usize,
) -> Result<SearchPage, StoreError> {
    let reach = Arc::new(bearer.permitted_namespaces(Permission::Download));
    let namespaces = match namespace {
        Some(namespace) => vec![namespace.clone()],
        None => all(broker, &reach).await?,
    };
    let indexes = indexes(broker, &reach, &namespaces).await?;
    let query = query.clone();
    // It takes milliseconds for thousands of modules.
    let found = tokio::task::spawn_blocking(move || {
        let found = indexes.iter().flat_map(|index| index.find(&query)).collect();
        // Read one module more than `limit`, to find out whether another page follows.
        let found = page(found, offset, limit + 1);
        let more = found.len() > limit;
        SearchPage { modules: found.into_iter().take(limit).cloned().collect(), more }
    });
    found.await.map_err(|error| StoreError::unavailable("a search ended", error))
}

/// Returns the namespaces that the reach permits. If these are many, only those with modules.
async fn all(broker: &Broker, reach: &PermittedNamespaces) -> Result<Vec<Namespace>, StoreError> {
    match reach {
        PermittedNamespaces::Only(namespaces) if namespaces.len() <= NAMESPACES => {
            Ok(namespaces.iter().cloned().collect())
        }
        _ => broker.search_cache.namespaces(reach, &broker.store, broker.clock.now()).await,
    }
}

/// Returns the words of the namespaces, and reads several at once.
async fn indexes(
    broker: &Arc<Broker>,
    reach: &Arc<PermittedNamespaces>,
    namespaces: &[Namespace],
) -> Result<Vec<Arc<SearchIndex>>, StoreError> {
    let now = broker.clock.now();
    let (mut indexes, mut others) = (Vec::new(), Vec::new());
    for namespace in namespaces {
        match broker.search_cache.fresh(reach, namespace, now) {
            Some(index) => indexes.push(index),
            None => others.push(namespace),
        }
    }
    for some in others.chunks(AT_ONCE) {
        let mut reads = JoinSet::new();
        for namespace in some {
            let (broker, reach, namespace) =
                (Arc::clone(broker), Arc::clone(reach), Namespace::clone(namespace));
            let read = async move {
                broker.search_cache.recent(&reach, &namespace, &broker.store, now).await
            };
            reads.spawn(read.in_current_span());
        }
        while let Some(read) = reads.join_next().await {
            let broken = |error| StoreError::unavailable("a read of a namespace ended", error);
            indexes.push(read.map_err(broken)??);
        }
    }
    Ok(indexes)
}
