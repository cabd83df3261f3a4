//! Service tokens, one item for each, all in one partition. Their last use is in another partition, which
//! each broker writes.

use std::collections::HashMap;

use stile_core::service_token::{MAX_LIFE, ServiceToken};
use stile_core::token::TokenId;

use super::DynamoDb;
use super::attributes::{Row, number, read_number, read_text, text};
use super::table::{Key, SK, TTL, Write};
use crate::StoreError;
use crate::records::service_tokens::ServiceTokenRecord;

/// The partition of all service tokens.
const ALL: &str = "service tokens";

/// The partition of their last use.
const USES: &str = "service token uses";

/// The seconds of a day.
const DAY: i64 = 24 * 3600;

impl DynamoDb {
    /// Returns the record of a service token, in one call.
    pub(crate) async fn service_token(
        &self,
        id: &TokenId,
    ) -> Result<Option<ServiceTokenRecord>, StoreError> {
        let (token, used) = (key(id), use_key(id));
        let found = self.rows(&[token.clone(), used.clone()]).await?;
        let last_used = found.get(&used).and_then(|row| read_number(row, "day"));
        Ok(found.get(&token).map(|row| ServiceTokenRecord {
            id: id.clone(),
            text: read_text(row, "record").unwrap_or_default().to_owned(),
            last_used,
        }))
    }

    /// Returns the records of all service tokens.
    pub(crate) async fn service_tokens(&self) -> Result<Vec<ServiceTokenRecord>, StoreError> {
        let mut uses = HashMap::new();
        self.query(USES, "", |row| {
            uses.extend(row.and_then(|row| Some((id_of(&row)?, read_number(&row, "day")?))));
            false
        })
        .await?;
        let mut found = Vec::new();
        self.query(ALL, "", |row| {
            // A row of a newer format has an id that nobody can read here.
            found.extend(row.and_then(|row| {
                let id = id_of(&row)?;
                let text = read_text(&row, "record").unwrap_or_default().to_owned();
                Some(ServiceTokenRecord { last_used: uses.get(&id).copied(), id, text })
            }));
            false
        })
        .await?;
        Ok(found)
    }
}

/// Returns the write that adds a token.
pub(super) fn add(token: &ServiceToken) -> Write {
    Write::put(key(token.id()), [("record", text(token.to_text()))]).only_if_absent()
}

/// Returns the write that replaces a record, if it has not changed since the read.
pub(super) fn change(id: &TokenId, before: &str, after: &str) -> Write {
    Write::update(key(id), "SET #record = :after")
        .only_if("#record = :before")
        .name("#record", "record")
        .value(":after", text(after))
        .value(":before", text(before))
}

/// Returns the write that deletes a token. The table forgets its last use later.
pub(super) fn delete(id: &TokenId) -> Write {
    Write::delete(key(id)).only_if("attribute_exists(pk)")
}

/// Returns the write that records the day of a token's last use.
pub(super) fn record_use(id: &TokenId, day: i64) -> Write {
    let until = day.saturating_mul(DAY).saturating_add(MAX_LIFE);
    Write::put(use_key(id), [("day", number(day)), (TTL, number(until))])
}

fn key(id: &TokenId) -> Key {
    Key::new(ALL, id.as_str())
}

fn use_key(id: &TokenId) -> Key {
    Key::new(USES, id.as_str())
}

fn id_of(row: &Row) -> Option<TokenId> {
    TokenId::parse(read_text(row, SK)?)
}
