//! Refused exchanges, one item for each. The table deletes them after their time.

use stile_core::refused_exchange::{REFUSED_EXCHANGE_RETENTION, RefusedExchange};
use stile_protocol::request_id::RequestId;

use super::DynamoDb;
use super::attributes::{number, read_number, read_text, text};
use super::table::{Key, TTL, Write};
use crate::StoreError;

impl DynamoDb {
    /// Returns the time and the text of a refused exchange.
    pub(crate) async fn refused_exchange(
        &self,
        id: &RequestId,
    ) -> Result<Option<(i64, String)>, StoreError> {
        let row = self.row(&key(id)).await?;
        Ok(row.and_then(|row| {
            Some((read_number(&row, "refused_at")?, read_text(&row, "record")?.to_owned()))
        }))
    }
}

/// Returns the write that adds a refused exchange.
pub(super) fn add(refused: &RefusedExchange) -> Write {
    let until = refused.at.saturating_add(REFUSED_EXCHANGE_RETENTION);
    let row = [
        ("refused_at", number(refused.at)),
        ("record", text(refused.to_text())),
        (TTL, number(until)),
    ];
    Write::put(key(&refused.request_id), row)
}

fn key(id: &RequestId) -> Key {
    Key::new(format!("refused {id}"), "exchange")
}
