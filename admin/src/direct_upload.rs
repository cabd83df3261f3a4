//! The way of a large archive: announced to the broker, put where the broker says, and completed there.
//!
//! What the broker names is asked with exactly the headers it gives, and never with the token.

use std::collections::BTreeMap;

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use terraform_credentials_stile::message::one_line;
use terraform_credentials_stile::token::Token;

use crate::api::{Api, ApiResponse, send as ask};
use crate::error::CommandError;
use crate::upload::Archive;

/// How many times longer completing may take: the broker fetches the archive, reads it and puts it in its place.
const COMPLETION_FACTOR: u32 = 10;

/// What to do after a error on the way: nothing that was done is lost or in the way.
const RETRY_HINT: &str =
    "run the same command again; it begins a new upload, or finds the version published";

/// Which way the archive is to go.
#[derive(Debug)]
pub(crate) enum UploadRoute {
    /// None: the registry has it already, as this answer says.
    Published(ApiResponse),
    /// Straight to the registry.
    ThroughRegistry,
    /// Beside it.
    ToBucket(PresignedUpload),
}

/// Where the registry wants the archive.
#[derive(Debug, Deserialize)]
pub(crate) struct PresignedUpload {
    upload: String,
    url: String,
    headers: BTreeMap<String, String>,
}

/// Announces the archive, and is told which way it is to go.
pub(crate) async fn announce(
    api: &Api,
    path: &str,
    archive: &Archive,
) -> Result<UploadRoute, CommandError> {
    let url = api.at(&format!("{path}/uploads"))?;
    let announced = json!({ "format": archive.format().extension(), "bytes": archive.bytes(), "sha256": archive.sha256() }).to_string();
    let request = async |client: &Client, token: &Token| {
        let request = client.post(url.clone()).bearer_auth(token.expose()).timeout(api.patience());
        ask(request.header(CONTENT_TYPE, "application/json").body(announced.clone())).await
    };
    let answer = api.call(request).await?;
    if answer.status == StatusCode::CREATED {
        return Ok(UploadRoute::ToBucket(answer.read()?));
    }
    let told: Value = answer.read()?;
    Ok(if told["status"] == "direct" {
        UploadRoute::ThroughRegistry
    } else {
        UploadRoute::Published(answer)
    })
}

/// Puts the archive where it is args, and completes the upload.
pub(crate) async fn send(
    api: &Api,
    path: &str,
    archive: &Archive,
    upload: &PresignedUpload,
) -> Result<ApiResponse, CommandError> {
    let plain =
        !upload.upload.is_empty() && upload.upload.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !plain {
        return Err(CommandError::failed("the registry named an upload that can be none"));
    }
    put(api, archive, upload).await?;
    let url = api.at(&format!("{path}/uploads/{}", upload.upload))?;
    let request = async |client: &Client, token: &Token| {
        let timeout = COMPLETION_FACTOR * api.patience();
        ask(client.post(url.clone()).bearer_auth(token.expose()).timeout(timeout)).await
    };
    api.call(request).await.map_err(|error| error.or_hint(RETRY_HINT))
}

async fn put(api: &Api, archive: &Archive, upload: &PresignedUpload) -> Result<(), CommandError> {
    let url = Url::parse(&upload.url)
        .map_err(|_| CommandError::failed("the registry wants the archive at what is no URL"))?;
    let mut request = api.client_for(&url)?.put(url.clone());
    let bytes = archive.bytes().to_string();
    for (name, value) in &upload.headers {
        let unusable = || CommandError::failed("the registry named a header that cannot be sent");
        let name = HeaderName::try_from(name).map_err(|_| unusable())?;
        if name == CONTENT_LENGTH && *value != bytes {
            return Err(CommandError::failed(format!(
                "the registry wants {value} bytes, and the archive has {bytes}"
            )));
        }
        request = request.header(name, HeaderValue::try_from(value).map_err(|_| unusable())?);
    }
    // The query is as good as a password, so it is in no message.
    let place = url.host_str().unwrap_or_default();
    let answer = archive.send(request).await.map_err(|error| error.or_hint(RETRY_HINT))?;
    if answer.status.is_success() {
        return Ok(());
    }
    Err(refused(place, answer.status, answer.body()).hint(RETRY_HINT))
}

/// What S3 says when it does not take something, by its code: its sentence can repeat what was signed.
fn refused(place: &str, status: StatusCode, body: &[u8]) -> CommandError {
    let code = code(body).map_or_else(|| status.to_string(), |code| format!("`{code}` ({status})"));
    let message = format!("`{place}` did not take the archive: {code}");
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
    fn what_the_bucket_refuses_is_told_by_its_code_and_nothing_that_was_signed_is_repeated() {
        let error = |code: &str| {
            format!(
                "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>X-Amz-Signature=1</Message></Error>"
            )
        };
        for (status, body, expected) in [
            (
                403,
                error("AccessDenied"),
                "`b.s3.example` did not take the archive: `AccessDenied` (403 Forbidden)",
            ),
            (
                400,
                error("BadDigest"),
                "`b.s3.example` did not take the archive: `BadDigest` (400 Bad Request)",
            ),
            (
                503,
                error("SlowDown"),
                "`b.s3.example` did not take the archive: `SlowDown` (503 Service Unavailable)",
            ),
            (403, error("\u{1b}[2J"), "`b.s3.example` did not take the archive: 403 Forbidden"),
            (403, "<html>".to_owned(), "`b.s3.example` did not take the archive: 403 Forbidden"),
            (403, String::new(), "`b.s3.example` did not take the archive: 403 Forbidden"),
        ] {
            let error =
                refused("b.s3.example", StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!(error.to_string(), expected);
        }
    }
}
