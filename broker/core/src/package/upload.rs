//! An archive on its way in: it grows in a file, is measured while it grows, and is checked before anything keeps it.

use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use super::archive::{self, ArchiveError, ArchiveLimits, Format};
use super::{AnnouncedArchive, MAX_ARCHIVE};

/// What the names of files begin with that uploads grow in.
const INCOMING: &str = ".stile-incoming-";

/// Removes what uploads left in the folder that were not dropped, because their process was killed.
pub fn sweep_uploads(folder: &Path, older_than: Duration) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(INCOMING.as_bytes()))
    {
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age >= older_than) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Why an upload came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// More than an archive may have.
    #[error("the archive is larger than 100 MB")]
    TooLarge,
    /// What arrived cannot be published.
    #[error(transparent)]
    Archive(ArchiveError),
    /// It cannot be written here.
    #[error("the archive cannot be written")]
    Disk(#[source] std::io::Error),
}

/// An upload that grows. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct ArchiveUpload {
    file: NamedTempFile,
    writer: tokio::fs::File,
    hash: Sha256,
    bytes: u64,
}

impl ArchiveUpload {
    /// Starts one in the folder.
    pub fn start(folder: &Path) -> Result<Self, UploadError> {
        let file = tempfile::Builder::new()
            .prefix(INCOMING)
            .tempfile_in(folder)
            .map_err(UploadError::Disk)?;
        let writer = tokio::fs::File::from_std(file.reopen().map_err(UploadError::Disk)?);
        Ok(Self { file, writer, hash: Sha256::new(), bytes: 0 })
    }

    /// Adds what has arrived.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), UploadError> {
        self.bytes = self.bytes.saturating_add(chunk.len() as u64);
        if self.bytes > MAX_ARCHIVE {
            return Err(UploadError::TooLarge);
        }
        self.hash.update(chunk);
        self.writer.write_all(chunk).await.map_err(UploadError::Disk)
    }

    /// How much has arrived, in bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether what has arrived is what was announced, to the last byte.
    pub fn matches(&self, announced: &AnnouncedArchive) -> bool {
        self.bytes == announced.bytes
            && hex::encode(self.hash.clone().finalize()) == announced.sha256
    }

    /// Ends it, and looks at what it is.
    pub async fn verify(mut self, format: Format) -> Result<VerifiedArchive, UploadError> {
        self.writer.flush().await.map_err(UploadError::Disk)?;
        let (mut file, sha256, bytes) = (self.file, hex::encode(self.hash.finalize()), self.bytes);
        let checked = tokio::task::spawn_blocking(move || {
            std::io::Seek::rewind(file.as_file_mut()).map_err(UploadError::Disk)?;
            archive::inspect(file.as_file_mut(), format, &ArchiveLimits::default())
                .map_err(UploadError::Archive)?;
            Ok(VerifiedArchive { file, sha256, bytes, format })
        });
        checked.await.map_err(|error| UploadError::Disk(std::io::Error::other(error)))?
    }
}

/// An archive whose every entry was looked at: what may be kept. Made only by [`ArchiveUpload::verify`].
#[derive(Debug)]
pub struct VerifiedArchive {
    file: NamedTempFile,
    sha256: String,
    bytes: u64,
    format: Format,
}

impl VerifiedArchive {
    /// Lower-case hex SHA-256 of its bytes.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Its length.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What kind of archive it is.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The file, to be read.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file, to be renamed into its place.
    pub fn into_file(self) -> NamedTempFile {
        self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        std::fs::write(folder.path().join("else"), "").unwrap();
        let upload = ArchiveUpload::start(folder.path()).unwrap();
        let (_file, path) = upload.file.keep().unwrap();
        assert!(path.is_file() && names() == 2);
        sweep_uploads(folder.path(), Duration::from_secs(3600));
        assert_eq!(names(), 2, "somebody may be writing it");
        sweep_uploads(folder.path(), Duration::ZERO);
        assert_eq!(names(), 1);
    }
}
