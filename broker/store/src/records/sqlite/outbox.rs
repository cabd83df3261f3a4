//! Events that a destination has not got yet, one row for each event and destination, and a row for
//! each destination that says who may send.

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params};
use stile_core::version_event::VersionEvent;
use stile_protocol::names::Namespace;

use super::{Sqlite, number, rows, sql_number, text};
use crate::outgoing::SendingState;
use crate::records::outbox::report_unreadable;
use crate::{Delivery, Destination, StoreError};

impl Sqlite {
    /// Counts the events that wait for a destination, of one namespace or of all, up to `limit`.
    pub(crate) async fn count_waiting(
        &self,
        destination: &Destination,
        namespace: Option<&Namespace>,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let destination = destination.key();
        // `!` is the first character after the space, and no key has one after `~`.
        let (first, end) = match namespace {
            Some(namespace) => (format!("{namespace} "), format!("{namespace}!")),
            None => (String::new(), "~".to_owned()),
        };
        self.read(move |connection| {
            let sql = "SELECT 1 FROM outbox \
                       WHERE destination = ?1 AND key >= ?2 AND key < ?3 LIMIT ?4";
            let values = params![destination, first, end, sql_number(limit)];
            Ok(rows(connection, sql, values)?.len())
        })
        .await
    }

    /// Returns at most `limit` events that wait for a destination, in order of key, from the first
    /// one after `after` on.
    pub(crate) async fn waiting(
        &self,
        destination: &Destination,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        let (destination, mut after) = (destination.clone(), after.to_owned());
        self.read(move |connection| {
            let sql = "SELECT key, event, kind, body, created_at FROM outbox \
                       WHERE destination = ?1 AND key > ?2 ORDER BY key LIMIT ?3";
            let mut waiting = Vec::new();
            // It reads again in place of rows that it cannot read.
            loop {
                let wanted = limit.saturating_sub(waiting.len());
                let values = params![destination.key(), after, sql_number(wanted)];
                let found = rows(connection, sql, values)?;
                let Some(last) = found.last().and_then(|row| text(row.first())) else { break };
                last.clone_into(&mut after);
                for row in &found {
                    match read(&destination, row) {
                        Some(delivery) => waiting.push(delivery),
                        None => report_unreadable(&destination),
                    }
                }
                if waiting.len() >= limit || found.len() < wanted {
                    break;
                }
            }
            Ok(waiting)
        })
        .await
    }

    /// Returns how the last attempts to send to each destination ended. `None` for one whose state
    /// this program cannot read.
    pub(crate) async fn sending_states(
        &self,
        destinations: &[Destination],
    ) -> Result<Vec<Option<SendingState>>, StoreError> {
        let destinations = destinations.to_vec();
        self.read(move |connection| {
            destinations.iter().map(|destination| state_of(connection, destination)).collect()
        })
        .await
    }
}

/// Returns how the last attempts to send to a destination ended. `None` if this program cannot read
/// it.
pub(super) fn state_of(
    connection: &Connection,
    destination: &Destination,
) -> Result<Option<SendingState>, StoreError> {
    let sql = "SELECT revision, failures, failing_since, not_before, reached, gone_at \
               FROM sending WHERE destination = ?1";
    let found = rows(connection, sql, [destination.key()])?;
    Ok(found.first().map_or_else(|| Some(SendingState::default()), |row| read_state(row)))
}

/// Adds an event for one destination. [`read`] reads it.
pub(super) fn add(transaction: &Transaction<'_>, delivery: &Delivery) -> rusqlite::Result<()> {
    let event = &delivery.event;
    transaction
        .prepare_cached(
            "INSERT INTO outbox (destination, key, event, kind, body, created_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            delivery.destination.key(),
            delivery.key(),
            event.id,
            event.kind,
            event.body,
            event.at
        ])
        .map(drop)
}

pub(super) fn remove(transaction: &Transaction<'_>, delivery: &Delivery) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM outbox WHERE destination = ?1 AND key = ?2")?
        .execute(params![delivery.destination.key(), delivery.key()])
        .map(drop)
}

/// Deletes the events of all destinations that are older than `forget_before`.
pub(super) fn forget(transaction: &Transaction<'_>, forget_before: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM outbox WHERE created_at < ?1")?
        .execute([forget_before])
        .map(drop)
}

/// Puts the state of a destination. [`read_state`] reads it.
pub(super) fn put_state(
    transaction: &Transaction<'_>,
    destination: &Destination,
    state: &SendingState,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO sending \
             (destination, revision, failures, failing_since, not_before, reached, gone_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             ON CONFLICT (destination) DO UPDATE SET revision = excluded.revision, \
             failures = excluded.failures, failing_since = excluded.failing_since, \
             not_before = excluded.not_before, reached = excluded.reached, \
             gone_at = excluded.gone_at",
        )?
        .execute(params![
            destination.key(),
            state.revision,
            state.failures,
            state.failing_since,
            state.not_before,
            state.reached,
            state.gone_at
        ])
        .map(drop)
}

fn read(destination: &Destination, row: &[Value]) -> Option<Delivery> {
    let (namespace, _) = text(row.first())?.split_once(' ')?;
    let event = VersionEvent {
        id: text(row.get(1))?.to_owned(),
        namespace: namespace.parse().ok()?,
        kind: text(row.get(2))?.to_owned(),
        body: text(row.get(3))?.to_owned(),
        at: number(row.get(4))?,
    };
    Some(Delivery { destination: destination.clone(), event })
}

fn read_state(row: &[Value]) -> Option<SendingState> {
    let optional = |value: &Value| match value {
        Value::Null => Some(None),
        at => number(Some(at)).map(Some),
    };
    Some(SendingState {
        revision: number(row.first())?,
        failures: number(row.get(1))?.try_into().ok()?,
        failing_since: optional(row.get(2)?)?,
        not_before: number(row.get(3))?,
        reached: text(row.get(4))?.to_owned(),
        gone_at: optional(row.get(5)?)?,
    })
}
