//! The rules of the outbox: events that a destination has not got yet.
//!
//! An event is kept in the commit of the change that it reports, once for each destination. A broker
//! deletes it after the destination has got it, so it is sent at least once.

use stile_core::version_event::VersionEvent;

use super::Records;
use super::mutation::{Mutation, Outcome};
use crate::{AfterFailure, Delivery, Destination, StoreError};

/// The wait after the first failed attempt, in seconds. It doubles with each further one.
const FIRST_WAIT: i64 = 1;

/// The longest wait between two attempts, in seconds.
const LONGEST_WAIT: i64 = 3600;

/// The age at which a failed event is dropped, in seconds.
const TRIED_FOR: i64 = 3 * 24 * 3600;

/// The age at which the backend may delete an event that nobody tries to send, in seconds.
const KEPT_FOR: i64 = 7 * 24 * 3600;

/// Returns the time until which the backend keeps an event, in Unix seconds.
pub(crate) const fn kept_until(created_at: i64) -> i64 {
    created_at.saturating_add(KEPT_FOR)
}

/// Returns the mutation that keeps an event for each of the destinations.
pub(crate) fn keep(event: VersionEvent, destinations: &[Destination]) -> Mutation {
    let forget_before = event.at.saturating_sub(KEPT_FOR);
    Mutation::AddEvent { event, destinations: destinations.to_vec(), forget_before }
}

/// Returns the deliveries of a new event.
pub(crate) fn deliveries<'a>(
    event: &'a VersionEvent,
    destinations: &'a [Destination],
) -> impl Iterator<Item = Delivery> + 'a {
    destinations.iter().map(|destination| Delivery {
        destination: destination.clone(),
        event: event.id.clone(),
        kind: event.kind.clone(),
        body: event.body.clone(),
        created_at: event.at,
        attempts: 0,
        due_at: event.at,
    })
}

/// Returns when a broker tries again, in Unix seconds. `None` if it does not.
fn next_attempt(delivery: &Delivery, now: i64) -> Option<i64> {
    let wait = FIRST_WAIT.checked_shl(delivery.attempts).filter(|wait| *wait > 0);
    let wait = wait.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
    (now.saturating_sub(delivery.created_at) < TRIED_FOR).then(|| now.saturating_add(wait))
}

impl Records {
    /// Returns at most `limit` events that are due for a destination, those that are due for longest
    /// first.
    pub(crate) async fn due_deliveries(
        &self,
        destination: &Destination,
        now: i64,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.due_deliveries(destination, now, limit).await,
            Self::DynamoDb(dynamodb) => dynamodb.due_deliveries(destination, now, limit).await,
        }
    }

    /// Deletes an event that its destination has got.
    pub(crate) async fn delivered(&self, delivery: Delivery) -> Result<(), StoreError> {
        match self.commit_with_retries(vec![Mutation::RemoveDelivery(delivery)]).await? {
            Outcome::Done => Ok(()),
            _ => Err(StoreError::busy("cannot delete an event that was sent")),
        }
    }

    /// Records that an attempt failed.
    pub(crate) async fn not_delivered(
        &self,
        delivery: Delivery,
        now: i64,
    ) -> Result<AfterFailure, StoreError> {
        let Some(due_at) = next_attempt(&delivery, now) else {
            return self.delivered(delivery).await.map(|()| AfterFailure::Dropped);
        };
        // If another broker has recorded its attempt meanwhile, its time counts.
        let retry = Mutation::RetryDelivery { before: delivery, due_at };
        self.commit_with_retries(vec![retry]).await.map(|_| AfterFailure::AgainAt(due_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(attempts: u32) -> Delivery {
        Delivery {
            destination: Destination::Webhook("wh_1".to_owned()),
            event: "evt_1".to_owned(),
            kind: "module.published".to_owned(),
            body: "{}".to_owned(),
            created_at: 1000,
            attempts,
            due_at: 1000,
        }
    }

    #[test]
    fn the_wait_doubles_from_a_second_to_an_hour() {
        for (attempts, wait) in [
            (0, 1),
            (1, 2),
            (2, 4),
            (10, 1024),
            (11, 2048),
            (12, 3600),
            (63, 3600),
            (u32::MAX, 3600),
        ] {
            assert_eq!(next_attempt(&delivery(attempts), 2000), Some(2000 + wait), "{attempts}");
        }
    }

    #[test]
    fn an_event_is_tried_for_three_days() {
        let end = 1000 + TRIED_FOR;
        assert_eq!(next_attempt(&delivery(80), end - 1), Some(end - 1 + LONGEST_WAIT));
        assert_eq!(next_attempt(&delivery(80), end), None);
        assert_eq!(next_attempt(&delivery(0), i64::MAX), None);
        assert_eq!(next_attempt(&delivery(0), 0), Some(1), "the clock was set back");
        assert!(kept_until(1000) > end + LONGEST_WAIT);
    }
}
