//! Sends the events of versions to those who listen: the webhooks of operators.
//!
//! The store keeps an event in the commit of the change, and a broker deletes it after its
//! destination has got it. Each destination is served on its own, so a slow one delays no other.

use std::collections::HashSet;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stile_store::{AfterFailure, Delivery, Destination, StoreError, Webhook};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::broker::Broker;
use crate::webhook_client::{WebhookClient, WebhookError};

/// The time between two looks for events that are due.
pub const SEND_INTERVAL: Duration = Duration::from_secs(5);

/// The time for which the list of webhooks is fresh, in seconds.
const FRESH: i64 = 10;

/// The most events that a task reads at once.
const AT_ONCE: usize = 20;

/// The events of a broker: where they go, and how.
#[derive(Debug)]
pub struct Events {
    webhooks: WebhookClient,
    /// The webhooks, and the time at which they were read, in Unix seconds.
    listed: tokio::sync::Mutex<Option<(i64, Arc<[Webhook]>)>>,
    /// The destinations that a task of this process serves.
    in_progress: Mutex<HashSet<Destination>>,
    committed: Notify,
}

/// How many events were sent, and how many attempts failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Events that their destination got.
    pub delivered: usize,
    /// Attempts that failed.
    pub failed: usize,
}

impl Events {
    /// Creates the events of a broker, of which none is sent yet.
    pub fn new(webhooks: WebhookClient) -> Self {
        Self {
            webhooks,
            listed: tokio::sync::Mutex::default(),
            in_progress: Mutex::default(),
            committed: Notify::new(),
        }
    }

    /// Tells the task that sends events that there is one.
    pub(super) fn committed(&self) {
        self.committed.notify_one();
    }

    /// Returns those who listen. It reads the webhooks at most every ten seconds.
    async fn listeners(&self, broker: &Broker) -> Result<Arc<[Webhook]>, StoreError> {
        let now = broker.clock.now();
        let mut listed = self.listed.lock().await;
        let fresh = listed.as_ref().filter(|(at, _)| (0..FRESH).contains(&now.saturating_sub(*at)));
        if let Some((_, webhooks)) = fresh {
            return Ok(Arc::clone(webhooks));
        }
        let webhooks: Arc<[Webhook]> = broker.store.listening_webhooks().await?.into();
        *listed = Some((now, Arc::clone(&webhooks)));
        Ok(webhooks)
    }

    async fn forget_webhooks(&self) {
        *self.listed.lock().await = None;
    }

    fn in_progress(&self) -> MutexGuard<'_, HashSet<Destination>> {
        self.in_progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the destinations of an event that is about to happen.
pub(super) async fn destinations(broker: &Broker) -> Result<Vec<Destination>, StoreError> {
    let listeners = broker.events.listeners(broker).await?;
    Ok(listeners.iter().map(destination).collect())
}

fn destination(webhook: &Webhook) -> Destination {
    Destination::Webhook(webhook.id.clone())
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
            () = broker.events.committed.notified() => {}
        }
        while tasks.try_join_next().is_some() {}
        begin(&broker, None, &mut tasks).await;
    }
}

/// Sends the events that are due, and begins no further one after `until`.
pub async fn send_due(broker: &Arc<Broker>, until: Option<Instant>) -> Sent {
    let mut tasks = JoinSet::new();
    begin(broker, until, &mut tasks).await;
    let mut all = Sent::default();
    while let Some(sent) = tasks.join_next().await {
        let Sent { delivered, failed } = sent.unwrap_or_default();
        all.delivered += delivered;
        all.failed += failed;
    }
    all
}

/// Begins one task for each destination that none serves yet.
async fn begin(broker: &Arc<Broker>, until: Option<Instant>, tasks: &mut JoinSet<Sent>) {
    let listeners = match broker.events.listeners(broker).await {
        Ok(listeners) => listeners,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn Error,
                "cannot read the webhooks; the broker tries again"
            );
            return;
        }
    };
    for webhook in listeners.iter().cloned() {
        let destination = destination(&webhook);
        if !broker.events.in_progress().insert(destination.clone()) {
            continue;
        }
        let serving = Serving { broker: Arc::clone(broker), destination };
        tasks.spawn(async move { serving.send(&webhook, until).await });
    }
}

/// The work on one destination. Dropping it lets another task begin.
struct Serving {
    broker: Arc<Broker>,
    destination: Destination,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.broker.events.in_progress().remove(&self.destination);
    }
}

impl Serving {
    /// Sends what is due, until nothing is or an attempt fails.
    async fn send(&self, webhook: &Webhook, until: Option<Instant>) -> Sent {
        let (broker, mut sent) = (&self.broker, Sent::default());
        loop {
            let now = broker.clock.now();
            let due = match broker.store.due_deliveries(&self.destination, now, AT_ONCE).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn Error,
                        "cannot read the events to send; the broker tries again"
                    );
                    return sent;
                }
            };
            if due.is_empty() {
                return sent;
            }
            for event in due {
                let is_late = until.is_some_and(|until| Instant::now() >= until);
                if is_late || !self.send_to(webhook, event, &mut sent).await {
                    return sent;
                }
            }
        }
    }

    async fn send_to(&self, webhook: &Webhook, event: Delivery, sent: &mut Sent) -> bool {
        let (broker, name) = (&self.broker, webhook.name.as_str());
        let now = broker.clock.now();
        match broker.events.webhooks.send(webhook, &event, now).await {
            Ok(()) => self.delivered(event, sent).await,
            Err(WebhookError::Gone) => {
                tracing::error!(
                    alarm = "webhook_gone",
                    webhook = name,
                    "the receiver of a webhook answered 410, so it gets no more events; hint: remove the webhook, or remove it and add it again"
                );
                if let Err(error) = broker.store.disable_webhook(webhook, now).await {
                    tracing::warn!(
                        error = &error as &dyn Error,
                        webhook = name,
                        "cannot disable a webhook; the broker tries again"
                    );
                }
                broker.events.forget_webhooks().await;
                sent.failed += 1;
                false
            }
            Err(error) => self.failed(name, event, &error, sent).await,
        }
    }

    /// Deletes an event that the destination has got. Returns whether it did.
    async fn delivered(&self, event: Delivery, sent: &mut Sent) -> bool {
        sent.delivered += 1;
        let deleted = self.broker.store.delivered(event).await;
        if let Err(error) = &deleted {
            tracing::warn!(
                error = error as &dyn Error,
                "cannot delete an event that was sent, so it is sent again"
            );
        }
        deleted.is_ok()
    }

    /// Records a failed attempt. Returns false.
    async fn failed(
        &self,
        webhook: &str,
        event: Delivery,
        error: &WebhookError,
        sent: &mut Sent,
    ) -> bool {
        sent.failed += 1;
        let id = event.event.clone();
        match self.broker.store.not_delivered(event, self.broker.clock.now()).await {
            Ok(AfterFailure::AgainAt(_)) => {
                tracing::warn!(
                    webhook,
                    event = id,
                    error = error as &dyn Error,
                    "cannot send an event; the broker tries again"
                );
            }
            Ok(AfterFailure::Dropped) => tracing::error!(
                alarm = "event_dropped",
                webhook,
                event = id,
                error = error as &dyn Error,
                "an event could not be sent for three days, and is dropped"
            ),
            Err(failure) => tracing::warn!(
                error = &failure as &dyn Error,
                webhook,
                event = id,
                "cannot record that an event was not sent; the broker tries again"
            ),
        }
        false
    }
}
