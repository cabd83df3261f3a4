//! Records in a SQLite database on one machine. Several processes can open it at the same time.
//!
//! A commit is one synced transaction, so an acknowledged change survives a crash of the machine.

mod audit;
mod caller;
mod commit;
pub(crate) mod copies;
mod grants;
pub(crate) mod migrations;
mod namespaces;
mod outbox;
mod package_state;
mod package_tables;
mod packages;
mod providers;
mod refused_exchanges;
mod revocations;
mod service_tokens;
mod signed_heads;
mod single;
mod trusts;
mod uploads;
mod usage;
mod webhooks;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::audit::ChainTurns;
use super::model::Revision;
use crate::blocking::blocking;
use crate::{EmbeddedDeadlines, Service, ServiceCalls, StoreError, StoreErrorKind};

/// Maximum number of concurrent writes of one process. Other writers wait for a permit, so they do
/// not occupy the connections that reads need.
const WRITERS: usize = 2;

/// Maximum number of connections of one process.
const CONNECTIONS: u32 = 8;

/// An open database.
#[derive(Clone)]
pub struct Sqlite {
    database: Arc<PathBuf>,
    pool: Pool<SqliteConnectionManager>,
    writers: Arc<Semaphore>,
    deadlines: EmbeddedDeadlines,
    restored_at: Option<i64>,
    calls: ServiceCalls,
    chain_turns: ChainTurns,
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sqlite").field("database", &self.database).finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Creates the database if it is missing, readable only by its owner. Returns whether it did.
    pub(crate) fn init(database: &Path, deadlines: EmbeddedDeadlines) -> Result<bool, StoreError> {
        let failed = |error: std::io::Error| {
            StoreError::unavailable(format!("cannot create `{}`", database.display()), error)
        };
        let is_new = !database.exists();
        if is_new {
            fs::OpenOptions::new().create(true).append(true).open(database).map_err(failed)?;
            fs::set_permissions(database, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        }
        let mut connection = Connection::open(database).map_err(database_error)?;
        configure(&mut connection, deadlines).map_err(database_error)?;
        migrations::create(&mut connection)?;
        Ok(is_new)
    }

    /// Returns what [`Sqlite::open`] does to the format of a database, without doing it.
    pub(crate) fn pending_migration(
        database: &Path,
        deadlines: EmbeddedDeadlines,
    ) -> Result<migrations::Migrated, StoreError> {
        let from = migrations::check(&open(database, deadlines)?)?;
        Ok(migrations::Migrated { from, to: from.max(migrations::FORMAT) })
    }

    /// Opens an existing database, and migrates it to this program's format.
    pub(crate) fn open(database: &Path, deadlines: EmbeddedDeadlines) -> Result<Self, StoreError> {
        // Open it directly first: the pool would try again and again, and report only a timeout.
        let mut first = open(database, deadlines)?;
        migrations::check(&first)?;
        let migrated = migrations::migrate(&mut first)?;
        if migrated.from != migrated.to {
            tracing::info!(
                database = %database.display(),
                from = migrated.from,
                to = migrated.to,
                "migrated the database to this program's format; the previous release can still read it"
            );
        }
        let restored_at = copies::restored_at(&first)?;
        let manager = SqliteConnectionManager::file(database)
            .with_flags(FLAGS)
            .with_init(move |connection| configure(connection, deadlines));
        let pool = Pool::builder()
            .max_size(CONNECTIONS)
            .min_idle(Some(1))
            .connection_timeout(deadlines.connection)
            .build(manager)
            .map_err(|error| {
                StoreError::unavailable(format!("cannot open `{}`", database.display()), error)
            })?;
        Ok(Self {
            database: Arc::new(database.to_path_buf()),
            pool,
            writers: Arc::new(Semaphore::new(WRITERS)),
            deadlines,
            restored_at,
            calls: ServiceCalls::default(),
            chain_turns: ChainTurns::default(),
        })
    }

    /// Returns the turns of this process to append to chains of events.
    pub(crate) const fn chain_turns(&self) -> &ChainTurns {
        &self.chain_turns
    }

    /// Returns the name of the database, for messages.
    pub(crate) fn name(&self) -> String {
        format!("database `{}`", self.database.display())
    }

    /// Returns when the database was restored from a backup, in Unix seconds. That is before any
    /// program opens it, so the time does not change.
    pub(crate) const fn restored_at(&self) -> Option<i64> {
        self.restored_at
    }

    /// Returns the count of reads and writes.
    pub(crate) const fn calls(&self) -> &ServiceCalls {
        &self.calls
    }

    /// Checks that a read and a write succeed.
    pub(crate) async fn health_check(&self) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction
                .execute("UPDATE meta SET value = value WHERE name = 'schema'", [])
                .map(drop)
                .map_err(database_error)
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let read = blocking(move || work(&*store.connection()?));
        self.calls.measure(Service::Sqlite, "read", read).await
    }

    /// Runs one transaction. After a success, the transaction is on disk. After an error, it has no
    /// effect.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.calls.measure(Service::Sqlite, "write", self.commit_one(work)).await
    }

    async fn commit_one<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        // The wait has a limit: while the database is locked, each earlier writer waits until its
        // own deadline.
        let permit =
            tokio::time::timeout(self.deadlines.writer, Arc::clone(&self.writers).acquire_owned());
        let permit =
            permit.await.map_err(|_| StoreError::busy("too many writers wait for the database"))?;
        blocking(move || {
            let _permit = permit;
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

const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

fn open(database: &Path, deadlines: EmbeddedDeadlines) -> Result<Connection, StoreError> {
    let mut connection = Connection::open_with_flags(database, FLAGS).map_err(database_error)?;
    configure(&mut connection, deadlines).map_err(database_error)?;
    Ok(connection)
}

/// Configures a connection. In WAL mode, `FULL` syncs each commit, so an acknowledged change
/// survives a crash of the machine.
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
        // A column with a value that this program did not write.
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..)
        | Error::InvalidColumnType(..) => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, "cannot read or write the database").caused_by(error)
}

/// Returns a digest of the rows as their revision. The tables have no column for one, because older
/// programs would not increase it.
fn revision<'a>(rows: impl IntoIterator<Item = &'a Vec<Value>>) -> Revision {
    let mut digest = Sha256::new();
    for row in rows {
        digest.update(format!("{row:?}\n"));
    }
    let digest: [u8; 32] = digest.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    Revision(i64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

/// Returns every row of a query, with each value as it is stored.
fn rows(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<Vec<Value>>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
    let columns = statement.column_count();
    let rows = statement
        .query_map(values, |row| (0..columns).map(|at| row.get::<_, Value>(at)).collect())
        .map_err(database_error)?;
    rows.collect::<rusqlite::Result<_>>().map_err(database_error)
}

fn text(value: Option<&Value>) -> Option<&str> {
    match value {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

fn number(value: Option<&Value>) -> Option<i64> {
    match value {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    }
}

/// Converts a number of bytes or rows, which is within the range of a column.
fn sql_number(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
