//! Files that are written aside and renamed into place: makes renames last, and removes what a killed process left.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes a rename within the folder survive a crash of the machine.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// How old an upload or a keyring aside must be, in seconds, before it cannot be another process's that is still growing.
const ABANDONED: u64 = 24 * 3600;

/// Removes the files of the folder whose name begins so and that died with the process that wrote them.
pub(crate) fn sweep(folder: &Path, prefix: &str) {
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
