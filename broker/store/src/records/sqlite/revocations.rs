//! Revocations as rows.

use rusqlite::Connection;
use rusqlite::types::Value;
use serde_json::{Map, Value as Json};

use super::{Sqlite, database_error, number, revision, rows, text};
use crate::StoreError;
use crate::records::model::RevocationRecords;

impl Sqlite {
    /// Returns all revocations.
    pub(crate) async fn revocations(&self) -> Result<RevocationRecords, StoreError> {
        self.read(|connection| {
            let snapshot = connection.unchecked_transaction().map_err(database_error)?;
            all(&snapshot)
        })
        .await
    }
}

/// Returns all revocations as they are now.
pub(super) fn all(connection: &Connection) -> Result<RevocationRecords, StoreError> {
    let tokens = rows(connection, "SELECT jti, keep_until FROM revoked_tokens", [])?;
    let principals = rows(connection, "SELECT principal, revoked_at FROM revoked_principals", [])?;
    Ok(RevocationRecords {
        revision: revision(tokens.iter().chain(&principals)),
        tokens: tokens.iter().map(|row| entry(row)).collect(),
        principals: principals.iter().map(|row| entry(row)).collect(),
        unknown: Map::new(),
    })
}

fn entry(row: &[Value]) -> (Json, i64) {
    let name = text(row.first()).map_or(Json::Null, Json::from);
    (name, number(row.get(1)).unwrap_or_default())
}
