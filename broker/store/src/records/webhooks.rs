//! The rules of webhooks: each name is used once, and there are not many.

use stile_core::webhook::{MAX_WEBHOOKS, WebhookName};

use super::Records;
use super::mutation::{Mutation, Outcome};
use crate::retry::Retry;
use crate::{StoreError, Webhook, WebhookAdded};

/// A webhook as the backend found it; `None` if this program cannot read it.
pub(crate) type StoredWebhook = Option<Webhook>;

impl Records {
    /// Returns all webhooks, in order of name.
    ///
    /// It leaves out one that it cannot read, and raises the alarm.
    pub(crate) async fn webhooks(&self) -> Result<Vec<Webhook>, StoreError> {
        let stored: Vec<StoredWebhook> = match self {
            Self::Sqlite(sqlite) => sqlite.webhooks().await?,
            Self::DynamoDb(dynamodb) => dynamodb.webhooks().await?,
        };
        let count = stored.len();
        let webhooks: Vec<Webhook> = stored.into_iter().flatten().collect();
        if webhooks.len() < count {
            tracing::error!(
                alarm = "unreadable_webhook",
                "a webhook in the store cannot be read, and gets no events"
            );
        }
        Ok(webhooks)
    }

    /// Adds a webhook. It does not change an existing one.
    pub(crate) async fn add_webhook(&self, webhook: Webhook) -> Result<WebhookAdded, StoreError> {
        let mut retry = Retry::default();
        loop {
            let existing = self.webhooks().await?;
            if existing.iter().any(|existing| existing.name == webhook.name) {
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

    /// Removes a webhook. Returns whether there was one.
    pub(crate) async fn remove_webhook(&self, name: &WebhookName) -> Result<bool, StoreError> {
        let existing = self.webhooks().await?;
        let Some(webhook) = existing.into_iter().find(|existing| existing.name == *name) else {
            return Ok(false);
        };
        let remove = Mutation::RemoveWebhook { name: webhook.name, id: webhook.id };
        Ok(self.commit_with_retries(vec![remove]).await? == Outcome::Done)
    }

    /// Records that the receiver of a webhook is gone.
    pub(crate) async fn disable_webhook(&self, id: &str, now: i64) -> Result<(), StoreError> {
        let disable = Mutation::DisableWebhook { id: id.to_owned(), at: now };
        self.commit_with_retries(vec![disable]).await.map(drop)
    }
}
