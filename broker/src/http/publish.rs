//! Publishing one version by sending its archive: into a file aside, looked at, then kept under its digest and listed.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use stile_protocol::names::NameError;
use stile_protocol::reply::ErrorCode;
use tokio::time::Instant;

use super::decision::{Credential, conclude};
use super::error::ApiError;
use super::modules::ModulePath;
use super::run_detached::run_detached;
use crate::app::Broker;
use crate::app::publish::{self, Publication};
use stile_core::audit::Kind;
use stile_core::package::{ArchiveUpload, Format, MAX_ARCHIVE, UploadError};
use stile_store::Published;

/// How long a sender may pause.
const PAUSE: Duration = Duration::from_secs(30);

/// How long a whole upload may take: 100 MB at about 1 Mbit/s.
const WHOLE: Duration = Duration::from_secs(900);

/// Bytes a second that must have come on the average once an upload has taken longer than [`PAUSE`]: a sender that gives one
/// byte now and then would hold its room for all of [`WHOLE`]. A modem gives more.
const SLOWEST: u64 = 2 * 1024;

/// `POST /v1/modules/{namespace}/{name}/{system}/{version}`.
///
/// `201` when it is new, `200` when the same bytes were published before, `409` when other bytes were.
pub async fn module(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<ModulePath>, PathRejection>,
    request: Request,
) -> Result<Done, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Publish).await?;
    let received = async {
        let Path(path) = path.map_err(|_| ApiError::not_found("there is no such route"))?;
        let access = path.access(&bearer, &mut draft, bad_name)?;
        let version = path.version()?;
        let format = format(request.headers())?;
        let permit = publish::permit(&broker, &bearer).map_err(ApiError::publish)?;
        let upload = tokio::time::timeout(WHOLE, receive(&broker, request));
        let upload = upload.await.map_err(|_| {
            ApiError::new(ErrorCode::RequestTimeout, "the archive did not arrive within 15 minutes")
        })??;
        Ok((access, version, format, permit, upload))
    }
    .await;
    let (access, version, format, permit, upload) = match received {
        Ok(received) => received,
        Err(error) => return conclude(draft, Err(error)),
    };
    // Ends though the sender hangs up: what is published is on record, and so is who published it.
    let published = async move {
        let _permit = permit;
        let done =
            publish::publish(&broker, &bearer, &access, version, upload, format, &mut draft).await;
        conclude(draft, done.map_err(ApiError::publish).and_then(|done| answer(&done)))
    };
    run_detached(published).await
}

const fn outcome(published: Published) -> &'static str {
    match published {
        Published::Created => "created",
        Published::Same => "unchanged",
        Published::Different => "conflict",
        Published::Full => "full",
    }
}

/// What a publisher is told whose address is not one.
pub(super) fn bad_name(error: NameError) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, error.to_string())
}

/// What a publisher is told.
pub(super) fn answer(publication: &Publication) -> Result<Done, ApiError> {
    let Publication { address, version, sha256, outcome: published } = publication;
    let status = match published {
        Published::Created => StatusCode::CREATED,
        Published::Same => StatusCode::OK,
        Published::Full => {
            return Err(ApiError::new(
                ErrorCode::TooLarge,
                format!("`{address}` has as many versions as a module can have"),
            )
            .hint("publish under another name from here on"));
        }
        Published::Different => {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                format!("`{address}` {version} is published already, with other content"),
            )
            .hint("a version never changes once it is published; publish the next one"));
        }
    };
    let told = serde_json::json!({
        "module": address.to_string(),
        "version": version.to_string(),
        "sha256": sha256,
        "status": outcome(*published),
    });
    Ok((status, Json(told)))
}

/// The answer to a publisher whose archive was taken, or may come.
pub(super) type Done = (StatusCode, Json<serde_json::Value>);

/// Whether so many bytes are too few after that time.
fn too_slow(bytes: u64, after: Duration) -> bool {
    after > PAUSE && bytes < after.as_secs() * SLOWEST
}

/// How large an archive may be that is sent directly. A shell that carries less than [`MAX_ARCHIVE`] says so in an
/// extension of the request, which no client can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectLimit(pub u64);

impl DirectLimit {
    /// What counts for this request.
    pub(super) fn of(request: &Request) -> Self {
        request.extensions().get().copied().unwrap_or(Self(MAX_ARCHIVE))
    }

    /// In bytes.
    pub(super) const fn bytes(self) -> u64 {
        self.0
    }

    /// What is told past it.
    pub(super) fn exceeded(self) -> ApiError {
        if self.0 >= MAX_ARCHIVE {
            return ApiError::upload(UploadError::TooLarge);
        }
        ApiError::new(ErrorCode::TooLarge, format!("the archive is larger than the {} KB that can be sent here directly", self.0 / 1000))
            .hint("begin an upload with `POST …/{version}/uploads`, as `stile-admin module publish` does by itself")
    }
}

fn format(headers: &HeaderMap) -> Result<Format, ApiError> {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "the archive must be sent without `Content-Encoding`",
        ));
    }
    Format::from_content_type(content_type).ok_or_else(|| {
        ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "the archive must be `application/zip` or `application/gzip`",
        )
    })
}

async fn receive(broker: &Broker, request: Request) -> Result<ArchiveUpload, ApiError> {
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let limit = DirectLimit::of(&request);
    if length.is_some_and(|length| length > limit.bytes()) {
        return Err(limit.exceeded());
    }
    let mut upload = publish::begin(broker).map_err(ApiError::publish)?;
    let mut body = request.into_body();
    let begun = Instant::now();
    loop {
        let frame = tokio::time::timeout(PAUSE, body.frame());
        match frame.await.map_err(|_| {
            ApiError::new(ErrorCode::RequestTimeout, "the archive paused for more than 30 seconds")
        })? {
            None => return Ok(upload),
            Some(Err(_)) => {
                return Err(ApiError::new(ErrorCode::InvalidRequest, "the archive broke off"));
            }
            Some(Ok(frame)) => {
                if let Ok(chunk) = frame.into_data() {
                    if upload.bytes().saturating_add(chunk.len() as u64) > limit.bytes() {
                        return Err(limit.exceeded());
                    }
                    upload.write(&chunk).await.map_err(ApiError::upload)?;
                    if length != Some(upload.bytes()) && too_slow(upload.bytes(), begun.elapsed()) {
                        return Err(ApiError::new(
                            ErrorCode::RequestTimeout,
                            "the archive arrives at less than 2 KiB a second",
                        ));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_drips_is_cut_off_after_half_a_minute_and_a_slow_line_is_not() {
        let largest_in_time = MAX_ARCHIVE / WHOLE.as_secs();
        for (bytes, seconds, expected) in [
            (2, 58, true),
            (899, 899, true),
            (31 * SLOWEST - 1, 31, true),
            (31 * SLOWEST, 31, false),
            (0, 30, false),
            (40 * largest_in_time, 40, false),
        ] {
            assert_eq!(
                too_slow(bytes, Duration::from_secs(seconds)),
                expected,
                "{bytes} bytes in {seconds} s"
            );
        }
    }
}
