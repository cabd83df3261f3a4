//! Publishes a version whose files are at another server. The broker records the source, and never
//! reads it.

use super::authorize::{Bearer, DecideAgainError};
use super::broker::Broker;
use super::publish::{PublishError, logged, permit};
use stile_core::audit::{Event, Kept};
use stile_core::grants::{PackageAccess, Upload as UploadRight};
use stile_core::package::source::{ModuleSource, SourceRefusal};
use stile_core::package::{Claimed, PackageAddress, Version};
use stile_store::{Published, SourcePublished, StoreError};

/// The result of publishing a version with a source.
#[derive(Debug)]
pub struct SourcePublication {
    /// The package.
    pub address: PackageAddress,
    /// The version.
    pub version: Version,
    /// The source, as the publisher sent it.
    pub source: ModuleSource,
    /// Whether the version is new, already published, or in conflict.
    pub outcome: Published,
}

/// The reason why the broker does not publish a source.
#[derive(Debug, thiserror::Error)]
pub enum PublishSourceError {
    /// The namespace does not allow the source.
    #[error(transparent)]
    Source(#[from] SourceRefusal),
    /// The version cannot be published now, or the publisher no longer has the right.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl From<DecideAgainError> for PublishSourceError {
    fn from(error: DecideAgainError) -> Self {
        Self::Publish(error.into())
    }
}

impl From<StoreError> for PublishSourceError {
    fn from(error: StoreError) -> Self {
        Self::Publish(error.into())
    }
}

/// Adds a version with a source, if the namespace allows it, and the publisher still has the right.
///
/// `claimed` is what the publisher's environment claims about the version.
pub async fn publish_source(
    broker: &Broker,
    bearer: &Bearer,
    access: &PackageAccess<UploadRight>,
    version: Version,
    source: ModuleSource,
    claimed: Option<Claimed>,
    event: &mut Event,
) -> Result<SourcePublication, PublishSourceError> {
    event.package(access.address(), Some(&version));
    event.source(&source);
    let _permit = permit(broker, bearer, access)?;
    // The body can arrive slowly, and an operator may delete the grant meanwhile.
    let access = bearer.decide_again(broker, access, event).await?;
    let now = broker.clock.now();
    let listeners = broker.events.destinations(&broker.store, now).await?;
    let kept = Kept::new(event, now);
    let published =
        broker.store.publish_source(&access, &version, &source, claimed, &listeners, &kept);
    let published = published.await?;
    let outcome = match published {
        SourcePublished::Answered(outcome) => outcome,
        SourcePublished::Refused(refusal) => return Err(refusal.into()),
    };
    event.outcome(logged(outcome));
    if outcome == Published::Created {
        broker.events.committed();
        broker.search_cache.forget(access.address().namespace());
    }
    Ok(SourcePublication { address: access.address().clone(), version, source, outcome })
}
