//! Serves an archive from disk to the holder of its signed URL.
//!
//! The route requires no token, and ignores one. With the store on AWS, clients fetch archives from
//! S3 instead.
//!
//! It always sends the whole archive, because it can check the digest only then. It ignores a
//! `Range`, as RFC 9110, section 14.2, allows.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use stile_protocol::reply::ErrorCode;
use tower::ServiceExt;
use tower_http::services::ServeFile;

use super::package_path::{PackagePath as _, ProviderPath};
use crate::app::archive::ProviderFile;
use crate::app::{Broker, archive};
use crate::http::checked_body::CheckedBody;
use crate::http::decision::{Sender, conclude};
use crate::http::error::ApiError;
use stile_core::audit::{Event, Kind};
use stile_core::package::ProviderText;

/// `GET` and `HEAD /v1/archives/{file}`.
pub async fn fetch(
    State(broker): State<Arc<Broker>>,
    file: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let sender = Sender::of(request.headers(), request.extensions());
    let mut draft = sender.draft(&broker, Kind::Fetch);
    let sent = send(&broker, file, request, &mut draft).await;
    conclude(draft, sent)
}

async fn send(
    broker: &Broker,
    file: Result<Path<String>, PathRejection>,
    mut request: Request,
    event: &mut Event,
) -> Result<Response, ApiError> {
    let file = file.as_deref().ok().map(String::as_str);
    let query = request.uri().query().unwrap_or_default();
    let archive = archive::open(broker, file, query, event).await.map_err(ApiError::archive)?;
    let has_body = request.method() == Method::GET;
    request.headers_mut().remove(header::RANGE);
    let served = ServeFile::new(&archive.file).oneshot(request).await;
    let mut response = served.map_err(|_| unreadable())?.into_response();
    let is_empty = response.headers().get(header::CONTENT_LENGTH).is_some_and(|len| len == "0");
    if response.status() == StatusCode::NOT_FOUND || is_empty {
        tracing::error!(
            alarm = "archive_lost",
            sha256 = archive.url.sha256,
            "the archive of a published version is missing or unreadable"
        );
        return Err(unreadable());
    }
    let content_type = HeaderValue::from_static(archive.url.format.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().remove(header::ACCEPT_RANGES);
    if response.status() != StatusCode::OK || !has_body {
        return Ok(response);
    }
    Ok(response.map(|body| Body::new(CheckedBody::new(body, archive.url.sha256))))
}

/// `GET` and `HEAD /v1/providers-files/{namespace}/{type}/{version}/{file}`: the list of digests of a
/// provider's version, or its signature.
pub async fn provider_file(
    State(broker): State<Arc<Broker>>,
    path: Result<Path<ProviderPath>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let sender = Sender::of(request.headers(), request.extensions());
    let mut draft = sender.draft(&broker, Kind::Fetch);
    let query = request.uri().query().unwrap_or_default();
    let sent = async {
        let Path(path) = path.map_err(|_| ApiError::not_found("there is no such route"))?;
        let address = path.unverified_address();
        let parts = (address.as_str(), path.unverified_version(), path.file());
        let found = archive::open_provider_file(&broker, parts, query, &mut draft).await;
        let ProviderFile { content, text } = found.map_err(ApiError::archive)?;
        let content_type = match text {
            ProviderText::Sums => "text/plain; charset=utf-8",
            ProviderText::Signature => "application/octet-stream",
        };
        Ok(([(header::CONTENT_TYPE, content_type)], content).into_response())
    }
    .await;
    conclude(draft, sent)
}

fn unreadable() -> ApiError {
    ApiError::new(ErrorCode::StoreUnavailable, "the registry cannot read the archive")
}
