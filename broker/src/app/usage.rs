//! Counts downloads in memory, and adds them to the store a little later.
//!
//! A process that is killed loses at most the counts of the last ten seconds and those that no
//! request has added yet. A count that the store could not add is added later.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::Arc;

use super::broker::Broker;
use super::download_counts::{Counts, Tally};
use stile_core::grants::{Download, PackageAccess, Upload};
use stile_core::package::Version;
use stile_core::usage::{DownloadKey, day};
use stile_store::{DownloadCount, StoreError};

/// Counts one download, and adds counts to the store if some are due.
///
/// The caller gets no error: a download does not depend on its count.
pub async fn count(
    broker: &Arc<Broker>,
    access: &PackageAccess<Download>,
    version: &Version,
    is_deprecated: bool,
) {
    let now = broker.clock.now();
    let due = broker.download_counts.add(DownloadKey::of(access, version, now), is_deprecated, now);
    add_to_store(broker, due, now).await;
}

/// Adds all counts to the store, before the program ends.
pub async fn flush(broker: &Arc<Broker>) {
    loop {
        let now = broker.clock.now();
        let due = broker.download_counts.take();
        if due.is_empty() || !add_to_store(broker, due, now).await {
            return;
        }
    }
}

/// Adds counts to the store, also if the client disconnects meanwhile. Returns whether it did.
async fn add_to_store(broker: &Arc<Broker>, counts: Counts, now: i64) -> bool {
    if counts.is_empty() {
        return true;
    }
    let broker = Arc::clone(broker);
    let added = tokio::spawn(async move {
        let numbers = counts.iter().map(|(key, tally)| (key.clone(), tally.count)).collect();
        let added = broker.store.count_downloads(numbers, latest_deprecated(&counts), now);
        let Err(error) = added.await else { return true };
        tracing::warn!(
            error = &error as &dyn Error,
            "cannot count downloads in the store; a later request tries again"
        );
        broker.download_counts.put_back(counts, now);
        false
    });
    added.await.unwrap_or(false)
}

/// Returns one download of a deprecated version for each principal that has one.
fn latest_deprecated(counts: &[(DownloadKey, Tally)]) -> Vec<DownloadKey> {
    let deprecated =
        counts.iter().filter(|(key, tally)| tally.is_deprecated && !key.is_of_others());
    let by_principal: HashMap<&str, &DownloadKey> =
        deprecated.map(|(key, _)| (key.principal(), key)).collect();
    by_principal.into_values().cloned().collect()
}

/// The downloads of a module.
#[derive(Debug)]
pub struct ModuleUsage {
    /// The first day of the counts, as the number of days since 1970-01-01 in UTC.
    pub since: i64,
    /// One line for each version and principal: the highest version first, then the most downloads.
    pub lines: Vec<UsageLine>,
}

/// The downloads of one version by one principal.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageLine {
    /// The version.
    pub version: Version,
    /// The principal, or [`OTHER`](stile_core::usage::OTHER).
    pub principal: String,
    /// The number of downloads.
    pub downloads: u64,
    /// The last day with a download, as the number of days since 1970-01-01 in UTC.
    pub last_day: i64,
}

/// Returns the downloads of a module in the last days, today included. It adds the counts of this
/// process to the store first.
pub async fn of_module(
    broker: &Arc<Broker>,
    access: &PackageAccess<Upload>,
    days: i64,
) -> Result<ModuleUsage, StoreError> {
    flush(broker).await;
    let since = day(broker.clock.now()).saturating_sub(days.saturating_sub(1));
    let counts = broker.store.downloads(access, since).await?;
    Ok(ModuleUsage { since, lines: lines_of(counts) })
}

fn lines_of(counts: Vec<DownloadCount>) -> Vec<UsageLine> {
    let mut lines = BTreeMap::new();
    for count in counts {
        let (downloads, last_day) =
            lines.entry((count.version, count.principal)).or_insert((0_u64, count.day));
        *downloads = downloads.saturating_add(count.count);
        *last_day = count.day.max(*last_day);
    }
    let mut lines: Vec<UsageLine> = lines
        .into_iter()
        .map(|((version, principal), (downloads, last_day))| UsageLine {
            version,
            principal,
            downloads,
            last_day,
        })
        .collect();
    lines.sort_by(|a, b| {
        b.version
            .cmp(&a.version)
            .then(b.downloads.cmp(&a.downloads))
            .then_with(|| a.principal.cmp(&b.principal))
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(version: &str, principal: &str, day: i64, count: u64) -> DownloadCount {
        let version = Version::parse(version).unwrap();
        DownloadCount { version, principal: principal.to_owned(), day, count }
    }

    #[test]
    fn the_days_of_a_principal_are_summed_and_the_highest_version_is_first() {
        let lines = lines_of(vec![
            count("1.0.0", "a", 5, 1),
            count("1.10.0", "a", 7, 2),
            count("1.9.0", "b", 7, 1),
            count("1.9.0", "a", 6, 3),
            count("1.0.0", "a", 4, u64::MAX),
        ]);
        let shown: Vec<_> = lines
            .iter()
            .map(|line| {
                (line.version.to_string(), line.principal.as_str(), line.downloads, line.last_day)
            })
            .collect();
        let expected = [
            ("1.10.0", "a", 2, 7),
            ("1.9.0", "a", 3, 6),
            ("1.9.0", "b", 1, 7),
            ("1.0.0", "a", u64::MAX, 5),
        ]
        .map(|(version, principal, downloads, day)| {
            (version.to_owned(), principal, downloads, day)
        });
        assert_eq!(shown, expected);
    }
}
