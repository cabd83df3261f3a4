//! The blob store: the bytes of archives and their metadata, on a disk or in S3.

mod disk;
mod disk_space;
mod metadata;
mod metadata_files;
mod s3;
mod source_buckets;
mod upload;

use std::path::PathBuf;

use stile_core::package::provider::ReleaseFile;
use stile_core::package::{
    AnnouncedArchive, ArchiveUpload, PackageAddress, SignedUrl, UploadId, VerifiedArchive,
    VerifiedProviderFile, Version,
};

pub use disk::Disk;
pub use disk_space::{DISK_RESERVE, DISK_RESERVE_MIB, SpaceAllocation};
pub use s3::S3;

pub(crate) use disk::{PublishLock, archive_path, file_name, metadata_path};
pub(crate) use metadata::decompress as decompress_metadata;
pub(crate) use s3::{key as archive_key, parse_key as parse_archive_key, sums_keys};
pub(crate) use source_buckets::SourceBuckets;
pub use source_buckets::{OpenedObject, ReadObject, RecordedObject};
pub(crate) use upload::FetchedObject;

use crate::records::model::StoredArchive;
use crate::{BegunUpload, Location, StoreError};

/// The backend of the archives.
#[derive(Debug, Clone)]
pub enum Blobs {
    /// On a disk of this machine. The broker serves them.
    Disk(Disk),
    /// In an S3 bucket. Clients fetch them with signed URLs.
    S3(S3),
}

impl Blobs {
    /// Stores a verified archive after its metadata, and returns its record. It is safe to repeat
    /// with the same bytes.
    ///
    /// The metadata depends only on the bytes of the archive, so versions with the same archive
    /// share it.
    pub(crate) async fn put(
        &self,
        address: &PackageAddress,
        version: &Version,
        archive: VerifiedArchive,
    ) -> Result<StoredArchive, StoreError> {
        let (sha256, format) = (archive.sha256().to_owned(), archive.format());
        if let Some(json) = archive.metadata() {
            self.put_metadata(&sha256, json).await?;
        }
        let object_version = match self {
            Self::Disk(disk) => {
                disk.put(archive).await?;
                None
            }
            Self::S3(s3) => Some(s3.put(address, version, &archive).await?),
        };
        Ok(StoredArchive { sha256, format, object_version })
    }

    /// Stores the verified file of a provider, and returns its record. It is safe to repeat with the
    /// same bytes.
    pub(crate) async fn put_provider_file(
        &self,
        address: &PackageAddress,
        version: &Version,
        file: VerifiedProviderFile,
    ) -> Result<ReleaseFile, StoreError> {
        let (sha256, h1, bytes) = (file.sha256().to_owned(), file.h1().to_owned(), file.bytes());
        let object_version = match self {
            Self::Disk(disk) => {
                disk.put_provider_file(file).await?;
                None
            }
            Self::S3(s3) => Some(s3.put_provider_file(address, version, &file).await?),
        };
        Ok(ReleaseFile { sha256, h1, bytes, object_version })
    }

    /// Returns whether this archive exists, with this number of bytes.
    pub(crate) async fn exists(
        &self,
        address: &PackageAddress,
        version: &Version,
        archive: &StoredArchive,
        bytes: u64,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Disk(disk) => Ok(disk.exists(&archive.sha256, archive.format, bytes)),
            // An object version never changes, so its bytes need no check.
            Self::S3(s3) => s3.exists(address, version, archive).await,
        }
    }

    /// Stores the metadata of an archive. It is safe to repeat.
    pub(crate) async fn put_metadata(&self, sha256: &str, json: &[u8]) -> Result<(), StoreError> {
        match self {
            Self::Disk(disk) => disk.put_metadata(sha256.to_owned(), json.to_vec()).await,
            Self::S3(s3) => s3.put_metadata(sha256, json).await,
        }
    }

    /// Returns the metadata of an archive. `None` if there is none.
    pub(crate) async fn metadata(&self, sha256: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Disk(disk) => disk.metadata(sha256.to_owned()).await,
            Self::S3(s3) => s3.metadata(sha256).await,
        }
    }

    /// Returns where a client can fetch this archive until `ttl` seconds from now.
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

    /// Returns how the client must send an announced archive.
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

    /// Fetches the uploaded object into a file that must still be verified.
    pub(crate) async fn fetch_upload(
        &self,
        id: &UploadId,
        announced: &AnnouncedArchive,
        into: &mut ArchiveUpload,
    ) -> Result<FetchedObject, StoreError> {
        match self {
            // A client cannot write to the disk directly.
            Self::Disk(_) => Ok(FetchedObject::Nothing),
            Self::S3(s3) => s3.fetch_upload(id, announced, into).await,
        }
    }

    /// Deletes the uploaded object. If that fails, the bucket deletes it later.
    pub(crate) async fn delete_upload(&self, id: &UploadId, object_version: &str) {
        match self {
            Self::Disk(_) => {}
            Self::S3(s3) => s3.delete_upload(id, object_version).await,
        }
    }

    /// Returns the folder for uploads that are not verified yet.
    pub(crate) fn incoming(&self) -> PathBuf {
        match self {
            Self::Disk(disk) => disk.incoming(),
            // The system's folder for temporary files. A function can write nowhere else.
            Self::S3(_) => std::env::temp_dir(),
        }
    }

    /// Returns the same archives with another reserve of free disk space, in bytes. A bucket has
    /// none.
    pub(crate) fn with_disk_reserve(self, reserve: u64) -> Self {
        match self {
            Self::Disk(disk) => Self::Disk(disk.with_reserve(reserve)),
            Self::S3(s3) => Self::S3(s3),
        }
    }

    /// Allocates disk space for an upload. An upload to a bucket needs none.
    pub(crate) fn allocate(
        &self,
        announced: Option<u64>,
        now: i64,
    ) -> Result<SpaceAllocation, StoreError> {
        match self {
            Self::Disk(disk) => disk.space().allocate(announced, now),
            Self::S3(_) => Ok(SpaceAllocation::without_disk()),
        }
    }

    /// Checks that the disk has free space for uploads.
    pub(crate) fn check_space(&self) -> Result<(), StoreError> {
        match self {
            Self::Disk(disk) => disk.space().check(),
            Self::S3(_) => Ok(()),
        }
    }

    /// Checks that the archives can be reached and, on a disk, written.
    pub(crate) async fn health_check(&self) -> Result<(), StoreError> {
        match self {
            Self::Disk(disk) => disk.health_check().await,
            Self::S3(s3) => s3.health_check().await,
        }
    }

    /// Checks the setup of the backend. Returns its name and the result.
    pub(crate) async fn diagnose(&self) -> (String, Result<(), StoreError>) {
        match self {
            Self::Disk(disk) => {
                let healthy = disk.health_check().await;
                (disk.name(), healthy.and_then(|()| disk.space().check()))
            }
            Self::S3(s3) => (s3.name(), s3.diagnose().await),
        }
    }
}
