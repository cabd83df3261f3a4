//! Assembles a broker from a configuration: the only place where the parts meet.

use stile_protocol::audience::Audience;

use crate::app::{Broker, Limits, Readiness};
use crate::audit::{AuditLog, Folding};
use crate::authn::sigv4::{SingleFlight, Sts};
use crate::config::{Config, ConfigError, Kept};
use crate::principal_cache::PrincipalCache;
use crate::tokens::Tokens;
use stile_core::clock::Clock;
use stile_store::{AwsDeadlines, EmbeddedDeadlines, Store, StoreError};

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing says which registry this is.
    #[error(transparent)]
    NoHost(#[from] ConfigError),
    /// Nothing says which registry this is, and the table does not either.
    #[error(
        "table `{table}` does not say which registry it is for; hint: give `--host HOST`, or write it down once with `stile-admin store init --table {table} --host HOST`"
    )]
    NoHostInTable {
        /// Its name.
        table: String,
    },
    /// The HTTP client cannot be made.
    #[error("no HTTP client can be made")]
    Client(#[from] reqwest::Error),
}

/// Opens what the configuration names.
pub async fn open(config: &Config, clock: Clock, folding: Folding) -> Result<Broker, BootError> {
    let (store, audience) = open_store(config).await?;
    assemble(config, audience, store, clock, folding)
}

/// Assembles a broker of that registry over a store that is open.
pub fn assemble(
    config: &Config,
    audience: Audience,
    store: Store,
    clock: Clock,
    folding: Folding,
) -> Result<Broker, BootError> {
    Ok(Broker {
        audience: audience.clone(),
        regions: config.regions.clone(),
        sts: Sts::new(
            audience.clone(),
            config.fips,
            &config.regions,
            config.sts.clone(),
            config.sts_timeouts,
        )?,
        single_flight: SingleFlight::default(),
        audit: AuditLog::new(clock.clone(), folding),
        limits: Limits::default(),
        store,
        principal_cache: PrincipalCache::default(),
        link_ttl: config.link_ttl,
        tokens: Tokens::new(audience, config.max_ttl),
        default_ttl: config.default_ttl,
        clock,
        readiness: Readiness::default(),
    })
}

/// The store, and which registry it is opened for: the one that is told, or else the one that the table names.
///
/// Where it is told, nothing is called: what the table says is looked at together with the keyring, before any key is used.
async fn open_store(config: &Config) -> Result<(Store, Audience), BootError> {
    let told = config.host.clone();
    match &config.kept {
        Kept::Folder(folder) => {
            let deadlines = config
                .store_timeout
                .map_or_else(EmbeddedDeadlines::default, EmbeddedDeadlines::within);
            let store = Store::open_folder(folder, deadlines)?;
            Ok((store, told.ok_or(ConfigError::NoHost)?))
        }
        Kept::Aws { place, emulator } => {
            let deadlines =
                config.store_timeout.map_or_else(AwsDeadlines::default, AwsDeadlines::within);
            let store =
                Store::connect_aws(place, told.clone(), emulator.as_deref(), deadlines).await;
            let host = match told {
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
