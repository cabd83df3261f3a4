//! The events of versions on their way to those who listen, and the webhooks of operators.

use stile_core::audit::Kept;
use stile_core::grants::{OperatorAccess, PackageAccess, Upload as UploadRight};
use stile_core::package::Version;
use stile_core::version_event::{Consists, Facts, Happening, VersionEvent};
use stile_core::webhook::{WebhookName, WebhookSecret, WebhookUrl};

use super::Store;
use crate::outgoing::SendingEnd;
use crate::records::model::Content;
use crate::records::outbox::KeptEvent;
use crate::{
    Delivery, Destination, SendingClaim, StoreError, Webhook, WebhookAdded, WebhookSummary,
};

/// A change of a version, which an event reports.
#[derive(Debug, Clone)]
pub(super) struct Reported<'a> {
    pub(super) happening: Happening,
    pub(super) access: &'a PackageAccess<UploadRight>,
    pub(super) version: &'a Version,
    pub(super) reason: Option<&'a str>,
    pub(super) at: i64,
}

impl Store {
    /// Returns the event of a change, and which of the listeners get it. `None` if there is none.
    pub(super) async fn keep_event(
        &self,
        reported: &Reported<'_>,
        consists: Consists<'_>,
        listeners: &[Destination],
    ) -> Result<Option<KeptEvent>, StoreError> {
        if listeners.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.records.keep_event(self.event(reported, consists)?, listeners).await))
    }

    /// Returns the event of a change.
    pub(super) fn event(
        &self,
        reported: &Reported<'_>,
        consists: Consists<'_>,
    ) -> Result<VersionEvent, StoreError> {
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
            consists,
            principal: access.principal().as_str(),
            token_id: access.access().token_id().as_str(),
            reason: reported.reason,
        });
        event.map_err(|error| {
            StoreError::unavailable("cannot generate a random id for the event", error)
        })
    }

    /// Claims a destination, so that no other process sends to it meanwhile. `None` if nothing waits
    /// for it, or if no process may send to it now.
    ///
    /// A claim that nobody ends, ends after a minute. Then another process sends the event on which
    /// the holder worked a second time, so each is sent at least once.
    pub async fn claim(
        &self,
        destination: &Destination,
        now: i64,
    ) -> Result<Option<SendingClaim>, StoreError> {
        self.records.claim(destination, now).await
    }

    /// Returns at most `limit` events that wait for the destination, in order of key, from the first
    /// one after `after` on.
    pub async fn waiting(
        &self,
        claim: &SendingClaim,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        self.records.waiting(claim.destination(), after, limit).await
    }

    /// Counts the events that wait for a destination, up to `most`.
    pub async fn count_waiting(
        &self,
        destination: &Destination,
        most: usize,
    ) -> Result<usize, StoreError> {
        self.records.count_waiting(destination, None, most).await
    }

    /// Deletes an event that the destination has got, or that is too old.
    pub async fn remove_delivery(
        &self,
        _: &SendingClaim,
        delivery: Delivery,
    ) -> Result<(), StoreError> {
        self.records.remove_deliveries(vec![delivery]).await
    }

    /// Ends a claim. After a failure, no process sends to the destination for 5 seconds to 1 hour.
    pub async fn end_claim(
        &self,
        claim: SendingClaim,
        end: SendingEnd<'_>,
        now: i64,
    ) -> Result<(), StoreError> {
        self.records.end_claim(claim, end, now).await
    }

    /// Returns the webhooks to which a broker sends events, in order of name.
    pub async fn listening_webhooks(&self) -> Result<Vec<Webhook>, StoreError> {
        let webhooks = self.records.webhooks().await?;
        let listening = webhooks.into_iter().filter(|listed| listed.gone_at.is_none());
        Ok(listening.map(|listed| listed.webhook).collect())
    }

    /// Returns all webhooks, in order of name.
    pub async fn webhooks(&self, _: &OperatorAccess) -> Result<Vec<WebhookSummary>, StoreError> {
        self.records.webhooks().await
    }

    /// Returns the names of the webhooks that this program cannot read, and which get no events.
    /// `None` for one whose name it cannot read either.
    pub async fn unreadable_webhooks(
        &self,
        _: &OperatorAccess,
    ) -> Result<Vec<Option<WebhookName>>, StoreError> {
        self.records.unreadable_webhooks().await
    }

    /// Adds a webhook with a random secret. It does not change an existing one.
    pub async fn add_webhook(
        &self,
        access: &OperatorAccess,
        name: WebhookName,
        url: WebhookUrl,
        kept: &Kept,
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
            created_at: kept.at(),
        };
        self.records.add_webhook(webhook, kept).await
    }

    /// Removes a webhook, and with it the events that it has not got. Returns whether there was one.
    ///
    /// It also removes one that this program cannot read, if it can read its name and id.
    pub async fn remove_webhook(
        &self,
        _: &OperatorAccess,
        name: &WebhookName,
        kept: &Kept,
    ) -> Result<bool, StoreError> {
        self.records.remove_webhook(name, kept).await
    }
}

/// Returns what a version consists of, as an event says it.
pub(super) fn consists(content: &Content) -> Consists<'_> {
    match content {
        Content::Archive(archive) => Consists::Archive(archive.sha256.as_str()),
        Content::Object(object) => Consists::Archive(object.sha256.as_str()),
        Content::Source(source) => Consists::Source(source.as_str()),
        Content::Provider(release) => Consists::Release(release),
    }
}
