//! Publishes a version: checks the archive, decides the right a second time, and adds the version.

use std::path::Path;

use super::authorize::{Bearer, DecideAgainError};
use super::broker::Broker;
use super::limits::UploadPermit;
use super::metadata::{self, Described};
use stile_core::audit::{Event, Kept, Outcome};
use stile_core::clock::Clock;
use stile_core::grants::{PackageAccess, Upload as UploadRight};
use stile_core::package::{ArchiveUpload, NewVersion, PackageAddress, UploadError, Version};
use stile_store::{Published, SpaceAllocation, StoreError};

/// The result of publishing a version.
#[derive(Debug)]
pub struct Publication {
    /// The package.
    pub address: PackageAddress,
    /// The version.
    pub version: Version,
    /// The SHA-256 of the sent archive, in lower-case hex.
    pub sha256: String,
    /// Whether the version is new, already published, or in conflict.
    pub outcome: Published,
    /// What of the module's metadata could not be read, one sentence each.
    pub warnings: Vec<String>,
}

/// The reason why the broker does not publish a version.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Too many uploads are in progress.
    #[error("too many uploads are in progress")]
    Overloaded,
    /// The archive waited too long for its check.
    #[error("the check of the archive could not begin, because the registry checks others")]
    NoTurn,
    /// The archive is not valid, or cannot be stored.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The publisher no longer has the right.
    #[error(transparent)]
    Right(#[from] DecideAgainError),
    /// The store is down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes a permit for one upload of the bearer to the namespace of the address.
pub fn permit(
    broker: &Broker,
    bearer: &Bearer,
    access: &PackageAccess<UploadRight>,
) -> Result<UploadPermit, PublishError> {
    let namespace = access.address().namespace();
    broker.limits.upload(bearer.principal(), namespace).ok_or(PublishError::Overloaded)
}

/// Creates an empty upload, to which the caller then writes the archive.
pub fn begin(broker: &Broker) -> Result<ArchiveUpload, PublishError> {
    Ok(ArchiveUpload::start(&broker.store.incoming())?)
}

/// An archive that arrives in a request. It leaves the reserve of free disk space.
#[derive(Debug)]
pub struct IncomingArchive {
    upload: ArchiveUpload,
    space: SpaceAllocation,
    clock: Clock,
}

impl IncomingArchive {
    /// Creates an empty archive of a module, if the disk has space for it. `announced` is its length,
    /// if the client sent it.
    pub fn begin(broker: &Broker, announced: Option<u64>) -> Result<Self, PublishError> {
        Self::begin_with(broker, announced, ArchiveUpload::start)
    }

    /// Does the same for the zip archive of one platform of a provider.
    pub fn begin_provider_file(
        broker: &Broker,
        announced: Option<u64>,
    ) -> Result<Self, PublishError> {
        Self::begin_with(broker, announced, ArchiveUpload::start_provider)
    }

    fn begin_with(
        broker: &Broker,
        announced: Option<u64>,
        start: fn(&Path) -> Result<ArchiveUpload, UploadError>,
    ) -> Result<Self, PublishError> {
        let clock = broker.clock.clone();
        let space = broker.store.allocate_space(announced, clock.now())?;
        Ok(Self { upload: start(&broker.store.incoming())?, space, clock })
    }

    /// Appends a received chunk, if the disk has space for it.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), PublishError> {
        self.space.admit(chunk.len() as u64, self.clock.now())?;
        Ok(self.upload.write(chunk).await?)
    }

    /// Returns the number of received bytes.
    pub const fn bytes(&self) -> u64 {
        self.upload.bytes()
    }

    /// Ends the archive. All its bytes are on the disk then, so it needs no more space.
    pub async fn finish(mut self) -> Result<ArchiveUpload, PublishError> {
        self.upload.flush().await?;
        Ok(self.upload)
    }
}

/// Checks the archive, and adds the version if the publisher still has the right.
///
/// An operator may have deleted the grant during the upload.
pub async fn publish(
    broker: &Broker,
    bearer: &Bearer,
    access: &PackageAccess<UploadRight>,
    new: NewVersion,
    upload: ArchiveUpload,
    event: &mut Event,
) -> Result<Publication, PublishError> {
    event.package(access.address(), Some(&new.version));
    let Described { archive, search, warnings } = {
        let turn = broker.limits.checks.take(bearer.principal(), access.address().namespace());
        let _turn = turn.await.ok_or(PublishError::NoTurn)?;
        let archive = upload.verify(new.format, broker.limits.archives).await?;
        metadata::describe(archive, &broker.limits).await
    };
    let new = NewVersion { search, ..new };
    let access = bearer.decide_again(broker, access, event).await?;
    let sha256 = archive.sha256().to_owned();
    let now = broker.clock.now();
    let listeners = broker.events.destinations(&broker.store, now).await?;
    let kept = Kept::new(event, now);
    let outcome = broker.store.publish(&access, &new, archive, &listeners, &kept).await?;
    event.outcome(logged(outcome));
    if outcome == Published::Created {
        broker.events.committed();
        broker.search_cache.forget(access.address().namespace());
    }
    let address = access.address().clone();
    Ok(Publication { address, version: new.version, sha256, outcome, warnings })
}

/// Returns the outcome for the audit log.
pub(super) const fn logged(outcome: Published) -> Outcome {
    match outcome {
        Published::Created => Outcome::Created,
        Published::Same => Outcome::Unchanged,
        Published::Replaced => Outcome::Changed,
        Published::Different | Published::InProgress | Published::Unpublished => Outcome::Conflict,
        Published::Full | Published::OverQuota(_) => Outcome::Full,
    }
}
