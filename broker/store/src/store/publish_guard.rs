//! What a publisher holds from before it stores an archive until a record names the archive.
//!
//! A data folder has a lock for that, and a table has a reservation of the version. So nobody deletes
//! the archive meanwhile. On AWS, a publisher that would lose the race also stores nothing.

use stile_core::package::{PackageAddress, Version};

use super::Store;
use crate::blobs::{Blobs, PublishLock};
use crate::records::{DynamoDb, Records};
use crate::{Published, StoreError};

/// The time from a reservation to the commit, in seconds, in addition to the time that the bytes
/// take. A publisher that needs longer can lose the race to another one.
const RESERVED_FOR: i64 = 60;

/// The slowest transfer that a reservation allows for, in bytes per second.
const SLOWEST_TRANSFER: u64 = 1_000_000;

/// Keeps others from the archive of a publish that is in progress.
#[derive(Debug)]
pub(super) enum PublishGuard {
    /// The publishers' lock of the data folder, held until it is dropped.
    Folder { _lock: PublishLock },
    /// Nothing, for a version without an archive in a data folder.
    Nothing,
    /// The reservation in the table, which a commit ends.
    Reservation { dynamodb: DynamoDb, address: PackageAddress, version: Version, sha256: String },
}

impl PublishGuard {
    /// Ends the reservation if the version still does not exist after that result. Otherwise other
    /// content for the version would have to wait.
    pub(super) async fn end_after(self, published: &Result<Published, StoreError>) {
        use Published::{
            Created, Different, Full, InProgress, OverQuota, Replaced, Same, Unpublished,
        };
        match published {
            Ok(Created | Same | Replaced | Different | Unpublished) => {}
            Ok(InProgress | Full | OverQuota(_)) | Err(_) => self.release().await,
        }
    }

    async fn release(self) {
        if let Self::Reservation { dynamodb, address, version, sha256 } = self
            && let Err(error) = dynamodb.release(&address, &version, &sha256).await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot end the reservation of a version; it ends by itself in some minutes"
            );
        }
    }
}

impl Store {
    /// Begins to publish content of that many bytes. `None` if another publisher is about to publish
    /// the version with other content.
    pub(super) async fn guard_publish(
        &self,
        address: &PackageAddress,
        version: &Version,
        sha256: &str,
        bytes: u64,
        now: i64,
    ) -> Result<Option<PublishGuard>, StoreError> {
        match (&self.blobs, &self.records) {
            (Blobs::Disk(disk), _) => {
                let lock = disk.lock_for_publish().await?;
                Ok(Some(PublishGuard::Folder { _lock: lock }))
            }
            (Blobs::S3(_), Records::DynamoDb(dynamodb)) => {
                reserve(dynamodb, address, version, sha256, bytes, now).await
            }
            (Blobs::S3(_), Records::Sqlite(_)) => Err(StoreError::misconfigured(
                "this program cannot keep the archives of a database in a bucket",
            )),
        }
    }

    /// Begins to publish a version without an archive. In a data folder, no sweep can delete anything
    /// of it, so it needs no lock.
    ///
    /// `None` if another publisher is about to publish the version with other content.
    pub(super) async fn guard_without_archive(
        &self,
        address: &PackageAddress,
        version: &Version,
        sha256: &str,
        now: i64,
    ) -> Result<Option<PublishGuard>, StoreError> {
        match &self.records {
            Records::DynamoDb(dynamodb) => {
                reserve(dynamodb, address, version, sha256, 0, now).await
            }
            Records::Sqlite(_) => Ok(Some(PublishGuard::Nothing)),
        }
    }
}

async fn reserve(
    dynamodb: &DynamoDb,
    address: &PackageAddress,
    version: &Version,
    sha256: &str,
    bytes: u64,
    now: i64,
) -> Result<Option<PublishGuard>, StoreError> {
    let transfer = i64::try_from(bytes / SLOWEST_TRANSFER).unwrap_or(i64::MAX);
    let until = now.saturating_add(RESERVED_FOR).saturating_add(transfer);
    let reserved = dynamodb.reserve(address, version, sha256, now, until).await?;
    Ok(reserved.then(|| PublishGuard::Reservation {
        dynamodb: dynamodb.clone(),
        address: address.clone(),
        version: version.clone(),
        sha256: sha256.to_owned(),
    }))
}
