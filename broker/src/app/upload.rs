//! Publishes an archive that is too large for one request: an upload session is begun, filled in the bucket, completed.
//!
//! What arrives in the bucket is believed no more than what arrives in a request: it is fetched and checked all the same.

use super::authorize::{Bearer, DecideAgainError};
use super::broker::Broker;
use super::publish::{self, Publication, PublishError};
use stile_core::audit::{Event, Outcome};
use stile_core::grants::{PackageAccess, Upload as UploadRight};
use stile_core::package::{AnnouncedArchive, UploadError, UploadId, Version, archive};
use stile_store::{
    BegunUpload, FetchedUpload, PendingUpload, Published, StoreError, UploadSession,
};

/// How an announced archive is to be published.
#[derive(Debug)]
pub enum Begun {
    /// Not at all: the version is published already.
    Published(Publication),
    /// In one request: it is small enough.
    Direct,
    /// By putting it into the bucket.
    Session(UploadSession),
}

/// Why an upload session cannot be begun or completed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The archive is larger than what can be sent in one request, and this store has no other way.
    #[error("the archive is too large to be sent directly")]
    DirectOnly,
    /// No such session, or one of somebody else, for another version, or over.
    #[error("there is no such upload")]
    Unknown,
    /// Nothing was put into the bucket.
    #[error("nothing was put at the URL of this upload")]
    Nothing,
    /// Something else was put there.
    #[error("what was uploaded is not what was announced")]
    NotAnnounced,
    /// The archive cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        Self::Publish(error.into())
    }
}

impl From<DecideAgainError> for SessionError {
    fn from(error: DecideAgainError) -> Self {
        Self::Publish(error.into())
    }
}

/// Begins an upload session, unless none is needed. `direct` is the largest archive that one request carries, in bytes.
pub async fn begin(
    broker: &Broker,
    access: &PackageAccess<UploadRight>,
    version: &Version,
    announced: &AnnouncedArchive,
    direct: u64,
    event: &mut Event,
) -> Result<Begun, SessionError> {
    event.package(access.address(), Some(version));
    if let Some(publication) = published(broker, access, version, announced, event).await? {
        return Ok(Begun::Published(publication));
    }
    if announced.bytes <= direct {
        event.outcome(Outcome::Direct);
        return Ok(Begun::Direct);
    }
    let now = broker.clock.now();
    let begun = broker.store.begin_upload(access, version, announced, now).await?;
    let BegunUpload::Session(session) = begun else { return Err(SessionError::DirectOnly) };
    event.outcome(Outcome::Begun);
    Ok(Begun::Session(session))
}

/// Completes an upload session: fetches what was put into the bucket and publishes it.
pub async fn complete(
    broker: &Broker,
    bearer: &Bearer,
    access: &PackageAccess<UploadRight>,
    version: Version,
    id: &str,
    event: &mut Event,
) -> Result<Publication, SessionError> {
    event.package(access.address(), Some(&version));
    let id = UploadId::parse(id).ok_or(SessionError::Unknown)?;
    let _permit = publish::permit(broker, bearer)?;
    let now = broker.clock.now();
    let pending = broker.store.pending_upload(access, &version, &id, now).await?;
    let mut pending = pending.ok_or(SessionError::Unknown)?;
    let mut upload = publish::begin(broker)?;
    let fetched = broker.store.fetch_upload(&mut pending, &mut upload).await?;
    let done = match fetched {
        FetchedUpload::All if upload.matches(pending.announced()) => {
            let format = pending.announced().format;
            publish::publish(broker, bearer, access, version, upload, format, event)
                .await
                .map_err(SessionError::Publish)
        }
        FetchedUpload::All => Err(SessionError::NotAnnounced),
        FetchedUpload::Nothing => {
            nothing_there(broker, bearer, access, &version, &pending, event).await
        }
    };
    if is_over(&done) {
        broker.store.end_upload(pending).await;
    }
    done
}

/// Whether a session has nothing left to give. Any other stays: its sender may try again.
const fn is_over(done: &Result<Publication, SessionError>) -> bool {
    match done {
        Ok(publication) => !matches!(publication.outcome, Published::Full),
        Err(SessionError::NotAnnounced) => true,
        Err(SessionError::Publish(PublishError::Upload(UploadError::Archive(error)))) => {
            matches!(error, archive::ArchiveError::Rejected { .. })
        }
        Err(_) => false,
    }
}

/// Nothing is in the bucket before it was put there, and after somebody has completed the session.
async fn nothing_there(
    broker: &Broker,
    bearer: &Bearer,
    access: &PackageAccess<UploadRight>,
    version: &Version,
    pending: &PendingUpload,
    event: &mut Event,
) -> Result<Publication, SessionError> {
    let access = bearer.decide_again(broker, access, event).await?;
    let publication = published(broker, &access, version, pending.announced(), event).await?;
    publication.ok_or(SessionError::Nothing)
}

async fn published(
    broker: &Broker,
    access: &PackageAccess<UploadRight>,
    version: &Version,
    announced: &AnnouncedArchive,
    event: &mut Event,
) -> Result<Option<Publication>, StoreError> {
    let outcome = broker.store.published(access, version, announced).await?;
    outcome.map(publish::logged).into_iter().for_each(|outcome| event.outcome(outcome));
    Ok(outcome.map(|outcome| Publication {
        address: access.address().clone(),
        version: version.clone(),
        sha256: announced.sha256.clone(),
        outcome,
    }))
}
