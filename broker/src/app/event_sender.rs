//! Sends the events of versions to those who listen.
//!
//! The store keeps an event in the commit of the change, and a broker deletes it after its
//! destination has got it. Each destination is served on its own, by one broker at a time. So a
//! slow receiver delays no other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stile_store::{Delivery, Destination, EventBus, SendingClaim, SendingEnd, StoreError, Webhook};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::broker::Broker;
use crate::error_chain::error_chain;
use crate::webhook_client::WebhookError;

/// The time between two looks for events that other processes kept, or that failed before.
pub const SEND_INTERVAL: Duration = Duration::from_secs(10);

/// The time after which a server begins to send no further event to a destination in one go. With
/// the longest attempt it ends before the claim of the destination does.
const SEND_FOR: Duration = Duration::from_secs(30);

/// The most events that a task reads at once. It sends no more of one namespace before the events of
/// the next.
const AT_ONCE: usize = 20;

/// The time for which a destination may fail before the alarm is raised, in seconds.
const QUIET_FOR: i64 = 3600;

/// The age at which an event is dropped after an attempt that failed, in seconds.
const TRIED_FOR: i64 = 3 * 24 * 3600;

/// The longest text of a [`Progress`], in bytes. A sort key of DynamoDB has at most 1024.
const LONGEST_PROGRESS: usize = 1000;

/// How many events were sent, and how many attempts failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Events that their destination got.
    pub delivered: usize,
    /// Attempts that failed.
    pub failed: usize,
    /// Events that were dropped because of their age, each after an attempt that failed.
    pub dropped: usize,
    /// Destinations for which events are left, because the time was over.
    pub unfinished: usize,
}

/// Sends events until the program ends: after each commit of this process, and after each interval
/// those of other processes and those to try again.
pub async fn send_events(broker: Arc<Broker>, every: Duration) {
    let mut interval = interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = broker.events.next_commit() => {}
            Some(sent) = tasks.join_next() => {
                let is_unfinished = sent.is_ok_and(|sent: Sent| sent.unfinished > 0);
                if !is_unfinished {
                    continue;
                }
            }
        }
        begin(&broker, SEND_FOR, &mut tasks).await;
    }
}

/// Sends the events that wait, and begins no further one after that time.
pub async fn send_waiting(broker: &Arc<Broker>, within: Duration) -> Sent {
    let mut tasks = JoinSet::new();
    begin(broker, within, &mut tasks).await;
    let mut all = Sent::default();
    while let Some(sent) = tasks.join_next().await {
        let Sent { delivered, failed, dropped, unfinished } = sent.unwrap_or_default();
        all.delivered += delivered;
        all.failed += failed;
        all.dropped += dropped;
        all.unfinished += unfinished;
    }
    all
}

/// Begins one task for each destination.
async fn begin(broker: &Arc<Broker>, within: Duration, tasks: &mut JoinSet<Sent>) {
    let webhooks = match broker.events.webhooks(&broker.store, broker.clock.now()).await {
        Ok(webhooks) => webhooks,
        Err(error) => {
            tracing::warn!(
                error = error_chain(&error),
                "cannot read the webhooks; the broker tries again"
            );
            Arc::from([])
        }
    };
    let until = Instant::now() + within;
    let targets = broker.events.bus.clone().map(Target::Bus).into_iter();
    for target in targets.chain(webhooks.iter().cloned().map(Target::Webhook)) {
        let broker = Arc::clone(broker);
        tasks.spawn(async move { Sending { broker, target, until }.run().await });
    }
}

/// What a task sends to.
#[derive(Debug)]
enum Target {
    Bus(EventBus),
    Webhook(Webhook),
}

/// The reason why a destination did not get an event.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Bus(#[from] StoreError),
    #[error(transparent)]
    Webhook(#[from] WebhookError),
}

impl SendError {
    /// Returns whether the receiver is there and did not take this event. It may take others.
    fn is_of_one_event(&self) -> bool {
        matches!(self, Self::Webhook(error) if error.is_of_one_event())
    }
}

impl Target {
    fn destination(&self) -> Destination {
        match self {
            Self::Bus(_) => Destination::EventBus,
            Self::Webhook(webhook) => webhook.destination(),
        }
    }

    /// Returns the name in the log.
    fn name(&self) -> String {
        match self {
            Self::Bus(_) => "event bus".to_owned(),
            Self::Webhook(webhook) => format!("webhook {}", webhook.name),
        }
    }
}

/// The work on one destination.
struct Sending {
    broker: Arc<Broker>,
    target: Target,
    until: Instant,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// The destination has the event.
    Done,
    /// The receiver answered that it does not take this event. It may take those of others.
    Refused,
    /// The destination is not there, so it gets nothing for a while.
    Failed,
    /// The receiver wants no more events.
    Gone,
}

/// How the work on a destination ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Every namespace had its turn.
    Complete,
    /// The time was over.
    TooLate,
    Failed,
    Gone,
}

/// Where a task is among the events of a destination.
///
/// The store keeps it as one text: the key after which to begin, and then one line for each
/// namespace of which an event was not taken, with the key of that event.
struct Progress {
    begin: String,
    /// The last events that were not taken, by namespace. A task begins after them, once.
    positions: BTreeMap<String, String>,
    /// The namespaces with an event that this task sent and the destination did not take.
    missed: BTreeMap<String, String>,
    was_tried: bool,
}

impl Progress {
    fn read(text: &str) -> Self {
        let mut lines = text.lines();
        let begin = lines.next().unwrap_or_default().to_owned();
        let position = |key: &str| {
            key.split_once(' ').map(|(namespace, _)| (namespace.to_owned(), key.to_owned()))
        };
        let positions = lines.filter_map(position).collect();
        Self { begin, positions, missed: BTreeMap::new(), was_tried: false }
    }

    /// Returns the text for the store. It leaves out positions that are too many.
    fn to_text(&self) -> String {
        let mut text = self.begin.clone();
        let unused = self.positions.iter().filter(|(name, _)| !self.missed.contains_key(*name));
        for (_, key) in self.missed.iter().chain(unused) {
            if text.len() + 1 + key.len() > LONGEST_PROGRESS {
                break;
            }
            text = format!("{text}\n{key}");
        }
        text
    }

    fn tried(&mut self, delivery: &Delivery) {
        self.was_tried = true;
        self.begin = delivery.end_of_namespace();
    }

    fn miss(&mut self, namespace: &str, key: String) {
        self.missed.insert(namespace.to_owned(), key);
    }
}

impl Sending {
    /// Sends what waits, if no other broker does, until nothing waits, the destination fails, or the
    /// time is over.
    async fn run(&self) -> Sent {
        let (broker, mut sent) = (&self.broker, Sent::default());
        let destination = self.target.destination();
        let claim = match broker.store.claim(&destination, broker.clock.now()).await {
            Ok(Some(claim)) => claim,
            Ok(None) => return sent,
            Err(error) => {
                self.report(&error, "cannot read the events to send; the broker tries again");
                return sent;
            }
        };
        let mut progress = Progress::read(claim.begin_after());
        let round = match self.send_all(&claim, &mut progress, &mut sent).await {
            Ok(round) => round,
            Err(error) => {
                // The claim ends by itself. An event that was sent but not deleted is sent again.
                self.report(&error, "cannot read or delete events; the broker tries again");
                return sent;
            }
        };
        let reached = &progress.to_text();
        let end = match round {
            Round::Gone => SendingEnd::Gone,
            Round::TooLate if !progress.was_tried => SendingEnd::NotTried,
            _ if !progress.missed.is_empty() => {
                SendingEnd::Failed { reached, took_others: sent.delivered > 0 }
            }
            Round::TooLate => SendingEnd::Unfinished { reached },
            Round::Complete | Round::Failed => SendingEnd::Well,
        };
        if let Err(error) = broker.store.end_claim(claim, end, broker.clock.now()).await {
            self.report(&error, "cannot record how events were sent; the broker tries again");
        }
        if end == SendingEnd::Gone {
            broker.events.forget_webhooks().await;
        }
        sent
    }

    /// Sends events of one namespace after the other. After the first that the receiver does not
    /// take, it goes on with the next namespace.
    async fn send_all(
        &self,
        claim: &SendingClaim,
        progress: &mut Progress,
        sent: &mut Sent,
    ) -> Result<Round, StoreError> {
        let mut after = progress.begin.clone();
        // Whether the task has begun with the first namespace again, and sent one since then.
        let (mut is_again, mut has_sent) = (after.is_empty(), false);
        loop {
            let mut waiting = self.broker.store.waiting(claim, &after, AT_ONCE).await?;
            let Some(first) = waiting.first() else {
                if is_again && !has_sent {
                    return Ok(Round::Complete);
                }
                (is_again, has_sent) = (true, false);
                after.clear();
                continue;
            };
            let mut is_all = after.is_empty() && waiting.len() < AT_ONCE;
            let namespace = first.event.namespace.clone();
            if let Some(position) = progress.positions.remove(namespace.as_str()) {
                let later = self.broker.store.waiting(claim, &position, AT_ONCE).await?;
                if later.first().is_some_and(|later| later.event.namespace == namespace) {
                    (waiting, is_all) = (later, false);
                }
            }
            for delivery in waiting {
                let namespace = delivery.event.namespace.clone();
                if progress.positions.contains_key(namespace.as_str()) {
                    is_all = false;
                    break;
                }
                after = delivery.end_of_namespace();
                if progress.missed.contains_key(namespace.as_str()) {
                    continue;
                }
                if Instant::now() >= self.until {
                    sent.unfinished += 1;
                    return Ok(Round::TooLate);
                }
                progress.tried(&delivery);
                has_sent = true;
                let key = delivery.key();
                match self.send(claim, delivery, sent).await? {
                    Attempt::Done => {}
                    Attempt::Refused => progress.miss(namespace.as_str(), key),
                    Attempt::Failed => {
                        progress.miss(namespace.as_str(), key);
                        return Ok(Round::Failed);
                    }
                    Attempt::Gone => return Ok(Round::Gone),
                }
            }
            if is_all {
                return Ok(Round::Complete);
            }
        }
    }

    async fn send(
        &self,
        claim: &SendingClaim,
        delivery: Delivery,
        sent: &mut Sent,
    ) -> Result<Attempt, StoreError> {
        let broker = &self.broker;
        let (now, event) = (broker.clock.now(), delivery.event.id.clone());
        let attempt = match &self.target {
            Target::Bus(bus) => bus.send(&delivery).await.map_err(SendError::from),
            Target::Webhook(webhook) => {
                broker.events.client.send(webhook, &delivery, now).await.map_err(SendError::from)
            }
        };
        match attempt {
            Ok(()) => {
                sent.delivered += 1;
                broker.store.remove_delivery(claim, delivery).await?;
                Ok(Attempt::Done)
            }
            Err(SendError::Webhook(WebhookError::Gone)) => {
                tracing::error!(
                    alarm = "webhook_gone",
                    destination = self.target.name(),
                    "the receiver of a webhook answered 410, so it gets no more events; hint: remove the webhook, or remove it and add it again"
                );
                sent.failed += 1;
                Ok(Attempt::Gone)
            }
            Err(error) => {
                sent.failed += 1;
                self.report_failure(claim, &error, &event);
                if now.saturating_sub(delivery.event.at) >= TRIED_FOR {
                    tracing::error!(
                        alarm = "event_dropped",
                        destination = self.target.name(),
                        event,
                        "an event is three days old and could not be sent again, so it is dropped"
                    );
                    broker.store.remove_delivery(claim, delivery).await?;
                    sent.dropped += 1;
                }
                Ok(if error.is_of_one_event() { Attempt::Refused } else { Attempt::Failed })
            }
        }
    }

    fn report_failure(&self, claim: &SendingClaim, error: &SendError, event: &str) {
        let destination = self.target.name();
        let failing_for = claim.failing_for(self.broker.clock.now());
        if failing_for >= QUIET_FOR {
            tracing::error!(
                alarm = "events_not_sent",
                destination,
                event,
                seconds = failing_for,
                error = error_chain(error),
                "no event could be sent to the destination for an hour or longer; the broker tries again"
            );
        } else {
            tracing::warn!(
                destination,
                event,
                error = error_chain(error),
                "cannot send an event; the broker tries again"
            );
        }
    }

    fn report(&self, error: &StoreError, message: &str) {
        tracing::warn!(error = error_chain(error), destination = self.target.name(), "{message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_the_progress_has_those_positions_that_fit_and_is_read_again() {
        let mut progress = Progress::read("acme!\nacme evt_1\nbeta evt_2\nno position");
        assert_eq!(progress.begin, "acme!");
        assert_eq!(progress.positions.keys().collect::<Vec<_>>(), ["acme", "beta", "no"]);
        assert_eq!(progress.to_text(), "acme!\nacme evt_1\nbeta evt_2\nno position");
        progress.miss("beta", "beta evt_9".to_owned());
        assert_eq!(progress.to_text(), "acme!\nbeta evt_9\nacme evt_1\nno position");
        for n in 0..100 {
            progress.miss(&format!("c{n}"), format!("c{n} evt_{n:032x}"));
        }
        let text = progress.to_text();
        assert!((900..=LONGEST_PROGRESS).contains(&text.len()), "{}", text.len());
        assert_eq!(Progress::read(&text).positions.len(), text.lines().count() - 1);
        assert_eq!(Progress::read("").to_text(), "");
    }
}
