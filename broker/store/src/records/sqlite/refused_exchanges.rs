//! Refused exchanges, one row for each. A write deletes those that are too old, and all but the newest.

use rusqlite::{Transaction, params};
use stile_core::refused_exchange::RefusedExchange;
use stile_protocol::request_id::RequestId;

use super::{Sqlite, number, rows, text};
use crate::StoreError;
use crate::records::refused_exchanges::KEPT_REFUSED_EXCHANGES;

impl Sqlite {
    /// Returns the time and the text of a refused exchange.
    pub(crate) async fn refused_exchange(
        &self,
        id: &RequestId,
    ) -> Result<Option<(i64, String)>, StoreError> {
        let id = id.clone();
        self.read(move |connection| {
            let sql = "SELECT refused_at, record FROM refused_exchanges WHERE request_id = ?1";
            let row = rows(connection, sql, [id.as_str()])?.pop();
            Ok(row.and_then(|row| Some((number(row.first())?, text(row.get(1))?.to_owned()))))
        })
        .await
    }
}

/// Adds a refused exchange.
pub(super) fn add(
    transaction: &Transaction<'_>,
    refused: &RefusedExchange,
    forget_before: i64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM refused_exchanges WHERE refused_at < ?1")?
        .execute([forget_before])?;
    // A new row has the highest number, so the number also says which rows are the newest.
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO refused_exchanges (request_id, refused_at, record) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![refused.request_id.as_str(), refused.at, refused.to_text()])?;
    transaction
        .prepare_cached(
            "DELETE FROM refused_exchanges \
             WHERE number <= (SELECT max(number) FROM refused_exchanges) - ?1",
        )?
        .execute([KEPT_REFUSED_EXCHANGES])
        .map(drop)
}
