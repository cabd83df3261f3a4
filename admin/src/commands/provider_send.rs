//! Publishes a release: begins an upload, sends the archives, lets the registry verify each, and
//! completes the upload. Every step can be repeated.

use std::time::{Duration, Instant};

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
use crate::direct_upload::{PresignedPut, PutError, checked_id, put};
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

/// The number of uploads in sequence that verify no archive, because the bucket denied each, after
/// which its refusal is believed. Otherwise, the URLs expired, and a new upload has new ones.
const DENIED: u32 = 3;

/// The minimum delay between two questions about one archive, except after the first one. Otherwise, a
/// hostile registry could keep the processor busy.
const BETWEEN: Duration = Duration::from_millis(200);

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

/// What this run did so far, over all its uploads.
#[derive(Default)]
struct Progress {
    /// The names of the archives that the program sent, or that it sent before.
    sent: Vec<String>,
    /// Whether it asked the registry to complete an upload. The answer can be lost.
    has_completed: bool,
}

impl Progress {
    fn sends(&mut self, zip: Option<&ZipFile>) {
        let name = zip.map(|zip| &zip.name).filter(|name| !self.sent.contains(name));
        self.sent.extend(name.cloned());
    }
}

/// The end of one upload.
enum Attempt {
    /// The last response of the registry.
    Answered(ApiResponse),
    /// The bucket denied an archive. The flag says whether the registry verified another one.
    Denied(CommandError, bool),
}

/// The wait for the verification of one archive.
struct Verification {
    sent_at: Instant,
    questions: u32,
}

impl Verification {
    /// Starts to wait for an archive that is complete at this time.
    const fn sent(now: Instant) -> Self {
        Self { sent_at: now, questions: 0 }
    }

    /// Returns the delay before the next question. `None` if the wait is too long.
    fn delay(&mut self, now: Instant, asked: Duration) -> Option<Duration> {
        self.questions += 1;
        let delay = if self.questions > 1 { asked.max(BETWEEN) } else { asked };
        (now.saturating_duration_since(self.sent_at) <= VERIFICATION).then_some(delay)
    }
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
    let (mut retry, mut unexplained, mut denied) = (Retry::default(), 0, 0);
    let mut progress = Progress::default();
    let mut before = published(api, &path).await?;
    let at_start = before.clone();
    loop {
        let release = local.join(before.as_ref(), key, context.clock.now()).await?;
        let attempt =
            Box::pin(attempt(context, api, &path, (local, &release), jobs, &mut progress)).await?;
        let answer = match attempt {
            Attempt::Answered(answer) => answer,
            Attempt::Denied(error, is_further) => {
                denied = if is_further { 1 } else { denied + 1 };
                if denied >= DENIED {
                    return Err(error);
                }
                retry = if is_further { Retry::default() } else { retry };
                retry.wait().await?;
                continue;
            }
        };
        // Another publisher can have added a platform, or this upload is complete already.
        if !matches!(answer.status, StatusCode::CONFLICT | StatusCode::NOT_FOUND) {
            let done: Done = answer.read()?;
            if done.sha256 != release.sha256() {
                return Err(CommandError::failed(
                    "the registry published another list of digests than the sent one",
                ));
            }
            // The registry can say `unchanged` after this run completed the upload, if that answer
            // was lost.
            let differs =
                || before.as_ref().is_some_and(|before| before.differs(at_start.as_ref()));
            let status =
                match (done.status.as_str(), before.is_some()) {
                    ("unchanged", _) if progress.has_completed && differs() => {
                        if at_start.is_some() { "changed" } else { "published" }
                    }
                    ("unchanged", _) => "unchanged",
                    ("created", _) | (_, false) => "published",
                    _ => "changed",
                };
            let key_id = key.map(|key| key.public().key_id().to_string());
            let key_id = key_id.or_else(|| before.as_ref().map(Published::key_id));
            return Ok(Sent { status, sha256: done.sha256, key_id, sent: progress.sent });
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

/// Begins an upload, sends its archives, and completes it.
async fn attempt(
    context: &Context,
    api: &Api,
    path: &str,
    (local, release): (&LocalRelease, &ToPublish),
    jobs: usize,
    progress: &mut Progress,
) -> Result<Attempt, CommandError> {
    let url = api.at(&format!("{path}/uploads"))?;
    let body = release.body(local, context.claims.as_ref());
    let headers = HeaderMap::new();
    let beginning = api.send_json(&Method::POST, &url, &headers, Some(&body));
    let answer = spinning("waiting for the registry", beginning).await?;
    if answer.status != StatusCode::CREATED {
        return Ok(Attempt::Answered(answer));
    }
    let session: Session = answer.read()?;
    let path = format!("{path}/uploads/{}", checked_id(&session.upload)?);
    for platform in &release.new {
        progress.sends(local.zips().get(platform));
    }
    let mut files = Vec::new();
    // The registry also lists the archives that it has, which can be those of other publishers.
    for file in session.files.into_iter().filter(|file| file.status != "verified") {
        let zip = local.zips().values().find(|zip| zip.name == file.name).ok_or_else(|| {
            CommandError::failed("the registry asks for an archive that is not of this release")
        })?;
        // The registry can have lost an archive of the published version.
        progress.sends(Some(zip));
        files.push((zip, file));
    }
    let bars = FileBars::new();
    let sending = stream::iter(files)
        .map(|(zip, file)| send(api, &path, zip, file, &bars))
        .buffer_unordered(jobs);
    let ended: Vec<Option<CommandError>> =
        Box::pin(sending.try_collect()).await.map_err(|error| error.or_hint(RETRY_HINT))?;
    let is_further = ended.iter().any(Option::is_none);
    if let Some(error) = ended.into_iter().flatten().next() {
        return Ok(Attempt::Denied(error, is_further));
    }
    let url = api.at(&path)?;
    progress.has_completed = true;
    let mut failures = 0;
    loop {
        let completing = api.send_json(&Method::POST, &url, &headers, None);
        let outcome = spinning("waiting until the registry lists the version", completing).await;
        match outcome {
            Ok(answer) if !is_down(answer.status) => return Ok(Attempt::Answered(answer)),
            outcome => failed(outcome, &mut failures).await?,
        }
    }
}

/// Sends one archive, and waits until the registry has verified it. Returns the error of a bucket that
/// denied it: the other archives go on.
async fn send(
    api: &Api,
    path: &str,
    zip: &ZipFile,
    file: SessionFile,
    bars: &FileBars,
) -> Result<Option<CommandError>, CommandError> {
    let url = api.at(&format!("{path}/files/{}", zip.name))?;
    let to_bucket = file.url.map(|url| PresignedPut { url, headers: file.headers });
    let bar = || bars.add(zip.name.clone(), zip.bytes);
    let (mut failures, mut sends, mut must_send) = (0, 0, true);
    let mut verification = Verification::sent(Instant::now());
    loop {
        let with_body = must_send && to_bucket.is_none();
        if let Some(to_bucket) = to_bucket.as_ref().filter(|_| must_send) {
            match Box::pin(put(api, &zip.file, zip.bytes, to_bucket, &bar())).await {
                // The registry compares what is there with the announced digest.
                Ok(()) | Err(PutError::Exists(_)) => failures = 0,
                Err(PutError::Denied(error)) => return Ok(Some(error.about(&zip.name))),
                Err(PutError::Invalid(error)) => return Err(error.about(&zip.name)),
                Err(PutError::Down(error)) => {
                    let waiting = failed(Err(error.unanswered()), &mut failures).await;
                    waiting.map_err(|error| error.about(&zip.name))?;
                    continue;
                }
            }
        }
        if must_send {
            sends += 1;
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
        let outcome = Box::pin(api.call(request)).await;
        // The registry verifies an archive that is complete. A slow upload is no slow verification.
        if must_send {
            verification = Verification::sent(Instant::now());
        }
        // After a lost answer, the next request asks whether the registry got the archive.
        must_send = false;
        match outcome {
            Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                failures = 0;
                let delay = verification.delay(Instant::now(), answer.retry_after());
                let delay = delay.ok_or_else(|| {
                    let problem = format!("the registry does not verify `{}` in time", zip.name);
                    CommandError::failed(problem)
                })?;
                tokio::time::sleep(delay).await;
            }
            Ok(answer) if answer.status == StatusCode::CONFLICT && sends < SENDS => {
                must_send = true;
            }
            Ok(answer) if !is_down(answer.status) => {
                let verified: Verified = answer.read().map_err(|error| error.about(&zip.name))?;
                if verified.sha256 == zip.sha256 {
                    return Ok(None);
                }
                return Err(CommandError::failed(format!(
                    "the registry got other bytes than the sent ones for `{}`",
                    zip.name
                )));
            }
            outcome => {
                failed(outcome, &mut failures).await.map_err(|error| error.about(&zip.name))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_after_the_archive_is_complete_counts_for_its_verification() {
        let start = Instant::now();
        let sent = start + 2 * VERIFICATION;
        let mut verification = Verification::sent(sent);
        let asked = Duration::from_secs(1);
        assert_eq!(verification.delay(sent + VERIFICATION, asked), Some(asked));
        let late = sent + VERIFICATION + Duration::from_secs(1);
        assert_eq!(verification.delay(late, asked), None);
    }

    #[test]
    fn a_registry_that_asks_for_no_delay_gets_a_minimum_after_the_first_question() {
        let sent = Instant::now();
        let mut verification = Verification::sent(sent);
        let mut delay = || verification.delay(sent, Duration::ZERO).unwrap();
        assert_eq!([delay(), delay(), delay()], [Duration::ZERO, BETWEEN, BETWEEN]);
    }
}
