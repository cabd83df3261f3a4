//! Counts downloads in memory, and adds them to the store a little later.
//!
//! A process that is killed loses at most the counts of the last ten seconds and those that no
//! request has added yet. A count that the store could not add is added later.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::broker::Broker;
use super::download_counts::{Counts, Tally};
use super::notices::LATELY;
use stile_core::grants::{Download, PackageAccess, Upload};
use stile_core::package::Version;
use stile_core::usage::{DownloadKey, day};
use stile_store::{AfterDownload, DownloadTotal, StoreError};
use tracing::Instrument as _;

/// How long a download waits until due counts are in the store. After it, the work goes on without the
/// download, which does not depend on it.
const PATIENCE: Duration = Duration::from_millis(300);

/// The most principals that a change of a version's life looks up, because they fetched it lately.
const MAX_LOOKED_UP: usize = 500;

/// Counts one download, and adds counts to the store if some are due.
///
/// The caller gets no error: a download does not depend on its count.
pub async fn count(
    broker: &Arc<Broker>,
    access: &PackageAccess<Download>,
    version: &Version,
    is_deprecated: bool,
) {
    broker.metrics.downloaded(access.address());
    let now = broker.clock.now();
    let due = broker.download_counts.add(DownloadKey::of(access, version, now), is_deprecated, now);
    let _ = tokio::time::timeout(PATIENCE, add_to_store(broker, due, now)).await;
}

/// Adds to the store all counts that there are now.
pub async fn flush(broker: &Arc<Broker>) {
    for _ in 0..broker.download_counts.commits() {
        let counts = broker.download_counts.take();
        if !add_to_store(broker, counts, broker.clock.now()).await {
            return;
        }
    }
}

/// Records for those who fetched a version lately that it is deprecated or unpublished now, so that
/// their next token comes with a notice.
///
/// The caller gets no error: the change of the version does not depend on the notices.
pub async fn record_deprecated(
    broker: &Arc<Broker>,
    access: &PackageAccess<Upload>,
    version: &Version,
) {
    flush(broker).await;
    let now = broker.clock.now();
    let since = day(now).saturating_sub(LATELY);
    let recorded = broker.store.record_deprecated(access, version, since, MAX_LOOKED_UP, now);
    if let Err(error) = recorded.await {
        tracing::warn!(
            error = &error as &dyn Error,
            package = %access.address(),
            %version,
            "cannot record who fetched the version lately, so they get no notice"
        );
    }
}

/// Adds counts to the store, also if the client disconnects meanwhile. Returns whether it did.
async fn add_to_store(broker: &Arc<Broker>, counts: Counts, now: i64) -> bool {
    if counts.is_empty() {
        return true;
    }
    let broker = Arc::clone(broker);
    let work = async move {
        let numbers = counts.iter().map(|(key, tally)| (key.clone(), tally.count)).collect();
        let added = broker.store.count_downloads(numbers, latest_deprecated(&counts), now);
        let Err(error) = added.await else { return true };
        tracing::warn!(
            error = &error as &dyn Error,
            "cannot count downloads in the store; a later request tries again"
        );
        broker.download_counts.put_back(counts, now);
        false
    };
    tokio::spawn(work.in_current_span()).await.unwrap_or(false)
}

/// Returns the latest download of a deprecated version for each principal that has one.
fn latest_deprecated(counts: &[(DownloadKey, Tally)]) -> Vec<DownloadKey> {
    let deprecated =
        counts.iter().filter(|(key, tally)| tally.is_deprecated && !key.is_of_others());
    let mut latest: HashMap<&str, &DownloadKey> = HashMap::new();
    for (key, _) in deprecated {
        let last = latest.entry(key.principal()).or_insert(key);
        if last.day() < key.day() {
            *last = key;
        }
    }
    latest.into_values().cloned().collect()
}

/// A page of the downloads of a module.
#[derive(Debug)]
pub struct ModuleUsage {
    /// The first day of the counts, as the number of days since 1970-01-01 in UTC.
    pub since: i64,
    /// One total for each version and principal, in the order of their texts.
    pub totals: Vec<DownloadTotal>,
    /// Where the next page begins, if there is one.
    pub next: Option<AfterDownload>,
}

/// Returns a page of the downloads of a module in the last days, today included. It adds the counts
/// of this process to the store first.
pub async fn of_module(
    broker: &Arc<Broker>,
    access: &PackageAccess<Upload>,
    days: i64,
    after: &AfterDownload,
    limit: usize,
) -> Result<ModuleUsage, StoreError> {
    flush(broker).await;
    let since = day(broker.clock.now()).saturating_sub(days.saturating_sub(1));
    // Read one total more than `limit`, to find out whether another page follows.
    let mut totals = broker.store.downloads(access, since, after, limit + 1).await?;
    let more = totals.len() > limit;
    totals.truncate(limit);
    let next = totals.last().filter(|_| more).map(|last| AfterDownload {
        version: last.version.to_string(),
        principal: last.principal.clone(),
    });
    Ok(ModuleUsage { since, totals, next })
}
