//! Verifies a signed URL, and returns the archive on this machine that it is for.

use std::path::PathBuf;

use super::broker::Broker;
use crate::tokens::KeyError;
use stile_core::audit::Event;
use stile_core::package::{ProviderText, SignedProviderText, SignedUrl, SignedUrlError};
use stile_store::{Blobs, StoreError};

/// An archive that the holder of the signed URL may download.
#[derive(Debug)]
pub struct Archive {
    /// The path of the file.
    pub file: PathBuf,
    /// The content of the URL.
    pub url: SignedUrl,
}

/// The list of digests of a provider's version, or its signature.
#[derive(Debug)]
pub struct ProviderFile {
    /// The whole file.
    pub content: Vec<u8>,
    /// Which of the two it is.
    pub text: ProviderText,
}

/// The reason why a signed URL gives no access.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archives are not on this machine.
    #[error("this broker does not serve archives")]
    NotHere,
    /// The URL is not from this registry, or it has expired.
    #[error(transparent)]
    Url(#[from] SignedUrlError),
    /// The broker has no key to verify the signature.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store is down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Verifies the signature and the expiry of a URL, and reads the file of a provider that it is for.
/// The parts of the path are not verified.
pub async fn open_provider_file(
    broker: &Broker,
    (address, version, file): (&str, &str, &str),
    query: &str,
    event: &mut Event,
) -> Result<ProviderFile, ArchiveError> {
    let Blobs::Disk(_) = broker.store.blobs() else { return Err(ArchiveError::NotHere) };
    let now = broker.clock.now();
    let purpose = SignedUrl::purpose(&broker.audience);
    let keys = broker.tokens.derived(&purpose, &broker.store, now).await?;
    let url = SignedProviderText::open(address, version, file, query, &keys, now)?;
    event.resource(format!("{address}/{version}/{file}"));
    // The version has another list by now, so the client asks for the download again.
    let content = broker.store.provider_text(&url).await?.ok_or(SignedUrlError::Expired)?;
    Ok(ProviderFile { content, text: url.text })
}

/// Verifies the signature and the expiry of a URL. `file` is the last segment of its path, and
/// `None` if that is not UTF-8.
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
