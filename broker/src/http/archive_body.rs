//! Reads an archive from the body of a request, with limits for its size and its time.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use stile_protocol::reply::ErrorCode;
use tokio::time::Instant;

use super::error::ApiError;
use crate::app::provider_upload::ProviderUploadError;
use crate::app::publish::{IncomingArchive, PublishError};
use stile_core::package::{ArchiveUpload, Format, MAX_ARCHIVE, MAX_PROVIDER_FILE, UploadError};

/// The media type of bytes of any kind.
const BYTES: &str = "application/octet-stream";

/// The longest pause of a client.
const PAUSE: Duration = Duration::from_secs(30);

/// What a route accepts as its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepted {
    /// The largest size in bytes.
    largest: u64,
    /// The longest time in minutes for all of it.
    minutes: u64,
    /// The size in bytes, if the client has announced it.
    announced: Option<u64>,
}

impl Accepted {
    /// The archive of a module: the time is enough for 100 MB at about 1 Mbit/s.
    pub(super) const MODULE: Self = Self { largest: MAX_ARCHIVE, minutes: 15, announced: None };

    /// The file of one platform of a provider, of the size that the session has for it. A session ends
    /// after that time.
    ///
    /// The exact size stops a client that announces 1 byte, and then has the disk reserve 1 GB for an
    /// hour in each of its requests.
    pub(super) const fn provider_file(bytes: u64) -> Self {
        Self { largest: MAX_PROVIDER_FILE, minutes: 60, announced: Some(bytes) }
    }

    /// Checks the length that the request announces.
    fn check_length(self, length: u64) -> Result<(), ApiError> {
        match self.announced {
            Some(announced) if announced != length => Err(other_size()),
            _ => Ok(()),
        }
    }

    const fn time(self) -> Duration {
        Duration::from_secs(60 * self.minutes)
    }
}

/// The lowest average speed of an upload that lasts longer than [`PAUSE`], in bytes per second.
///
/// Without it, a client that sends single bytes would hold its permit for all of the time that the route
/// accepts. Even a modem is faster.
const SLOWEST: u64 = 2 * 1024;

/// The size of the largest archive that fits into one request.
///
/// A front with a lower limit than the route sets an extension of the request, which no client can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectLimit(pub u64);

impl DirectLimit {
    /// Returns the limit for this request, to a route that accepts this.
    pub(super) fn of(request: &Request, accepted: Accepted) -> Self {
        request.extensions().get().copied().unwrap_or(Self(accepted.largest))
    }

    /// Returns the limit in bytes.
    pub(super) const fn bytes(self) -> u64 {
        self.0
    }

    /// Returns the error for a larger archive.
    pub(super) fn exceeded(self) -> ApiError {
        if self.0 >= MAX_ARCHIVE {
            return ApiError::upload(UploadError::TooLarge(self.0));
        }
        let message =
            format!("the archive is larger than {} KB, the limit for one request", self.0 / 1000);
        ApiError::new(ErrorCode::TooLarge, message).hint(
            "begin an upload with `POST …/{version}/uploads`, as `stile-admin module publish` does",
        )
    }
}

fn other_size() -> ApiError {
    let message = ProviderUploadError::NotAnnounced.to_string();
    ApiError::new(ErrorCode::BadArchive, message).hint("send the file that `SHA256SUMS` has")
}

/// Returns the archive format in the `Content-Type` header.
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

/// Checks that the `Content-Type` header is that of a zip archive, or of bytes of any kind.
pub(super) fn check_zip(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_plain = headers.get(header::CONTENT_TYPE).is_some_and(|value| value == BYTES);
    if is_plain && !headers.contains_key(header::CONTENT_ENCODING)
        || format(headers)? == Format::Zip
    {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::UnsupportedMediaType,
        "the archive must be `application/zip` or `application/octet-stream`",
    ))
}

/// Reads the whole archive into the one that `begin` creates. `begin` gets the length that the client
/// announces.
pub(super) async fn read_archive(
    request: Request,
    accepted: Accepted,
    begin: impl FnOnce(Option<u64>) -> Result<IncomingArchive, PublishError>,
) -> Result<ArchiveUpload, ApiError> {
    let received = receive(request, accepted, begin);
    tokio::time::timeout(accepted.time(), received).await.map_err(|_| {
        let minutes = accepted.minutes;
        let message = format!("the archive did not arrive within {minutes} minutes");
        ApiError::new(ErrorCode::RequestTimeout, message)
    })?
}

async fn receive(
    request: Request,
    accepted: Accepted,
    begin: impl FnOnce(Option<u64>) -> Result<IncomingArchive, PublishError>,
) -> Result<ArchiveUpload, ApiError> {
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let limit = DirectLimit::of(&request, accepted);
    if length.is_some_and(|length| length > limit.bytes()) {
        return Err(limit.exceeded());
    }
    if let Some(length) = length {
        accepted.check_length(length)?;
    }
    let mut archive = begin(length).map_err(ApiError::publish)?;
    let mut body = request.into_body();
    let begun = Instant::now();
    loop {
        let frame = tokio::time::timeout(PAUSE, body.frame());
        match frame.await.map_err(|_| {
            ApiError::new(
                ErrorCode::RequestTimeout,
                "the client sent no part of the archive for more than 30 seconds",
            )
        })? {
            None => return archive.finish().await.map_err(ApiError::publish),
            Some(Err(_)) => {
                return Err(ApiError::new(
                    ErrorCode::InvalidRequest,
                    "the connection closed before the end of the archive",
                ));
            }
            Some(Ok(frame)) => {
                if let Ok(chunk) = frame.into_data() {
                    let received = archive.bytes().saturating_add(chunk.len() as u64);
                    if received > limit.bytes() {
                        return Err(limit.exceeded());
                    }
                    if accepted.announced.is_some_and(|announced| received > announced) {
                        return Err(other_size());
                    }
                    archive.write(&chunk).await.map_err(ApiError::publish)?;
                    let received = archive.bytes();
                    if length != Some(received) && too_slow(received, begun.elapsed()) {
                        return Err(ApiError::new(
                            ErrorCode::RequestTimeout,
                            "the client sends the archive at less than 2 KiB per second",
                        ));
                    }
                }
            }
        }
    }
}

/// Returns whether this is too few bytes after this time.
fn too_slow(bytes: u64, after: Duration) -> bool {
    after > PAUSE && bytes < after.as_secs() * SLOWEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_another_size_than_announced_is_refused_before_it_is_read() {
        let accepted = Accepted::provider_file(7);
        for length in [0, 6, 8, 1_000_000_000] {
            let refused = accepted.check_length(length).unwrap_err();
            assert!(format!("{refused:?}").contains("another size"), "{length}: {refused:?}");
        }
        assert!(accepted.check_length(7).is_ok());
        assert!(Accepted::MODULE.check_length(8).is_ok(), "a module has no announced size");
    }

    #[test]
    fn an_upload_below_the_lowest_speed_ends_after_30_seconds() {
        let largest_in_time = MAX_ARCHIVE / Accepted::MODULE.time().as_secs();
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
