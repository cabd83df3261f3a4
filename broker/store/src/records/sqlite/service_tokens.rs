//! Service tokens, one row for each, and their last use.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use stile_core::service_token::ServiceToken;
use stile_core::token::TokenId;

use super::{Sqlite, number, rows, text};
use crate::StoreError;
use crate::records::service_tokens::ServiceTokenRecord;

/// Selects what [`record`] reads.
const SELECT: &str =
    "SELECT id, record, day FROM service_tokens LEFT JOIN service_token_uses USING (id)";

impl Sqlite {
    /// Returns the record of a service token.
    pub(crate) async fn service_token(
        &self,
        id: &TokenId,
    ) -> Result<Option<ServiceTokenRecord>, StoreError> {
        let id = id.clone();
        self.read(move |connection| {
            let sql = format!("{SELECT} WHERE id = ?1");
            Ok(rows(connection, &sql, [id.as_str()])?.iter().find_map(|row| record(row)))
        })
        .await
    }

    /// Returns the records of all service tokens.
    pub(crate) async fn service_tokens(&self) -> Result<Vec<ServiceTokenRecord>, StoreError> {
        self.read(|connection| {
            Ok(rows(connection, SELECT, [])?.iter().filter_map(|row| record(row)).collect())
        })
        .await
    }
}

/// Returns the text of a record.
pub(super) fn text_of(connection: &Connection, id: &TokenId) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT record FROM service_tokens WHERE id = ?1")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()
}

pub(super) fn add(transaction: &Transaction<'_>, token: &ServiceToken) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT INTO service_tokens (id, record) VALUES (?1, ?2)")?
        .execute(params![token.id().as_str(), token.to_text()])
        .map(drop)
}

pub(super) fn change(
    transaction: &Transaction<'_>,
    id: &TokenId,
    record: &str,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE service_tokens SET record = ?2 WHERE id = ?1")?
        .execute(params![id.as_str(), record])
        .map(drop)
}

pub(super) fn delete(transaction: &Transaction<'_>, id: &TokenId) -> rusqlite::Result<()> {
    for table in ["service_tokens", "service_token_uses"] {
        transaction
            .prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?
            .execute([id.as_str()])?;
    }
    Ok(())
}

pub(super) fn record_use(
    transaction: &Transaction<'_>,
    id: &TokenId,
    day: i64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO service_token_uses (id, day) VALUES (?1, ?2) \
             ON CONFLICT (id) DO UPDATE SET day = max(day, excluded.day)",
        )?
        .execute(params![id.as_str(), day])
        .map(drop)
}

/// A row whose id cannot be read belongs to no token that a client could send.
fn record(row: &[Value]) -> Option<ServiceTokenRecord> {
    Some(ServiceTokenRecord {
        id: TokenId::parse(text(row.first())?)?,
        text: text(row.get(1)).unwrap_or_default().to_owned(),
        last_used: number(row.get(2)),
    })
}
