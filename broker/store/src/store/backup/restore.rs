//! Restores a backup into a new folder. The database comes last, so no broker opens the folder of a
//! restore that was killed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use stile_core::audit::Kept;

use super::CopyProgress;
use super::copying::{
    cannot_write, copy_metadata, copy_verified, place, temporary_in, write_verified,
};
use super::folder::lock_shared;
use super::manifest::{MANIFEST, Manifest};
use crate::blobs::{Disk, archive_path, metadata_path};
use crate::records::copies;
use crate::store::folder::DATABASE;
use crate::store::proofs_from;
use crate::{StoreError, files};

/// What a restore copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The registry host of the backup, if one was recorded.
    pub host: Option<String>,
    /// The format of the database.
    pub format: i64,
    /// The time of the backup in Unix seconds.
    pub taken_at: i64,
    /// The number of archives.
    pub archives: usize,
    /// The number of bytes of the archives.
    pub bytes: u64,
    /// The time from which proofs are accepted, in Unix seconds.
    pub proofs_from: i64,
}

/// What to do about a file of the backup that cannot be copied.
const CURE: &str = "restore another backup, or copy the file from one";

/// Restores a backup into a folder that is empty or missing.
pub(super) fn restore(
    from: &Path,
    data: &Path,
    kept: &Kept,
    on_progress: impl Fn(CopyProgress),
) -> Result<Restored, StoreError> {
    let not_one = || {
        StoreError::misconfigured(format!(
            "`{}` is not a backup; hint: name the folder of `stile-admin backup --out`",
            from.display()
        ))
    };
    // SQLite treats a relative path that begins with `file:` as a URL.
    let from = &from.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => not_one(),
        _ => cannot_read(from, error),
    })?;
    files::reject_writable_by_others(from)?;
    files::reject_writable_by_others(&from.join(MANIFEST))?;
    let _lock = lock_shared(from)?;
    let manifest = Manifest::read(from)?.ok_or_else(not_one)?;
    let Some(database) = manifest.database else {
        return Err(StoreError::misconfigured(format!(
            "the first backup in `{}` is not complete; hint: run `stile-admin backup` again",
            from.display()
        )));
    };
    let file = from.join(database.name());
    files::reject_writable_by_others(&file)?;
    if !file.exists() {
        return Err(StoreError::corrupt(format!("`{}` is missing; hint: {CURE}", file.display())));
    }
    // Before the folder is created, so that a format that this program cannot read leaves nothing.
    copies::inspect(&file)?;
    let data = create_empty(data)?;
    let incoming = data.join("incoming");

    let copy = temporary_in(&incoming)?;
    write_verified(&file, copy.as_file(), copy.path(), &database.sha256, CURE)?;
    let copied = copies::inspect(copy.path())?;
    let mut restored = Restored {
        host: manifest.host,
        format: copied.format,
        taken_at: database.taken_at,
        archives: 0,
        bytes: 0,
        proofs_from: proofs_from(kept.at()),
    };
    let all = copied.named.len();
    for (at, named) in copied.named.iter().enumerate() {
        on_progress(CopyProgress { done: at, all });
        if let Some(format) = named.format {
            let path = archive_path(&named.sha256, format);
            let (from, to) = (from.join(&path), data.join(&path));
            restored.bytes += copy_verified(&from, &to, &named.sha256, &incoming, CURE)?;
            restored.archives += 1;
        }
        let path = metadata_path(&named.sha256);
        copy_metadata(&from.join(&path), &data.join(&path), &incoming, CURE)?;
    }
    on_progress(CopyProgress { done: all, all });
    copies::record_restored(copy.path(), copied.format, kept)?;
    place(copy, &data.join(DATABASE))?;
    Ok(restored)
}

/// Creates the folders of a store in a folder that is empty or missing. Returns its absolute path.
fn create_empty(data: &Path) -> Result<PathBuf, StoreError> {
    files::reject_writable_by_others(data)?;
    let is_empty = match fs::read_dir(data) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(cannot_read(data, error)),
    };
    if !is_empty {
        return Err(StoreError::misconfigured(format!(
            "the folder `{}` is not empty, and a restore writes over nothing; hint: name a new folder",
            data.display()
        )));
    }
    Disk::init(data)?;
    data.canonicalize().map_err(|error| cannot_write(data, error))
}

fn cannot_read(path: &Path, error: io::Error) -> StoreError {
    StoreError::unavailable(format!("cannot read `{}`", path.display()), error)
}
