//! The store for one machine: a folder with SQLite, archives named by digest, and the keyring.
//!
//! Several processes may have it open at once. A crash at any moment loses nothing that was acknowledged: files are
//! written aside, synced and renamed before a row names them, and rows change in one synced transaction.

mod archives;
mod grants;
mod keyring_file;
mod mint;
mod modules;
mod revocations;
mod schema;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::Semaphore;

use crate::{EmbeddedDeadlines, StoreError, StoreErrorKind};

/// Bytes that must fit on the disk for the store to count as writable.
const ROOM: usize = 64 * 1024;

/// Writes of one process at once: the others wait here, and not on the connections that reads need.
const WRITERS: usize = 2;

/// Connections of one process.
const CONNECTIONS: u32 = 8;

/// An open data folder.
#[derive(Clone)]
pub struct Embedded {
    folder: Arc<PathBuf>,
    pool: Pool<SqliteConnectionManager>,
    writers: Arc<Semaphore>,
    deadlines: EmbeddedDeadlines,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Embedded").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// What [`Embedded::init`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// The folder was not there.
    pub folder: bool,
    /// The database was not there.
    pub database: bool,
}

impl Embedded {
    /// Makes what is missing of the folder, readable by its owner alone; safe to repeat.
    pub fn init(folder: &Path, deadlines: EmbeddedDeadlines) -> Result<Made, StoreError> {
        let made_folder = !folder.exists();
        let failed = |error: std::io::Error| {
            StoreError::unavailable(format!("`{}` cannot be made", folder.display()), error)
        };
        for path in [folder.to_path_buf(), folder.join("archives"), folder.join("incoming")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        }
        let database = folder.join(DATABASE);
        let made_database = !database.exists();
        if made_database {
            fs::OpenOptions::new().create(true).append(true).open(&database).map_err(failed)?;
            fs::set_permissions(&database, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        }
        let mut connection = Connection::open(&database).map_err(database_error)?;
        configure(&mut connection, deadlines).map_err(database_error)?;
        schema::create(&mut connection)?;
        Ok(Made { folder: made_folder, database: made_database })
    }

    /// Opens a folder that was made before; a mistyped path never becomes a new, empty registry.
    pub fn open(folder: &Path, deadlines: EmbeddedDeadlines) -> Result<Self, StoreError> {
        let database = folder.join(DATABASE);
        if !database.is_file() {
            return Err(StoreError::misconfigured(format!(
                "`{0}` is not a data folder; hint: make one with `stile-admin store init --data {0}`",
                folder.display()
            )));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        // Looked at directly first: the pool would go on trying, and say only that it has waited.
        let mut first = Connection::open_with_flags(&database, flags).map_err(database_error)?;
        configure(&mut first, deadlines).map_err(database_error)?;
        schema::check(&mut first)?;
        let manager = SqliteConnectionManager::file(&database)
            .with_flags(flags)
            .with_init(move |connection| configure(connection, deadlines));
        let pool = Pool::builder()
            .max_size(CONNECTIONS)
            .min_idle(Some(1))
            .connection_timeout(deadlines.connection)
            .build(manager)
            .map_err(|error| {
                StoreError::unavailable(format!("`{}` cannot be opened", database.display()), error)
            })?;
        let store = Self {
            folder: Arc::new(folder.to_path_buf()),
            pool,
            writers: Arc::new(Semaphore::new(WRITERS)),
            deadlines,
        };
        archives::sweep(&store.incoming(), "");
        archives::sweep(folder, keyring_file::ASIDE);
        Ok(store)
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a read and a write go through.
    pub(super) async fn health_check(&self) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction
                .execute("UPDATE meta SET value = value WHERE name = 'schema'", [])
                .map(drop)
                .map_err(database_error)
        })
        .await?;
        let folders = [self.incoming(), self.folder.join("archives")];
        blocking(move || {
            folders.iter().try_for_each(|folder| {
                let room = tempfile::NamedTempFile::new_in(folder)
                    .and_then(|mut file| file.write_all(&[0; ROOM]));
                room.map_err(|error| {
                    StoreError::unavailable(
                        format!("`{}` cannot be written", folder.display()),
                        error,
                    )
                })
            })
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        blocking(move || work(&*store.connection()?)).await
    }

    /// Runs one transaction; it is on disk when this returns, or it never was.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        // Not for ever: where the database is locked, each before us waits for as long as a writer may.
        let turn =
            tokio::time::timeout(self.deadlines.writer, Arc::clone(&self.writers).acquire_owned());
        let turn = turn.await.map_err(|_| StoreError::busy("too many wait to write"))?;
        blocking(move || {
            let _turn = turn;
            let mut connection = store.connection()?;
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(database_error)?;
            let done = work(&transaction)?;
            transaction.commit().map_err(database_error)?;
            Ok(done)
        })
        .await
    }

    fn connection(&self) -> Result<r2d2::PooledConnection<SqliteConnectionManager>, StoreError> {
        self.pool
            .get()
            .map_err(|error| StoreError::unavailable("the database does not answer", error))
    }
}

const DATABASE: &str = "stile.sqlite3";

/// `FULL`: in WAL mode a commit is synced, so what was acknowledged survives a crash of the machine as well.
fn configure(connection: &mut Connection, deadlines: EmbeddedDeadlines) -> rusqlite::Result<()> {
    connection.busy_timeout(deadlines.writer)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(())
}

fn database_error(error: rusqlite::Error) -> StoreError {
    use rusqlite::{Error, ErrorCode};
    let kind = match &error {
        Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreErrorKind::Busy,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreErrorKind::Corrupt,
            _ => StoreErrorKind::Unavailable,
        },
        // A column that somebody wrote by hand.
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..)
        | Error::InvalidColumnType(..) => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, "the database cannot be read or written").caused_by(error)
}

/// Works on a thread that may wait; what is logged there is the request's that asked for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let request = tracing::Span::current();
    tokio::task::spawn_blocking(move || request.in_scope(work))
        .await
        .map_err(|error| StoreError::unavailable("the store's work was cut off", error))?
}
