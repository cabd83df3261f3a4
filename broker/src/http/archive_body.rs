//! Reads an archive from the body of a request: within its size, and no slower than a slow line.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use stile_protocol::reply::ErrorCode;
use tokio::time::Instant;

use super::error::ApiError;
use crate::app::publish::PublishError;
use stile_core::package::{ArchiveUpload, Format, MAX_ARCHIVE, UploadError};

/// How long a sender may pause.
const PAUSE: Duration = Duration::from_secs(30);

/// How long a whole upload may take: 100 MB at about 1 Mbit/s.
const WHOLE: Duration = Duration::from_secs(900);

/// Bytes a second that must have come on the average once an upload has taken longer than [`PAUSE`]: a sender that gives one
/// byte now and then would hold its room for all of [`WHOLE`]. A modem gives more.
const SLOWEST: u64 = 2 * 1024;

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

/// The format that the headers announce.
pub(super) fn format(headers: &HeaderMap) -> Result<Format, ApiError> {
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

/// Reads the whole archive into the upload that `begin` opens.
pub(super) async fn read_archive(
    request: Request,
    begin: impl FnOnce() -> Result<ArchiveUpload, PublishError>,
) -> Result<ArchiveUpload, ApiError> {
    tokio::time::timeout(WHOLE, receive(request, begin)).await.map_err(|_| {
        ApiError::new(ErrorCode::RequestTimeout, "the archive did not arrive within 15 minutes")
    })?
}

async fn receive(
    request: Request,
    begin: impl FnOnce() -> Result<ArchiveUpload, PublishError>,
) -> Result<ArchiveUpload, ApiError> {
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let limit = DirectLimit::of(&request);
    if length.is_some_and(|length| length > limit.bytes()) {
        return Err(limit.exceeded());
    }
    let mut upload = begin().map_err(ApiError::publish)?;
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

/// Whether so many bytes are too few after that time.
fn too_slow(bytes: u64, after: Duration) -> bool {
    after > PAUSE && bytes < after.as_secs() * SLOWEST
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
