//! Webhooks as rows.

use rusqlite::types::Value;
use rusqlite::{Transaction, params};
use stile_core::webhook::{WebhookSecret, WebhookUrl};

use super::{Sqlite, number, rows, text};
use crate::records::webhooks::{StoredWebhook, UnreadableWebhook};
use crate::{StoreError, Webhook};

impl Sqlite {
    /// Returns all webhooks, in order of name.
    pub(crate) async fn webhooks(&self) -> Result<Vec<StoredWebhook>, StoreError> {
        self.read(|connection| {
            let sql =
                "SELECT id, name, url, secret, created_by, created_at FROM webhooks ORDER BY name";
            Ok(rows(connection, sql, [])?.iter().map(|row| stored(row)).collect())
        })
        .await
    }
}

/// Adds a webhook. [`stored`] reads it.
pub(super) fn add(transaction: &Transaction<'_>, webhook: &Webhook) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO webhooks (id, name, url, secret, created_by, created_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            webhook.id,
            webhook.name.as_str(),
            webhook.url.as_str(),
            webhook.secret.expose().as_str(),
            webhook.created_by,
            webhook.created_at,
        ])
        .map(drop)
}

fn stored(row: &[Value]) -> StoredWebhook {
    read(row).ok_or_else(|| UnreadableWebhook {
        id: text(row.first()).map(str::to_owned),
        name: text(row.get(1)).and_then(|name| name.parse().ok()),
    })
}

fn read(row: &[Value]) -> Option<Webhook> {
    Some(Webhook {
        id: text(row.first())?.to_owned(),
        name: text(row.get(1))?.parse().ok()?,
        url: WebhookUrl::parse(text(row.get(2))?).ok()?,
        secret: WebhookSecret::parse(text(row.get(3))?).ok()?,
        created_by: text(row.get(4))?.to_owned(),
        created_at: number(row.get(5))?,
    })
}
