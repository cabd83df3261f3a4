//! The folder of a backup. One run writes to it at a time, and its manifest changes last.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use stile_protocol::audience::Audience;

use super::copying::{TEMPORARY_PREFIX, cannot_write, place, temporary_in};
use super::manifest::{DATABASE_PREFIX, DatabaseFile, Manifest, database_name};
use crate::{StoreError, files};

/// The file of the lock. A run that writes has it alone, and restores share it.
const LOCK: &str = "backup.lock";

/// The folder for temporary files.
const UNFINISHED: &str = "unfinished";

/// A backup that this process writes to.
#[derive(Debug)]
pub(super) struct BackupFolder {
    path: PathBuf,
    /// The previous finished backup.
    previous: Option<DatabaseFile>,
    _lock: File,
}

impl BackupFolder {
    /// Opens the backup of a registry in a folder, and creates the folder if it is missing.
    ///
    /// It deletes the temporary files of a killed run.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Misconfigured`](crate::StoreErrorKind::Misconfigured), if the folder
    /// contains something else, or the backup of another registry.
    pub(super) fn open(path: &Path, host: Option<&Audience>) -> Result<Self, StoreError> {
        files::reject_writable_by_others(path)?;
        if Manifest::read(path)?.is_none() {
            reject_others(path)?;
        }
        let unfinished = path.join(UNFINISHED);
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(&unfinished);
        created.map_err(|error| cannot_write(path, error))?;
        // SQLite treats a relative path that begins with `file:` as a URL.
        let path = path.canonicalize().map_err(|error| cannot_write(path, error))?;
        let lock = lock_alone(&path)?;
        let previous = match Manifest::read(&path)? {
            Some(manifest) => {
                check_host(&path, manifest.host.as_deref(), host)?;
                manifest.database
            }
            None => {
                // From now on, a folder of a killed run is the backup of this registry.
                Manifest::new(host, None).write(&path, temporary_in(&path.join(UNFINISHED))?)?;
                None
            }
        };
        let folder = Self { path, previous, _lock: lock };
        folder.delete_unfinished();
        Ok(folder)
    }

    /// Returns the path of the folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the folder for temporary files.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.path.join(UNFINISHED)
    }

    /// Makes a copied database, and all archives that were copied before, the finished backup.
    ///
    /// The previous backup is whole until the manifest is replaced, which is the last change.
    pub(super) fn finish(
        self,
        copy: tempfile::NamedTempFile,
        host: Option<&Audience>,
        database: DatabaseFile,
    ) -> Result<(), StoreError> {
        place(copy, &self.path.join(database_name(&database.sha256)))?;
        let kept = database.name();
        let manifest = Manifest::new(host, Some(database));
        manifest.write(&self.path, temporary_in(&self.unfinished())?)?;
        self.delete_databases_except(&kept);
        Ok(())
    }

    fn delete_unfinished(&self) {
        delete(&self.unfinished(), TEMPORARY_PREFIX, "");
        let kept = self.previous.as_ref().map(DatabaseFile::name).unwrap_or_default();
        self.delete_databases_except(&kept);
    }

    fn delete_databases_except(&self, kept: &str) {
        delete(&self.path, DATABASE_PREFIX, kept);
    }
}

/// Deletes the files in a folder whose name starts with the prefix, except one. A file that cannot
/// be deleted only takes space.
fn delete(folder: &Path, prefix: &str, except: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(prefix) && name != except);
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Rejects a folder without a manifest that contains anything but the first files of a backup.
fn reject_others(path: &Path) -> Result<(), StoreError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot_write(path, error)),
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    let names: BTreeSet<_> =
        names.collect::<io::Result<_>>().map_err(|error| cannot_write(path, error))?;
    if names.iter().all(|name| name == LOCK || name == UNFINISHED) {
        return Ok(());
    }
    Err(StoreError::misconfigured(format!(
        "the folder `{}` is not empty, and it is not a backup; hint: name a new folder",
        path.display()
    )))
}

fn check_host(
    path: &Path,
    recorded: Option<&str>,
    host: Option<&Audience>,
) -> Result<(), StoreError> {
    let host = host.map(Audience::as_str);
    if recorded.is_none() || recorded == host {
        return Ok(());
    }
    let shown = |host: Option<&str>| {
        host.map_or("no registry".to_owned(), |host| format!("registry `{host}`"))
    };
    Err(StoreError::misconfigured(format!(
        "the backup in `{}` is of {}, and the data folder is for {}; hint: name another folder",
        path.display(),
        shown(recorded),
        shown(host)
    )))
}

fn lock_alone(path: &Path) -> Result<File, StoreError> {
    let failed = |error: io::Error| cannot_write(&path.join(LOCK), error);
    let lock = files::open_lock(&path.join(LOCK)).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(busy(path)),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Takes the lock of a restore. `None` if the backup has no file for it.
pub(super) fn lock_shared(path: &Path) -> Result<Option<File>, StoreError> {
    let failed = |error: io::Error| {
        StoreError::unavailable(format!("cannot lock `{}`", path.join(LOCK).display()), error)
    };
    let lock = match File::open(path.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(busy(path)),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn busy(path: &Path) -> StoreError {
    StoreError::busy(format!(
        "another program uses the backup in `{}`; hint: wait for its end, and try again",
        path.display()
    ))
}
