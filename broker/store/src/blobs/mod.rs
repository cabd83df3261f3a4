//! Archives: where their bytes are. A closed list of ways.

mod disk;
mod s3;
mod upload;

use std::path::PathBuf;

use stile_core::package::{
    AnnouncedArchive, ArchiveUpload, PackageAddress, SignedUrl, UploadId, VerifiedArchive, Version,
};

pub use disk::Disk;
pub use s3::S3;

pub(crate) use upload::FetchedObject;

use crate::records::model::StoredArchive;
use crate::{BegunUpload, Location, StoreError};

/// Where archives are.
#[derive(Debug, Clone)]
pub enum Blobs {
    /// On a disk of this machine, from which the broker hands them out.
    Disk(Disk),
    /// In an S3 bucket, to which signed URLs lead.
    S3(S3),
}

impl Blobs {
    /// Puts a checked archive in its place, and says which one it is; the same bytes again are fine.
    pub(crate) async fn keep(
        &self,
        address: &PackageAddress,
        version: &Version,
        archive: VerifiedArchive,
    ) -> Result<StoredArchive, StoreError> {
        let (sha256, format) = (archive.sha256().to_owned(), archive.format());
        let object_version = match self {
            Self::Disk(disk) => {
                disk.keep(archive).await?;
                None
            }
            Self::S3(s3) => Some(s3.keep(address, version, &archive).await?),
        };
        Ok(StoredArchive { sha256, format, object_version })
    }

    /// Whether that archive, of so many bytes, is there.
    pub(crate) async fn is_there(
        &self,
        address: &PackageAddress,
        version: &Version,
        archive: &StoredArchive,
        bytes: u64,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Disk(disk) => Ok(disk.is_there(&archive.sha256, archive.format, bytes)),
            // Versions of objects do not change, so their bytes need no look.
            Self::S3(s3) => s3.is_there(address, version, archive).await,
        }
    }

    /// Where a client fetches that archive until `ttl` seconds from now.
    pub(crate) async fn location(
        &self,
        address: &PackageAddress,
        version: &Version,
        archive: StoredArchive,
        now: i64,
        ttl: i64,
    ) -> Result<Location, StoreError> {
        match self {
            Self::Disk(_) => Ok(Location::Local(SignedUrl {
                sha256: archive.sha256,
                format: archive.format,
                expires_at: now.saturating_add(ttl),
            })),
            Self::S3(s3) => {
                s3.presigned(address, version, &archive, now, ttl).await.map(Location::Presigned)
            }
        }
    }

    /// How a sender gets an announced archive here.
    pub(crate) async fn begin_upload(
        &self,
        id: &UploadId,
        announced: &AnnouncedArchive,
        now: i64,
    ) -> Result<BegunUpload, StoreError> {
        match self {
            Self::Disk(_) => Ok(BegunUpload::ThroughBroker),
            Self::S3(s3) => s3.presigned_put(id, announced, now).await.map(BegunUpload::Session),
        }
    }

    /// Fetches what was put there into a file that is still to be checked.
    pub(crate) async fn fetch_upload(
        &self,
        id: &UploadId,
        announced: &AnnouncedArchive,
        into: &mut ArchiveUpload,
    ) -> Result<FetchedObject, StoreError> {
        match self {
            // Nobody can put something there past the broker.
            Self::Disk(_) => Ok(FetchedObject::Nothing),
            Self::S3(s3) => s3.fetch_upload(id, announced, into).await,
        }
    }

    /// Removes what was put there; what cannot be removed now, the bucket clears away later.
    pub(crate) async fn delete_upload(&self, id: &UploadId, object_version: &str) {
        match self {
            Self::Disk(_) => {}
            Self::S3(s3) => s3.delete_upload(id, object_version).await,
        }
    }

    /// The folder in which an upload grows until it is checked.
    pub(crate) fn incoming(&self) -> PathBuf {
        match self {
            Self::Disk(disk) => disk.incoming(),
            // Where the machine keeps what is temporary; a function has nothing else.
            Self::S3(_) => std::env::temp_dir(),
        }
    }

    /// Whether they can be reached; on a disk, whether they can be written.
    pub(crate) async fn health_check(&self) -> Result<(), StoreError> {
        match self {
            Self::Disk(disk) => disk.health_check().await,
            Self::S3(s3) => s3.health_check().await,
        }
    }

    /// The name of where they are, and whether it is as it must be.
    pub(crate) async fn diagnose(&self) -> (String, Result<(), StoreError>) {
        match self {
            Self::Disk(disk) => (disk.name(), disk.health_check().await),
            Self::S3(s3) => (s3.name(), s3.diagnose().await),
        }
    }
}
