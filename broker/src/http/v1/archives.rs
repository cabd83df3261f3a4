//! Serves an archive to whom its signed URL was given. Clients send no token here, and one that is sent is ignored.
//! Where archives are in S3, clients fetch them there.

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
    let mut response = served.map_err(|_| lost())?.into_response();
    if response.status() == StatusCode::NOT_FOUND {
        tracing::error!(
            alarm = "archive_lost",
            sha256 = archive.url.sha256,
            "an archive that is listed cannot be read"
        );
        return Err(lost());
    }
    let content_type = HeaderValue::from_static(archive.url.format.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

fn lost() -> ApiError {
    ApiError::new(ErrorCode::StoreUnavailable, "the archive cannot be read from the store")
}
