//! The rules of webhooks: each name is used once, and there are not many.

use stile_core::audit::{self, Chain, Kept};
use stile_core::webhook::{MAX_WEBHOOKS, WebhookName};

use super::Records;
use super::mutation::{Mutation, Outcome};
use crate::outgoing::SendingState;
use crate::retry::Retry;
use crate::{Destination, StoreError, Webhook, WebhookAdded, WebhookSummary};

/// A webhook as the backend found it.
pub(crate) type StoredWebhook = Result<Webhook, UnreadableWebhook>;

/// A webhook that this program cannot read, with what it could read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UnreadableWebhook {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<WebhookName>,
}

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
        if stored.iter().any(Result::is_err) {
            tracing::error!(
                alarm = "unreadable_webhook",
                "a webhook in the store cannot be read, and gets no events"
            );
        }
        let webhooks: Vec<Webhook> = stored.into_iter().flatten().collect();
        let destinations: Vec<_> = webhooks.iter().map(Webhook::destination).collect();
        let states = self.sending_states(&destinations).await?;
        if states.iter().any(Option::is_none) {
            tracing::error!(
                alarm = "unreadable_webhook",
                "the state of a webhook in the store cannot be read, so it keeps its events"
            );
        }
        let summary = |(webhook, state): (Webhook, Option<SendingState>)| {
            let state = state.unwrap_or_default();
            let (failing_since, gone_at) = (state.failing_since, state.gone_at);
            WebhookSummary { webhook, failing_since, gone_at }
        };
        Ok(webhooks.into_iter().zip(states).map(summary).collect())
    }

    /// Returns the names of the webhooks that this program cannot read; `None` for one whose name it
    /// cannot read either.
    pub(crate) async fn unreadable_webhooks(&self) -> Result<Vec<Option<WebhookName>>, StoreError> {
        let stored = self.stored_webhooks().await?;
        Ok(stored.into_iter().filter_map(Result::err).map(|unreadable| unreadable.name).collect())
    }

    /// Adds a webhook. It does not change an existing one.
    pub(crate) async fn add_webhook(
        &self,
        webhook: Webhook,
        kept: &Kept,
    ) -> Result<WebhookAdded, StoreError> {
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
            let add = vec![Mutation::AddWebhook(webhook.clone())];
            let created = audit::Outcome::Created;
            match self.commit_audited(&Chain::Operator, add, kept, created).await? {
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
    pub(crate) async fn remove_webhook(
        &self,
        name: &WebhookName,
        kept: &Kept,
    ) -> Result<bool, StoreError> {
        let existing = self.stored_webhooks().await?;
        // Also one that cannot be read, if its name and id can.
        let id_of = |stored: StoredWebhook| match stored {
            Ok(webhook) => (webhook.name == *name).then_some(webhook.id),
            Err(unreadable) => unreadable.id.filter(|_| unreadable.name.as_ref() == Some(name)),
        };
        let Some(id) = existing.into_iter().find_map(id_of) else {
            return Ok(false);
        };
        let destination = Destination::Webhook(id.clone());
        let remove = Mutation::RemoveWebhook { name: name.clone(), id };
        let deleted = audit::Outcome::Deleted;
        let removed = self.commit_audited(&Chain::Operator, vec![remove], kept, deleted).await?;
        if removed != Outcome::Done {
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
