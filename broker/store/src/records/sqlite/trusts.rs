//! Trusts as rows.

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params};
use stile_core::principal::{LocalName, UniqueId};
use stile_core::trust::LiveTrust;

use super::{Sqlite, number, rows, text};
use crate::StoreError;
use crate::records::trust_record::{FoundTrust, TrustRecord};

/// The `SELECT` of the columns that [`found`] reads.
const SELECT: &str = "SELECT name, id, revision, record FROM trusts";

impl Sqlite {
    /// Returns all trusts, in order of name.
    pub(crate) async fn trusts(&self) -> Result<Vec<FoundTrust>, StoreError> {
        self.read(|connection| {
            let sql = format!("{SELECT} ORDER BY name");
            Ok(rows(connection, &sql, [])?.iter().map(|row| found(row)).collect())
        })
        .await
    }

    /// Returns one trust.
    pub(crate) async fn trust(&self, name: &LocalName) -> Result<Option<FoundTrust>, StoreError> {
        let name = name.clone();
        self.read(move |connection| trust_of(connection, name.as_str())).await
    }
}

/// Returns the trust of this name.
pub(super) fn trust_of(
    connection: &Connection,
    name: &str,
) -> Result<Option<FoundTrust>, StoreError> {
    let sql = format!("{SELECT} WHERE name = ?1");
    Ok(rows(connection, &sql, [name])?.first().map(|row| found(row)))
}

/// Returns what a decision needs to know of the trust of this name.
pub(super) fn live(connection: &Connection, name: &str) -> Result<Option<LiveTrust>, StoreError> {
    trust_of(connection, name)?.map(|found| found.live(name)).transpose()
}

/// Returns whether the trust of this name has this id, and this revision, if one is given.
pub(super) fn is_still(
    connection: &Connection,
    name: &LocalName,
    id: &UniqueId,
    revision: Option<i64>,
) -> Result<bool, StoreError> {
    let found = trust_of(connection, name.as_str())?;
    Ok(found.is_some_and(|found| {
        found.id.as_ref() == Some(id) && (revision.is_none() || found.revision == revision)
    }))
}

/// Adds or replaces a trust. [`found`] reads it.
pub(super) fn put(transaction: &Transaction<'_>, record: &TrustRecord) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO trusts (name, id, revision, record) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, record = excluded.record",
        )?
        .execute(params![record.name.as_str(), record.id.as_str(), record.revision, record.text])
        .map(drop)
}

fn found(row: &[Value]) -> FoundTrust {
    FoundTrust {
        name: text(row.first()).and_then(|name| name.parse().ok()),
        id: text(row.get(1)).and_then(UniqueId::parse),
        revision: number(row.get(2)),
        text: text(row.get(3)).map(str::to_owned),
    }
}
