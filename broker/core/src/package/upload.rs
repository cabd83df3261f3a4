//! Receives an archive into a temporary file, hashes it on the way, and verifies it at the end.

use std::fs::{DirEntry, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use stile_protocol::names::ProviderType;

use super::archive::{self, ArchiveError, ArchiveLimits, Format};
use super::provider::Platform;
use super::{AnnouncedArchive, MAX_ARCHIVE, MAX_PROVIDER_FILE};

/// The name prefix of the temporary files of uploads.
const TEMP_PREFIX: &str = ".stile-incoming-";

/// Deletes temporary files of uploads that a killed process left in the folder. Returns their
/// number.
///
/// It keeps the files that a living process has locked, and those that changed in the last
/// `older_than` seconds before `now`: earlier releases do not lock them.
pub fn sweep_uploads(folder: &Path, older_than: i64, now: i64) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let is_swept = |entry: &DirEntry| {
        entry.file_name().as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes())
            && entry.metadata().is_ok_and(|metadata| {
                metadata.is_file() && now.saturating_sub(metadata.mtime()) >= older_than
            })
            // NFS version 4 gives an exclusive lock only on a file that is open for writing.
            && File::options().read(true).write(true).open(entry.path()).is_ok_and(|file| {
                // The lock lasts until the file is gone, so no upload begins in it.
                file.try_lock().is_ok() && std::fs::remove_file(entry.path()).is_ok()
            })
    };
    entries.flatten().filter(is_swept).count()
}

/// Creates a temporary file that [`sweep_uploads`] of another process keeps.
///
/// A sweep can take the new file before its lock. Then this creates another one.
fn locked_file(folder: &Path) -> std::io::Result<NamedTempFile> {
    loop {
        let file = tempfile::Builder::new().prefix(TEMP_PREFIX).tempfile_in(folder)?;
        match file.as_file().try_lock() {
            Err(TryLockError::WouldBlock) => continue,
            // This file system has no locks, so no sweep can lock the file either.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        if file.as_file().metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
}

/// The reason why an upload failed.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The archive is larger than this maximum in bytes.
    #[error("the archive is larger than {} MB", .0 / 1_000_000)]
    TooLarge(u64),
    /// The archive failed the inspection.
    #[error(transparent)]
    Archive(ArchiveError),
    /// The temporary file cannot be written.
    #[error("the archive cannot be written")]
    Disk(#[source] std::io::Error),
}

/// An archive that the broker is receiving. Dropping it deletes the temporary file.
#[derive(Debug)]
pub struct ArchiveUpload {
    file: NamedTempFile,
    writer: tokio::fs::File,
    hash: Sha256,
    bytes: u64,
    /// The maximum of bytes.
    max: u64,
    /// The first bytes, which indicate the format.
    first: Vec<u8>,
}

impl ArchiveUpload {
    /// Creates a temporary file in the folder, for the archive of a module: at most [`MAX_ARCHIVE`]
    /// bytes.
    ///
    /// # Errors
    ///
    /// [`UploadError::Disk`], if the file cannot be created.
    pub fn start(folder: &Path) -> Result<Self, UploadError> {
        Self::with_maximum(folder, MAX_ARCHIVE)
    }

    /// Creates a temporary file in the folder, for the zip archive of a provider: at most
    /// [`MAX_PROVIDER_FILE`] bytes.
    ///
    /// # Errors
    ///
    /// [`UploadError::Disk`], if the file cannot be created.
    pub fn start_provider(folder: &Path) -> Result<Self, UploadError> {
        Self::with_maximum(folder, MAX_PROVIDER_FILE)
    }

    fn with_maximum(folder: &Path, max: u64) -> Result<Self, UploadError> {
        let file = locked_file(folder).map_err(UploadError::Disk)?;
        let writer = tokio::fs::File::from_std(file.reopen().map_err(UploadError::Disk)?);
        Ok(Self { file, writer, hash: Sha256::new(), bytes: 0, max, first: Vec::new() })
    }

    /// Appends a received chunk.
    ///
    /// # Errors
    ///
    /// [`UploadError::TooLarge`] beyond the maximum, or [`UploadError::Disk`].
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), UploadError> {
        self.bytes = self.bytes.saturating_add(chunk.len() as u64);
        if self.bytes > self.max {
            return Err(UploadError::TooLarge(self.max));
        }
        self.hash.update(chunk);
        let missing = Format::SNIFFED.saturating_sub(self.first.len());
        self.first.extend(chunk.iter().take(missing));
        self.writer.write_all(chunk).await.map_err(UploadError::Disk)
    }

    /// Waits until all received bytes are in the file.
    ///
    /// # Errors
    ///
    /// [`UploadError::Disk`], if a byte cannot be written.
    pub async fn flush(&mut self) -> Result<(), UploadError> {
        self.writer.flush().await.map_err(UploadError::Disk)
    }

    /// Returns the number of received bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the largest number of bytes that it accepts.
    pub const fn maximum(&self) -> u64 {
        self.max
    }

    /// Returns whether the received bytes have the announced length and SHA-256.
    pub fn matches(&self, announced: &AnnouncedArchive) -> bool {
        self.bytes == announced.bytes && self.sha256() == announced.sha256
    }

    /// Returns the SHA-256 of the received bytes, in lower-case hex.
    pub fn sha256(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }

    /// Returns the format that the first received bytes indicate.
    pub fn sniff(&self) -> Option<Format> {
        Format::sniff(&self.first)
    }

    /// Ends the upload and inspects the archive, within these limits.
    ///
    /// # Errors
    ///
    /// [`UploadError::Archive`], if the archive failed the inspection, or [`UploadError::Disk`].
    pub async fn verify(
        mut self,
        format: Format,
        limits: ArchiveLimits,
    ) -> Result<VerifiedArchive, UploadError> {
        self.flush().await?;
        let (mut file, sha256, bytes) = (self.file, hex::encode(self.hash.finalize()), self.bytes);
        let checked = tokio::task::spawn_blocking(move || {
            std::io::Seek::rewind(file.as_file_mut()).map_err(UploadError::Disk)?;
            archive::inspect(file.as_file_mut(), format, &limits).map_err(UploadError::Archive)?;
            Ok(VerifiedArchive { file, sha256, bytes, format, metadata: None })
        });
        checked.await.map_err(|error| UploadError::Disk(std::io::Error::other(error)))?
    }
}

impl ArchiveUpload {
    /// Ends the upload and inspects it as the zip archive of a provider for a platform, within these
    /// limits.
    ///
    /// # Errors
    ///
    /// [`UploadError::Archive`], if the archive failed the inspection, or [`UploadError::Disk`].
    pub async fn verify_provider(
        mut self,
        provider_type: &ProviderType,
        platform: &Platform,
        limits: ArchiveLimits,
    ) -> Result<VerifiedProviderFile, UploadError> {
        self.flush().await?;
        let (mut file, sha256, bytes) = (self.file, hex::encode(self.hash.finalize()), self.bytes);
        let (provider_type, platform) = (provider_type.clone(), platform.clone());
        let checked = tokio::task::spawn_blocking(move || {
            let inspected =
                archive::inspect_provider(file.as_file_mut(), &provider_type, &platform, &limits);
            let h1 = inspected.map_err(UploadError::Archive)?.h1;
            Ok(VerifiedProviderFile { file, platform, sha256, bytes, h1 })
        });
        checked.await.map_err(|error| UploadError::Disk(std::io::Error::other(error)))?
    }
}

/// Proof that a received zip archive of a provider passed the inspection. Only
/// [`ArchiveUpload::verify_provider`] creates one.
///
/// The store requires one, so no client can publish a hash that the broker did not compute.
#[derive(Debug)]
pub struct VerifiedProviderFile {
    file: NamedTempFile,
    platform: Platform,
    sha256: String,
    bytes: u64,
    h1: String,
}

impl VerifiedProviderFile {
    /// Returns the platform whose file it is.
    pub const fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Returns the SHA-256 of the archive, in lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Returns the size in bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the hash of the unpacked files, `h1:` and base64.
    pub fn h1(&self) -> &str {
        &self.h1
    }

    /// Returns the path of the temporary file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Returns the temporary file, so that the store can rename it.
    pub fn into_file(self) -> NamedTempFile {
        self.file
    }
}

/// Proof that a received archive passed the inspection. Only [`ArchiveUpload::verify`] creates one.
///
/// The store requires one, so nobody can publish an archive that the broker did not inspect.
#[derive(Debug)]
pub struct VerifiedArchive {
    file: NamedTempFile,
    sha256: String,
    bytes: u64,
    format: Format,
    metadata: Option<Vec<u8>>,
}

impl VerifiedArchive {
    /// Returns the archive with its metadata, as the store keeps it next to the archive.
    #[must_use]
    pub fn with_metadata(self, metadata: Vec<u8>) -> Self {
        Self { metadata: Some(metadata), ..self }
    }

    /// Returns the metadata, if it was read.
    pub fn metadata(&self) -> Option<&[u8]> {
        self.metadata.as_deref()
    }

    /// Returns the SHA-256 of the archive, in lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Returns the size in bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the format of the archive.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Returns the path of the temporary file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Returns the temporary file, so that the store can rename it.
    pub fn into_file(self) -> NamedTempFile {
        self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_deletes_only_old_files_of_uploads_that_nobody_writes() {
        let folder = tempfile::tempdir().unwrap();
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        std::fs::write(folder.path().join("else"), "").unwrap();
        let upload = ArchiveUpload::start(folder.path()).unwrap();
        let written = upload.file.as_file().metadata().unwrap().mtime();
        assert_eq!(sweep_uploads(folder.path(), 3600, written + 3600), 0);
        assert_eq!(names(), 2, "a living process has locked the file");
        let (file, path) = upload.file.keep().unwrap();
        drop(file);
        assert_eq!(sweep_uploads(folder.path(), 3600, written + 3599), 0);
        assert_eq!(names(), 2, "a process of an earlier release may write the new file");
        assert!(path.is_file());
        assert_eq!(sweep_uploads(folder.path(), 3600, written + 3600), 1);
        assert_eq!(names(), 1);
    }

    #[test]
    fn a_sweep_at_the_same_time_takes_no_file_of_an_upload_that_begins() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|threads| {
            let begun = threads.spawn(|| {
                let uploads = (0..200).map(|_| ArchiveUpload::start(folder.path()).unwrap());
                uploads.collect::<Vec<_>>()
            });
            while !begun.is_finished() {
                sweep_uploads(folder.path(), 0, i64::MAX);
            }
            for upload in begun.join().unwrap() {
                assert!(upload.file.path().is_file());
            }
        });
    }

    #[tokio::test]
    async fn an_upload_ends_at_its_own_maximum() {
        let folder = tempfile::tempdir().unwrap();
        let maximum = |upload: ArchiveUpload| upload.maximum();
        assert_eq!(maximum(ArchiveUpload::start(folder.path()).unwrap()), 100_000_000);
        assert_eq!(maximum(ArchiveUpload::start_provider(folder.path()).unwrap()), 1_000_000_000);
        let mut upload = ArchiveUpload::with_maximum(folder.path(), 3).unwrap();
        upload.write(b"abc").await.unwrap();
        let error = upload.write(b"d").await.unwrap_err();
        assert!(matches!(error, UploadError::TooLarge(3)));
        assert_eq!(
            UploadError::TooLarge(MAX_ARCHIVE).to_string(),
            "the archive is larger than 100 MB"
        );
    }

    #[tokio::test]
    async fn only_an_inspected_file_of_a_provider_is_verified() {
        let folder = tempfile::tempdir().unwrap();
        let dns = ProviderType::parse("dns").unwrap();
        let linux: Platform = "linux_amd64".parse().unwrap();
        let mut upload = ArchiveUpload::start_provider(folder.path()).unwrap();
        upload.write(b"PK").await.unwrap();
        let outcome = upload.verify_provider(&dns, &linux, ArchiveLimits::provider()).await;
        assert!(matches!(outcome, Err(UploadError::Archive(_))));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
