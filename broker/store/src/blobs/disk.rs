//! Archives as files named by digest. A file is written under a temporary name, synced and renamed,
//! and never changes afterwards.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stile_core::package::{Format, VerifiedArchive};

use super::disk_space::{DISK_RESERVE, DiskSpace};
use crate::StoreError;
use crate::blocking::blocking;
use crate::files;

/// Number of bytes that the health check writes to each folder.
const PROBE_BYTES: usize = 64 * 1024;

/// Archives in a folder on this machine.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: Arc<PathBuf>,
    space: Arc<DiskSpace>,
}

impl Disk {
    /// Creates the missing folders, readable only by their owner.
    pub(crate) fn init(folder: &Path) -> Result<(), StoreError> {
        let failed = |error: io::Error| {
            StoreError::unavailable(format!("cannot create `{}`", folder.display()), error)
        };
        for path in [folder.to_path_buf(), folder.join("archives"), folder.join("incoming")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        }
        Ok(())
    }

    /// Opens the archives in an existing folder.
    pub(crate) fn open(folder: &Path) -> Self {
        let space = Arc::new(DiskSpace::new(folder, DISK_RESERVE));
        let disk = Self { folder: Arc::new(folder.to_path_buf()), space };
        files::delete_abandoned(&disk.incoming(), "");
        disk
    }

    /// Returns the same archives with another reserve of free space, in bytes.
    pub(crate) fn with_reserve(self, reserve: u64) -> Self {
        Self { space: Arc::new(DiskSpace::new(&self.folder, reserve)), ..self }
    }

    /// Returns the free space for uploads.
    pub(crate) const fn space(&self) -> &Arc<DiskSpace> {
        &self.space
    }

    /// Returns the folder for uploads that are not verified yet. It is on the same file system as
    /// the archives.
    pub(crate) fn incoming(&self) -> PathBuf {
        self.folder.join("incoming")
    }

    /// Returns the path of an archive's file.
    pub fn archive(&self, sha256: &str, format: Format) -> PathBuf {
        let subfolder = sha256.get(..2).unwrap_or_default();
        self.folder
            .join("archives")
            .join(subfolder)
            .join(format!("{sha256}.{}", format.extension()))
    }

    /// Moves a verified archive to its path. When this returns, the file is on disk under its name.
    pub(crate) async fn put(&self, archive: VerifiedArchive) -> Result<(), StoreError> {
        let place = self.archive(archive.sha256(), archive.format());
        blocking(move || put(archive, &place)).await
    }

    /// Returns whether an archive of this size exists.
    pub(crate) fn exists(&self, sha256: &str, format: Format, bytes: u64) -> bool {
        fs::metadata(self.archive(sha256, format)).is_ok_and(|file| file.len() == bytes)
    }

    /// Returns the name of the folder, for messages.
    pub(crate) fn name(&self) -> String {
        format!("data folder {}", self.folder.display())
    }

    /// Checks that files can be written to the folders of uploads and of archives.
    pub(crate) async fn health_check(&self) -> Result<(), StoreError> {
        let folders = [self.incoming(), self.folder.join("archives")];
        blocking(move || {
            folders.iter().try_for_each(|folder| {
                let written = tempfile::NamedTempFile::new_in(folder)
                    .and_then(|mut file| file.write_all(&[0; PROBE_BYTES]));
                written.map_err(|error| {
                    StoreError::unavailable(
                        format!("cannot write to `{}`", folder.display()),
                        error,
                    )
                })
            })
        })
        .await
    }
}

fn put(archive: VerifiedArchive, place: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| {
        StoreError::unavailable(format!("cannot write `{}`", place.display()), error)
    };
    let subfolder = place.parent().unwrap_or(place);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(subfolder).map_err(failed)?;
    let file = archive.into_file();
    file.as_file().sync_all().map_err(failed)?;
    file.persist(place).map_err(|error| failed(error.error))?;
    files::sync_folder(subfolder).map_err(failed)?;
    files::sync_folder(subfolder.parent().unwrap_or(subfolder)).map_err(failed)
}
