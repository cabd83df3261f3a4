//! Helpers for files that are written under a temporary name and then renamed. They make a rename
//! durable, and delete files that a killed process left.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Syncs a folder, so that a rename in it survives a crash of the machine.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Age at which a temporary upload or keyring file is deleted, in seconds. Another process can
/// still be writing a younger one.
const ABANDONED: u64 = 24 * 3600;

/// Deletes the files in the folder whose name starts with `prefix` and whose writer died.
pub(crate) fn delete_abandoned(folder: &Path, prefix: &str) {
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
