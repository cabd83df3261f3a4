//! Limits how much work of each kind runs at once, and how many uploads one principal may hold.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::per_key_limit::{PerKeyLimit, PerKeyPermit};
use stile_core::principal::Principal;

/// Exchanges that run at once, identical ones included. Past that, the broker asks callers to come back.
const EXCHANGES: usize = 2048;

/// Archives that arrive at once.
const UPLOADS: usize = 32;

/// Archives of one principal that arrive at once: one publisher must not keep all others from publishing.
const UPLOADS_OF_ONE: usize = 24;

/// Archives that are checked at once.
const CHECKS: usize = 2;

/// The limits of one broker.
#[derive(Debug)]
pub struct Limits {
    /// Permits for exchanges.
    pub exchanges: Arc<Semaphore>,
    /// Permits for archives that arrive.
    pub uploads: Arc<Semaphore>,
    /// Permits to check an archive, which takes a processor and tens of megabytes.
    pub checks: Arc<Semaphore>,
    uploaders: PerKeyLimit<Principal>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            exchanges: Arc::new(Semaphore::new(EXCHANGES)),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            checks: Arc::new(Semaphore::new(CHECKS)),
            uploaders: PerKeyLimit::new(UPLOADS_OF_ONE),
        }
    }
}

/// A permit for one archive that arrives, until it is dropped.
#[derive(Debug)]
pub struct UploadPermit {
    _upload: OwnedSemaphorePermit,
    _share: PerKeyPermit<Principal>,
}

impl Limits {
    /// A permit for one more archive of that principal; `None` where none is free.
    pub fn upload(&self, principal: &Principal) -> Option<UploadPermit> {
        let share = self.uploaders.take(principal.clone())?;
        let upload = Arc::clone(&self.uploads).try_acquire_owned().ok()?;
        Some(UploadPermit { _upload: upload, _share: share })
    }
}
