//! Publishes a release: begins an upload, sends the archives, lets the registry verify each, and
//! completes the upload. Every step can be repeated.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use stile_core::package::Version;
use stile_protocol::names::ProviderAddress;
use stile_store::Retry;
use terraform_credentials_stile::token::Token;

use super::Context;
use crate::api::{Api, ApiResponse};
use crate::direct_upload::{PresignedPut, checked_id, put};
use crate::error::CommandError;
use crate::progress::{FileBars, spinning};
use crate::provider::{LocalRelease, Published, PublisherKey, ToPublish, ZipFile};
use crate::upload::{UPLOAD_TIMEOUT, send_file};

/// The maximum time for the verification of one archive, after it was sent. The registry has limits of
/// its own, so that a longer wait means a registry that does not work.
const VERIFICATION: Duration = Duration::from_secs(900);

/// The maximum number of failed requests for one archive, in sequence.
const FAILURES: u32 = 8;

/// The maximum number of times that one archive is sent.
const SENDS: u32 = 3;

/// The number of conflicts without a change of the version after which a refusal is believed. A registry
/// can show a version as it was a moment ago.
const UNEXPLAINED: u32 = 2;

/// The hint after an error. A repeated command is safe.
const RETRY_HINT: &str =
    "run the same command again; it sends only what the registry does not have";

/// The result of a publish.
pub(super) struct Sent {
    /// `published`, `changed`, or `unchanged` if the same files were published before.
    pub(super) status: &'static str,
    /// The SHA-256 of the list of digests.
    pub(super) sha256: String,
    /// The id of the key that signed, as the registry says it.
    pub(super) key_id: Option<String>,
    /// The names of the archives that the program sent, or that it sent before.
    pub(super) sent: Vec<String>,
}

/// A begun upload.
#[derive(Deserialize)]
struct Session {
    upload: String,
    files: Vec<SessionFile>,
}

/// An archive of an upload.
#[derive(Deserialize)]
struct SessionFile {
    name: String,
    status: String,
    url: Option<String>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
}

/// The response for a completed upload, or for a version with the same files.
#[derive(Deserialize)]
struct Done {
    sha256: String,
    status: String,
}

/// The response for a verified archive.
#[derive(Deserialize)]
struct Verified {
    sha256: String,
}

/// Publishes a release, and joins it with what others publish of the version at the same time.
pub(super) async fn publish(
    context: &Context,
    api: &Api,
    (address, version): (&ProviderAddress, &Version),
    (local, key): (&LocalRelease, Option<&PublisherKey>),
    jobs: usize,
) -> Result<Sent, CommandError> {
    let path = format!("/v1/providers/{address}/{version}");
    let (mut retry, mut unexplained, mut sent) = (Retry::default(), 0, Vec::new());
    let mut before = published(api, &path).await?;
    loop {
        let release = local.join(before.as_ref(), key, context.clock.now()).await?;
        let answer = attempt(context, api, &path, (local, &release), jobs, &mut sent).await?;
        // Another publisher can have added a platform, or this upload is complete already.
        if !matches!(answer.status, StatusCode::CONFLICT | StatusCode::NOT_FOUND) {
            let done: Done = answer.read()?;
            if done.sha256 != release.sha256() {
                return Err(CommandError::failed(
                    "the registry published another list of digests than the sent one",
                ));
            }
            let status = match (done.status.as_str(), before.is_some()) {
                ("unchanged", _) => "unchanged",
                ("created", _) | (_, false) => "published",
                _ => "changed",
            };
            let key_id = key.map(|key| key.public().key_id().to_string());
            let key_id = key_id.or_else(|| before.as_ref().map(Published::key_id));
            return Ok(Sent { status, sha256: done.sha256, key_id, sent });
        }
        let after = published(api, &path).await?;
        let is_explained = after.as_ref().is_some_and(|after| after.differs(before.as_ref()));
        if !is_explained {
            unexplained += 1;
            if unexplained > UNEXPLAINED {
                answer.check().map_err(|error| error.or_hint(RETRY_HINT))?;
            }
        }
        retry.wait().await?;
        before = after;
    }
}

/// Reads what is published of the version. `None` if there is no such version.
async fn published(api: &Api, path: &str) -> Result<Option<Published>, CommandError> {
    let url = api.at(path)?;
    let headers = HeaderMap::new();
    let reading = api.send_json(&Method::GET, &url, &headers, None);
    let answer = spinning("reading the version", reading).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    answer.read().map(Some)
}

/// Begins an upload, sends its archives, and completes it. Returns the last response.
async fn attempt(
    context: &Context,
    api: &Api,
    path: &str,
    (local, release): (&LocalRelease, &ToPublish),
    jobs: usize,
    sent: &mut Vec<String>,
) -> Result<ApiResponse, CommandError> {
    let url = api.at(&format!("{path}/uploads"))?;
    let body = release.body(local, context.claims.as_ref());
    let headers = HeaderMap::new();
    let beginning = api.send_json(&Method::POST, &url, &headers, Some(&body));
    let answer = spinning("waiting for the registry", beginning).await?;
    if answer.status != StatusCode::CREATED {
        return Ok(answer);
    }
    let session: Session = answer.read()?;
    let path = format!("{path}/uploads/{}", checked_id(&session.upload)?);
    let mut files = Vec::new();
    for file in session.files {
        let zip = local.zips().values().find(|zip| zip.name == file.name).ok_or_else(|| {
            CommandError::failed("the registry asks for an archive that is not of this release")
        })?;
        if !sent.contains(&zip.name) {
            sent.push(zip.name.clone());
        }
        files.push((zip, file));
    }
    let bars = FileBars::new();
    let sending = stream::iter(files.into_iter().filter(|(_, file)| file.status != "verified"))
        .map(|(zip, file)| send(api, &path, zip, file, &bars))
        .buffer_unordered(jobs);
    Box::pin(sending.try_collect::<()>()).await.map_err(|error| error.or_hint(RETRY_HINT))?;
    let url = api.at(&path)?;
    let mut failures = 0;
    loop {
        let completing = api.send_json(&Method::POST, &url, &headers, None);
        let outcome = spinning("waiting until the registry lists the version", completing).await;
        match outcome {
            Ok(answer) if !is_down(answer.status) => return Ok(answer),
            outcome => failed(outcome, &mut failures).await?,
        }
    }
}

/// Sends one archive, and waits until the registry has verified it.
async fn send(
    api: &Api,
    path: &str,
    zip: &ZipFile,
    file: SessionFile,
    bars: &FileBars,
) -> Result<(), CommandError> {
    let url = api.at(&format!("{path}/files/{}", zip.name))?;
    let to_bucket = file.url.map(|url| PresignedPut { url, headers: file.headers });
    let bar = || bars.add(zip.name.clone(), zip.bytes);
    let (mut failures, mut sends, mut must_send) = (0, 0, true);
    let started = std::time::Instant::now();
    loop {
        let with_body = must_send && to_bucket.is_none();
        if must_send {
            sends += 1;
            if let Some(to_bucket) = &to_bucket {
                Box::pin(put(api, &zip.file, zip.bytes, to_bucket, &bar())).await?;
            }
        }
        let request = async |client: &Client, token: &Token| {
            let request = client.post(url.clone()).bearer_auth(token.expose());
            if with_body {
                let request = request.timeout(UPLOAD_TIMEOUT);
                let request = request.header(CONTENT_TYPE, "application/zip");
                let request = request.header(CONTENT_LENGTH, zip.bytes);
                return send_file(api, request, &zip.file, &bar()).await;
            }
            api.send(request.timeout(api.request_timeout())).await
        };
        // After a lost answer, the next request asks whether the registry got the archive.
        must_send = false;
        let outcome = Box::pin(api.call(request)).await;
        match outcome {
            Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                failures = 0;
                if started.elapsed() > VERIFICATION {
                    let problem = format!("the registry does not verify `{}` in time", zip.name);
                    return Err(CommandError::failed(problem));
                }
                tokio::time::sleep(answer.retry_after()).await;
            }
            Ok(answer) if answer.status == StatusCode::CONFLICT && sends < SENDS => {
                must_send = true;
            }
            Ok(answer) if !is_down(answer.status) => {
                let verified: Verified = answer.read().map_err(|error| error.about(&zip.name))?;
                if verified.sha256 == zip.sha256 {
                    return Ok(());
                }
                return Err(CommandError::failed(format!(
                    "the registry got other bytes than the sent ones for `{}`",
                    zip.name
                )));
            }
            outcome => {
                failed(outcome, &mut failures).await.map_err(|error| error.about(&zip.name))?
            }
        }
    }
}

/// Returns whether a front or the registry does not answer now.
fn is_down(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
    )
}

/// Waits after a failed request. After too many of them, or after a refusal, it returns the error.
async fn failed(
    outcome: Result<ApiResponse, CommandError>,
    failures: &mut u32,
) -> Result<(), CommandError> {
    *failures += 1;
    let delay = match &outcome {
        Err(error) if error.is_refusal() || error.is_usage() => None,
        Err(_) => Some(Duration::from_secs(1)),
        Ok(answer) => Some(answer.retry_after()),
    };
    match delay.filter(|_| *failures < FAILURES) {
        Some(delay) => {
            tokio::time::sleep(delay).await;
            Ok(())
        }
        None => outcome?.check(),
    }
}
