//! Archives as files named by digest: written aside, synced, renamed; never changed afterwards.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::Embedded;
use crate::StoreError;
use stile_core::package::{Format, VerifiedArchive};

impl Embedded {
    pub(crate) fn incoming(&self) -> PathBuf {
        self.folder.join("incoming")
    }

    /// The file of an archive.
    pub fn archive(&self, sha256: &str, format: Format) -> PathBuf {
        let shelf = sha256.get(..2).unwrap_or_default();
        self.folder.join("archives").join(shelf).join(format!("{sha256}.{}", format.extension()))
    }
}

/// Puts a checked archive in its place; it is on disk under its name when this returns.
pub(super) fn keep(archive: VerifiedArchive, place: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| {
        StoreError::unavailable(format!("`{}` cannot be written", place.display()), error)
    };
    let shelf = place.parent().unwrap_or(place);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(shelf).map_err(failed)?;
    let file = archive.into_file();
    file.as_file().sync_all().map_err(failed)?;
    file.persist(place).map_err(|error| failed(error.error))?;
    sync_folder(shelf).map_err(failed)?;
    sync_folder(shelf.parent().unwrap_or(shelf)).map_err(failed)
}

/// Makes a rename within the folder survive a crash of the machine.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// How old an upload or a keyring aside must be, in seconds, before it cannot be another process's that is still growing.
const ABANDONED: u64 = 24 * 3600;

/// Removes the files of the folder whose name begins so and that died with the process that wrote them.
pub(super) fn sweep(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()))
    {
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age.as_secs() > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
