//! Assembles a broker from a configuration. Only this module creates the parts of a broker.

use std::net::IpAddr;
use std::sync::Arc;

use stile_protocol::audience::Audience;

use crate::app::events::Events;
use crate::app::{Broker, DownloadCounts, Limits, Readiness, RefusedExchangeLimits};
use crate::audit::{AuditLog, Folding};
use crate::authn::jwt::{IssuerClient, Jwts};
use crate::authn::sigv4::{SingleFlight, Sts};
use crate::config::{Config, ConfigError, StoreLocation};
use crate::metrics::Metrics;
use crate::principal_cache::PrincipalCache;
use crate::search_cache::SearchCache;
use crate::service_token_cache::ServiceTokenCache;
use crate::tokens::Tokens;
use crate::trust_cache::TrustCache;
use crate::webhook_client::WebhookClient;
use stile_core::clock::Clock;
use stile_store::{AwsDeadlines, EventBus, ServiceCalls, Store, StoreError};

/// The reason why a broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configuration has no registry host.
    #[error(transparent)]
    NoHost(#[from] ConfigError),
    /// Neither the configuration nor the table has a registry host.
    #[error(
        "table `{table}` has no registry host; hint: give `--host HOST`, or write the host into the table with `stile-admin store init --table {table} --host HOST`"
    )]
    NoHostInTable {
        /// The name of the table.
        table: String,
    },
    /// The HTTP client cannot be created.
    #[error("cannot create the HTTP client")]
    Client(#[from] reqwest::Error),
}

/// Opens the store of the configuration, and assembles a broker over it.
pub async fn open(config: &Config, clock: Clock, folding: Folding) -> Result<Broker, BootError> {
    let (store, audience) = open_store(config).await?;
    let bus = open_bus(config, store.calls()).await;
    assemble(config, audience, store, bus, clock, folding)
}

/// Assembles a broker of the given registry over an open store.
pub fn assemble(
    config: &Config,
    audience: Audience,
    store: Store,
    bus: Option<EventBus>,
    clock: Clock,
    folding: Folding,
) -> Result<Broker, BootError> {
    let metrics = Arc::new(Metrics::new(store.calls().clone()));
    Ok(Broker {
        origin: origin(&audience, config.plain_http),
        audience: audience.clone(),
        regions: config.regions.clone(),
        sts: Sts::new(
            audience.clone(),
            config.fips,
            &config.regions,
            config.sts.clone(),
            config.sts_timeouts,
            store.calls().clone(),
        )?,
        jwts: Jwts::new(IssuerClient::new(&config.private_issuers, store.calls().clone())?),
        single_flight: SingleFlight::default(),
        audit: AuditLog::new(clock.clone(), folding, Arc::clone(&metrics)),
        limits: Limits::default(),
        refused_exchange_limits: RefusedExchangeLimits::default(),
        store,
        principal_cache: PrincipalCache::new(Arc::clone(&metrics)),
        service_token_cache: ServiceTokenCache::new(Arc::clone(&metrics)),
        search_cache: SearchCache::new(Arc::clone(&metrics)),
        trust_cache: TrustCache::new(Arc::clone(&metrics)),
        link_ttl: config.link_ttl,
        tokens: Tokens::new(audience, config.max_ttl, Arc::clone(&metrics)),
        default_ttl: config.default_ttl,
        audit_days: config.audit_days,
        serves_openapi: config.openapi,
        clock,
        download_counts: DownloadCounts::default(),
        events: Events::new(WebhookClient::new()?, bus),
        readiness: Readiness::default(),
        metrics,
    })
}

/// Returns the URL of the registry without a path, with which every download address begins.
///
/// It comes from the configuration only: a client that chose it could send others to another server.
/// It is `http` only for a registry on loopback where nothing terminates TLS.
fn origin(audience: &Audience, plain_http: bool) -> String {
    let is_loopback = audience.host().parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match audience.port() {
        _ if !(plain_http && is_loopback) => format!("https://{audience}"),
        // A registry host without a port has port 443, also for plain HTTP.
        None => format!("http://{audience}:443"),
        Some(_) => format!("http://{audience}"),
    }
}

/// Connects to the configured event bus, without a call. If an emulator replaces AWS for the store,
/// it also has the bus.
async fn open_bus(config: &Config, calls: &ServiceCalls) -> Option<EventBus> {
    let name = config.event_bus.clone()?;
    let emulator = match &config.store {
        StoreLocation::Folder(_) => None,
        StoreLocation::Aws { emulator, .. } => emulator.as_deref(),
    };
    Some(EventBus::connect(name, emulator, AwsDeadlines::default(), calls).await)
}

/// Opens the store, and returns it with the registry host: the configured one, or else the table's.
///
/// With a configured host, this function calls no service. The store later compares that host with
/// the recorded one: a table's when it reads the keyring, before it uses a key, and a folder's when
/// the broker begins to serve.
async fn open_store(config: &Config) -> Result<(Store, Audience), BootError> {
    let configured = config.host.clone();
    match &config.store {
        StoreLocation::Folder(folder) => {
            let store = Store::open_folder(folder, config.embedded_deadlines())?;
            let store = match config.disk_reserve {
                Some(reserve) => store.with_disk_reserve(reserve),
                None => store,
            };
            let host = configured.ok_or(ConfigError::NoHost)?;
            Ok((store.for_registry(host.clone()), host))
        }
        StoreLocation::Aws { place, emulator } => {
            let deadlines = config.aws_deadlines();
            let store =
                Store::connect_aws(place, configured.clone(), emulator.as_deref(), deadlines).await;
            let host = match configured {
                Some(host) => host,
                None => store
                    .host()
                    .await?
                    .ok_or_else(|| BootError::NoHostInTable { table: place.table.clone() })?,
            };
            Ok((store.for_registry(host.clone()), host))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_reached_with_http_only_on_loopback_without_tls() {
        for (host, plain_http, expected) in [
            ("registry.example.com", true, "https://registry.example.com"),
            ("registry.example.com:8443", true, "https://registry.example.com:8443"),
            ("127.0.0.1.example.com:8443", true, "https://127.0.0.1.example.com:8443"),
            ("registry.localhost:8443", true, "https://registry.localhost:8443"),
            ("10.0.0.1:8443", true, "https://10.0.0.1:8443"),
            ("127.0.0.1:8443", false, "https://127.0.0.1:8443"),
            ("registry.example.com", false, "https://registry.example.com"),
            ("127.0.0.1:8443", true, "http://127.0.0.1:8443"),
            ("127.8.9.10:80", true, "http://127.8.9.10:80"),
            ("127.0.0.1", true, "http://127.0.0.1:443"),
        ] {
            let audience = Audience::parse(host).unwrap();
            assert_eq!(origin(&audience, plain_http), expected, "{host} {plain_http}");
        }
    }
}
