//! Downloads an archive from a URL to a temporary file.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use reqwest::header::CONTENT_LENGTH;
use reqwest::{Client, Response, Url, redirect};
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

/// Downloads an archive.
///
/// It follows redirects only to `https` URLs, or between plain HTTP URLs on loopback addresses. It sends
/// no token and no credentials.
///
/// # Errors
///
/// [`CommandError`], if the server does not send the whole archive, or if it is too large.
pub(crate) async fn download(
    url: &Url,
    environment: &Environment,
) -> Result<Download, CommandError> {
    let shown = shown(url);
    let refused = |problem: &dyn std::fmt::Display| {
        CommandError::refused(format!("`{shown}` cannot be published: {problem}"))
    };
    let failed = |error: reqwest::Error| failure(url, error, environment);
    let response = client(url, environment)?.get(url.clone()).send().await.map_err(failed)?;
    let status = response.status();
    if status.is_server_error() {
        return Err(CommandError::failed(format!(
            "`{shown}` cannot be published: the server responded with {status}"
        )));
    }
    if !status.is_success() {
        return Err(refused(&format_args!("the server responded with {status}")));
    }
    let announced = announced(&response);
    let too_large = || refused(&format_args!("it has more than {MAX_ARCHIVE} bytes"));
    if announced.is_some_and(|bytes| bytes > MAX_ARCHIVE) {
        return Err(too_large());
    }
    let unwritable = |error: std::io::Error| {
        CommandError::failed_because("cannot write the archive to a temporary file", &error)
            .hint("set `TMPDIR` to a folder with enough space")
    };
    let mut file = tempfile::tempfile().map_err(unwritable)?;
    let bar = download_bar(announced);
    let (mut response, mut received) = (response, 0_u64);
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        received += chunk.len() as u64;
        if received > MAX_ARCHIVE {
            return Err(too_large());
        }
        file.write_all(&chunk).map_err(unwritable)?;
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    std::io::Seek::rewind(&mut file).map_err(unwritable)?;
    Ok(Download { shown, file, name: name(url) })
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
fn failure(url: &Url, error: reqwest::Error, environment: &Environment) -> CommandError {
    let hint = "check the URL, or download the archive and publish the file";
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

fn announced(response: &Response) -> Option<u64> {
    response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
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
