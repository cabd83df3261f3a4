//! Publishes a version of a provider, through an upload session.
//!
//! The publisher begins a session with the signed list of digests, sends each file, has each verified by
//! a request of its own, and completes the session. The completion reads no file, so no request takes
//! longer than a gateway waits, whatever the size of the version.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::authorize::{Bearer, DecideAgainError};
use super::broker::Broker;
use super::limits::UploadPermit;
use super::publish::{self, Publication, PublishError};
use super::upload::SessionError;
use stile_core::audit::{Event, Kept, Outcome};
use stile_core::grants::{PackageAccess, Upload as UploadRight};
use stile_core::package::archive::ArchiveLimits;
use stile_core::package::provider::{AnnouncedRelease, Platform, SignerError};
use stile_core::package::{ArchiveUpload, UploadError, UploadId, Version};
use stile_store::{
    BegunProviderUpload, Blobs, FetchedUpload, NotReplaced, PendingFile, PendingProviderUpload,
    ProviderCompletion, ProviderManifest, Published, StoreError, VerificationTurn,
};

/// The longest time that a file waits for its check. The client does not wait for it, and would have to
/// send the file again. It is shorter than the turn of this file in the store.
const TURN_WITHIN: Duration = Duration::from_secs(60);

/// The time after which a client gets an answer while its file is verified. Gateways and load balancers
/// wait 29 seconds or more.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The time before the end of the client's patience in which it may get the answer or not.
const NEARLY: Duration = Duration::from_secs(1);

/// The reason why a version of a provider is not published.
#[derive(Debug, thiserror::Error)]
pub enum ProviderUploadError {
    /// No valid key of the namespace made the signature.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The session has no file of this name.
    #[error("this upload has no file of this name")]
    UnknownFile,
    /// A client must put the file to its URL, and not into the request.
    #[error("put the file to its `url`, and send this request without a body")]
    NotHere,
    /// The request has no file, and this store has no URL for it.
    #[error("nothing was sent for this file")]
    Nothing,
    /// An earlier request of the session refused the file, for this reason.
    #[error("{0}")]
    Refused(String),
    /// The file is not the one in the list of digests.
    #[error("the file has another size or SHA-256 than announced")]
    NotAnnounced,
    /// The version got files meanwhile, for which the list of digests has no line.
    #[error("the version got files for other platforms meanwhile: {}", names(.0))]
    Stale(Vec<Platform>),
    /// The version got another file for this platform meanwhile.
    #[error("the version got another file for `{0}` meanwhile")]
    Different(Platform),
    /// The list does not replace the published one.
    #[error(transparent)]
    NotReplaced(#[from] NotReplaced),
    /// These files are not verified yet.
    #[error("these files are not verified yet: {}", .0.join(", "))]
    Missing(Vec<String>),
    /// The session or the archive is not valid.
    #[error(transparent)]
    Session(#[from] SessionError),
}

fn names(platforms: &[Platform]) -> String {
    let names: Vec<_> = platforms.iter().map(|platform| format!("`{platform}`")).collect();
    names.join(", ")
}

impl From<StoreError> for ProviderUploadError {
    fn from(error: StoreError) -> Self {
        Self::Session(error.into())
    }
}

impl From<PublishError> for ProviderUploadError {
    fn from(error: PublishError) -> Self {
        Self::Session(error.into())
    }
}

impl From<DecideAgainError> for ProviderUploadError {
    fn from(error: DecideAgainError) -> Self {
        Self::Session(error.into())
    }
}

impl From<UploadError> for ProviderUploadError {
    fn from(error: UploadError) -> Self {
        Self::Session(PublishError::from(error).into())
    }
}

/// Begins an upload session, if the version needs one.
///
/// The signature comes first: no file is accepted for a list that no registered key signed.
pub async fn begin(
    broker: &Broker,
    access: &PackageAccess<UploadRight>,
    version: &Version,
    announced: AnnouncedRelease,
    event: &mut Event,
) -> Result<BegunProviderUpload, ProviderUploadError> {
    event.package(access.address(), Some(version));
    let now = broker.clock.now();
    let keys = broker.store.signing_keys(access.access()).await?;
    let key_id = match keys.signer(announced.sums.text(), &announced.unverified_signature, now) {
        Ok(signer) => signer.key_id.clone(),
        // The same release again changes nothing, also after its key was retired.
        Err(error) => {
            let published = broker.store.published_by_key(access, version, &announced).await?;
            published.ok_or(error)?
        }
    };
    let AnnouncedRelease { sums, unverified_signature, protocols, manifest, bytes, claimed } =
        announced;
    let manifest = ProviderManifest {
        sums,
        signature: unverified_signature,
        key_id,
        protocols,
        manifest,
        bytes,
        claimed,
    };
    let begun = broker.store.begin_provider_upload(access, version, &manifest, now).await?;
    match &begun {
        BegunProviderUpload::Session(_) => event.outcome(Outcome::Begun),
        BegunProviderUpload::Same => event.outcome(Outcome::Unchanged),
        BegunProviderUpload::OverQuota(_) => event.outcome(Outcome::Full),
        BegunProviderUpload::Stale(_)
        | BegunProviderUpload::Different(_)
        | BegunProviderUpload::NotReplaced(_) => {
            event.outcome(Outcome::Conflict);
        }
        BegunProviderUpload::Unannounced(_) | BegunProviderUpload::TooManyOpen => {}
    }
    Ok(begun)
}

/// The file of an open session that a request is about.
#[derive(Debug)]
pub struct SessionFile {
    pending: PendingProviderUpload,
    name: String,
    _permit: UploadPermit,
}

impl SessionFile {
    /// Returns what the session has for the file.
    pub fn announced(&self) -> Option<&PendingFile> {
        self.pending.file(&self.name)
    }
}

/// Finds the file of an open session.
pub async fn find(
    broker: &Broker,
    bearer: &Bearer,
    access: &PackageAccess<UploadRight>,
    version: &Version,
    id: &str,
    name: &str,
    event: &mut Event,
) -> Result<SessionFile, ProviderUploadError> {
    event.package(access.address(), Some(version));
    event.requested(name.chars().take(200).filter(|c| !c.is_control()).collect());
    let permit = publish::permit(broker, bearer, access)?;
    let pending = pending(broker, access, version, id).await?;
    if pending.file(name).is_none() {
        return Err(ProviderUploadError::UnknownFile);
    }
    Ok(SessionFile { pending, name: name.to_owned(), _permit: permit })
}

async fn pending(
    broker: &Broker,
    access: &PackageAccess<UploadRight>,
    version: &Version,
    id: &str,
) -> Result<PendingProviderUpload, ProviderUploadError> {
    let id = UploadId::parse(id).ok_or(SessionError::Unknown)?;
    let now = broker.clock.now();
    let pending = broker.store.provider_upload(access, version, &id, now).await?;
    Ok(pending.ok_or(SessionError::Unknown)?)
}

/// Returns whether the client sends files in requests to the broker, and not to the bucket.
pub const fn receives_files(broker: &Broker) -> bool {
    matches!(broker.store.blobs(), Blobs::Disk(_))
}

/// What is known of a file after a request to verify it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileVerification {
    /// The registry has the file, and it is good.
    Verified {
        /// SHA-256 of the file in lower-case hex.
        sha256: String,
    },
    /// Another request verifies it, or this process has to end another check first.
    InProgress,
}

/// Waits for the permit to verify a file in a process that stops after each answer, for at most that
/// time. `None` if the check of an earlier request still goes on. The wait lets it go on.
pub async fn stopping_check(broker: &Broker, time: Duration) -> Option<OwnedSemaphorePermit> {
    let permit = Arc::clone(&broker.limits.stopping_checks).acquire_owned();
    tokio::time::timeout(time, permit).await.ok()?.ok()
}

/// Verifies a file and stores it at its place. It is safe to repeat: a file that is verified stays so.
///
/// `received` is the file, if it came in the request. After `patience` the client does not wait for the
/// answer any more. So a refusal waits for its next request.
pub async fn verify(
    broker: &Broker,
    bearer: &Bearer,
    access: &PackageAccess<UploadRight>,
    file: &SessionFile,
    received: Option<ArchiveUpload>,
    patience: Duration,
    event: &mut Event,
) -> Result<FileVerification, ProviderUploadError> {
    let SessionFile { pending, name, .. } = file;
    let announced = pending.file(name).ok_or(ProviderUploadError::UnknownFile)?;
    let verified = || FileVerification::Verified { sha256: announced.sha256.clone() };
    if announced.is_verified {
        event.outcome(Outcome::Unchanged);
        return Ok(verified());
    }
    let now = broker.clock.now();
    let begun = Instant::now();
    let is_received = received.is_some();
    let turn = match broker.store.begin_verification(pending, name, is_received, now).await? {
        VerificationTurn::Taken(turn) => turn,
        VerificationTurn::Verified => {
            event.outcome(Outcome::Unchanged);
            return Ok(verified());
        }
        VerificationTurn::InProgress => {
            event.outcome(Outcome::Verifying);
            return Ok(FileVerification::InProgress);
        }
        VerificationTurn::Refused(problem) => return Err(ProviderUploadError::Refused(problem)),
    };
    let done = verify_in_turn(broker, bearer, access, file, received, event).await;
    let problem = done.as_ref().err().and_then(refusal);
    let problem = problem.filter(|_| begun.elapsed() >= patience.saturating_sub(NEARLY));
    broker.store.end_verification(turn, problem).await;
    done?;
    event.outcome(Outcome::Verified);
    Ok(verified())
}

/// Returns why a verification refused the bytes of a file. `None` for every other error, after which the
/// same bytes can be good.
fn refusal(error: &ProviderUploadError) -> Option<String> {
    let is_of_bytes = match error {
        ProviderUploadError::NotAnnounced => true,
        ProviderUploadError::Session(SessionError::Publish(PublishError::Upload(error))) => {
            matches!(error, UploadError::Archive(_))
        }
        _ => false,
    };
    is_of_bytes.then(|| error.to_string())
}

async fn verify_in_turn(
    broker: &Broker,
    bearer: &Bearer,
    access: &PackageAccess<UploadRight>,
    SessionFile { pending, name, .. }: &SessionFile,
    received: Option<ArchiveUpload>,
    event: &mut Event,
) -> Result<(), ProviderUploadError> {
    let announced = pending.file(name).ok_or(ProviderUploadError::UnknownFile)?;
    let upload = match received {
        Some(upload) => upload,
        None => {
            let incoming = broker.store.incoming();
            let mut upload = ArchiveUpload::start_provider(&incoming)?;
            let fetched = broker.store.fetch_provider_file(pending, name, &mut upload).await?;
            match fetched {
                FetchedUpload::All => upload,
                FetchedUpload::Nothing => return Err(ProviderUploadError::Nothing),
            }
        }
    };
    if upload.bytes() != announced.bytes || upload.sha256() != announced.sha256 {
        return Err(ProviderUploadError::NotAnnounced);
    }
    let provider = access.address().provider().ok_or(ProviderUploadError::UnknownFile)?;
    let file = {
        let (principal, namespace) = (bearer.principal(), access.address().namespace());
        let turn = broker.limits.checks.take_for_provider(TURN_WITHIN, principal, namespace);
        let _turn = turn.await.ok_or(PublishError::NoTurn)?;
        let limits = ArchiveLimits::provider();
        upload.verify_provider(&provider.provider_type, &announced.platform, limits).await?
    };
    // An operator may have deleted the grant meanwhile.
    bearer.decide_again(broker, access, event).await?;
    let stored = broker.store.put_provider_file(pending, name, file, broker.clock.now()).await?;
    if let Some(exceeded) = stored {
        event.outcome(Outcome::Full);
        return Err(SessionError::OverQuota(exceeded).into());
    }
    Ok(())
}

/// Completes an upload session: joins the verified files and the signed list to a version.
pub async fn complete(
    broker: &Broker,
    bearer: &Bearer,
    access: &PackageAccess<UploadRight>,
    version: &Version,
    id: &str,
    event: &mut Event,
) -> Result<Publication, ProviderUploadError> {
    event.package(access.address(), Some(version));
    let _permit = publish::permit(broker, bearer, access)?;
    let pending = pending(broker, access, version, id).await?;
    let access = bearer.decide_again(broker, access, event).await?;
    let now = broker.clock.now();
    let listeners = broker.events.destinations(&broker.store, now).await?;
    let kept = Kept::new(event, now);
    let sha256 = pending.sha256();
    let done = broker.store.complete_provider_upload(&access, pending, &listeners, &kept).await?;
    let outcome = match done {
        ProviderCompletion::Published(outcome) => outcome,
        ProviderCompletion::Missing(names) => {
            event.outcome(Outcome::Conflict);
            return Err(ProviderUploadError::Missing(names));
        }
        ProviderCompletion::Stale(platforms) => {
            event.outcome(Outcome::Conflict);
            return Err(ProviderUploadError::Stale(platforms));
        }
        ProviderCompletion::Different(platform) => {
            event.outcome(Outcome::Conflict);
            return Err(ProviderUploadError::Different(platform));
        }
        ProviderCompletion::NotReplaced(reason) => {
            event.outcome(Outcome::Conflict);
            return Err(reason.into());
        }
        ProviderCompletion::Signer(error) => return Err(error.into()),
    };
    event.outcome(publish::logged(outcome));
    if matches!(outcome, Published::Created | Published::Replaced) {
        broker.events.committed();
    }
    Ok(Publication {
        address: access.address().clone(),
        version: version.clone(),
        sha256,
        outcome,
        warnings: Vec::new(),
    })
}
