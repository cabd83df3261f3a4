//! Webhooks, one item for each, all in one partition that only operators write.

use stile_core::webhook::{WebhookName, WebhookSecret, WebhookUrl};

use super::DynamoDb;
use super::attributes::{Row, number, read_number, read_text, text};
use super::outbox::remove_state;
use super::table::{Key, SK, Write};
use crate::records::webhooks::{StoredWebhook, UnreadableWebhook};
use crate::{Destination, StoreError, Webhook};

/// The partition of all webhooks.
const ALL: &str = "webhooks";

impl DynamoDb {
    /// Returns all webhooks, in order of name.
    pub(crate) async fn webhooks(&self) -> Result<Vec<StoredWebhook>, StoreError> {
        let mut found = Vec::new();
        self.query(ALL, "", |row| {
            found.push(row.map_or_else(|| Err(UnreadableWebhook::default()), |row| stored(&row)));
            false
        })
        .await?;
        Ok(found)
    }
}

/// Returns the write that adds a webhook. [`stored`] reads it.
pub(super) fn add(webhook: &Webhook) -> Write {
    let row = [
        ("id", text(webhook.id.as_str())),
        ("url", text(webhook.url.as_str())),
        ("secret", text(webhook.secret.expose().as_str())),
        ("created_by", text(webhook.created_by.as_str())),
        ("created_at", number(webhook.created_at)),
    ];
    Write::put(key(&webhook.name), row).only_if_absent()
}

/// Returns the writes that remove a webhook, if it still has this id.
pub(super) fn remove(name: &WebhookName, id: &str) -> Vec<Write> {
    let webhook = Write::delete(key(name)).only_if("id = :id").value(":id", text(id));
    vec![webhook, remove_state(&Destination::Webhook(id.to_owned()))]
}

fn key(name: &WebhookName) -> Key {
    Key::new(ALL, name.as_str())
}

fn stored(row: &Row) -> StoredWebhook {
    read(row).ok_or_else(|| UnreadableWebhook {
        id: read_text(row, "id").map(str::to_owned),
        name: read_text(row, SK).and_then(|name| name.parse().ok()),
    })
}

fn read(row: &Row) -> Option<Webhook> {
    Some(Webhook {
        id: read_text(row, "id")?.to_owned(),
        name: read_text(row, SK)?.parse().ok()?,
        url: WebhookUrl::parse(read_text(row, "url")?).ok()?,
        secret: WebhookSecret::parse(read_text(row, "secret")?).ok()?,
        created_by: read_text(row, "created_by")?.to_owned(),
        created_at: read_number(row, "created_at")?,
    })
}
