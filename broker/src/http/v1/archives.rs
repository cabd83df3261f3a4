//! Serves an archive from disk to the holder of its signed URL.
//!
//! The route requires no token, and ignores one. With the store on AWS, clients fetch archives from
//! S3 instead.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use stile_protocol::reply::ErrorCode;
use tower::ServiceExt;
use tower_http::services::ServeFile;

use crate::app::{Broker, archive};
use crate::http::decision::conclude;
use crate::http::error::ApiError;
use stile_core::audit::{Event, Kind};

/// `GET` and `HEAD /v1/archives/{file}`.
pub async fn fetch(
    State(broker): State<Arc<Broker>>,
    file: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let mut draft = broker.audit.draft(Kind::Fetch, request.extensions().get().copied());
    let sent = send(&broker, file, request, &mut draft).await;
    conclude(draft, sent)
}

async fn send(
    broker: &Broker,
    file: Result<Path<String>, PathRejection>,
    request: Request,
    event: &mut Event,
) -> Result<Response, ApiError> {
    let file = file.as_deref().ok().map(String::as_str);
    let query = request.uri().query().unwrap_or_default();
    let archive = archive::open(broker, file, query, event).await.map_err(ApiError::archive)?;
    let served = ServeFile::new(&archive.file).oneshot(request).await;
    let mut response = served.map_err(|_| unreadable())?.into_response();
    if response.status() == StatusCode::NOT_FOUND {
        tracing::error!(
            alarm = "archive_lost",
            sha256 = archive.url.sha256,
            "the archive of a published version is missing or unreadable"
        );
        return Err(unreadable());
    }
    let content_type = HeaderValue::from_static(archive.url.format.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

fn unreadable() -> ApiError {
    ApiError::new(ErrorCode::StoreUnavailable, "the registry cannot read the archive")
}
