//! A broker of a test that sends events.

use std::sync::Arc;

use axum::Router;
use stile_broker::app::events::Events;
use stile_broker::http;

use stile_protocol::region::REGIONS;

use stile_core::webhook::WebhookUrl;
use stile_store::{Webhook, WebhookAdded};

use super::{HOST, Place, TestBroker};
use crate::broker::operator::{kept, operator};

impl TestBroker {
    /// Starts a broker for [`HOST`] at that place.
    pub fn start_in_place(place: Place) -> Self {
        Self::start_at(HOST, 3600, place, &REGIONS.iter().collect::<Vec<_>>())
    }

    /// Returns the registry host.
    pub fn host(&self) -> &str {
        &self.audience
    }

    /// Adds a webhook, which must be possible.
    pub async fn add_webhook(&self, name: &str, url: &str) -> Webhook {
        let (access, url) = (operator(), WebhookUrl::parse(url).unwrap());
        let kept = kept(self.time());
        let added = self.store().add_webhook(&access, name.parse().unwrap(), url, &kept);
        match added.await.unwrap() {
            WebhookAdded::Done(webhook) => *webhook,
            other => panic!("{other:?}"),
        }
    }

    /// Starts another broker of the same registry, which sends events in this way.
    pub fn sending(&self, events: Events) -> Self {
        let mut again = self.restarted();
        // Only the routes share the new broker yet, and they are created again.
        again.router = Router::new();
        let broker = Arc::get_mut(&mut again.broker).unwrap();
        broker.events = events;
        // As in a program, the store knows the registry, which an event names.
        broker.store = broker.store.clone().for_registry(broker.audience.clone());
        again.router = http::router(Arc::clone(&again.broker));
        again
    }
}
