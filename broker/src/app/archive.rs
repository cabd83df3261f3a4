//! Opens a signed URL of an archive that is on this machine.

use std::path::PathBuf;

use super::broker::Broker;
use crate::tokens::KeyError;
use stile_core::audit::Event;
use stile_core::package::{SignedUrl, SignedUrlError};
use stile_store::Blobs;

/// An archive that may be sent to whom the signed URL was given.
#[derive(Debug)]
pub struct Archive {
    /// Its file.
    pub file: PathBuf,
    /// What the URL is for.
    pub url: SignedUrl,
}

/// Why a signed URL gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Archives are not on this machine.
    #[error("archives are not handed out here")]
    NotHere,
    /// The URL is not one of this registry's, or it has expired.
    #[error(transparent)]
    Url(#[from] SignedUrlError),
    /// There is no key to check the signature with.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Checks the signature and the time of a URL. `file` is the last segment of its path; `None` is one out of UTF-8.
pub async fn open(
    broker: &Broker,
    file: Option<&str>,
    query: &str,
    event: &mut Event,
) -> Result<Archive, ArchiveError> {
    let Blobs::Disk(disk) = broker.store.blobs() else { return Err(ArchiveError::NotHere) };
    let file = file.ok_or(SignedUrlError::Invalid)?;
    let now = broker.clock.now();
    let purpose = SignedUrl::purpose(&broker.audience);
    let keys = broker.tokens.derived(&purpose, &broker.store, now).await?;
    let url = SignedUrl::open(file, query, &keys, now)?;
    event.resource(format!("{}.{}", url.sha256, url.format.extension()));
    Ok(Archive { file: disk.archive(&url.sha256, url.format), url })
}
