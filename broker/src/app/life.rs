//! Changes the life of a version: deprecates and unpublishes it, and takes either back.

use super::broker::Broker;
use super::events;
use stile_core::audit::{Event, Outcome};
use stile_core::grants::{PackageAccess, Upload as UploadRight};
use stile_core::package::{LifeChange, Version};
use stile_store::{LifeChanged, StoreError};

/// The reason why the life of a version does not change.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// The version does not exist.
    #[error("there is no such version")]
    Absent,
    /// The package cannot list one more version.
    #[error("the module has the maximum number of versions")]
    Full,
    /// The store is down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Changes the life of a version. Returns whether that changed anything.
pub async fn change(
    broker: &Broker,
    access: &PackageAccess<UploadRight>,
    version: &Version,
    change: &LifeChange,
    event: &mut Event,
) -> Result<bool, LifeError> {
    event.package(access.address(), Some(version));
    let listeners = events::destinations(broker).await?;
    let now = broker.clock.now();
    match broker.store.change_life(access, version, change, &listeners, now).await? {
        LifeChanged::Done => {
            broker.events.committed();
            event.outcome(Outcome::Changed);
            Ok(true)
        }
        LifeChanged::Unchanged => {
            event.outcome(Outcome::Unchanged);
            Ok(false)
        }
        LifeChanged::Absent => Err(LifeError::Absent),
        LifeChanged::Full => Err(LifeError::Full),
    }
}
