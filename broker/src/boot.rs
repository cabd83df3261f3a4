//! Turns a configuration into a broker: the only place where the parts meet.

use std::sync::Arc;

use stile_protocol::audience::Audience;
use stile_protocol::region::Region;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::authn::sigv4::{SingleFlight, Sts};
use crate::config::{Config, ConfigError, Kept};
use crate::per_key_limit::{PerKeyLimit, PerKeyPermit};
use crate::principal_cache::PrincipalCache;
use crate::shared_failure_mutex::SharedFailureMutex;
use crate::tokens::{KeyError, Tokens};
use stile_core::clock::Clock;
use stile_core::principal::Principal;
use stile_core::token::Listed;
use stile_store::{Aws, AwsDeadlines, Embedded, EmbeddedDeadlines, Store, StoreError};

/// Exchanges in the works at once, identical ones included; past that callers are asked to come back.
const EXCHANGES: usize = 2048;

/// Archives arriving at once.
const UPLOADS: usize = 32;

/// Those of one principal: whoever may publish in one namespace must not keep all others from publishing.
const UPLOADS_OF_ONE: usize = 24;

/// Archives looked into at once.
const CHECKS: usize = 2;

/// How long a good answer of [`Broker::ready`] is believed, in seconds: anybody may ask, and each look is a write.
const READY: i64 = 2;

/// Everything a request needs.
#[derive(Debug)]
pub struct Broker {
    /// The registry's host.
    pub audience: Audience,
    /// The regions proofs may be signed for.
    pub regions: Vec<&'static Region>,
    /// Who says whose a proof is.
    pub sts: Sts,
    /// Identical proofs in flight.
    pub single_flight: SingleFlight,
    /// The room for exchanges.
    pub exchanges: Arc<Semaphore>,
    /// The room for archives that are arriving.
    pub uploads: Arc<Semaphore>,
    /// How much of that room each principal has.
    pub uploaders: PerKeyLimit<Principal>,
    /// The turns to look into an archive, which takes a processor and tens of megabytes.
    pub checks: Arc<Semaphore>,
    /// What is kept.
    pub store: Store,
    /// What is known of callers.
    pub principal_cache: PrincipalCache,
    /// How long a link to an archive is good for, in seconds.
    pub link_ttl: i64,
    /// Tokens, and the keys they are under.
    pub tokens: Tokens,
    /// The life of a token that names none, in seconds.
    pub default_ttl: i64,
    /// The time.
    pub clock: Clock,
    ready_at: SharedFailureMutex<Option<i64>>,
}

/// An archive's room while it arrives.
#[derive(Debug)]
pub struct UploadRoom {
    _room: OwnedSemaphorePermit,
    _share: PerKeyPermit<Principal>,
}

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
    /// There is no key to mint with.
    #[error("there is no key to mint with")]
    Key(#[from] KeyError),
}

impl Broker {
    /// Opens what the configuration names.
    pub async fn new(config: &Config, clock: Clock) -> Result<Self, BootError> {
        let (store, audience) = open(config).await?;
        Self::over(config, audience, store, clock)
    }

    /// The same, for that registry and over a store that is open.
    pub fn over(
        config: &Config,
        audience: Audience,
        store: Store,
        clock: Clock,
    ) -> Result<Self, BootError> {
        Ok(Self {
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
            exchanges: Arc::new(Semaphore::new(EXCHANGES)),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            uploaders: PerKeyLimit::new(UPLOADS_OF_ONE),
            checks: Arc::new(Semaphore::new(CHECKS)),
            store,
            principal_cache: PrincipalCache::default(),
            link_ttl: config.link_ttl,
            tokens: Tokens::new(audience, config.max_ttl),
            default_ttl: config.default_ttl,
            clock,
            ready_at: SharedFailureMutex::default(),
        })
    }

    /// Whether it can do its work now: the store answers and there is a key.
    pub async fn ready(&self) -> Result<(), BootError> {
        let now = self.clock.now();
        let mut ready_at = self.ready_at.lock().await;
        if ready_at.is_some_and(|at| (0..READY).contains(&now.saturating_sub(at))) {
            return Ok(());
        }
        if ready_at.failed_meanwhile() {
            return Err(StoreError::busy("it was not ready a moment ago").into());
        }
        *ready_at = None;
        let looked = self.health_check(now).await;
        match looked {
            Ok(()) => *ready_at = Some(now),
            Err(_) => ready_at.failed(),
        }
        looked
    }

    async fn health_check(&self, now: i64) -> Result<(), BootError> {
        self.store.health_check().await?;
        // As it is kept, not as this process remembers it.
        self.tokens.follow(&Listed::from(&self.store.keyring().await?), &self.store, now).await?;
        self.tokens.minting_key(&self.store, now).await?;
        Ok(())
    }

    /// Room for one more archive of that principal, until it is dropped.
    pub fn upload_room(&self, principal: &Principal) -> Option<UploadRoom> {
        let share = self.uploaders.take(principal.clone())?;
        let room = Arc::clone(&self.uploads).try_acquire_owned().ok()?;
        Some(UploadRoom { _room: room, _share: share })
    }

    /// The region of that name, if the operator enabled it.
    pub fn region(&self, name: &str) -> Option<&'static Region> {
        self.regions.iter().copied().find(|region| region.name == name)
    }
}

/// The store, and which registry it is opened for: the one that is told, or else the one that the table names.
///
/// Where it is told, nothing is called: what the table says is looked at together with the keyring, before any key is used.
async fn open(config: &Config) -> Result<(Store, Audience), BootError> {
    let told = config.host.clone();
    match &config.kept {
        Kept::Folder(folder) => {
            let deadlines = config
                .store_timeout
                .map_or_else(EmbeddedDeadlines::default, EmbeddedDeadlines::within);
            let store = Embedded::open(folder, deadlines)?;
            Ok((Store::Embedded(store), told.ok_or(ConfigError::NoHost)?))
        }
        Kept::Aws { place, emulator } => {
            let deadlines =
                config.store_timeout.map_or_else(AwsDeadlines::default, AwsDeadlines::within);
            let store =
                Aws::connect(place.clone(), told.clone(), emulator.as_deref(), deadlines).await;
            let host = match told {
                Some(host) => host,
                None => store
                    .host()
                    .await?
                    .ok_or_else(|| BootError::NoHostInTable { table: place.table.clone() })?,
            };
            Ok((Store::Aws(store.of(host.clone())), host))
        }
    }
}
