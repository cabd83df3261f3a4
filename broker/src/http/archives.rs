//! Serves an archive to whoever holds a signed link to it. Clients send no token here, and one that is sent is ignored.
//! Where archives are in S3, they are fetched there, and nothing is here.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use stile_protocol::reply::ErrorCode;
use tower::ServiceExt;
use tower_http::services::ServeFile;

use super::error::ApiError;
use crate::boot::Broker;
use stile_core::package::{SignedUrl, SignedUrlError};

/// `GET` and `HEAD /v1/archives/{file}`.
pub async fn fetch(
    State(broker): State<Arc<Broker>>,
    file: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let shelf = broker
        .store
        .archives()
        .ok_or_else(|| ApiError::not_found("archives are not handed out here"))?;
    let Path(file) = file.map_err(|_| ApiError::link(SignedUrlError::Invalid))?;
    let now = broker.clock.now();
    let keys = broker
        .tokens
        .derived(&SignedUrl::purpose(&broker.audience), &broker.store, now)
        .await
        .map_err(ApiError::key)?;
    let link = SignedUrl::open(&file, request.uri().query().unwrap_or_default(), &keys, now)
        .map_err(ApiError::link)?;
    let served = ServeFile::new(shelf.archive(&link.sha256, link.format)).oneshot(request).await;
    let mut response = served.map_err(|_| lost())?.into_response();
    if response.status() == StatusCode::NOT_FOUND {
        tracing::error!(
            alarm = "archive_lost",
            sha256 = link.sha256,
            "an archive that is listed cannot be read"
        );
        return Err(lost());
    }
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(link.format.content_type()));
    Ok(response)
}

fn lost() -> ApiError {
    ApiError::new(ErrorCode::StoreUnavailable, "the archive cannot be read from the store")
}
