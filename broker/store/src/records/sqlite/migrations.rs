//! Migrates the tables of the SQLite database to this program's format. The migrations are ordered,
//! and each only adds.
//!
//! `PRAGMA user_version` counts the migrations of a database: its format. Each migration N also
//! writes the row `oldest reader of N` into `meta`: the oldest format whose programs may still use
//! the database.
//!
//! After a migration that only adds, older programs continue to work next to a newer one. After one
//! that removes something, they reject the database. They also reject a format without such a row.
//! The first release reads neither number, and `meta.schema` stays 1 for it.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use rusqlite_migration::{HookResult, M, Migrations};

use super::database_error;
use crate::StoreError;

/// The schema that every release so far reads and writes.
const SCHEMA: i64 = 1;

/// The tables of the first release. It did not count migrations, so the tables can exist already.
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

/// `registry_records` holds the records of which a registry has one: its host, and the sealed
/// keyring.
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

/// `namespace_usage` counts the versions of each namespace. Triggers count, and refuse a version that
/// exceeds a limit, so the limits also hold for programs of earlier formats, which do not know them.
const LIMITS: &str = "
CREATE TABLE IF NOT EXISTS namespace_usage (
  namespace TEXT PRIMARY KEY, bytes INTEGER NOT NULL, versions INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT OR REPLACE INTO namespace_usage (namespace, bytes, versions)
  SELECT namespace, sum(bytes), count(*) FROM module_versions GROUP BY namespace;

CREATE TRIGGER IF NOT EXISTS version_exceeds_no_limit BEFORE INSERT ON module_versions
WHEN EXISTS (
  SELECT 1 FROM namespaces LEFT JOIN namespace_usage USING (namespace)
  WHERE namespaces.namespace = NEW.namespace
    AND (coalesce(bytes, 0) + NEW.bytes > max_bytes OR coalesce(versions, 0) + 1 > max_versions)
) BEGIN
  SELECT RAISE(ABORT, 'the version exceeds a limit of its namespace');
END;

CREATE TRIGGER IF NOT EXISTS version_is_counted AFTER INSERT ON module_versions BEGIN
  INSERT INTO namespace_usage (namespace, bytes, versions) VALUES (NEW.namespace, NEW.bytes, 1)
  ON CONFLICT (namespace) DO UPDATE SET bytes = bytes + excluded.bytes, versions = versions + 1;
END;

CREATE TRIGGER IF NOT EXISTS deleted_version_is_not_counted AFTER DELETE ON module_versions BEGIN
  UPDATE namespace_usage SET bytes = bytes - OLD.bytes, versions = versions - 1
  WHERE namespace = OLD.namespace;
END;

INSERT OR IGNORE INTO meta (name, value) VALUES ('oldest reader of 4', 1);
";

/// Programs of every format so far can use this one. They serve an unpublished version to a client
/// that knows its number, and do not list it.
const LIFE_AND_DOWNLOADS: &str = "
CREATE TABLE IF NOT EXISTS downloads (
  address TEXT NOT NULL, version TEXT NOT NULL, principal TEXT NOT NULL, day INTEGER NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (address, version, principal, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS downloads_by_day ON downloads (day);

CREATE TABLE IF NOT EXISTS deprecated_downloads (
  principal TEXT PRIMARY KEY, address TEXT NOT NULL, version TEXT NOT NULL, day INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO meta (name, value) VALUES ('oldest reader of 5', 1);
";

/// Programs of every format so far can use this one. They cannot read a version with a source, and
/// answer with an error for it.
const SOURCES: &str = "
INSERT OR IGNORE INTO meta (name, value) VALUES ('oldest reader of 6', 1);
";

/// Programs of every format so far can use this one. They keep no event, and send none.
///
/// A version with a source or an object has no bytes, so a limit of bytes no longer refuses it.
const EVENTS: &str = "
DROP TRIGGER IF EXISTS version_exceeds_no_limit;
CREATE TRIGGER version_exceeds_no_limit BEFORE INSERT ON module_versions
WHEN EXISTS (
  SELECT 1 FROM namespaces LEFT JOIN namespace_usage USING (namespace)
  WHERE namespaces.namespace = NEW.namespace
    AND (NEW.bytes > 0 AND coalesce(bytes, 0) + NEW.bytes > max_bytes OR coalesce(versions, 0) + 1 > max_versions)
) BEGIN
  SELECT RAISE(ABORT, 'the version exceeds a limit of its namespace');
END;

CREATE TABLE IF NOT EXISTS webhooks (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, url TEXT NOT NULL, secret TEXT NOT NULL,
  created_by TEXT NOT NULL, created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS outbox (
  destination TEXT NOT NULL, key TEXT NOT NULL, event TEXT NOT NULL, kind TEXT NOT NULL,
  body TEXT NOT NULL, created_at INTEGER NOT NULL,
  PRIMARY KEY (destination, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outbox_by_created_at ON outbox (created_at);

CREATE TABLE IF NOT EXISTS sending (
  destination TEXT PRIMARY KEY, revision INTEGER NOT NULL, failures INTEGER NOT NULL,
  failing_since INTEGER, not_before INTEGER NOT NULL, reached TEXT NOT NULL, gone_at INTEGER
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO meta (name, value) VALUES ('oldest reader of 7', 1);
";

/// Programs of every format so far can use this one. Their changes have no audit event.
const AUDIT: &str = "
CREATE TABLE IF NOT EXISTS audit_heads (
  chain TEXT PRIMARY KEY, seq INTEGER NOT NULL, hash BLOB NOT NULL, segment INTEGER NOT NULL,
  segment_first INTEGER NOT NULL, segment_started INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS audit_events (
  chain TEXT NOT NULL, seq INTEGER NOT NULL, segment INTEGER NOT NULL, body TEXT NOT NULL, hash BLOB NOT NULL,
  PRIMARY KEY (chain, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS audit_signed_heads (
  chain TEXT NOT NULL, seq INTEGER NOT NULL, record TEXT NOT NULL,
  PRIMARY KEY (chain, seq)
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO meta (name, value) VALUES ('oldest reader of 8', 1);
";

/// Programs of every format so far can use this one. They keep no refused exchange. `number` grows
/// with each row, so that a write can delete all but the newest.
const REFUSED_EXCHANGES: &str = "
CREATE TABLE IF NOT EXISTS refused_exchanges (
  number INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, refused_at INTEGER NOT NULL, record TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS refused_exchanges_by_time ON refused_exchanges (refused_at);

INSERT OR IGNORE INTO meta (name, value) VALUES ('oldest reader of 9', 1);
";

/// Programs of every format so far can use this one. They know no provider.
///
/// A version of a provider grows when a platform is added, so triggers also count and limit what an
/// update adds.
const PROVIDERS: &str = "
CREATE TABLE IF NOT EXISTS providers (
  namespace TEXT NOT NULL, type TEXT NOT NULL, versions_document TEXT NOT NULL, latest TEXT NOT NULL, latest_at INTEGER NOT NULL,
  PRIMARY KEY (namespace, type)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS provider_versions (
  namespace TEXT NOT NULL, type TEXT NOT NULL, version TEXT NOT NULL,
  sha256 TEXT NOT NULL, format TEXT NOT NULL, bytes INTEGER NOT NULL, published_by TEXT NOT NULL, published_at INTEGER NOT NULL,
  object_version TEXT, token_id TEXT, claimed TEXT, life TEXT, search TEXT, origin TEXT, release TEXT NOT NULL,
  PRIMARY KEY (namespace, type, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS signing_keys (
  namespace TEXT PRIMARY KEY, revision INTEGER NOT NULL, record TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS provider_files (
  address TEXT NOT NULL, version TEXT NOT NULL, platform TEXT NOT NULL, sha256 TEXT NOT NULL,
  revision INTEGER NOT NULL, record TEXT NOT NULL, keep_until INTEGER NOT NULL,
  PRIMARY KEY (address, version, platform, sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS provider_files_by_keep_until ON provider_files (keep_until);

CREATE TRIGGER IF NOT EXISTS provider_version_exceeds_no_limit BEFORE INSERT ON provider_versions
WHEN EXISTS (
  SELECT 1 FROM namespaces LEFT JOIN namespace_usage USING (namespace)
  WHERE namespaces.namespace = NEW.namespace
    AND (NEW.bytes > 0 AND coalesce(bytes, 0) + NEW.bytes > max_bytes OR coalesce(versions, 0) + 1 > max_versions)
) BEGIN
  SELECT RAISE(ABORT, 'the version exceeds a limit of its namespace');
END;

CREATE TRIGGER IF NOT EXISTS grown_provider_version_exceeds_no_limit BEFORE UPDATE OF bytes ON provider_versions
WHEN NEW.bytes > OLD.bytes AND EXISTS (
  SELECT 1 FROM namespaces LEFT JOIN namespace_usage USING (namespace)
  WHERE namespaces.namespace = NEW.namespace AND coalesce(bytes, 0) + NEW.bytes - OLD.bytes > max_bytes
) BEGIN
  SELECT RAISE(ABORT, 'the version exceeds a limit of its namespace');
END;

CREATE TRIGGER IF NOT EXISTS provider_version_is_counted AFTER INSERT ON provider_versions BEGIN
  INSERT INTO namespace_usage (namespace, bytes, versions) VALUES (NEW.namespace, NEW.bytes, 1)
  ON CONFLICT (namespace) DO UPDATE SET bytes = bytes + excluded.bytes, versions = versions + 1;
END;

CREATE TRIGGER IF NOT EXISTS grown_provider_version_is_counted AFTER UPDATE OF bytes ON provider_versions BEGIN
  UPDATE namespace_usage SET bytes = bytes + NEW.bytes - OLD.bytes WHERE namespace = NEW.namespace;
END;

CREATE TRIGGER IF NOT EXISTS deleted_provider_version_is_not_counted AFTER DELETE ON provider_versions BEGIN
  UPDATE namespace_usage SET bytes = bytes - OLD.bytes, versions = versions - 1
  WHERE namespace = OLD.namespace;
END;

INSERT OR REPLACE INTO namespace_usage (namespace, bytes, versions)
  SELECT namespace, sum(bytes), count(*) FROM (
    SELECT namespace, bytes FROM module_versions UNION ALL SELECT namespace, bytes FROM provider_versions
  ) GROUP BY namespace;

INSERT OR IGNORE INTO meta (name, value) VALUES ('oldest reader of 10', 1);
";

/// Programs of every format so far can use this one. They know no trust, and cannot read a grant to one,
/// so it allows nothing there.
const TRUSTS: &str = "
CREATE TABLE IF NOT EXISTS trusts (
  name TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL, record TEXT NOT NULL
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO meta (name, value) VALUES ('oldest reader of 11', 1);
";

/// Programs of every format so far can use this one. They know no service token, so these allow nothing
/// there.
const SERVICE_TOKENS: &str = "
CREATE TABLE IF NOT EXISTS service_tokens (
  id TEXT PRIMARY KEY, record TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS service_token_uses (
  id TEXT PRIMARY KEY, day INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO meta (name, value) VALUES ('oldest reader of 12', 1);
";

/// Returns all migrations in order. Never change a released migration; add a new one at the end.
/// Each must be safe to repeat, because two processes can start at the same time.
fn migrations() -> Migrations<'static> {
    Migrations::new(vec![
        M::up(FIRST),
        M::up_with_hook(UPLOADS_AND_SEALED_KEYS, |transaction: &Transaction<'_>| {
            add_column(transaction, "module_versions", "object_version", "TEXT")?;
            add_column(transaction, "grants", "crit", "TEXT")
        }),
        M::up(NAMESPACES),
        // The triggers need the columns, so the hook creates both.
        M::up_with_hook("", |transaction: &Transaction<'_>| {
            add_column(transaction, "namespaces", "max_bytes", "INTEGER")?;
            add_column(transaction, "namespaces", "max_versions", "INTEGER")?;
            add_column(transaction, "namespaces", "crit", "TEXT")?;
            Ok(transaction.execute_batch(LIMITS)?)
        }),
        M::up_with_hook(LIFE_AND_DOWNLOADS, |transaction: &Transaction<'_>| {
            for column in ["token_id", "claimed", "life", "search"] {
                add_column(transaction, "module_versions", column, "TEXT")?;
            }
            add_column(transaction, "uploads", "claimed", "TEXT")
        }),
        M::up_with_hook(SOURCES, |transaction: &Transaction<'_>| {
            add_column(transaction, "module_versions", "origin", "TEXT")?;
            add_column(transaction, "namespaces", "sources", "TEXT")
        }),
        M::up(EVENTS),
        M::up(AUDIT),
        M::up(REFUSED_EXCHANGES),
        M::up_with_hook(PROVIDERS, |transaction: &Transaction<'_>| {
            add_column(transaction, "uploads", "release", "TEXT")
        }),
        M::up(TRUSTS),
        M::up(SERVICE_TOKENS),
    ])
}

/// The number of migrations that this program knows: the format that it reads and writes.
pub(crate) const FORMAT: i64 = 12;

/// The result of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The format before the migration.
    pub from: i64,
    /// The format after the migration.
    pub to: i64,
}

/// Creates the tables of an empty database, and migrates any other database.
pub(super) fn create(connection: &mut Connection) -> Result<(), StoreError> {
    let empty: bool = connection
        .query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
        .map_err(database_error)?;
    if !empty {
        check(connection)?;
    }
    migrate(connection).map(drop)
}

/// Returns the format of a database. It is an error if this program cannot read the format, because
/// guessing could lose data.
pub(super) fn check(connection: &Connection) -> Result<i64, StoreError> {
    let has_meta = "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'meta'";
    if !connection.query_row(has_meta, [], |row| row.get(0)).map_err(database_error)? {
        return Err(StoreError::corrupt(
            "the database has no tables of Stile: another program created it, or it has lost its content",
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
        None => {
            return Err(StoreError::corrupt(
                "the database has no schema number, so another program created it",
            ));
        }
    }
    let format = format(connection)?;
    if format > FORMAT && oldest_reader(connection, format)?.is_none_or(|oldest| oldest > FORMAT) {
        return Err(StoreError::corrupt(format!(
            "the database has format {format}, and this program reads formats up to {FORMAT}; hint: run a newer release"
        )));
    }
    Ok(format)
}

/// Returns the format of a database: the number of its migrations.
pub(super) fn format(connection: &Connection) -> Result<i64, StoreError> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(database_error)
}

/// Returns the oldest format whose programs may use the database. `None` if the database does not
/// contain it.
fn oldest_reader(connection: &Connection, format: i64) -> Result<Option<i64>, StoreError> {
    let name = format!("oldest reader of {format}");
    connection
        .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
        .optional()
        .map_err(database_error)
}

/// Migrates the database to this program's format, in one transaction. It does not change a newer
/// database.
pub(super) fn migrate(connection: &mut Connection) -> Result<Migrated, StoreError> {
    let from = format(connection)?;
    if from > FORMAT {
        return Ok(Migrated { from, to: from });
    }
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
    let done = migrations().to_latest(connection);
    connection.set_transaction_behavior(TransactionBehavior::Deferred);
    done.map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => database_error(err),
        other => StoreError::unavailable("cannot migrate the database", other),
    })?;
    Ok(Migrated { from, to: format(connection)? })
}

/// Adds a column that may be null, unless the table has it.
fn add_column(
    transaction: &Transaction<'_>,
    table: &str,
    column: &str,
    of_type: &str,
) -> HookResult {
    let there: bool = transaction.query_row(
        "SELECT count(*) > 0 FROM pragma_table_info(?1) WHERE name = ?2",
        [table, column],
        |row| row.get(0),
    )?;
    if !there {
        transaction.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} {of_type}"))?;
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
    fn check_rejects_a_newer_format_and_names_both_formats() {
        let mut connection = Connection::open_in_memory().unwrap();
        create(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let rejected = check(&connection).unwrap_err();
        assert_eq!(
            rejected.to_string(),
            format!(
                "the database has format 99, and this program reads formats up to {FORMAT}; hint: run a newer release"
            )
        );
        connection.execute("INSERT INTO meta VALUES ('oldest reader of 99', 98)", []).unwrap();
        assert_eq!(check(&connection).unwrap_err().to_string(), rejected.to_string());
        connection.pragma_update(None, "user_version", FORMAT).unwrap();
        connection.execute("UPDATE meta SET value = 2 WHERE name = 'schema'", []).unwrap();
        assert!(check(&connection).unwrap_err().to_string().contains("schema 2"));
    }

    #[test]
    fn a_newer_database_that_permits_this_format_is_used_unchanged() {
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

    const VERSION: &str = "INSERT INTO module_versions \
         (namespace, name, system, version, sha256, format, bytes, published_by, published_at)";

    fn usage(connection: &Connection, namespace: &str) -> Option<(i64, i64)> {
        let sql = "SELECT bytes, versions FROM namespace_usage WHERE namespace = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        connection.query_row(sql, [namespace], read).optional().unwrap()
    }

    #[test]
    fn limits_hold_for_programs_of_an_earlier_format_and_count_what_they_published() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrations().to_version(&mut connection, 3).unwrap();
        let publish = |connection: &Connection, namespace: &str, version: i64, bytes: i64| {
            let sql = format!("{VERSION} VALUES (?1, 'vpc', 'aws', ?2, 'ab', 'zip', ?3, 'x', 7)");
            connection.execute(&sql, params![namespace, version.to_string(), bytes])
        };
        for (namespace, version, bytes) in [("acme", 1, 5), ("acme", 2, 6), ("acme-x", 1, 7)] {
            publish(&connection, namespace, version, bytes).unwrap();
        }
        connection.execute("INSERT INTO namespaces VALUES ('acme', 'x', 7)", []).unwrap();
        assert_eq!(migrate(&mut connection).unwrap(), Migrated { from: 3, to: FORMAT });
        assert_eq!(usage(&connection, "acme"), Some((11, 2)));
        assert_eq!(usage(&connection, "acme-x"), Some((7, 1)));
        for (limits, bytes, allowed) in [
            ("max_bytes = 20, max_versions = 2", 1, false),
            ("max_bytes = 20, max_versions = 0", 1, false),
            ("max_bytes = 20, max_versions = NULL", 10, false),
            ("max_bytes = 10, max_versions = 9", 1, false),
            ("max_bytes = 10, max_versions = 2", 0, false),
            ("max_bytes = 10, max_versions = 9", 0, true),
            ("max_bytes = NULL, max_versions = 2", 1, false),
            ("max_bytes = 20, max_versions = 3", 9, true),
            ("max_bytes = NULL, max_versions = NULL", 9, true),
        ] {
            connection.execute(&format!("UPDATE namespaces SET {limits}"), []).unwrap();
            let published = publish(&connection, "acme", 3, bytes);
            assert_eq!(published.is_ok(), allowed, "{limits} {bytes}: {published:?}");
            publish(&connection, "acme-x", 2, 100).unwrap();
            publish(&connection, "new", 1, 100).unwrap();
            connection.execute("DELETE FROM module_versions WHERE version = '3'", []).unwrap();
            connection.execute("DELETE FROM module_versions WHERE bytes = 100", []).unwrap();
            assert_eq!(usage(&connection, "acme"), Some((11, 2)), "{limits}");
        }
        let sql = "INSERT INTO provider_versions \
             (namespace, type, version, sha256, format, bytes, published_by, published_at, release) \
             VALUES ('acme', 'dns', '1.0.0', 'ab', 'provider', 3, 'x', 7, '{}')";
        connection.execute(sql, []).unwrap();
        assert_eq!(usage(&connection, "acme"), Some((14, 3)), "a version of a provider counts");
        connection.execute("UPDATE namespaces SET max_bytes = 16, max_versions = 3", []).unwrap();
        let grow =
            |bytes: i64| connection.execute("UPDATE provider_versions SET bytes = ?1", [bytes]);
        assert!(grow(6).is_err(), "it grows beyond the limit");
        grow(5).unwrap();
        assert_eq!(usage(&connection, "acme"), Some((16, 3)), "and counts what it grows by");
        connection.pragma_update(None, "user_version", 0).unwrap();
        migrate(&mut connection).unwrap();
        assert_eq!(usage(&connection, "acme"), Some((16, 3)), "a repeated migration counts once");
    }
}
