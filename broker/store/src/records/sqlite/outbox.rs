//! Events that a destination has not got yet, one row for each event and destination.

use rusqlite::types::Value;
use rusqlite::{Transaction, params};

use super::{Sqlite, number, rows, sql_number, text};
use crate::{Delivery, Destination, StoreError};

impl Sqlite {
    /// Returns at most `limit` events that are due for a destination, those that are due for longest
    /// first.
    pub(crate) async fn due_deliveries(
        &self,
        destination: &Destination,
        now: i64,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        let destination = destination.clone();
        self.read(move |connection| {
            let sql = "SELECT event, kind, body, created_at, attempts, due_at FROM outbox \
                       WHERE destination = ?1 AND due_at <= ?2 ORDER BY due_at, event LIMIT ?3";
            let name = destination_name(&destination);
            let found = rows(connection, sql, params![name, now, sql_number(limit)])?;
            let unreadable = || StoreError::corrupt("cannot read an event in the database");
            let read = |row: &Vec<Value>| read(&destination, row);
            found.iter().map(read).collect::<Option<_>>().ok_or_else(unreadable)
        })
        .await
    }
}

/// Adds an event for one destination. [`read`] reads it.
pub(super) fn add(transaction: &Transaction<'_>, delivery: &Delivery) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO outbox (destination, event, kind, body, created_at, attempts, due_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            destination_name(&delivery.destination),
            delivery.event,
            delivery.kind,
            delivery.body,
            delivery.created_at,
            delivery.attempts,
            delivery.due_at,
        ])
        .map(drop)
}

pub(super) fn remove(transaction: &Transaction<'_>, delivery: &Delivery) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM outbox WHERE destination = ?1 AND event = ?2")?
        .execute(params![destination_name(&delivery.destination), delivery.event])
        .map(drop)
}

/// Sets when a broker tries again. It does nothing if another broker has done so since the read.
pub(super) fn retry(
    transaction: &Transaction<'_>,
    before: &Delivery,
    due_at: i64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE outbox SET attempts = attempts + 1, due_at = ?4 \
             WHERE destination = ?1 AND event = ?2 AND due_at = ?3",
        )?
        .execute(params![
            destination_name(&before.destination),
            before.event,
            before.due_at,
            due_at
        ])
        .map(drop)
}

/// Deletes the events for a destination, or those for all that are older than `forget_before`.
pub(super) fn forget(
    transaction: &Transaction<'_>,
    destination: Option<&Destination>,
    forget_before: i64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM outbox WHERE created_at < ?1 OR destination = ?2")?
        .execute(params![forget_before, destination.map(destination_name)])
        .map(drop)
}

fn destination_name(destination: &Destination) -> String {
    let Destination::Webhook(id) = destination;
    format!("webhook {id}")
}

fn read(destination: &Destination, row: &[Value]) -> Option<Delivery> {
    Some(Delivery {
        destination: destination.clone(),
        event: text(row.first())?.to_owned(),
        kind: text(row.get(1))?.to_owned(),
        body: text(row.get(2))?.to_owned(),
        created_at: number(row.get(3))?,
        attempts: number(row.get(4))?.try_into().ok()?,
        due_at: number(row.get(5))?,
    })
}
