//! A store in one folder: a SQLite database, archives named by digest, and a keyring file.

use std::path::{Path, PathBuf};

use super::Store;
use crate::blobs::{Blobs, Disk};
use crate::files;
use crate::keys::{KeyFile, Keys, TEMPORARY_PREFIX};
use crate::records::{Migrated, Records, Sqlite};
use crate::{EmbeddedDeadlines, StoreError};

/// The file name of the database.
const DATABASE: &str = "stile.sqlite3";

/// The file name of the keyring.
const KEYRING: &str = "keyring.json";

/// The parts of a data folder that [`Store::init_folder`] created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderCreated {
    /// Whether it created the folder.
    pub folder: bool,
    /// Whether it created the database.
    pub database: bool,
}

impl Store {
    /// Creates the missing parts of the folder, readable only by its owner. It is safe to repeat.
    pub fn init_folder(
        folder: &Path,
        deadlines: EmbeddedDeadlines,
    ) -> Result<FolderCreated, StoreError> {
        let folder_is_new = !folder.exists();
        Disk::init(folder)?;
        let database = Sqlite::init(&folder.join(DATABASE), deadlines)?;
        Ok(FolderCreated { folder: folder_is_new, database })
    }

    /// Returns what [`Store::open_folder`] does to the format of the folder's database, without doing it.
    pub fn pending_migration(
        folder: &Path,
        deadlines: EmbeddedDeadlines,
    ) -> Result<Migrated, StoreError> {
        Sqlite::pending_migration(&database(folder)?, deadlines)
    }

    /// Opens an existing folder, and migrates its database to this program's format.
    ///
    /// It does not create a folder, so a mistyped path never becomes a new, empty registry.
    pub fn open_folder(folder: &Path, deadlines: EmbeddedDeadlines) -> Result<Self, StoreError> {
        let records = Sqlite::open(&database(folder)?, deadlines)?;
        files::delete_abandoned(folder, TEMPORARY_PREFIX);
        Ok(Self {
            records: Records::Sqlite(records),
            blobs: Blobs::Disk(Disk::open(folder)),
            keys: Keys::File(KeyFile::new(folder.join(KEYRING), deadlines)),
            audience: None,
        })
    }
}

/// Returns the path of the folder's database, if the folder has one.
fn database(folder: &Path) -> Result<PathBuf, StoreError> {
    let database = folder.join(DATABASE);
    if database.is_file() {
        return Ok(database);
    }
    Err(StoreError::misconfigured(format!(
        "`{0}` is not a data folder; hint: create one with `stile-admin store init --data {0}`",
        folder.display()
    )))
}
