//! The routes that begin and complete an upload session.
//!
//! Between the two requests, the client puts the archive into the bucket.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use stile_protocol::reply::ErrorCode;

use super::package_path::{ModulePath, PackagePath as _};
use super::publication::{PublishReply, bad_name};
use super::publish::answer;
use crate::app::Broker;
use crate::app::authorize::Bearer;
use crate::app::upload::{self, SessionError, UploadRoute};
use crate::http::archive_body::{Accepted, DirectLimit};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use crate::http::json_body::read_json;
use crate::http::run_detached::run_detached;
use stile_core::audit::{Event, Kind};
use stile_core::clock::rfc3339;
use stile_core::package::{AnnouncedArchive, MAX_ARCHIVE, UploadError};

/// `POST /v1/modules/{namespace}/{name}/{system}/{version}/uploads`.
///
/// Answers `201` with the URL for the archive. The answer is `200` if the version is already
/// published, or if the archive fits into one request. It is `409` if other bytes are published.
pub async fn begin(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<ModulePath>, PathRejection>,
    request: Request,
) -> Result<PublishReply, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Upload).await?;
    let begun = session(&broker, &bearer, path, request, &mut draft).await;
    conclude(draft, begun)
}

async fn session(
    broker: &Broker,
    bearer: &Bearer,
    path: Result<Path<ModulePath>, PathRejection>,
    request: Request,
    event: &mut Event,
) -> Result<PublishReply, ApiError> {
    let Path(path) = path.map_err(|_| ApiError::not_found("there is no such route"))?;
    let access = path.access(bearer, event, bad_name)?;
    let version = path.version()?;
    let limit = DirectLimit::of(&request, Accepted::MODULE);
    let announced = AnnouncedArchive::parse(&read_json(request).await?)
        .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error.problem))?;
    if announced.bytes > MAX_ARCHIVE {
        return Err(ApiError::upload(UploadError::TooLarge(MAX_ARCHIVE)));
    }
    let begun = upload::begin(broker, &access, &version, &announced, limit.bytes(), event).await;
    let begun = begun.map_err(|error| match error {
        SessionError::DirectOnly => limit.exceeded(),
        error => ApiError::upload_session(error, access.address().namespace()),
    })?;
    match begun {
        UploadRoute::Published(publication) => answer(&publication),
        UploadRoute::Direct => {
            let body = serde_json::json!({
                (access.address().kind()): access.address().to_string(),
                "version": version.to_string(),
                "sha256": announced.sha256,
                "status": "direct",
            });
            Ok((StatusCode::OK, Json(body)))
        }
        UploadRoute::Session(session) => {
            let headers: BTreeMap<String, String> = session.headers.into_iter().collect();
            let body = serde_json::json!({
                "upload": session.id.as_str(),
                "url": session.url,
                "headers": headers,
                "expires_at": rfc3339(session.expires_at),
            });
            Ok((StatusCode::CREATED, Json(body)))
        }
    }
}

/// `POST /v1/modules/{namespace}/{name}/{system}/{version}/uploads/{upload}`.
///
/// The answer is the same as for publishing in one request.
pub async fn complete(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<ModulePath>, PathRejection>,
) -> Result<PublishReply, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Publish).await?;
    // The work continues when the client disconnects, as for publishing in one request.
    run_detached(async move {
        let done = async {
            let Path(path) = path.map_err(|_| ApiError::not_found("there is no such route"))?;
            let access = path.access(&bearer, &mut draft, bad_name)?;
            let version = path.version()?;
            let id = path.upload();
            let done = upload::complete(&broker, &bearer, &access, version, id, &mut draft).await;
            let namespace = access.address().namespace();
            answer(&done.map_err(|error| ApiError::upload_session(error, namespace))?)
        }
        .await;
        conclude(draft, done)
    })
    .await
}
