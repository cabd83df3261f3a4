//! Publishes a version whose archive is an object of another bucket. The broker reads the object once,
//! checks it like any archive, and records in which state it was.

use super::authorize::{Bearer, DecideAgainError};
use super::broker::Broker;
use super::metadata::{self, Described};
use super::publish::{IncomingArchive, PublishError, logged, permit};
use stile_core::audit::{Event, Kept};
use stile_core::grants::{PackageAccess, Upload as UploadRight};
use stile_core::package::source::{ObjectAddress, SourceRefusal};
use stile_core::package::{
    ArchiveUpload, Claimed, MAX_ARCHIVE, NewVersion, PackageAddress, UploadError, Version,
};
use stile_store::{
    ObjectRefusal, OpenedObject, PermittedObject, Published, ReadObject, RecordedObject,
    SourcePublished, StoreError,
};

/// What a publisher says about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedObject {
    /// The address.
    pub address: ObjectAddress,
    /// The SHA-256 of its bytes, in lower-case hex.
    pub sha256: String,
}

/// The result of publishing a version with an object.
#[derive(Debug)]
pub struct ObjectPublication {
    /// The package.
    pub address: PackageAddress,
    /// The version.
    pub version: Version,
    /// The SHA-256 of the archive, in lower-case hex.
    pub sha256: String,
    /// The object that the version has, if the broker knows that from S3. `None` if the version has the
    /// same bytes as an archive: then the broker did not read the announced object.
    pub object: Option<ObjectAddress>,
    /// Whether the version is new, has another object now, is already published, or in conflict.
    pub outcome: Published,
    /// What of the module's metadata could not be read, one sentence each.
    pub warnings: Vec<String>,
}

/// The reason why the broker does not publish an object.
#[derive(Debug, thiserror::Error)]
pub enum PublishObjectError {
    /// The namespace does not allow the object.
    #[error(transparent)]
    NotAllowed(#[from] SourceRefusal),
    /// S3 does not give the object to the registry.
    #[error("S3 does not give the object")]
    Refused(ObjectRefusal),
    /// The object has another SHA-256. The answer does not contain it, because the publisher may not be
    /// allowed to read the object.
    #[error("the object has another SHA-256")]
    OtherDigest,
    /// The object is neither a zip archive nor a tar archive with gzip.
    #[error("the object is neither a `.zip` nor a `.tar.gz` archive")]
    NoArchive,
    /// The archive is not valid, the version cannot be published now, or the publisher no longer has
    /// the right.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl From<DecideAgainError> for PublishObjectError {
    fn from(error: DecideAgainError) -> Self {
        Self::Publish(error.into())
    }
}

impl From<StoreError> for PublishObjectError {
    fn from(error: StoreError) -> Self {
        Self::Publish(error.into())
    }
}

impl From<UploadError> for PublishObjectError {
    fn from(error: UploadError) -> Self {
        Self::Publish(error.into())
    }
}

/// Adds a version with an object, if the namespace allows the object, the object has the announced
/// bytes, and the publisher still has the right.
///
/// A version that has another object with the same bytes gets this one, so that a publisher can repair
/// it.
///
/// A publisher learns about an object only if the namespace allows it.
pub async fn publish_object(
    broker: &Broker,
    bearer: &Bearer,
    access: &PackageAccess<UploadRight>,
    version: Version,
    object: AnnouncedObject,
    claimed: Option<Claimed>,
    event: &mut Event,
) -> Result<ObjectPublication, PublishObjectError> {
    event.package(access.address(), Some(&version));
    event.object(&object.address);
    let _permit = permit(broker, bearer, access)?;
    let permitted = broker.store.permit_object(access, &object.address).await??;
    let (address, AnnouncedObject { address: at, sha256 }) = (access.address().clone(), object);
    let published = |version, object, outcome, warnings| ObjectPublication {
        address: address.clone(),
        version,
        sha256: sha256.clone(),
        object,
        outcome,
        warnings,
    };
    let recorded = match broker.store.recorded_object(access, &version, &sha256).await? {
        Ok(recorded) => recorded,
        Err(outcome) => {
            // The broker did not read the object, and the version does not have it.
            event.without_source();
            event.outcome(logged(outcome));
            return Ok(published(version, None, outcome, Vec::new()));
        }
    };
    let Some((upload, read)) = fetch(broker, &permitted, recorded.as_ref()).await? else {
        event.outcome(logged(Published::Same));
        return Ok(published(version, Some(at), Published::Same, Vec::new()));
    };
    if upload.sha256() != sha256 {
        return Err(PublishObjectError::OtherDigest);
    }
    let format = upload.sniff().ok_or(PublishObjectError::NoArchive)?;
    let Described { archive, search, warnings } = {
        let turn = broker.limits.checks.take(bearer.principal(), address.namespace());
        let _turn = turn.await.ok_or(PublishError::NoTurn)?;
        let archive = upload.verify(format, broker.limits.archives).await?;
        metadata::describe(archive, &broker.limits).await
    };
    let new = NewVersion { version, format, claimed, search };
    // The object can arrive slowly, and an operator may delete the grant meanwhile.
    let access = bearer.decide_again(broker, access, event).await?;
    let now = broker.clock.now();
    let listeners = broker.events.destinations(&broker.store, now).await?;
    let kept = Kept::new(event, now);
    let answered =
        broker.store.publish_object(&access, &new, archive, read, &listeners, &kept).await?;
    let outcome = match answered {
        SourcePublished::Answered(outcome) => outcome,
        SourcePublished::Refused(refusal) => return Err(refusal.into()),
    };
    let has_it = matches!(outcome, Published::Created | Published::Replaced);
    if !has_it {
        event.without_source();
    }
    event.outcome(logged(outcome));
    if outcome == Published::Created {
        broker.events.committed();
        broker.search_cache.forget(address.namespace());
    }
    Ok(published(new.version, has_it.then_some(at), outcome, warnings))
}

/// Reads an object into a file that must still be verified. `None` if it is exactly what the version
/// has already.
async fn fetch(
    broker: &Broker,
    object: &PermittedObject,
    recorded: Option<&RecordedObject>,
) -> Result<Option<(ArchiveUpload, ReadObject)>, PublishObjectError> {
    let opened = broker.store.open_object(object, broker.clock.now()).await?;
    let mut opened: OpenedObject = opened.map_err(PublishObjectError::Refused)?;
    if recorded.is_some_and(|recorded| opened.is(recorded)) {
        return Ok(None);
    }
    if opened.bytes() > MAX_ARCHIVE {
        return Err(UploadError::TooLarge(MAX_ARCHIVE).into());
    }
    let mut incoming = IncomingArchive::begin(broker, Some(opened.bytes()))?;
    while let Some(chunk) = opened.next().await? {
        incoming.write(&chunk).await?;
    }
    Ok(Some((incoming.finish().await?, opened.finish())))
}
