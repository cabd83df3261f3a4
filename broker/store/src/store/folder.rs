//! A store in one folder: a SQLite database, archives named by digest, and the keyring in a file.

use std::path::{Path, PathBuf};

use super::Store;
use crate::blobs::{Blobs, Disk};
use crate::files;
use crate::keys::{ASIDE, KeyFile, Keys};
use crate::records::{Migrated, Records, Sqlite};
use crate::{EmbeddedDeadlines, StoreError};

/// The name of the database.
const DATABASE: &str = "stile.sqlite3";

/// The name of the keyring.
const KEYRING: &str = "keyring.json";

/// What [`Store::init_folder`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// The folder was not there.
    pub folder: bool,
    /// The database was not there.
    pub database: bool,
}

impl Store {
    /// Makes what is missing of the folder, readable by its owner only; safe to repeat.
    pub fn init_folder(folder: &Path, deadlines: EmbeddedDeadlines) -> Result<Made, StoreError> {
        let made_folder = !folder.exists();
        Disk::init(folder)?;
        let database = Sqlite::init(&folder.join(DATABASE), deadlines)?;
        Ok(Made { folder: made_folder, database })
    }

    /// Returns what [`Store::open_folder`] does to the format of the folder's database, without doing it.
    pub fn pending_migration(
        folder: &Path,
        deadlines: EmbeddedDeadlines,
    ) -> Result<Migrated, StoreError> {
        Sqlite::pending_migration(&database(folder)?, deadlines)
    }

    /// Opens a folder that was made before, and brings its database to this program's format; a mistyped path never
    /// becomes a new, empty registry.
    pub fn open_folder(folder: &Path, deadlines: EmbeddedDeadlines) -> Result<Self, StoreError> {
        let records = Sqlite::open(&database(folder)?, deadlines)?;
        files::sweep(folder, ASIDE);
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
        "`{0}` is not a data folder; hint: make one with `stile-admin store init --data {0}`",
        folder.display()
    )))
}
