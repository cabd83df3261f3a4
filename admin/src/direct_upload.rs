//! Uploads a large archive: announces it to the broker, puts it into the bucket, and completes it.
//!
//! The request to the bucket has exactly the headers from the broker, and never the token.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;

use indicatif::ProgressBar;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use terraform_credentials_stile::message::one_line;
use terraform_credentials_stile::token::Token;

use crate::api::{Api, ApiResponse};
use crate::claims::Claims;
use crate::error::CommandError;
use crate::progress::bar;
use crate::upload::{Archive, UPLOAD_TIMEOUT, send_file};

/// The timeout of a request in which the broker fetches, inspects and stores an archive, as a multiple
/// of the request timeout.
pub(crate) const COMPLETION_FACTOR: u32 = 10;

/// The field of the announcement with the claims.
const CLAIMED: &str = "claimed";

/// The hint after an error. A repeated command is safe.
const RETRY_HINT: &str =
    "run the same command again; it starts a new upload, or finds the published version";

/// The route of an archive, which the registry selects.
#[derive(Debug)]
pub(crate) enum UploadRoute {
    /// No upload: this response says that the version is already published.
    Published(ApiResponse),
    /// One request to the registry.
    ThroughRegistry,
    /// An upload to the bucket.
    ToBucket(PresignedUpload),
}

/// A presigned upload to the bucket.
#[derive(Debug, Deserialize)]
pub(crate) struct PresignedUpload {
    upload: String,
    #[serde(flatten)]
    put: PresignedPut,
}

/// The request that puts one file into the bucket.
#[derive(Clone, Deserialize)]
pub(crate) struct PresignedPut {
    /// The URL. Its query contains a signature, which is a secret.
    pub(crate) url: String,
    /// The headers, which the signature covers.
    pub(crate) headers: BTreeMap<String, String>,
}

impl fmt::Debug for PresignedPut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = Url::parse(&self.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        formatter.debug_struct("PresignedPut").field("host", &host).finish_non_exhaustive()
    }
}

/// Announces the archive, and returns the route that the registry selects.
///
/// A registry of an earlier release refuses the field with the claims. Then the program announces the
/// archive without them.
pub(crate) async fn announce(
    api: &Api,
    path: &str,
    archive: &Archive,
    claims: Option<&Claims>,
) -> Result<UploadRoute, CommandError> {
    let url = api.at(&format!("{path}/uploads"))?;
    let mut announced = json!({ "format": archive.format().extension(), "bytes": archive.bytes(), "sha256": archive.sha256() });
    let post = async |announced: &Value| {
        let request = async |client: &Client, token: &Token| {
            let request =
                client.post(url.clone()).bearer_auth(token.expose()).timeout(api.request_timeout());
            let request = request.header(CONTENT_TYPE, "application/json");
            api.send(request.body(announced.to_string())).await
        };
        api.call(request).await
    };
    let answer = match claims {
        None => post(&announced).await?,
        Some(claims) => {
            let plain = announced.clone();
            announced[CLAIMED] = json!(claims);
            let answer = post(&announced).await?;
            if refuses_claims(&answer) { post(&plain).await? } else { answer }
        }
    };
    if answer.status == StatusCode::CREATED {
        return Ok(UploadRoute::ToBucket(answer.read()?));
    }
    let reply: Value = answer.read()?;
    Ok(if reply["status"] == "direct" {
        UploadRoute::ThroughRegistry
    } else {
        UploadRoute::Published(answer)
    })
}

/// Returns whether the registry does not know the field with the claims.
fn refuses_claims(answer: &ApiResponse) -> bool {
    let name = format!("`{CLAIMED}`");
    answer.status == StatusCode::BAD_REQUEST
        && String::from_utf8_lossy(answer.body()).contains(&name)
}

/// Puts the archive into the bucket, and completes the upload.
pub(crate) async fn send(
    api: &Api,
    path: &str,
    archive: &Archive,
    upload: &PresignedUpload,
) -> Result<ApiResponse, CommandError> {
    checked_id(&upload.upload)?;
    put(api, archive.file(), archive.bytes(), &upload.put, &bar(archive.bytes())).await?;
    let url = api.at(&format!("{path}/uploads/{}", upload.upload))?;
    let request = async |client: &Client, token: &Token| {
        let timeout = COMPLETION_FACTOR * api.request_timeout();
        let request = client.post(url.clone()).bearer_auth(token.expose());
        api.send(request.timeout(timeout)).await
    };
    api.call(request).await.map_err(|error| error.or_hint(RETRY_HINT))
}

/// Checks an upload id of the registry, which becomes part of a path.
pub(crate) fn checked_id(id: &str) -> Result<&str, CommandError> {
    let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain
        .then_some(id)
        .ok_or_else(|| CommandError::failed("the registry responded with an invalid upload id"))
}

/// The reason why a file is not in the bucket, as far as the program knows.
#[derive(Debug)]
pub(crate) enum PutError {
    /// The bucket does not accept the URL, for example because it expired.
    Denied(CommandError),
    /// There is a file already, for example because only the answer to an earlier request was lost.
    Exists(CommandError),
    /// The bucket or the network failed, and the same request can succeed.
    Down(CommandError),
    /// The same request fails again.
    Invalid(CommandError),
}

impl From<PutError> for CommandError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Denied(error)
            | PutError::Exists(error)
            | PutError::Down(error)
            | PutError::Invalid(error) => error,
        }
    }
}

/// Puts one file of this size into the bucket, with exactly the headers from the registry.
pub(crate) async fn put(
    api: &Api,
    file: &File,
    bytes: u64,
    put: &PresignedPut,
    bar: &ProgressBar,
) -> Result<(), PutError> {
    let (request, place) = put_request(api, bytes, put).map_err(PutError::Invalid)?;
    let answer = send_file(api, request, file, bar).await;
    let answer = answer.map_err(|error| PutError::Down(error.or_hint(RETRY_HINT)))?;
    if answer.status.is_success() {
        return Ok(());
    }
    let error = refused(&place, answer.status, answer.body()).hint(RETRY_HINT);
    Err(match (answer.status, code(answer.body()).as_deref()) {
        (StatusCode::FORBIDDEN, _) | (_, Some("ExpiredToken")) => PutError::Denied(error),
        (StatusCode::PRECONDITION_FAILED, _) => PutError::Exists(error),
        // Another request for the same key is not complete, or the bucket waited too long.
        (_, Some("ConditionalRequestConflict" | "RequestTimeout")) => PutError::Down(error),
        (status, _) if status.is_server_error() => PutError::Down(error),
        _ => PutError::Invalid(error),
    })
}

/// Returns the request without its body, and the place of the bucket for messages.
fn put_request(
    api: &Api,
    bytes: u64,
    put: &PresignedPut,
) -> Result<(RequestBuilder, String), CommandError> {
    let url = Url::parse(&put.url)
        .map_err(|_| CommandError::failed("the registry responded with an invalid upload URL"))?;
    let mut request = api.client_for(&url)?.put(url.clone()).timeout(UPLOAD_TIMEOUT);
    let bytes = bytes.to_string();
    for (name, value) in &put.headers {
        let unusable =
            || CommandError::failed("the registry responded with an invalid upload header");
        let name = HeaderName::try_from(name).map_err(|_| unusable())?;
        if name == CONTENT_LENGTH && *value != bytes {
            return Err(CommandError::failed(format!(
                "the registry expects {value} bytes, but the archive has {bytes}"
            )));
        }
        request = request.header(name, HeaderValue::try_from(value).map_err(|_| unusable())?);
    }
    // The query contains a signature, which is a secret, so messages do not contain it.
    Ok((request, url.host_str().unwrap_or_default().to_owned()))
}

/// Returns the error of S3 with its code only, because its message can contain signed values (leak).
fn refused(place: &str, status: StatusCode, body: &[u8]) -> CommandError {
    let code = code(body).map_or_else(|| status.to_string(), |code| format!("`{code}` ({status})"));
    let message = format!("`{place}` rejected the archive: {code}");
    if status.is_server_error() {
        CommandError::failed(message)
    } else {
        CommandError::refused(message)
    }
}

fn code(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let document = roxmltree::Document::parse(text).ok()?;
    let error = document.root_element();
    let code = error.children().find(|node| node.has_tag_name("Code"))?.text()?;
    let plain = code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (error.has_tag_name("Error") && plain).then(|| one_line(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_an_upload_has_no_signature() {
        let put = json!({
            "upload": "u1", "url": "https://b.s3.example/k?X-Amz-Signature=secret",
            "headers": { "x-amz-security-token": "secret" },
        });
        let upload: PresignedUpload = serde_json::from_value(put).unwrap();
        let shown = format!("{:?}", UploadRoute::ToBucket(upload));
        assert!(shown.contains("b.s3.example") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn an_error_of_the_bucket_contains_its_code_and_no_signed_values() {
        let error = |code: &str| {
            format!(
                "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>X-Amz-Signature=1</Message></Error>"
            )
        };
        for (status, body, expected) in [
            (
                403,
                error("AccessDenied"),
                "`b.s3.example` rejected the archive: `AccessDenied` (403 Forbidden)",
            ),
            (
                400,
                error("BadDigest"),
                "`b.s3.example` rejected the archive: `BadDigest` (400 Bad Request)",
            ),
            (
                503,
                error("SlowDown"),
                "`b.s3.example` rejected the archive: `SlowDown` (503 Service Unavailable)",
            ),
            (403, error("\u{1b}[2J"), "`b.s3.example` rejected the archive: 403 Forbidden"),
            (403, "<html>".to_owned(), "`b.s3.example` rejected the archive: 403 Forbidden"),
            (403, String::new(), "`b.s3.example` rejected the archive: 403 Forbidden"),
        ] {
            let error =
                refused("b.s3.example", StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!(error.to_string(), expected);
        }
    }
}
