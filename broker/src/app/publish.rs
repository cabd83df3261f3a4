//! Publishes a version: checks the archive, decides the right a second time, and lists the version.

use super::authorize::{Bearer, DecideAgainError};
use super::broker::Broker;
use super::limits::UploadPermit;
use stile_core::audit::{Event, Outcome};
use stile_core::grants::{PackageAccess, Upload as UploadRight};
use stile_core::package::{ArchiveUpload, Format, PackageAddress, UploadError, Version};
use stile_store::{Published, StoreError};

/// What came of publishing.
#[derive(Debug)]
pub struct Publication {
    /// The package.
    pub address: PackageAddress,
    /// Its version.
    pub version: Version,
    /// Lower-case hex SHA-256 of the archive that was sent.
    pub sha256: String,
    /// Whether the version is new, the same or another.
    pub outcome: Published,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Too many archives arrive at once.
    #[error("too many archives are arriving")]
    Overloaded,
    /// The archive cannot be taken.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The publisher may not publish any more.
    #[error(transparent)]
    Right(#[from] DecideAgainError),
    /// The store is down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A permit for one archive of that publisher to arrive.
pub fn permit(broker: &Broker, bearer: &Bearer) -> Result<UploadPermit, PublishError> {
    broker.limits.upload(bearer.principal()).ok_or(PublishError::Overloaded)
}

/// An empty upload, to be filled with what the publisher sends.
pub fn begin(broker: &Broker) -> Result<ArchiveUpload, PublishError> {
    Ok(ArchiveUpload::start(&broker.store.incoming())?)
}

/// Checks what arrived and lists it, if the publisher may still do that: a grant that was taken away meanwhile counts.
pub async fn publish(
    broker: &Broker,
    bearer: &Bearer,
    access: &PackageAccess<UploadRight>,
    version: Version,
    upload: ArchiveUpload,
    format: Format,
    event: &mut Event,
) -> Result<Publication, PublishError> {
    event.package(access.address(), Some(&version));
    let archive = {
        let _permit = broker.limits.checks.acquire().await;
        upload.verify(format).await?
    };
    let access = bearer.decide_again(broker, access, event).await?;
    let sha256 = archive.sha256().to_owned();
    let outcome = broker.store.publish(&access, &version, archive, broker.clock.now()).await?;
    event.outcome(logged(outcome));
    Ok(Publication { address: access.address().clone(), version, sha256, outcome })
}

/// What the audit log says of it.
pub(super) const fn logged(outcome: Published) -> Outcome {
    match outcome {
        Published::Created => Outcome::Created,
        Published::Same => Outcome::Unchanged,
        Published::Different => Outcome::Conflict,
        Published::Full => Outcome::Full,
    }
}
