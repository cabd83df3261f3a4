//! Publishes an archive that is too large for one request, through an upload session.
//!
//! The publisher begins a session, puts the archive into the bucket, and completes the session. The
//! broker then fetches the archive, and checks it like an archive in a request.

use super::authorize::{Bearer, DecideAgainError};
use super::broker::Broker;
use super::publish::{self, Publication, PublishError};
use stile_core::audit::{Event, Outcome};
use stile_core::grants::{PackageAccess, Upload as UploadRight};
use stile_core::package::{
    AnnouncedArchive, NewVersion, SearchText, UploadError, UploadId, Version, archive,
};
use stile_store::{
    BegunUpload, FetchedUpload, PendingUpload, Published, QuotaExceeded, StoreError, UploadSession,
};

/// The way to publish an announced archive.
#[derive(Debug)]
pub enum UploadRoute {
    /// No upload: the version is already published.
    Published(Publication),
    /// One request, because the archive is small enough.
    Direct,
    /// An upload to the bucket.
    Session(UploadSession),
}

/// The reason why an upload session cannot begin or complete.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The archive is too large for one request, and this store has no upload sessions.
    #[error("the archive is too large for one request")]
    DirectOnly,
    /// The session does not exist, has ended, or is for another principal or version.
    #[error("there is no such upload")]
    Unknown,
    /// The bucket has no object for the session.
    #[error("no archive was put to the URL of this upload")]
    Nothing,
    /// The object in the bucket is not the announced archive.
    #[error("the uploaded archive is not the announced archive")]
    NotAnnounced,
    /// The archive would exceed a limit of the namespace.
    #[error("the archive would exceed a limit of the namespace")]
    OverQuota(QuotaExceeded),
    /// The principal or the namespace has the maximum number of open uploads.
    #[error("too many uploads are open")]
    TooManyOpen,
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

/// Begins an upload session, if the archive requires one.
///
/// `direct` is the size of the largest archive that fits into one request, in bytes.
pub async fn begin(
    broker: &Broker,
    access: &PackageAccess<UploadRight>,
    version: &Version,
    announced: &AnnouncedArchive,
    direct: u64,
    event: &mut Event,
) -> Result<UploadRoute, SessionError> {
    event.package(access.address(), Some(version));
    if let Some(publication) = published(broker, access, version, announced, event).await? {
        return Ok(UploadRoute::Published(publication));
    }
    if announced.bytes <= direct {
        event.outcome(Outcome::Direct);
        return Ok(UploadRoute::Direct);
    }
    let now = broker.clock.now();
    let begun = broker.store.begin_upload(access, version, announced, now).await?;
    match begun {
        BegunUpload::Session(session) => {
            event.outcome(Outcome::Begun);
            Ok(UploadRoute::Session(session))
        }
        BegunUpload::ThroughBroker => Err(SessionError::DirectOnly),
        BegunUpload::OverQuota(exceeded) => {
            event.outcome(Outcome::Full);
            Err(SessionError::OverQuota(exceeded))
        }
        BegunUpload::TooManyOpen => Err(SessionError::TooManyOpen),
    }
}

/// Completes an upload session: fetches the archive from the bucket, and publishes it.
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
    let _permit = publish::permit(broker, bearer, access)?;
    let now = broker.clock.now();
    let pending = broker.store.pending_upload(access, &version, &id, now).await?;
    let mut pending = pending.ok_or(SessionError::Unknown)?;
    let mut upload = publish::begin(broker)?;
    let fetched = broker.store.fetch_upload(&mut pending, &mut upload).await?;
    let done = match fetched {
        FetchedUpload::All if upload.matches(pending.announced()) => {
            let announced = pending.announced();
            let new = NewVersion {
                version,
                format: announced.format,
                claimed: announced.claimed.clone(),
                search: SearchText::default(),
            };
            publish::publish(broker, bearer, access, new, upload, event)
                .await
                .map_err(SessionError::Publish)
        }
        FetchedUpload::All => Err(SessionError::NotAnnounced),
        FetchedUpload::Nothing => {
            completed_before(broker, bearer, access, &version, &pending, event).await
        }
    };
    if is_over(&done) {
        broker.store.end_upload(access, pending).await;
    }
    done
}

/// Returns whether the session has ended. Otherwise it stays open, and the publisher may try again.
const fn is_over(done: &Result<Publication, SessionError>) -> bool {
    match done {
        Ok(publication) => {
            use Published::{Full, InProgress, OverQuota};
            !matches!(publication.outcome, Full | InProgress | OverQuota(_))
        }
        Err(SessionError::NotAnnounced) => true,
        Err(SessionError::Publish(PublishError::Upload(UploadError::Archive(error)))) => {
            matches!(error, archive::ArchiveError::Rejected { .. })
        }
        Err(_) => false,
    }
}

/// Returns the publication of a session whose object is not in the bucket.
///
/// The object is missing before the publisher puts it there, and after the session was completed.
async fn completed_before(
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

/// Returns the publication of the version, if the version already exists.
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
        warnings: Vec::new(),
    }))
}
