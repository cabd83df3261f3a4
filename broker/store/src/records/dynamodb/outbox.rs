//! Events that a destination has not got yet, one item for each event and destination, and an item
//! for each destination that says who may send.
//!
//! The items of a destination are in one partition, in the order of their keys.

use std::collections::HashMap;

use stile_core::version_event::VersionEvent;
use stile_protocol::names::Namespace;

use super::DynamoDb;
use super::attributes::{Row, number, read_number, read_text, text};
use super::table::{Key, SK, TTL, Write};
use crate::outgoing::SendingState;
use crate::records::outbox::{kept_until, report_unreadable};
use crate::{Delivery, Destination, StoreError};

impl DynamoDb {
    /// Counts the events that wait for a destination, of one namespace or of all, up to `limit`.
    pub(crate) async fn count_waiting(
        &self,
        destination: &Destination,
        namespace: Option<&Namespace>,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let prefix = namespace.map(|namespace| format!("{namespace} "));
        self.count_rows(&partition(destination), prefix.as_deref(), limit).await
    }

    /// Returns at most `limit` events that wait for a destination, in order of key, from the first
    /// one after `after` on.
    pub(crate) async fn waiting(
        &self,
        destination: &Destination,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut waiting = Vec::new();
        self.query_after(&partition(destination), after, limit, |row| {
            match row.as_ref().and_then(|row| read(destination, row)) {
                Some(delivery) => waiting.push(delivery),
                None => report_unreadable(destination),
            }
            waiting.len() >= limit
        })
        .await?;
        Ok(waiting)
    }

    /// Returns how the last attempts to send to each destination ended. `None` for one whose state
    /// this program cannot read.
    pub(crate) async fn sending_states(
        &self,
        destinations: &[Destination],
    ) -> Result<Vec<Option<SendingState>>, StoreError> {
        let keys: Vec<Key> = destinations.iter().map(state_key).collect();
        let found = if keys.is_empty() { HashMap::new() } else { self.rows(&keys).await? };
        let state = |key: &Key| match found.get(key) {
            None => Some(SendingState::default()),
            Some(row) => read_state(row),
        };
        Ok(keys.iter().map(state).collect())
    }
}

/// Returns the write that adds an event for one destination. [`read`] reads it.
pub(super) fn add(delivery: &Delivery) -> Write {
    let event = &delivery.event;
    let row = [
        ("event", text(event.id.as_str())),
        ("kind", text(event.kind.as_str())),
        ("body", text(event.body.as_str())),
        ("created_at", number(event.at)),
        (TTL, number(kept_until(event.at))),
    ];
    Write::put(key(delivery), row)
}

pub(super) fn remove(delivery: &Delivery) -> Write {
    Write::delete(key(delivery))
}

/// Returns the write that sets the state of a destination, if its revision is still `before`.
/// [`read_state`] reads it.
pub(super) fn put_state(destination: &Destination, before: i64, after: &SendingState) -> Write {
    let mut set = "SET revision = :next, failures = :failures, not_before = :not_before, \
                   reached = :reached"
        .to_owned();
    let mut remove = Vec::new();
    let times = [
        ("failing_since", ":failing_since", after.failing_since),
        ("gone_at", ":gone_at", after.gone_at),
    ];
    for (name, placeholder, at) in times {
        match at {
            Some(_) => set += &format!(", {name} = {placeholder}"),
            None => remove.push(name),
        }
    }
    if !remove.is_empty() {
        set += &format!(" REMOVE {}", remove.join(", "));
    }
    let write = Write::update(state_key(destination), set)
        .only_if_revision(before)
        .value(":next", number(after.revision))
        .value(":failures", number(after.failures.into()))
        .value(":not_before", number(after.not_before))
        .value(":reached", text(after.reached.as_str()));
    times.into_iter().fold(write, |write, (_, placeholder, at)| match at {
        Some(at) => write.value(placeholder, number(at)),
        None => write,
    })
}

pub(super) fn remove_state(destination: &Destination) -> Write {
    Write::delete(state_key(destination))
}

fn key(delivery: &Delivery) -> Key {
    Key::new(partition(&delivery.destination), delivery.key())
}

fn partition(destination: &Destination) -> String {
    format!("outbox {}", destination.key())
}

fn state_key(destination: &Destination) -> Key {
    Key::new(format!("sending {}", destination.key()), "state")
}

fn read(destination: &Destination, row: &Row) -> Option<Delivery> {
    let (namespace, _) = read_text(row, SK)?.split_once(' ')?;
    let event = VersionEvent {
        id: read_text(row, "event")?.to_owned(),
        namespace: namespace.parse().ok()?,
        kind: read_text(row, "kind")?.to_owned(),
        body: read_text(row, "body")?.to_owned(),
        at: read_number(row, "created_at")?,
    };
    Some(Delivery { destination: destination.clone(), event })
}

fn read_state(row: &Row) -> Option<SendingState> {
    Some(SendingState {
        revision: read_number(row, "revision")?,
        failures: read_number(row, "failures")?.try_into().ok()?,
        failing_since: read_number(row, "failing_since"),
        not_before: read_number(row, "not_before")?,
        reached: read_text(row, "reached")?.to_owned(),
        gone_at: read_number(row, "gone_at"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let destination = Destination::Webhook("wh_1".to_owned());
        let event = VersionEvent {
            id: "evt_1".to_owned(),
            namespace: "acme".parse().unwrap(),
            kind: "module.published".to_owned(),
            body: "{}".to_owned(),
            at: 7,
        };
        let delivery = Delivery { destination: destination.clone(), event };
        let mut row = add(&delivery).row().unwrap().clone();
        assert_eq!(read(&destination, &row), Some(delivery));
        row.remove("body");
        assert_eq!(read(&destination, &row), None);
    }

    #[test]
    fn a_state_is_written_only_if_nobody_else_has_written_one() {
        let destination = Destination::EventBus;
        for (before, condition) in [(0, "attribute_not_exists(pk)"), (4, "revision = :revision")] {
            let write = put_state(&destination, before, &SendingState::default());
            assert_eq!(write.condition(), Some(condition));
        }
    }
}
