//! The tables, and which version of them a database has.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::{StoreError, database_error};

/// The version this program writes.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
  principal TEXT NOT NULL, namespace TEXT NOT NULL, permissions INTEGER NOT NULL, expires_at INTEGER,
  created_by TEXT NOT NULL, created_at INTEGER NOT NULL, folded TEXT NOT NULL,
  PRIMARY KEY (principal, namespace)
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_by_namespace ON grants (namespace);
CREATE INDEX grants_by_folded ON grants (folded);

CREATE TABLE pins (principal TEXT PRIMARY KEY, unique_id TEXT) STRICT, WITHOUT ROWID;

CREATE TABLE proofs (signature_digest BLOB PRIMARY KEY, keep_until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX proofs_by_keep_until ON proofs (keep_until);

CREATE TABLE revoked_tokens (jti TEXT PRIMARY KEY, keep_until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE revoked_principals (principal TEXT PRIMARY KEY, revoked_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE modules (
  namespace TEXT NOT NULL, name TEXT NOT NULL, system TEXT NOT NULL, versions_document TEXT NOT NULL, latest TEXT NOT NULL, latest_at INTEGER NOT NULL,
  PRIMARY KEY (namespace, name, system)
) STRICT, WITHOUT ROWID;

CREATE TABLE module_versions (
  namespace TEXT NOT NULL, name TEXT NOT NULL, system TEXT NOT NULL, version TEXT NOT NULL,
  sha256 TEXT NOT NULL, format TEXT NOT NULL, bytes INTEGER NOT NULL, published_by TEXT NOT NULL, published_at INTEGER NOT NULL,
  PRIMARY KEY (namespace, name, system, version)
) STRICT, WITHOUT ROWID;

INSERT INTO meta (name, value) VALUES ('schema', 1);
";

/// Makes the tables where there are none.
pub(super) fn create(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(database_error)?;
    let empty = transaction
        .query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
        .map_err(database_error)?;
    if empty {
        transaction.execute_batch(TABLES).map_err(database_error)?;
    }
    transaction.commit().map_err(database_error)?;
    check(connection)
}

/// Refuses a database that another version of this program made; guessing could lose what is in it.
pub(super) fn check(connection: &mut Connection) -> Result<(), StoreError> {
    let made = "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'meta'";
    if !connection.query_row(made, [], |row| row.get(0)).map_err(database_error)? {
        return Err(StoreError::corrupt(
            "the database was not made by this program, or has lost all that was in it",
        ));
    }
    let version: Option<i64> = connection
        .query_row("SELECT value FROM meta WHERE name = 'schema'", [], |row| row.get(0))
        .optional()
        .map_err(database_error)?;
    match version {
        Some(VERSION) => Ok(()),
        Some(other) => Err(StoreError::corrupt(format!(
            "the database has schema {other}, and this program knows schema {VERSION} alone"
        ))),
        None => Err(StoreError::corrupt("the database was not made by this program")),
    }
}
