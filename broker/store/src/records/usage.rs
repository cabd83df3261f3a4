//! The rules of counted downloads: how long the store keeps a count.

use stile_core::package::PackageAddress;
use stile_core::usage::{DownloadKey, day};

use super::Records;
use super::mutation::{Mutation, Outcome};
use crate::{DownloadCount, StoreError};

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

    /// Returns the counts of a package since a day, in any order.
    pub(crate) async fn downloads(
        &self,
        address: &PackageAddress,
        since: i64,
    ) -> Result<Vec<DownloadCount>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.downloads(address, since).await,
            Self::DynamoDb(dynamodb) => dynamodb.downloads(address, since).await,
        }
    }
}
