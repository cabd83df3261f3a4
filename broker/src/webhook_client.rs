//! Sends events to webhooks, and connects only to public addresses.
//!
//! The client resolves a name once for each connection, checks every address of the answer, and
//! connects to one of these. So a name that leads elsewhere a moment later changes nothing.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Certificate, StatusCode};
use stile_core::webhook::is_global;
use stile_store::{Delivery, Webhook};

/// The longest time for one event, from the lookup of the name to the status of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The future of a lookup.
pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

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
        let resolver = CheckedResolver { lookup: Arc::new(lookup), is_allowed };
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

/// Looks a name up as the system does.
fn lookup(name: String) -> Lookup {
    Box::pin(async move {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    })
}

/// A resolver that returns only answers of which every address is allowed.
struct CheckedResolver {
    lookup: Arc<dyn Fn(String) -> Lookup + Send + Sync>,
    is_allowed: fn(IpAddr) -> bool,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, is_allowed) = ((self.lookup)(name.as_str().to_owned()), self.is_allowed);
        Box::pin(async move {
            let addresses = checked(found.await?, is_allowed)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Returns the addresses to connect to, with port 0, if all of them are allowed.
fn checked(
    found: Vec<IpAddr>,
    is_allowed: fn(IpAddr) -> bool,
) -> Result<Vec<SocketAddr>, Box<dyn Error + Send + Sync>> {
    match found.iter().find(|address| !is_allowed(**address)) {
        Some(address) => {
            Err(format!("the name has the address {address}, which is not public").into())
        }
        None => Ok(found.into_iter().map(|address| SocketAddr::new(address, 0)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_that_is_not_public_refuses_the_whole_answer() {
        let parsed = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        for refused in [
            &["127.0.0.1"][..],
            &["93.184.216.34", "10.0.0.1"],
            &["169.254.169.254", "93.184.216.34"],
            &["2606:4700::1111", "::1"],
            &["::ffff:93.184.216.34"],
            &["100.64.0.1"],
            &["224.0.0.1"],
            &["fd00:ec2::254"],
            &["fe80::1"],
        ] {
            assert!(checked(parsed(refused), is_global).is_err(), "{refused:?}");
        }
        let public = checked(parsed(&["93.184.216.34", "2606:4700::1111"]), is_global).unwrap();
        assert_eq!(public.len(), 2);
    }
}
