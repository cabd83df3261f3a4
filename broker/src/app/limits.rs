//! Limits concurrent work: exchanges, checks of archives, and uploads, also of one principal and to
//! one namespace.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::check_turns::CheckTurns;
use crate::per_key_limit::{PerKeyLimit, PerKeyPermit};
use stile_core::package::archive::ArchiveLimits;
use stile_core::principal::Principal;
use stile_protocol::names::Namespace;

/// The number of concurrent exchanges, including identical ones, except of JWTs. Above it, the broker
/// answers 429.
const EXCHANGES: usize = 2048;

/// The number of concurrent exchanges of JWTs, which have permits of their own.
///
/// Without them, garbage for an issuer that hangs would keep signed requests from being exchanged.
const JWT_EXCHANGES: usize = 1024;

/// The number of concurrent uploads.
const UPLOADS: usize = 32;

/// The number of concurrent uploads of one principal, so that one publisher cannot block the
/// others.
const UPLOADS_OF_ONE: usize = 24;

/// The number of concurrent uploads to one namespace, so that several roles of one team cannot block
/// the others.
const UPLOADS_TO_ONE_NAMESPACE: usize = 24;

/// The number of threads that read metadata concurrently. It is above the number of checks, so that
/// threads that do not come back leave some for others.
const METADATA_THREADS: usize = 4;

/// The limits of one broker.
#[derive(Debug)]
pub struct Limits {
    /// The permits for exchanges, except of JWTs.
    pub exchanges: Arc<Semaphore>,
    /// The permits for exchanges of JWTs.
    pub jwt_exchanges: Arc<Semaphore>,
    /// The permits for uploads.
    pub uploads: Arc<Semaphore>,
    /// The turns for checks of archives.
    pub checks: CheckTurns,
    /// The limits of one check.
    pub archives: ArchiveLimits,
    /// The permit for the check of a provider's file in a process that stops after each answer. Its check
    /// goes on with the next event, and the disk of a function has space for one file.
    pub stopping_checks: Arc<Semaphore>,
    /// The permits for threads that read metadata.
    pub metadata_threads: Arc<Semaphore>,
    uploaders: PerKeyLimit<Principal>,
    namespaces: PerKeyLimit<Namespace>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            exchanges: Arc::new(Semaphore::new(EXCHANGES)),
            jwt_exchanges: Arc::new(Semaphore::new(JWT_EXCHANGES)),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            checks: CheckTurns::default(),
            archives: ArchiveLimits::default(),
            stopping_checks: Arc::new(Semaphore::new(1)),
            metadata_threads: Arc::new(Semaphore::new(METADATA_THREADS)),
            uploaders: PerKeyLimit::new(UPLOADS_OF_ONE),
            namespaces: PerKeyLimit::new(UPLOADS_TO_ONE_NAMESPACE),
        }
    }
}

/// The permit for one upload, until it is dropped.
#[derive(Debug)]
pub struct UploadPermit {
    _upload: OwnedSemaphorePermit,
    _uploader: PerKeyPermit<Principal>,
    _namespace: PerKeyPermit<Namespace>,
}

impl Limits {
    /// Returns the number of exchanges in progress.
    pub fn open_exchanges(&self) -> usize {
        let signed = EXCHANGES.saturating_sub(self.exchanges.available_permits());
        let jwts = JWT_EXCHANGES.saturating_sub(self.jwt_exchanges.available_permits());
        signed.saturating_add(jwts)
    }

    /// Returns the number of uploads in progress.
    pub fn open_uploads(&self) -> usize {
        UPLOADS.saturating_sub(self.uploads.available_permits())
    }

    /// Takes a permit for an upload of the principal to the namespace. `None` if no permit is free.
    pub fn upload(&self, principal: &Principal, namespace: &Namespace) -> Option<UploadPermit> {
        let uploader = self.uploaders.take(principal.clone())?;
        let namespace = self.namespaces.take(namespace.clone())?;
        let upload = Arc::clone(&self.uploads).try_acquire_owned().ok()?;
        Some(UploadPermit { _upload: upload, _uploader: uploader, _namespace: namespace })
    }
}
