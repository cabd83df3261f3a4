//! Those who listen for the events of versions: the event bus, and the webhooks of operators.

use std::sync::Arc;

use stile_store::{Destination, EventBus, Store, StoreError, Webhook};
use tokio::sync::Notify;

use crate::shared_failure_mutex::SharedFailureMutex;
use crate::webhook_client::WebhookClient;

/// The time for which the list of webhooks is fresh, in seconds.
const FRESH: i64 = 10;

/// The events of a broker: where they go, and how.
#[derive(Debug)]
pub struct Events {
    pub(super) client: WebhookClient,
    pub(super) bus: Option<EventBus>,
    webhooks: SharedFailureMutex<Option<Listed>>,
    committed: Notify,
}

/// The webhooks, and when they were read.
#[derive(Debug)]
struct Listed {
    /// In Unix seconds.
    at: i64,
    webhooks: Arc<[Webhook]>,
}

impl Events {
    /// Creates the events of a broker, of which none is sent yet.
    pub fn new(client: WebhookClient, bus: Option<EventBus>) -> Self {
        Self { client, bus, webhooks: SharedFailureMutex::default(), committed: Notify::new() }
    }

    /// Returns the event bus that the broker is configured with.
    pub const fn bus(&self) -> Option<&EventBus> {
        self.bus.as_ref()
    }

    /// Wakes the task that sends events.
    pub(super) fn committed(&self) {
        self.committed.notify_one();
    }

    /// Waits until the next commit with an event.
    pub(super) async fn next_commit(&self) {
        self.committed.notified().await;
    }

    /// Returns the destinations of an event that is about to happen.
    pub(super) async fn destinations(
        &self,
        store: &Store,
        now: i64,
    ) -> Result<Vec<Destination>, StoreError> {
        let webhooks = self.webhooks(store, now).await?;
        let bus = self.bus.as_ref().map(|_| Destination::EventBus);
        Ok(bus.into_iter().chain(webhooks.iter().map(Webhook::destination)).collect())
    }

    /// Returns the webhooks that listen. It reads them at most every ten seconds.
    pub(super) async fn webhooks(
        &self,
        store: &Store,
        now: i64,
    ) -> Result<Arc<[Webhook]>, StoreError> {
        let mut last = self.webhooks.lock().await;
        let is_fresh = |listed: &&Listed| (0..FRESH).contains(&now.saturating_sub(listed.at));
        if let Some(listed) = last.as_ref().filter(is_fresh) {
            return Ok(Arc::clone(&listed.webhooks));
        }
        if last.failed_while_waiting() {
            return Err(StoreError::busy("the webhooks could not be read a moment ago"));
        }
        match store.listening_webhooks().await {
            Ok(webhooks) => {
                let webhooks: Arc<[Webhook]> = webhooks.into();
                *last = Some(Listed { at: now, webhooks: Arc::clone(&webhooks) });
                Ok(webhooks)
            }
            Err(error) => {
                *last = None;
                last.record_failure();
                Err(error)
            }
        }
    }

    /// Lets the next read of the webhooks go to the store.
    pub(super) async fn forget_webhooks(&self) {
        *self.webhooks.lock().await = None;
    }
}
