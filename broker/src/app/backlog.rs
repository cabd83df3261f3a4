//! Counts the events that wait for each destination, for the metrics.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::broker::Broker;
use crate::error_chain::error_chain;
use stile_store::{Destination, StoreError};

/// The time between two counts. A count reads the events of a destination, so it is not made for
/// each read of the metrics.
pub const BACKLOG_INTERVAL: Duration = Duration::from_secs(60);

/// The name of the event bus. No webhook has it: names of webhooks have no `_`.
const EVENT_BUS: &str = "event_bus";

/// The most events of a destination that are counted, so that a count stays cheap.
const COUNTED: usize = 1000;

/// The longest time of a count. A function counts before it answers a tick, and Lambda stops it after
/// its time limit.
const COUNT_FOR: Duration = Duration::from_secs(3);

/// Counts at once and after each interval, until the program ends.
pub async fn watch_backlog(broker: Arc<Broker>, every: Duration) {
    let mut interval = interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        count_backlog(&broker).await;
    }
}

/// Counts once, for at most 3 seconds. A destination that the store does not answer for has no value
/// until the next count.
pub async fn count_backlog(broker: &Arc<Broker>) {
    let until = Instant::now() + COUNT_FOR;
    let destinations = match timeout_at(until, destinations(broker)).await {
        Ok(Ok(destinations)) => destinations,
        Ok(Err(error)) => not_counted(None, &error),
        Err(elapsed) => not_counted(None, &elapsed),
    };
    let count = |destination| {
        let broker = Arc::clone(broker);
        async move { broker.store.count_waiting(&destination, COUNTED).await }
    };
    broker.metrics.events_waiting(count_each(destinations, count, until).await);
}

/// Returns the name and the destination of the bus and of each webhook.
async fn destinations(broker: &Broker) -> Result<Vec<(String, Destination)>, StoreError> {
    let webhooks = broker.events.webhooks(&broker.store, broker.clock.now()).await?;
    let bus = broker.events.bus().map(|_| (EVENT_BUS.to_owned(), Destination::EventBus));
    let webhooks =
        webhooks.iter().map(|webhook| (webhook.name.as_str().to_owned(), webhook.destination()));
    Ok(bus.into_iter().chain(webhooks).collect())
}

/// Counts all destinations at once. The result has only those whose count succeeds before `until`.
async fn count_each<F>(
    destinations: Vec<(String, Destination)>,
    count: impl Fn(Destination) -> F,
    until: Instant,
) -> Vec<(String, usize)>
where
    F: Future<Output = Result<usize, StoreError>> + Send + 'static,
{
    let mut counting = JoinSet::new();
    for (name, destination) in destinations {
        let count = count(destination);
        counting.spawn(async move {
            match timeout_at(until, count).await {
                Ok(Ok(count)) => vec![(name, count)],
                Ok(Err(error)) => not_counted(Some(&name), &error),
                Err(elapsed) => not_counted(Some(&name), &elapsed),
            }
        });
    }
    counting.join_all().await.into_iter().flatten().collect()
}

/// Logs that a count failed, and returns nothing. Without a name, no destination is known.
fn not_counted<T>(destination: Option<&str>, error: &(dyn std::error::Error + 'static)) -> Vec<T> {
    tracing::warn!(
        destination,
        error = error_chain(error),
        "cannot count the events that wait; the broker tries again"
    );
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers for three destinations, of which the first two fail.
    async fn answer(destination: Destination) -> Result<usize, StoreError> {
        match destination {
            Destination::EventBus => std::future::pending().await,
            Destination::Webhook(id) if id.ends_with('0') => Err(StoreError::busy("busy")),
            Destination::Webhook(_) => Ok(7),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_that_hangs_or_fails_takes_no_value_of_another_destination() {
        let destinations = vec![
            ("hangs".to_owned(), Destination::EventBus),
            ("fails".to_owned(), Destination::Webhook("0".to_owned())),
            ("counted".to_owned(), Destination::Webhook("1".to_owned())),
        ];
        let until = Instant::now() + COUNT_FOR;
        let counted = count_each(destinations, answer, until).await;
        assert_eq!(counted, [("counted".to_owned(), 7)]);
        assert_eq!(Instant::now(), until, "no longer than its time");
    }
}
