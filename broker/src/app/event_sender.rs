//! Sends the events of versions to those who listen.
//!
//! The store keeps an event in the commit of the change, and a broker deletes it after its
//! destination has got it. Each destination is served on its own, by one broker at a time. So a
//! slow receiver delays no other.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use stile_store::{Delivery, Destination, EventBus, SendingClaim, SendingEnd, StoreError, Webhook};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::broker::Broker;
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

/// The age at which an event is dropped, in seconds.
const TRIED_FOR: i64 = 3 * 24 * 3600;

/// How many events were sent, and how many attempts failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Events that their destination got.
    pub delivered: usize,
    /// Attempts that failed.
    pub failed: usize,
    /// Events that were dropped because of their age.
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
                error = &error as &dyn Error,
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
    /// The event is done: sent, or dropped.
    Done,
    /// There was no time for it.
    TooLate,
    /// It failed, so the destination gets nothing for a while.
    Failed,
    /// The receiver wants no more events.
    Gone,
}

impl Sending {
    /// Sends what waits, if no other broker does, until nothing waits, an attempt fails, or the time
    /// is over.
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
        let mut reached = claim.begin_after().to_owned();
        let end = match self.send_all(&claim, &mut reached, &mut sent).await {
            Ok(Attempt::Done) => SendingEnd::Well,
            Ok(Attempt::TooLate) => SendingEnd::Unfinished { reached: &reached },
            Ok(Attempt::Failed) => {
                let took_others = sent.delivered > 0;
                SendingEnd::Failed { reached: &reached, took_others }
            }
            Ok(Attempt::Gone) => SendingEnd::Gone,
            Err(error) => {
                // The claim ends by itself. An event that was sent but not deleted is sent again.
                self.report(&error, "cannot read or delete events; the broker tries again");
                return sent;
            }
        };
        if let Err(error) = broker.store.end_claim(claim, end, broker.clock.now()).await {
            self.report(&error, "cannot record how events were sent; the broker tries again");
        }
        if end == SendingEnd::Gone {
            broker.events.forget_webhooks().await;
        }
        sent
    }

    async fn send_all(
        &self,
        claim: &SendingClaim,
        reached: &mut String,
        sent: &mut Sent,
    ) -> Result<Attempt, StoreError> {
        let mut after = reached.clone();
        loop {
            let waiting = self.broker.store.waiting(claim, &after, AT_ONCE).await?;
            let is_start = after.is_empty();
            let Some(end) = waiting.last().map(Delivery::end_of_namespace) else {
                if is_start {
                    return Ok(Attempt::Done);
                }
                after.clear();
                continue;
            };
            let is_all = is_start && waiting.len() < AT_ONCE;
            for delivery in waiting {
                if Instant::now() >= self.until {
                    sent.unfinished += 1;
                    // The events of other namespaces come first next time.
                    *reached = delivery.end_of_namespace();
                    return Ok(Attempt::TooLate);
                }
                *reached = delivery.key();
                match self.send(claim, delivery, sent).await? {
                    Attempt::Done => {}
                    other => return Ok(other),
                }
            }
            if is_all {
                return Ok(Attempt::Done);
            }
            after = end;
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
        if now.saturating_sub(delivery.event.at) >= TRIED_FOR {
            tracing::error!(
                alarm = "event_dropped",
                destination = self.target.name(),
                event,
                "an event could not be sent for three days, and is dropped"
            );
            broker.store.remove_delivery(claim, delivery).await?;
            sent.dropped += 1;
            return Ok(Attempt::Done);
        }
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
                Ok(Attempt::Failed)
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
                error = error as &dyn Error,
                "no event could be sent to the destination for an hour or longer; the broker tries again"
            );
        } else {
            tracing::warn!(
                destination,
                event,
                error = error as &dyn Error,
                "cannot send an event; the broker tries again"
            );
        }
    }

    fn report(&self, error: &StoreError, message: &str) {
        tracing::warn!(error = error as &dyn Error, destination = self.target.name(), "{message}");
    }
}
