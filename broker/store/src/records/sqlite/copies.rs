//! Copies a database for a backup, reads what a copy names, and records a restore in it.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};
use stile_core::audit::{Chain, Kept, Outcome, link};
use stile_core::package::{Format, is_sha256};
use stile_protocol::audience::Audience;

use super::package_tables::PROVIDER_FILES;
use super::{FLAGS, audit, database_error, migrations, number, open, rows, single, text};
use crate::records::audit::alarm_about;
use crate::records::model::OBJECT_FORMAT;
use crate::{EmbeddedDeadlines, StoreError, StoreErrorKind};

/// The row of `meta` with the time of the restore. Programs of earlier releases ignore it.
const RESTORED_AT: &str = "restored at";

/// The first format with audit events.
const FIRST_WITH_EVENTS: i64 = 8;

/// The first format in which a version can have no archive.
const FIRST_WITH_ORIGIN: i64 = 6;

/// The first format with providers.
const FIRST_WITH_PROVIDERS: i64 = 10;

/// What a copy of a database contains, as far as a backup depends on it.
#[derive(Debug)]
pub(crate) struct CopiedDatabase {
    /// The format: the number of its migrations.
    pub(crate) format: i64,
    /// The registry that it is for, if one is recorded.
    pub(crate) host: Option<Audience>,
    /// Every archive that a version names.
    pub(crate) named: Vec<NamedArchive>,
}

/// An archive that a version names.
#[derive(Debug)]
pub(crate) struct NamedArchive {
    /// SHA-256 in lower-case hexadecimal.
    pub(crate) sha256: String,
    /// The format. `None` for an object of another bucket, of which only metadata is in the folder.
    pub(crate) format: Option<Format>,
    /// The length of the archive.
    pub(crate) bytes: u64,
}

/// Returns the registry that a database is for, if one is recorded. It migrates nothing.
pub(crate) fn recorded_host(
    database: &Path,
    deadlines: EmbeddedDeadlines,
) -> Result<Option<Audience>, StoreError> {
    let connection = open(database, deadlines)?;
    let format = migrations::check(&connection)?;
    host(&connection, format)
}

/// Copies a database, as it is at one moment, into an existing and empty file. Other programs can
/// write to the database meanwhile. The copy has the same format.
///
/// The copy has no side files, and none of the content that was deleted before.
pub(crate) fn copy(
    database: &Path,
    to: &Path,
    deadlines: EmbeddedDeadlines,
) -> Result<(), StoreError> {
    let path = to.to_str().filter(|path| path.starts_with('/')).ok_or_else(|| {
        StoreError::misconfigured(format!(
            "the path `{}` is not valid UTF-8; hint: name another folder",
            to.display()
        ))
    })?;
    let connection = open(database, deadlines)?;
    migrations::check(&connection)?;
    connection.execute("VACUUM INTO ?1", [path]).map(drop).map_err(|error| {
        let kind = database_error(error);
        StoreError::new(
            kind.kind(),
            format!("cannot copy the database `{}` to `{}`", database.display(), to.display()),
        )
        .caused_by(kind)
    })
}

/// Reads a copy of a database.
///
/// # Errors
///
/// [`StoreErrorKind::Corrupt`], if this program does not know all
/// records of the copy that can name an archive.
pub(crate) fn inspect(copy: &Path) -> Result<CopiedDatabase, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(copy, flags).map_err(database_error)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(database_error)?;
    let format = migrations::check(&connection)?;
    if format > migrations::FORMAT {
        return Err(StoreError::corrupt(format!(
            "the database has format {format}, and this program knows the archives of formats up to {} only; hint: use the `stile-admin` of the newer release",
            migrations::FORMAT
        )));
    }
    Ok(CopiedDatabase {
        format,
        host: host(&connection, format)?,
        named: named(&connection, format)?,
    })
}

/// Returns the registry that the database is for. The first format has no table for it.
fn host(connection: &Connection, format: i64) -> Result<Option<Audience>, StoreError> {
    let table = "SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'registry_records'";
    let there: bool = connection.query_row(table, [], |row| row.get(0)).map_err(database_error)?;
    if format < 2 && !there { Ok(None) } else { single::host(connection) }
}

fn named(connection: &Connection, format: i64) -> Result<Vec<NamedArchive>, StoreError> {
    let all = "SELECT DISTINCT sha256, format, bytes FROM module_versions";
    let mut found = if format < FIRST_WITH_ORIGIN {
        rows(connection, all, [])?
    } else {
        let sql = format!("{all} WHERE origin IS NULL OR format = ?1");
        rows(connection, &sql, [OBJECT_FORMAT])?
    };
    if format >= FIRST_WITH_PROVIDERS {
        // The same file can belong to a module, or to several versions.
        let sql = format!("SELECT DISTINCT sha256, format, bytes FROM ({PROVIDER_FILES})");
        let files = rows(connection, &sql, [])?;
        found.extend(files.into_iter().filter(|file| !found.contains(file)).collect::<Vec<_>>());
    }
    let read = |row: &Vec<Value>| {
        let format = text(row.get(1))?;
        Some(NamedArchive {
            sha256: text(row.first()).filter(|sha256| is_sha256(sha256))?.to_owned(),
            format: match format {
                OBJECT_FORMAT => None,
                format => Some(Format::from_extension(format)?),
            },
            bytes: number(row.get(2))?.try_into().ok()?,
        })
    };
    let unreadable = || StoreError::corrupt("cannot read a version in the database");
    found.iter().map(read).collect::<Option<_>>().ok_or_else(unreadable)
}

/// Records in a copy of that format that it is the database of a registry that was restored at that
/// time, with the event of the restore if the format has events. A damaged chain of events gets none,
/// and stays as it is, with an alarm: it must not make a backup worthless.
///
/// The file needs no side file afterwards.
pub(crate) fn record_restored(copy: &Path, format: i64, kept: &Kept) -> Result<(), StoreError> {
    let mut connection = Connection::open_with_flags(copy, FLAGS).map_err(database_error)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(database_error)?;
    let transaction = connection.transaction().map_err(database_error)?;
    let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
    transaction.execute(sql, params![RESTORED_AT, kept.at()]).map_err(database_error)?;
    if format >= FIRST_WITH_EVENTS {
        keep_event(&transaction, kept)?;
    }
    transaction.commit().map_err(database_error)?;
    connection.close().map_err(|(_, error)| database_error(error))
}

fn keep_event(transaction: &Transaction<'_>, kept: &Kept) -> Result<(), StoreError> {
    let chain = Chain::Operator;
    let damage = match audit::head(transaction, &chain) {
        Ok(before) => {
            let (link, after) = link(&before, kept, Outcome::Created);
            if !audit::has(transaction, &chain, link.seq)? {
                return audit::append(transaction, &link, &after).map_err(database_error);
            }
            StoreError::corrupt(format!("event {} is after the head of the chain", link.seq))
        }
        Err(error) if error.kind() == StoreErrorKind::Corrupt => error,
        Err(error) => return Err(error),
    };
    alarm_about(&chain, &damage);
    Ok(())
}

/// Returns when the database was restored, in Unix seconds. `None` if it was not.
pub(super) fn restored_at(connection: &Connection) -> Result<Option<i64>, StoreError> {
    connection
        .query_row("SELECT value FROM meta WHERE name = ?1", [RESTORED_AT], |row| row.get(0))
        .optional()
        .map_err(database_error)
}

#[cfg(test)]
mod tests {
    use stile_core::audit::{Event, Kind};

    use super::*;

    #[test]
    fn a_damaged_chain_of_events_stays_as_it_is_and_stops_no_restore() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a");
        super::super::Sqlite::init(&database, EmbeddedDeadlines::default()).unwrap();
        let kept = |at| Kept::new(&Event::new(Kind::Store), at);
        let events = || -> i64 {
            let connection = Connection::open(&database).unwrap();
            let sql = "SELECT count(*) FROM audit_events";
            connection.query_row(sql, [], |row| row.get(0)).unwrap()
        };
        record_restored(&database, migrations::FORMAT, &kept(6)).unwrap();
        assert_eq!(events(), 1);
        for (at, damage) in [
            (7, "INSERT INTO audit_events VALUES ('*', 2, 1, '{}', x'00')"),
            (8, "UPDATE audit_heads SET hash = x'00'"),
        ] {
            Connection::open(&database).unwrap().execute_batch(damage).unwrap();
            record_restored(&database, migrations::FORMAT, &kept(at)).unwrap();
            let connection = Connection::open(&database).unwrap();
            assert_eq!(restored_at(&connection).unwrap(), Some(at), "{damage}");
            assert_eq!(events(), 2, "{damage}");
        }
    }

    #[test]
    fn a_copy_has_the_format_of_its_database_and_needs_no_migration() {
        let folder = tempfile::tempdir().unwrap();
        let (database, to) = (folder.path().join("a"), folder.path().join("b"));
        let deadlines = EmbeddedDeadlines::default();
        super::super::Sqlite::init(&database, deadlines).unwrap();
        let connection = Connection::open(&database).unwrap();
        for format in [migrations::FORMAT, 3] {
            connection.pragma_update(None, "user_version", format).unwrap();
            std::fs::write(&to, "").unwrap();
            copy(&database, &to, deadlines).unwrap();
            assert_eq!(inspect(&to).unwrap().format, format);
            assert_eq!(
                migrations::check(&connection).unwrap(),
                format,
                "the database is as it was"
            );
        }
        let kept = Kept::new(&Event::new(Kind::Store), 7);
        record_restored(&to, 3, &kept).unwrap();
        assert_eq!(restored_at(&Connection::open(&to).unwrap()).unwrap(), Some(7));
        assert_eq!(restored_at(&connection).unwrap(), None);
        let names = || std::fs::read_dir(folder.path()).unwrap();
        assert!(
            names().all(|entry| !entry.unwrap().file_name().to_str().unwrap().starts_with("b-"))
        );
    }

    #[test]
    fn a_version_with_a_malformed_digest_or_format_is_never_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a");
        super::super::Sqlite::init(&database, EmbeddedDeadlines::default()).unwrap();
        let connection = Connection::open(&database).unwrap();
        let good = "ab".repeat(32);
        for (sha256, format) in [("../../etc/passwd", "zip"), (good.as_str(), "../x")] {
            connection.execute("DELETE FROM module_versions", []).unwrap();
            let sql = "INSERT INTO module_versions (namespace, name, system, version, sha256, format, bytes, published_by, published_at) \
                       VALUES ('a', 'b', 'c', '1.0.0', ?1, ?2, 3, 'x', 7)";
            connection.execute(sql, [sha256, format]).unwrap();
            assert!(inspect(&database).unwrap_err().to_string().contains("cannot read a version"));
        }
    }
}
