//! Sends events to webhooks, and connects only to public addresses.
//!
//! [`CheckedResolver`] checks the addresses of a name.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, StatusCode};
use stile_core::webhook::is_global;
use stile_store::{Delivery, Webhook};

use crate::checked_resolver::{CheckedResolver, Lookup, lookup};

/// The longest time for one event, from the lookup of the name to the status of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The reason why a webhook did not get an event.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The host is an address that is not public.
    #[error("its address {0} is not public")]
    NotPublic(IpAddr),
    /// The event could not be sent, or there was no answer in time.
    #[error("cannot send the event")]
    Send(#[source] reqwest::Error),
    /// The receiver does not want any more events: status 410.
    #[error("its receiver is gone")]
    Gone,
    /// The receiver answered with a status other than 2xx.
    #[error("its receiver answered with status {0}")]
    Status(StatusCode),
}

impl WebhookError {
    /// Returns whether the receiver is there and did not take this event. It may take others.
    pub fn is_of_one_event(&self) -> bool {
        match self {
            // 429 is about all events, as 5xx is.
            Self::Status(status) => !status.is_server_error() && status.as_u16() != 429,
            _ => false,
        }
    }
}

/// A client that sends events to webhooks.
#[derive(Clone)]
pub struct WebhookClient {
    http: reqwest::Client,
    is_allowed: fn(IpAddr) -> bool,
}

impl fmt::Debug for WebhookClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WebhookClient")
    }
}

impl WebhookClient {
    /// Creates the client of a broker.
    pub fn new() -> Result<Self, reqwest::Error> {
        Self::build(lookup, is_global, |builder| builder)
    }

    /// Creates a client of a test: with another lookup of names and other allowed addresses, and
    /// which trusts only that certificate authority.
    ///
    /// No program calls it; a test of the source code enforces this.
    pub fn for_test(
        lookup: impl Fn(String) -> Lookup + Send + Sync + 'static,
        is_allowed: fn(IpAddr) -> bool,
        authority: &Certificate,
    ) -> Result<Self, reqwest::Error> {
        Self::build(lookup, is_allowed, |builder| builder.tls_certs_only([authority.clone()]))
    }

    fn build(
        lookup: impl Fn(String) -> Lookup + Send + Sync + 'static,
        is_allowed: fn(IpAddr) -> bool,
        trust: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<Self, reqwest::Error> {
        let resolver = CheckedResolver::new(lookup, is_allowed);
        let builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .https_only(true)
            .dns_resolver(Arc::new(resolver))
            .pool_max_idle_per_host(0)
            .user_agent(concat!("stile/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT);
        Ok(Self { http: trust(builder).build()?, is_allowed })
    }

    /// Sends an event once, signed after Standard Webhooks. It reads no body of the answer.
    pub async fn send(
        &self,
        webhook: &Webhook,
        delivery: &Delivery,
        now: i64,
    ) -> Result<(), WebhookError> {
        let event = &delivery.event;
        // The resolver is not asked about a host that is an address.
        if let Some(address) = webhook.url.address().filter(|address| !(self.is_allowed)(*address))
        {
            return Err(WebhookError::NotPublic(address));
        }
        let sent = self
            .http
            .post(webhook.url.as_str())
            .header("content-type", "application/json")
            .header("webhook-id", &event.id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", webhook.secret.sign(&event.id, now, &event.body))
            .body(event.body.clone())
            .send();
        // The URL of a webhook may contain a secret.
        let answer = sent.await.map_err(|error| WebhookError::Send(error.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::GONE => Err(WebhookError::Gone),
            status => Err(WebhookError::Status(status)),
        }
    }
}
