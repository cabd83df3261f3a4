//! The rules of webhooks: each name is used once, and there are not many.

use stile_core::webhook::{MAX_WEBHOOKS, WebhookName};

use super::Records;
use super::mutation::{Mutation, Outcome};
use crate::outgoing::SendingState;
use crate::retry::Retry;
use crate::{StoreError, Webhook, WebhookAdded, WebhookSummary};

/// A webhook as the backend found it; `None` if this program cannot read it.
pub(crate) type StoredWebhook = Option<Webhook>;

/// The number of events that one commit deletes together with a webhook.
const REMOVED_AT_ONCE: usize = 50;

impl Records {
    async fn stored_webhooks(&self) -> Result<Vec<StoredWebhook>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.webhooks().await,
            Self::DynamoDb(dynamodb) => dynamodb.webhooks().await,
        }
    }

    /// Returns all webhooks, in order of name, and how the last attempts ended.
    ///
    /// It leaves out one that it cannot read, and raises the alarm.
    pub(crate) async fn webhooks(&self) -> Result<Vec<WebhookSummary>, StoreError> {
        let stored = self.stored_webhooks().await?;
        if stored.iter().any(Option::is_none) {
            tracing::error!(
                alarm = "unreadable_webhook",
                "a webhook in the store cannot be read, and gets no events"
            );
        }
        let webhooks: Vec<Webhook> = stored.into_iter().flatten().collect();
        let destinations: Vec<_> = webhooks.iter().map(Webhook::destination).collect();
        let states = self.sending_states(&destinations).await?;
        let summary = |(webhook, state): (Webhook, SendingState)| {
            let (failing_since, gone_at) = (state.failing_since, state.gone_at);
            WebhookSummary { webhook, failing_since, gone_at }
        };
        Ok(webhooks.into_iter().zip(states).map(summary).collect())
    }

    /// Adds a webhook. It does not change an existing one.
    pub(crate) async fn add_webhook(&self, webhook: Webhook) -> Result<WebhookAdded, StoreError> {
        let mut retry = Retry::default();
        loop {
            // One that cannot be read counts, too.
            let existing = self.stored_webhooks().await?;
            if existing.iter().flatten().any(|existing| existing.name == webhook.name) {
                return Ok(WebhookAdded::Exists);
            }
            if existing.len() >= MAX_WEBHOOKS {
                return Ok(WebhookAdded::TooMany);
            }
            match self.commit(vec![Mutation::AddWebhook(webhook.clone())]).await? {
                Outcome::Done => return Ok(WebhookAdded::Done(Box::new(webhook))),
                // Also if the name belongs to a webhook that cannot be read.
                Outcome::Refused(_) => return Ok(WebhookAdded::Exists),
                Outcome::Conflict | Outcome::TooLarge => retry.wait().await?,
            }
        }
    }

    /// Removes a webhook, and then the events that it has not got. Returns whether there was one.
    ///
    /// A broker that does not know yet can still keep an event for it. Nobody sends that one, and
    /// the backend forgets it with its age.
    pub(crate) async fn remove_webhook(&self, name: &WebhookName) -> Result<bool, StoreError> {
        let existing = self.stored_webhooks().await?;
        let Some(webhook) = existing.into_iter().flatten().find(|webhook| webhook.name == *name)
        else {
            return Ok(false);
        };
        let destination = webhook.destination();
        let remove = Mutation::RemoveWebhook { name: webhook.name, id: webhook.id };
        if self.commit_with_retries(vec![remove]).await? != Outcome::Done {
            return Ok(false);
        }
        loop {
            let waiting = self.waiting(&destination, "", REMOVED_AT_ONCE).await?;
            if waiting.is_empty() {
                return Ok(true);
            }
            self.remove_deliveries(waiting).await?;
        }
    }
}
