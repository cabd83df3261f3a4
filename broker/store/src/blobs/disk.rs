//! Archives as files named by digest: written aside, synced, renamed; never changed afterwards.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stile_core::package::{Format, VerifiedArchive};

use crate::StoreError;
use crate::blocking::blocking;
use crate::files;

/// Bytes that must fit on the disk for it to count as writable.
const ROOM: usize = 64 * 1024;

/// Archives in a folder of this machine.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: Arc<PathBuf>,
}

impl Disk {
    /// Makes what is missing below the folder, readable by its owner only.
    pub(crate) fn init(folder: &Path) -> Result<(), StoreError> {
        let failed = |error: io::Error| {
            StoreError::unavailable(format!("`{}` cannot be made", folder.display()), error)
        };
        for path in [folder.to_path_buf(), folder.join("archives"), folder.join("incoming")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        }
        Ok(())
    }

    /// The archives below a folder that is there.
    pub(crate) fn open(folder: &Path) -> Self {
        let disk = Self { folder: Arc::new(folder.to_path_buf()) };
        files::sweep(&disk.incoming(), "");
        disk
    }

    /// The folder in which an upload grows until it is checked, on the same file system as the archives.
    pub(crate) fn incoming(&self) -> PathBuf {
        self.folder.join("incoming")
    }

    /// The file of an archive.
    pub fn archive(&self, sha256: &str, format: Format) -> PathBuf {
        let shelf = sha256.get(..2).unwrap_or_default();
        self.folder.join("archives").join(shelf).join(format!("{sha256}.{}", format.extension()))
    }

    /// Puts a checked archive in its place; it is on disk under its name when this returns.
    pub(crate) async fn keep(&self, archive: VerifiedArchive) -> Result<(), StoreError> {
        let place = self.archive(archive.sha256(), archive.format());
        blocking(move || keep(archive, &place)).await
    }

    /// Whether an archive of that length is there.
    pub(crate) fn is_there(&self, sha256: &str, format: Format, bytes: u64) -> bool {
        fs::metadata(self.archive(sha256, format)).is_ok_and(|file| file.len() == bytes)
    }

    /// The name of the folder, for a message.
    pub(crate) fn name(&self) -> String {
        format!("data folder {}", self.folder.display())
    }

    /// Whether a file can be written where uploads grow and where archives are.
    pub(crate) async fn health_check(&self) -> Result<(), StoreError> {
        let folders = [self.incoming(), self.folder.join("archives")];
        blocking(move || {
            folders.iter().try_for_each(|folder| {
                let written = tempfile::NamedTempFile::new_in(folder)
                    .and_then(|mut file| file.write_all(&[0; ROOM]));
                written.map_err(|error| {
                    StoreError::unavailable(
                        format!("`{}` cannot be written", folder.display()),
                        error,
                    )
                })
            })
        })
        .await
    }
}

fn keep(archive: VerifiedArchive, place: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| {
        StoreError::unavailable(format!("`{}` cannot be written", place.display()), error)
    };
    let shelf = place.parent().unwrap_or(place);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(shelf).map_err(failed)?;
    let file = archive.into_file();
    file.as_file().sync_all().map_err(failed)?;
    file.persist(place).map_err(|error| failed(error.error))?;
    files::sync_folder(shelf).map_err(failed)?;
    files::sync_folder(shelf.parent().unwrap_or(shelf)).map_err(failed)
}
