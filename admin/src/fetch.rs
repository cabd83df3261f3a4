//! Downloads archives from URLs, as bytes or to a temporary file.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Client, Response, Url, redirect};
use sha2::{Digest as _, Sha256};
use stile_core::package::MAX_ARCHIVE;
use terraform_credentials_stile::call::{self, CallError};
use terraform_credentials_stile::config::{Environment, is_loopback};
use terraform_credentials_stile::message::root_cause;

use crate::error::CommandError;
use crate::progress::download_bar;

/// Timeout of a whole download.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(960);

/// Maximum time without a byte. Without it, a server that stalls would hold the program for
/// [`DOWNLOAD_TIMEOUT`].
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum number of redirects. The URL of a release has one or two.
const MAX_REDIRECTS: usize = 5;

/// A downloaded archive.
#[derive(Debug)]
pub(crate) struct Download {
    /// The URL without its query, which can be a secret.
    pub(crate) shown: String,
    /// The archive, at its first byte. Dropping it deletes the file.
    pub(crate) file: File,
    /// The last part of the URL's path.
    pub(crate) name: String,
}

/// What a download is for. Error messages say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A publish of the archive.
    Publish,
    /// A static export of a registry.
    Export,
    /// A promotion to another registry.
    Promotion,
}

impl Purpose {
    const fn done(self) -> &'static str {
        match self {
            Self::Publish => "published",
            Self::Export => "exported",
            Self::Promotion => "promoted",
        }
    }

    const fn hint(self) -> &'static str {
        match self {
            Self::Publish => "check the URL, or download the archive and publish the file",
            Self::Export => "run the command again: it continues with the missing archives",
            Self::Promotion => "run the command again: it continues with what is missing",
        }
    }
}

/// An archive that a server sends.
pub(crate) struct Incoming<'a> {
    response: Response,
    url: &'a Url,
    environment: &'a Environment,
    purpose: Purpose,
    limit: u64,
    received: u64,
}

impl fmt::Debug for Incoming<'_> {
    /// Writes the host only, because the query of a signed URL is a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str();
        formatter.debug_struct("Incoming").field("host", &host).finish_non_exhaustive()
    }
}

impl<'a> Incoming<'a> {
    /// Asks for an archive of at most `limit` bytes.
    ///
    /// It follows redirects only to `https` URLs, or between plain HTTP URLs on loopback addresses. It
    /// sends no token and no credentials.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if the server does not send an archive, or announces a larger one.
    pub(crate) async fn open(
        url: &'a Url,
        environment: &'a Environment,
        purpose: Purpose,
        limit: u64,
    ) -> Result<Self, CommandError> {
        let failed = |error: reqwest::Error| failure(url, error, environment, purpose);
        let response = client(url, environment)?.get(url.clone()).send().await.map_err(failed)?;
        let incoming = Self { response, url, environment, purpose, limit, received: 0 };
        let status = incoming.response.status();
        if status.is_server_error() {
            return Err(CommandError::failed(format!(
                "`{}` cannot be {}: the server responded with {status}",
                shown(url),
                purpose.done()
            )));
        }
        if !status.is_success() {
            return Err(incoming.refused(format_args!("the server responded with {status}")));
        }
        if incoming.announced().is_some_and(|bytes| bytes > limit) {
            return Err(incoming.too_large());
        }
        Ok(incoming)
    }

    /// Returns the size in bytes, if the server announces it.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// Returns the next bytes. `None` after the last ones.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if the server does not send the whole archive, or if it is too large.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, CommandError> {
        let (url, environment, purpose) = (self.url, self.environment, self.purpose);
        let chunk = self.response.chunk().await;
        let chunk = chunk.map_err(|error| failure(url, error, environment, purpose))?;
        self.received += chunk.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if self.received > self.limit {
            return Err(self.too_large());
        }
        Ok(chunk)
    }

    /// Gives all bytes to `write`, and returns their SHA-256 in lower-case hex.
    ///
    /// # Errors
    ///
    /// As [`Self::next`], and the first error of `write`.
    pub(crate) async fn digest_to(
        mut self,
        mut write: impl FnMut(&[u8]) -> Result<(), CommandError>,
    ) -> Result<String, CommandError> {
        let mut digest = Sha256::new();
        while let Some(bytes) = self.next().await? {
            digest.update(&bytes);
            write(&bytes)?;
        }
        Ok(hex::encode(digest.finalize()))
    }

    fn too_large(&self) -> CommandError {
        self.refused(format_args!("it has more than {} bytes", self.limit))
    }

    fn refused(&self, problem: fmt::Arguments<'_>) -> CommandError {
        CommandError::refused(format!(
            "`{}` cannot be {}: {problem}",
            shown(self.url),
            self.purpose.done()
        ))
    }
}

/// Downloads an archive to a temporary file.
///
/// # Errors
///
/// [`CommandError`], if the server does not send the whole archive, or if it is too large.
pub(crate) async fn download(
    url: &Url,
    environment: &Environment,
) -> Result<Download, CommandError> {
    let mut incoming = Incoming::open(url, environment, Purpose::Publish, MAX_ARCHIVE).await?;
    let unwritable = |error: std::io::Error| CommandError::unwritable(&error);
    let mut file = tempfile::tempfile().map_err(unwritable)?;
    let bar = download_bar(incoming.announced());
    while let Some(bytes) = incoming.next().await? {
        file.write_all(&bytes).map_err(unwritable)?;
        bar.inc(bytes.len() as u64);
    }
    bar.finish_and_clear();
    std::io::Seek::rewind(&mut file).map_err(unwritable)?;
    Ok(Download { shown: shown(url), file, name: name(url) })
}

/// Returns the last part of the URL's path.
pub(crate) fn name(url: &Url) -> String {
    url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().to_owned()
}

/// Returns the URL as an error shows it: without its query and fragment, which can be a secret.
fn shown(url: &Url) -> String {
    public(url).to_string()
}

fn public(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url
}

/// Tells why a download failed. The settings of a registry have nothing to do with it.
fn failure(
    url: &Url,
    error: reqwest::Error,
    environment: &Environment,
    purpose: Purpose,
) -> CommandError {
    let hint = purpose.hint();
    let failed = |problem: &str| {
        CommandError::failed(format!("`{}` cannot be downloaded: {problem}", shown(url))).hint(hint)
    };
    if error.is_redirect() {
        return failed(&root_cause(&error));
    }
    if error.is_body() || error.is_decode() {
        return failed("the server did not send all of it");
    }
    match call::failure(&public(url), error, environment) {
        error @ CallError::Proxy { .. } => error.into(),
        error => CommandError::from(error).hint(hint),
    }
}

fn client(url: &Url, environment: &Environment) -> Result<Client, CommandError> {
    let is_plain = url.scheme() == "http";
    let follow = redirect::Policy::custom(move |attempt| {
        let next = attempt.url();
        let is_safe = if is_plain { is_loopback(next) } else { next.scheme() == "https" };
        if !is_safe {
            let problem = if is_plain {
                "the server redirects away from this machine"
            } else {
                "the server redirects to a URL that is not `https`"
            };
            return attempt.error(problem);
        }
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error("the server redirects too often");
        }
        attempt.follow()
    });
    let builder = call::client_builder(url, environment)?
        .redirect(follow)
        .referer(false)
        .timeout(DOWNLOAD_TIMEOUT)
        .read_timeout(STALL_TIMEOUT);
    Ok(call::build(builder)?)
}
