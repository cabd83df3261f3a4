//! Events that a destination has not got yet, one item for each event and destination. The items of
//! a destination are in one partition, in the order in which they are due.

use super::DynamoDb;
use super::attributes::{Row, number, read_number, read_text, text};
use super::table::{Key, TTL, Write};
use crate::records::outbox::kept_until;
use crate::{Delivery, Destination, StoreError};

impl DynamoDb {
    /// Returns at most `limit` events that are due for a destination, those that are due for
    /// longest first.
    pub(crate) async fn due_deliveries(
        &self,
        destination: &Destination,
        now: i64,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        let (mut due, mut is_readable) = (Vec::new(), true);
        // The sort key begins with the time, so this reads no event that is due later.
        let end = sort_key_of(now.saturating_add(1));
        self.query_before(&partition(destination), &end, |row| {
            match row.as_ref().and_then(|row| read(destination, row)) {
                Some(delivery) => due.push(delivery),
                None => is_readable = false,
            }
            !is_readable || due.len() >= limit
        })
        .await?;
        if is_readable {
            Ok(due)
        } else {
            Err(StoreError::corrupt("cannot read an event in the table"))
        }
    }
}

/// Returns the write that adds an event for one destination. [`read`] reads it.
pub(super) fn add(delivery: &Delivery) -> Write {
    let row = [
        ("event", text(delivery.event.as_str())),
        ("kind", text(delivery.kind.as_str())),
        ("body", text(delivery.body.as_str())),
        ("created_at", number(delivery.created_at)),
        ("attempts", number(delivery.attempts.into())),
        ("due_at", number(delivery.due_at)),
        (TTL, number(kept_until(delivery.created_at))),
    ];
    Write::put(key(delivery), row)
}

pub(super) fn remove(delivery: &Delivery) -> Write {
    Write::delete(key(delivery))
}

/// Returns the writes that set when a broker tries again. Their condition fails if another broker
/// has done so since the read.
pub(super) fn retry(before: &Delivery, due_at: i64) -> Vec<Write> {
    let attempts = before.attempts.saturating_add(1);
    if due_at == before.due_at {
        return vec![add(&Delivery { attempts, ..before.clone() }).only_if("attribute_exists(pk)")];
    }
    let after = Delivery { due_at, attempts, ..before.clone() };
    vec![remove(before).only_if("attribute_exists(pk)"), add(&after)]
}

fn key(delivery: &Delivery) -> Key {
    let sort_key = format!("{} {}", sort_key_of(delivery.due_at), delivery.event);
    Key::new(partition(&delivery.destination), sort_key)
}

fn partition(destination: &Destination) -> String {
    let Destination::Webhook(id) = destination;
    format!("outbox webhook {id}")
}

/// Returns the time in a form that sorts by time, until the year 2286.
fn sort_key_of(time: i64) -> String {
    format!("{:010}", time.clamp(0, 9_999_999_999))
}

fn read(destination: &Destination, row: &Row) -> Option<Delivery> {
    Some(Delivery {
        destination: destination.clone(),
        event: read_text(row, "event")?.to_owned(),
        kind: read_text(row, "kind")?.to_owned(),
        body: read_text(row, "body")?.to_owned(),
        created_at: read_number(row, "created_at")?,
        attempts: read_number(row, "attempts")?.try_into().ok()?,
        due_at: read_number(row, "due_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sort_keys_are_in_the_order_of_time() {
        let keys: Vec<_> =
            [-5, 0, 9, 1_795_169_472, 9_000_000_000, i64::MAX].map(sort_key_of).into();
        assert!(keys.is_sorted() && keys.iter().all(|key| key.len() == 10), "{keys:?}");
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let delivery = Delivery {
            destination: Destination::Webhook("wh_1".to_owned()),
            event: "evt_1".to_owned(),
            kind: "module.published".to_owned(),
            body: "{}".to_owned(),
            created_at: 7,
            attempts: 2,
            due_at: 9,
        };
        let write = add(&delivery);
        let mut row = write.row().unwrap().clone();
        assert_eq!(read(&delivery.destination, &row), Some(delivery.clone()));
        row.insert("attempts".to_owned(), number(-1));
        assert_eq!(read(&delivery.destination, &row), None);
    }
}
