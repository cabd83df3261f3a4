//! The events of versions on their way to those who listen, and the webhooks of operators.

use stile_core::grants::{OperatorAccess, PackageAccess, Upload as UploadRight};
use stile_core::package::Version;
use stile_core::version_event::{Facts, Happening, VersionEvent};
use stile_core::webhook::{WebhookName, WebhookSecret, WebhookUrl};

use super::Store;
use crate::records::mutation::Mutation;
use crate::records::outbox::keep;
use crate::{AfterFailure, Delivery, Destination, StoreError, Webhook, WebhookAdded};

/// A change of a version, of which an event may tell.
#[derive(Debug, Clone)]
pub(super) struct Reported<'a> {
    pub(super) happening: Happening,
    pub(super) access: &'a PackageAccess<UploadRight>,
    pub(super) version: &'a Version,
    pub(super) reason: Option<&'a str>,
    pub(super) at: i64,
}

impl Store {
    /// Returns the mutation that keeps the event of a change for each of the listeners. `None` if
    /// there is none.
    pub(super) fn event(
        &self,
        reported: &Reported<'_>,
        sha256: &str,
        listeners: &[Destination],
    ) -> Result<Option<Mutation>, StoreError> {
        if listeners.is_empty() {
            return Ok(None);
        }
        let registry = self.audience.as_ref().ok_or_else(|| {
            StoreError::misconfigured("the store was opened without a registry host")
        })?;
        let access = reported.access;
        let event = VersionEvent::new(&Facts {
            happening: reported.happening,
            at: reported.at,
            registry: registry.as_str(),
            address: access.address(),
            version: reported.version,
            sha256,
            principal: access.principal().as_str(),
            token_id: access.access().token_id().as_str(),
            reason: reported.reason,
        });
        let event = event.map_err(|error| {
            StoreError::unavailable("cannot generate a random id for the event", error)
        })?;
        Ok(Some(keep(event, listeners)))
    }

    /// Returns at most `limit` events that are due for a destination, those that are due for longest
    /// first. Another broker can get the same, so each is sent at least once.
    pub async fn due_deliveries(
        &self,
        destination: &Destination,
        now: i64,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        self.records.due_deliveries(destination, now, limit).await
    }

    /// Deletes an event that its destination has got.
    pub async fn delivered(&self, delivery: Delivery) -> Result<(), StoreError> {
        self.records.delivered(delivery).await
    }

    /// Records that an attempt to send an event failed. The next one is 1 second to 1 hour later;
    /// after three days there is none.
    pub async fn not_delivered(
        &self,
        delivery: Delivery,
        now: i64,
    ) -> Result<AfterFailure, StoreError> {
        self.records.not_delivered(delivery, now).await
    }

    /// Returns the webhooks to which a broker sends events, in order of name.
    pub async fn listening_webhooks(&self) -> Result<Vec<Webhook>, StoreError> {
        let mut webhooks = self.records.webhooks().await?;
        webhooks.retain(|webhook| webhook.disabled_at.is_none());
        Ok(webhooks)
    }

    /// Records that the receiver of a webhook is gone, so that no broker sends it another event.
    pub async fn disable_webhook(&self, webhook: &Webhook, now: i64) -> Result<(), StoreError> {
        self.records.disable_webhook(&webhook.id, now).await
    }

    /// Returns all webhooks, in order of name.
    pub async fn webhooks(&self, _: &OperatorAccess) -> Result<Vec<Webhook>, StoreError> {
        self.records.webhooks().await
    }

    /// Adds a webhook with a random secret. It does not change an existing one.
    pub async fn add_webhook(
        &self,
        access: &OperatorAccess,
        name: WebhookName,
        url: WebhookUrl,
        now: i64,
    ) -> Result<WebhookAdded, StoreError> {
        let mut id = [0; 8];
        let random = getrandom::fill(&mut id).and_then(|()| WebhookSecret::random());
        let secret = random.map_err(|error| {
            StoreError::unavailable("cannot generate a random secret for the webhook", error)
        })?;
        let webhook = Webhook {
            id: format!("wh_{}", hex::encode(id)),
            name,
            url,
            secret,
            created_by: access.operator().to_owned(),
            created_at: now,
            disabled_at: None,
        };
        self.records.add_webhook(webhook).await
    }

    /// Removes a webhook, and with it the events that it has not got. Returns whether there was one.
    pub async fn remove_webhook(
        &self,
        _: &OperatorAccess,
        name: &WebhookName,
    ) -> Result<bool, StoreError> {
        self.records.remove_webhook(name).await
    }
}
