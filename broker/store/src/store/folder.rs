//! A store in one folder: a SQLite database, archives named by digest, and a keyring file.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::Store;
use super::head_signer::HeadSigner;
use super::listed_versions::ListedVersions;
use crate::blobs::{Blobs, Disk, SourceBuckets};
use crate::files;
use crate::keys::{
    AuditKey, AuditKeyFile, KeyFile, Keys, reject_other_owner, reject_other_owner_of_audit_key,
};
use crate::records::{Migrated, Records, Sqlite};
use crate::{AwsDeadlines, EmbeddedDeadlines, StoreError};

/// The file name of the database.
pub(super) const DATABASE: &str = "stile.sqlite3";

/// The file name of the keyring.
const KEYRING: &str = "keyring.json";

/// The files of the database. SQLite creates the last two next to the first.
const DATABASE_FILES: [&str; 3] = [DATABASE, "stile.sqlite3-wal", "stile.sqlite3-shm"];

/// The parts of a data folder that no other user may change. The keyring has a check of its own.
const PARTS: [&str; 5] =
    ["archives", "incoming", DATABASE, "stile.sqlite3-wal", "stile.sqlite3-shm"];

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
        require_access(folder)?;
        reject_unsafe(folder)?;
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
        let calls = records.calls().clone();
        Ok(Self {
            restored_at: records.restored_at(),
            records: Records::Sqlite(records),
            blobs: Blobs::Disk(Disk::open(folder, deadlines)),
            keys: Keys::File(KeyFile::new(folder.join(KEYRING), deadlines)),
            source_buckets: SourceBuckets::ambient(AwsDeadlines::within(deadlines.writer), &calls),
            calls,
            listed_versions: ListedVersions::default(),
            head_signer: HeadSigner::new(AuditKey::File(AuditKeyFile::new(folder))),
            audience: None,
        })
    }

    /// Returns the same store with another reserve of free disk space, in bytes. Uploads leave the
    /// reserve to all other writes. A store on AWS has none.
    #[must_use]
    pub fn with_disk_reserve(self, reserve: u64) -> Self {
        Self { blobs: self.blobs.with_disk_reserve(reserve), ..self }
    }
}

/// Rejects a data folder in which users other than its owner can change something, or whose database
/// or keyring belongs to another user. They could create grants, or replace archives and keys.
fn reject_unsafe(folder: &Path) -> Result<(), StoreError> {
    files::reject_writable_by_others(folder)?;
    for part in PARTS {
        files::reject_writable_by_others(&folder.join(part))?;
    }
    for file in DATABASE_FILES {
        files::check_owner(&folder.join(file), "check its grants and modules")?;
    }
    reject_other_owner_of_audit_key(folder)?;
    reject_other_owner(&folder.join(KEYRING))
}

/// Fails if this process has no permission to open the data folder and its database. Both may be
/// missing.
fn require_access(folder: &Path) -> Result<(), StoreError> {
    files::require_access(folder, Access::EXEC_OK)?;
    DATABASE_FILES.iter().try_for_each(|file| {
        files::require_access(&folder.join(file), Access::READ_OK | Access::WRITE_OK)
    })
}

/// Returns the path of the folder's database, if the folder has one that no other user can change.
pub(super) fn database(folder: &Path) -> Result<PathBuf, StoreError> {
    let database = folder.join(DATABASE);
    require_access(folder)?;
    match fs::metadata(&database) {
        Ok(metadata) if metadata.is_file() => {
            reject_unsafe(folder)?;
            Ok(database)
        }
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(StoreError::unavailable(format!("cannot read `{}`", database.display()), error))
        }
        _ => Err(StoreError::misconfigured(format!(
            "`{0}` is not a data folder; hint: create one with `stile-admin store init --data {0}`",
            folder.display()
        ))),
    }
}
