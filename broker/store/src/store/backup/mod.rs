//! Copies a data folder into a backup while brokers serve it, and restores a backup into a new
//! folder.
//!
//! A backup has the database, the archives that it names, and their metadata. It has no keyring, so
//! who reads it cannot mint a token.

mod copying;
mod folder;
mod manifest;
mod restore;

use std::fs;
use std::path::Path;

use stile_core::audit::Kept;
use stile_core::grants::OperatorAccess;
use stile_protocol::audience::Audience;

use self::copying::{copy_metadata, copy_verified, digest_of, temporary_in};
use self::folder::BackupFolder;
use self::manifest::DatabaseFile;
use super::Store;
use super::folder::database;
use crate::blobs::{archive_path, metadata_path};
use crate::blocking::blocking;
use crate::records::copies;
use crate::{EmbeddedDeadlines, StoreError};

pub use self::restore::Restored;

/// What a backup copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// The registry, if the data folder has recorded one.
    pub host: Option<Audience>,
    /// The format of the database.
    pub format: i64,
    /// The number of archives that the backup has.
    pub archives: usize,
    /// The number of archives that this run copied.
    pub copied: usize,
    /// The number of bytes of the archives that this run copied.
    pub copied_bytes: u64,
}

/// How far a backup or a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyProgress {
    /// The number of archives that are done.
    pub done: usize,
    /// The number of all archives.
    pub all: usize,
}

/// What to do about an archive of the data folder that cannot be copied.
const CURE: &str =
    "move the file away if it is there, and publish the same archive again, which restores it";

impl Store {
    /// Copies the data folder `data` into the backup `out`: the database as it is at one moment, and
    /// every archive that it names. Brokers can serve and publish meanwhile. It migrates nothing.
    ///
    /// It copies only archives that the backup does not have, and verifies them while it copies. The
    /// previous backup in the folder stays whole until this one is complete.
    pub async fn back_up_folder(
        _: &OperatorAccess,
        data: &Path,
        out: &Path,
        deadlines: EmbeddedDeadlines,
        now: i64,
        on_progress: impl Fn(CopyProgress) + Send + 'static,
    ) -> Result<BackedUp, StoreError> {
        let (data, out) = (data.to_owned(), out.to_owned());
        blocking(move || back_up(&data, &out, deadlines, now, on_progress)).await
    }

    /// Restores the backup `from` into the folder `data`, which must be empty or missing.
    ///
    /// The folder gets no keyring: the first broker creates a new one, so every earlier token is
    /// invalid. The database records the restore, so that brokers refuse proofs from before it. It has
    /// the event of the restore, unless its format is from before events.
    pub async fn restore_folder(
        _: &OperatorAccess,
        from: &Path,
        data: &Path,
        kept: &Kept,
        on_progress: impl Fn(CopyProgress) + Send + 'static,
    ) -> Result<Restored, StoreError> {
        let (from, data, kept) = (from.to_owned(), data.to_owned(), kept.clone());
        blocking(move || restore::restore(&from, &data, &kept, on_progress)).await
    }
}

fn back_up(
    data: &Path,
    out: &Path,
    deadlines: EmbeddedDeadlines,
    now: i64,
    on_progress: impl Fn(CopyProgress),
) -> Result<BackedUp, StoreError> {
    let database = database(data)?;
    let folder = BackupFolder::open(out, copies::recorded_host(&database, deadlines)?.as_ref())?;
    let unfinished = folder.unfinished();
    let copy = temporary_in(&unfinished)?;
    // A publisher stores the archive before the record. So each archive that the copy names is in
    // the data folder by now, and nothing deletes an archive that a version names.
    copies::copy(&database, copy.path(), deadlines)?;
    let copied_database = copies::inspect(copy.path())?;
    let mut done = BackedUp {
        host: copied_database.host,
        format: copied_database.format,
        archives: 0,
        copied: 0,
        copied_bytes: 0,
    };
    let all = copied_database.named.len();
    for (at, named) in copied_database.named.iter().enumerate() {
        on_progress(CopyProgress { done: at, all });
        if let Some(format) = named.format {
            done.archives += 1;
            let path = archive_path(&named.sha256, format);
            let (from, to) = (data.join(&path), folder.path().join(&path));
            // An archive never changes, so a copy of this length is whole.
            let is_copied = |copy: fs::Metadata| copy.is_file() && copy.len() == named.bytes;
            if !fs::metadata(&to).is_ok_and(is_copied) {
                done.copied_bytes += copy_verified(&from, &to, &named.sha256, &unfinished, CURE)?;
                done.copied += 1;
            }
        }
        let path = metadata_path(&named.sha256);
        copy_metadata(&data.join(&path), &folder.path().join(&path), &unfinished, CURE)?;
    }
    on_progress(CopyProgress { done: all, all });
    let (sha256, bytes) = digest_of(copy.path())?;
    let file = DatabaseFile { sha256, bytes, format: done.format, taken_at: now };
    folder.finish(copy, done.host.as_ref(), file)?;
    Ok(done)
}
