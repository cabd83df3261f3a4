//! Brings the tables of the SQLite database to this program's format: ordered migrations, each of which only adds.
//!
//! `PRAGMA user_version` counts the migrations that a database has: its format. Each migration N also writes the row
//! `oldest reader of N` into `meta`: the oldest format whose programs may still use the database. After a migration that
//! only adds, every older program goes on beside a newer one. After one that takes something away, it refuses. A format
//! without such a row is refused too. The first release reads neither number, and `meta.schema` stays 1 for it.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use rusqlite_migration::{HookResult, M, Migrations};

use super::database_error;
use crate::StoreError;

/// The schema that every program so far reads and writes.
const SCHEMA: i64 = 1;

/// The tables of the first release. They are created only where they are missing, since that release did not count.
const FIRST: &str = "
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS grants (
  principal TEXT NOT NULL, namespace TEXT NOT NULL, permissions INTEGER NOT NULL, expires_at INTEGER,
  created_by TEXT NOT NULL, created_at INTEGER NOT NULL, folded TEXT NOT NULL,
  PRIMARY KEY (principal, namespace)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS grants_by_namespace ON grants (namespace);
CREATE INDEX IF NOT EXISTS grants_by_folded ON grants (folded);

CREATE TABLE IF NOT EXISTS pins (principal TEXT PRIMARY KEY, unique_id TEXT) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS proofs (signature_digest BLOB PRIMARY KEY, keep_until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS proofs_by_keep_until ON proofs (keep_until);

CREATE TABLE IF NOT EXISTS revoked_tokens (jti TEXT PRIMARY KEY, keep_until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revoked_principals (principal TEXT PRIMARY KEY, revoked_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS modules (
  namespace TEXT NOT NULL, name TEXT NOT NULL, system TEXT NOT NULL, versions_document TEXT NOT NULL, latest TEXT NOT NULL, latest_at INTEGER NOT NULL,
  PRIMARY KEY (namespace, name, system)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS module_versions (
  namespace TEXT NOT NULL, name TEXT NOT NULL, system TEXT NOT NULL, version TEXT NOT NULL,
  sha256 TEXT NOT NULL, format TEXT NOT NULL, bytes INTEGER NOT NULL, published_by TEXT NOT NULL, published_at INTEGER NOT NULL,
  PRIMARY KEY (namespace, name, system, version)
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO meta (name, value) VALUES ('schema', 1);
";

/// `registry_records` holds what a registry has one of: the host it is for, and the sealed keyring.
const UPLOADS_AND_SEALED_KEYS: &str = "
CREATE TABLE IF NOT EXISTS uploads (
  id TEXT PRIMARY KEY, principal TEXT NOT NULL, address TEXT NOT NULL, version TEXT NOT NULL,
  format TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, complete_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS registry_records (
  name TEXT PRIMARY KEY, revision INTEGER NOT NULL, record TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Programs of every format so far can use this one.
const NAMESPACES: &str = "
CREATE TABLE IF NOT EXISTS namespaces (
  namespace TEXT PRIMARY KEY, created_by TEXT NOT NULL, created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO meta (name, value) VALUES ('oldest reader of 3', 1);
";

/// In order. A migration that a release had is never changed again; a new one is added at the end. Each must be safe to
/// repeat, because two processes may start at once.
fn migrations() -> Migrations<'static> {
    Migrations::new(vec![
        M::up(FIRST),
        M::up_with_hook(UPLOADS_AND_SEALED_KEYS, |transaction: &Transaction<'_>| {
            add_column(transaction, "module_versions", "object_version")?;
            add_column(transaction, "grants", "crit")
        }),
        M::up(NAMESPACES),
    ])
}

/// How many migrations this program knows: the format it reads and writes.
pub(crate) const FORMAT: i64 = 3;

/// What a migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The format before.
    pub from: i64,
    /// The format now.
    pub to: i64,
}

/// Makes the tables of an empty database, and brings any other to this program's format.
pub(super) fn create(connection: &mut Connection) -> Result<(), StoreError> {
    let empty: bool = connection
        .query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
        .map_err(database_error)?;
    if !empty {
        check(connection)?;
    }
    migrate(connection).map(drop)
}

/// The format of a database; an error where this program cannot read it. Guessing could lose what is in it.
pub(super) fn check(connection: &Connection) -> Result<i64, StoreError> {
    let made = "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'meta'";
    if !connection.query_row(made, [], |row| row.get(0)).map_err(database_error)? {
        return Err(StoreError::corrupt(
            "the database was not made by this program, or has lost all that was in it",
        ));
    }
    let schema: Option<i64> = connection
        .query_row("SELECT value FROM meta WHERE name = 'schema'", [], |row| row.get(0))
        .optional()
        .map_err(database_error)?;
    match schema {
        Some(SCHEMA) => {}
        Some(other) => {
            return Err(StoreError::corrupt(format!(
                "the database has schema {other}, and this program reads schema {SCHEMA} only; hint: run a newer release"
            )));
        }
        None => return Err(StoreError::corrupt("the database was not made by this program")),
    }
    let format: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(database_error)?;
    if format > FORMAT && oldest_reader(connection, format)?.is_none_or(|oldest| oldest > FORMAT) {
        return Err(StoreError::corrupt(format!(
            "the database has format {format}, and this program reads formats up to {FORMAT}; hint: run a newer release"
        )));
    }
    Ok(format)
}

/// The oldest format whose programs may use the database; `None` if the database does not say.
fn oldest_reader(connection: &Connection, format: i64) -> Result<Option<i64>, StoreError> {
    let name = format!("oldest reader of {format}");
    connection
        .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
        .optional()
        .map_err(database_error)
}

/// Brings the database to this program's format, in one transaction. It does not change a newer one.
pub(super) fn migrate(connection: &mut Connection) -> Result<Migrated, StoreError> {
    let format = |connection: &Connection| {
        connection
            .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
            .map_err(database_error)
    };
    let from = format(connection)?;
    if from > FORMAT {
        return Ok(Migrated { from, to: from });
    }
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
    let done = migrations().to_latest(connection);
    connection.set_transaction_behavior(TransactionBehavior::Deferred);
    done.map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => database_error(err),
        other => StoreError::unavailable("the database cannot be migrated", other),
    })?;
    Ok(Migrated { from, to: format(connection)? })
}

/// Adds a column of text that may be null, unless it is there.
fn add_column(transaction: &Transaction<'_>, table: &str, column: &str) -> HookResult {
    let there: bool = transaction.query_row(
        "SELECT count(*) > 0 FROM pragma_table_info(?1) WHERE name = ?2",
        [table, column],
        |row| row.get(0),
    )?;
    if !there {
        transaction.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} TEXT"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::params;

    use super::*;

    #[test]
    fn the_format_is_the_number_of_migrations_and_each_can_be_repeated() {
        let mut connection = Connection::open_in_memory().unwrap();
        create(&mut connection).unwrap();
        assert_eq!(check(&connection).unwrap(), FORMAT);
        connection.pragma_update(None, "user_version", 0).unwrap();
        assert_eq!(migrate(&mut connection).unwrap(), Migrated { from: 0, to: FORMAT });
        assert_eq!(migrate(&mut connection).unwrap(), Migrated { from: FORMAT, to: FORMAT });
    }

    #[test]
    fn a_database_of_a_newer_program_is_refused_with_both_versions() {
        let mut connection = Connection::open_in_memory().unwrap();
        create(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let refused = check(&connection).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "the database has format 99, and this program reads formats up to {FORMAT}; hint: run a newer release"
            )
        );
        connection.execute("INSERT INTO meta VALUES ('oldest reader of 99', 98)", []).unwrap();
        assert_eq!(check(&connection).unwrap_err().to_string(), refused.to_string());
        connection.pragma_update(None, "user_version", FORMAT).unwrap();
        connection.execute("UPDATE meta SET value = 2 WHERE name = 'schema'", []).unwrap();
        assert!(check(&connection).unwrap_err().to_string().contains("schema 2"));
    }

    #[test]
    fn a_database_of_a_newer_program_is_used_unchanged_if_it_says_that_this_format_may() {
        let mut connection = Connection::open_in_memory().unwrap();
        create(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", FORMAT + 1).unwrap();
        connection
            .execute(
                "INSERT INTO meta VALUES (?1, ?2)",
                params![format!("oldest reader of {}", FORMAT + 1), FORMAT],
            )
            .unwrap();
        assert_eq!(check(&connection).unwrap(), FORMAT + 1);
        let unchanged = Migrated { from: FORMAT + 1, to: FORMAT + 1 };
        assert_eq!(migrate(&mut connection).unwrap(), unchanged);
        create(&mut connection).unwrap();
    }
}
