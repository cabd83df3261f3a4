//! Changes the life of a version: deprecates and unpublishes it, and takes either back.

use std::sync::Arc;

use super::authorize::Bearer;
use super::broker::Broker;
use super::usage;
use stile_core::audit::{Event, Kept, Outcome};
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
    /// The version would replace itself.
    #[error("`replacement` must be another version")]
    Itself,
    /// Too many changes are in progress.
    #[error("too many changes of versions are in progress")]
    Overloaded,
    /// The store is down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Changes the life of a version. Returns whether that changed anything.
///
/// It needs a permit like an upload: a change can rewrite a long list of versions.
pub async fn change(
    broker: &Arc<Broker>,
    bearer: &Bearer,
    access: &PackageAccess<UploadRight>,
    version: &Version,
    change: &LifeChange,
    event: &mut Event,
) -> Result<bool, LifeError> {
    event.package(access.address(), Some(version));
    let explanation = match change {
        LifeChange::Deprecate(explanation) | LifeChange::Unpublish(explanation) => {
            Some(explanation)
        }
        LifeChange::Undeprecate | LifeChange::Restore => None,
    };
    let replacement = explanation.and_then(|explanation| explanation.replacement.as_deref());
    if replacement == Some(version.to_string().as_str()) {
        return Err(LifeError::Itself);
    }
    let permit = broker.limits.upload(bearer.principal(), access.address().namespace());
    let _permit = permit.ok_or(LifeError::Overloaded)?;
    let now = broker.clock.now();
    let listeners = broker.events.destinations(&broker.store, now).await?;
    let kept = Kept::new(event, now);
    let changed = broker.store.change_life(access, version, change, &listeners, &kept).await?;
    match changed {
        LifeChanged::Done => {
            broker.events.committed();
            broker.search_cache.forget(access.address().namespace());
            event.outcome(Outcome::Changed);
            if explanation.is_some() {
                usage::record_deprecated(broker, access, version).await;
            }
            Ok(true)
        }
        LifeChanged::Unchanged => {
            event.outcome(Outcome::Unchanged);
            Ok(false)
        }
        LifeChanged::Absent => Err(LifeError::Absent),
        LifeChanged::Full => {
            event.outcome(Outcome::Full);
            Err(LifeError::Full)
        }
    }
}
