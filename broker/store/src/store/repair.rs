//! Deletes old archives that no version names, for an operator.
//!
//! In a bucket, it first writes into the table that it deletes the object, and then looks again whether
//! a version names it. A commit that names the object later is refused. So it does not depend on a
//! clock, and a program that stops in between loses nothing.

use stile_core::audit::{Kept, Outcome};
use stile_core::grants::OperatorAccess;
use stile_core::package::{PackageAddress, Version};

use super::Store;
use super::leftovers::{
    NamedObjects, Objects, Sweep, cannot_compare, is_of_these_archives, newer_release,
    unnamed_objects,
};
use crate::blobs::{Blobs, S3, archive_key, parse_archive_key};
use crate::records::{DynamoDb, Records};
use crate::{Leftover, Repaired, StoreError};

impl Store {
    /// Deletes the archives that no version names and that were written until then, in Unix seconds.
    ///
    /// A copy of an archive that a version needs stays, if the object that the version names is gone.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Misconfigured`](crate::StoreErrorKind::Misconfigured), if the records can be
    /// those of other archives. A failure after the first deletion is in the result.
    pub async fn delete_leftovers(
        &self,
        _: &OperatorAccess,
        written_until: i64,
        kept: &Kept,
    ) -> Result<Repaired, StoreError> {
        let swept = match (&self.blobs, &self.records) {
            (Blobs::Disk(disk), _) => {
                if self.named_files().await?.is_none() {
                    return Err(newer_release());
                }
                self.sweep_archives(disk, written_until).await?
            }
            (Blobs::S3(s3), Records::DynamoDb(dynamodb)) => {
                sweep_objects(s3, dynamodb, written_until, kept.at()).await?
            }
            (Blobs::S3(_), Records::Sqlite(_)) => return Err(cannot_compare()),
        };
        match swept {
            Sweep::Done(mut repaired) => {
                // No commit contains archives, so the event of their deletion comes after it.
                if !repaired.deleted.is_empty() {
                    let event = self.keep_audit(kept, Outcome::Deleted).await;
                    repaired.error = repaired.error.or(event.err());
                }
                Ok(repaired)
            }
            Sweep::Busy => {
                Err(StoreError::busy("a publish is in progress, so no archive is deleted"))
            }
            Sweep::OfOthers { named, old } => Err(StoreError::misconfigured(format!(
                "the store names {named} archives, and {old} old ones have no version, so none is deleted: it can be the store of other archives; hint: compare the names of the data folder, or of table and bucket"
            ))),
        }
    }
}

/// Deletes the objects that were written until then and that no version names.
async fn sweep_objects(
    s3: &S3,
    dynamodb: &DynamoDb,
    written_until: i64,
    now: i64,
) -> Result<Sweep, StoreError> {
    let Objects { named, unnamed } = unnamed_objects(s3, dynamodb).await?;
    let old = unnamed.into_iter().filter(|object| object.written_at <= written_until);
    // An object with another kind of name was not written by a broker.
    let old: Vec<_> =
        old.filter_map(|object| Some((parse_archive_key(&object.archive)?, object))).collect();
    if !old.is_empty() && !is_of_these_archives(named, old.len()) {
        return Ok(Sweep::OfOthers { named, old: old.len() });
    }
    let mut repaired = Repaired::default();
    for ((address, version), object) in old {
        match delete_object(s3, dynamodb, &address, &version, &object, now).await {
            Ok(None) => repaired.deleted.push(object),
            Ok(Some(reason)) => repaired.kept.push((object, reason.to_owned())),
            Err(error) => {
                repaired.error = Some(error);
                break;
            }
        }
    }
    Ok(Sweep::Done(repaired))
}

/// Deletes an object, or returns the reason why it must stay.
async fn delete_object(
    s3: &S3,
    dynamodb: &DynamoDb,
    address: &PackageAddress,
    version: &Version,
    object: &Leftover,
    now: i64,
) -> Result<Option<&'static str>, StoreError> {
    let object_version = object.object_version.as_deref().filter(|id| *id != "null");
    let Some(object_version) = object_version else {
        return Ok(Some("it was written before the bucket had versioning"));
    };
    let record = async || dynamodb.version(address, version).await;
    let archives = record().await?.map(|record| record.archives()).unwrap_or_default();
    for (archive, _) in archives {
        let key = archive_key(address, version, &archive.sha256, archive.format);
        if key == object.archive && !s3.exists(address, version, &archive).await? {
            return Ok(Some("the archive of the version is lost, and this object has its bytes"));
        }
    }
    dynamodb.exclude_object(address, version, object_version, now).await?;
    // A commit before that has its record by now, and one after it is refused.
    let mut named = NamedObjects::default();
    named.add_version(address, version, record().await?.as_ref());
    named.add_waiting(dynamodb, address, version).await?;
    if named.contains(object) {
        return Ok(Some("a publish has just named it"));
    }
    s3.delete_archive(&object.archive, object_version).await?;
    Ok(None)
}
