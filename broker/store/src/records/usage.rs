//! The rules of counted downloads: how long the store keeps a count.

use stile_core::package::{PackageAddress, Version};
use stile_core::usage::{DownloadKey, OTHER, day};

use super::Records;
use super::mutation::{Mutation, Outcome};
use crate::{AfterDownload, DownloadTotal, StoreError};

/// How many days the store keeps a count.
pub(crate) const KEPT_DAYS: i64 = 400;

/// The most counts that one commit adds. A transaction of DynamoDB has at most 100 items, and each
/// count may need two.
pub const COUNTS_PER_COMMIT: usize = 50;

impl Records {
    /// Adds at most [`COUNTS_PER_COMMIT`] counts to those of the store, and records downloads of
    /// deprecated versions, at most one of each principal.
    pub(crate) async fn count_downloads(
        &self,
        counts: Vec<(DownloadKey, u64)>,
        deprecated: Vec<DownloadKey>,
        now: i64,
    ) -> Result<(), StoreError> {
        let forget_before = day(now).saturating_sub(KEPT_DAYS);
        let add = Mutation::CountDownloads { counts, deprecated, forget_before };
        // In one attempt: after a retry of an unclear answer, downloads would count twice.
        match self.commit(vec![add]).await? {
            Outcome::Done => Ok(()),
            _ => Err(StoreError::busy("other brokers count the same downloads now")),
        }
    }

    /// Returns at most `limit` totals of a package since a day, in the order of the texts of version
    /// and principal, from the one after `after` on.
    pub(crate) async fn downloads(
        &self,
        address: &PackageAddress,
        since: i64,
        after: &AfterDownload,
        limit: usize,
    ) -> Result<Vec<DownloadTotal>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.downloads(address, since, after, limit).await,
            Self::DynamoDb(dynamodb) => dynamodb.downloads(address, since, after, limit).await,
        }
    }

    /// Returns at most `limit` principals that downloaded a version since a day, each with the last
    /// day. It leaves out those that are counted together.
    pub(crate) async fn who_downloaded(
        &self,
        address: &PackageAddress,
        version: &Version,
        since: i64,
        limit: usize,
    ) -> Result<Vec<DownloadTotal>, StoreError> {
        let after = AfterDownload { version: version.to_string(), principal: String::new() };
        let mut totals = self.downloads(address, since, &after, limit).await?;
        totals.retain(|total| total.version == *version && total.principal != OTHER);
        Ok(totals)
    }
}

/// Raises the alarm for a count that cannot be read. The others are still shown.
pub(super) fn alarm() {
    tracing::error!(
        alarm = "unreadable_count",
        "cannot read a count of downloads in the store, and does not show it"
    );
}
