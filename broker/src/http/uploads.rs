//! Publishing what is too large for one request: begun here, put straight into the bucket by its sender, completed here.
//!
//! What arrives in the bucket is believed no more than what arrives in a request: it is fetched and checked all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use stile_protocol::reply::ErrorCode;

use super::bearer::Caller;
use super::error::ApiError;
use super::exchange::read_json;
use super::modules::ModulePath;
use super::publish::{self, DirectLimit, Done, answer};
use super::run_detached::run_detached;
use crate::audit;
use crate::boot::Broker;
use stile_core::clock::rfc3339;
use stile_core::package::{Announced, MAX_ARCHIVE, Upload, UploadError, UploadId};
use stile_store::{FetchedUpload, PendingUpload};

/// `POST /v1/modules/{namespace}/{name}/{system}/{version}/uploads`.
///
/// `201` with where to put the archive; `200` when it is published already, or can be sent directly; `409` when other
/// bytes are published.
pub async fn begin(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    path: Result<Path<ModulePath>, PathRejection>,
    request: Request,
) -> Result<Done, ApiError> {
    let Path(path) = path.map_err(|_| ApiError::not_found("there is no such route"))?;
    let access = path.access(&caller, publish::bad_name)?;
    let version = path.version()?;
    let limit = DirectLimit::of(&request);
    let announced = Announced::parse(&read_json(request).await?)
        .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error.problem))?;
    if announced.bytes > MAX_ARCHIVE {
        return Err(ApiError::upload(UploadError::TooLarge));
    }

    let published =
        broker.store.published(&access, &version, &announced).await.map_err(ApiError::store)?;
    if let Some(published) = published {
        return answer(published, access.address(), &version, &announced.sha256);
    }
    if announced.bytes <= limit.bytes() {
        let told = serde_json::json!({
            "module": access.address().to_string(), "version": version.to_string(), "sha256": announced.sha256, "status": "direct",
        });
        return Ok((StatusCode::OK, Json(told)));
    }
    let begun = broker
        .store
        .begin_upload(&access, &version, &announced, broker.clock.now())
        .await
        .map_err(ApiError::store)?;
    let begun = begun.ok_or_else(|| limit.exceeded())?;
    let what = format!("{} {version}", access.address());
    audit::package("upload", access.access(), &what, "begun");
    let headers: BTreeMap<String, String> = begun.headers.into_iter().collect();
    let told = serde_json::json!({
        "upload": begun.id.as_str(), "url": begun.url, "headers": headers, "expires_at": rfc3339(begun.expires_at),
    });
    Ok((StatusCode::CREATED, Json(told)))
}

/// `POST /v1/modules/{namespace}/{name}/{system}/{version}/uploads/{upload}`: answers as publishing does.
pub async fn complete(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    path: Result<Path<ModulePath>, PathRejection>,
) -> Result<Done, ApiError> {
    let Path(path) = path.map_err(|_| ApiError::not_found("there is no such route"))?;
    let access = path.access(&caller, publish::bad_name)?;
    let version = path.version()?;
    let id = UploadId::parse(path.upload()).ok_or_else(unknown)?;
    let room = broker.upload_room(caller.principal()).ok_or_else(publish::overloaded)?;
    let pending = broker
        .store
        .pending_upload(&access, &version, &id, broker.clock.now())
        .await
        .map_err(ApiError::store)?;
    let pending = pending.ok_or_else(unknown)?;
    drop(access);
    // Runs to its end though the sender hangs up, as publishing does.
    let completed = async move {
        let _room = room;
        finish(&broker, &caller, &path, pending).await
    };
    run_detached(completed).await
}

async fn finish(
    broker: &Broker,
    caller: &Caller,
    path: &ModulePath,
    mut pending: PendingUpload,
) -> Result<Done, ApiError> {
    let mut upload = Upload::begin(&broker.store.incoming()).map_err(ApiError::upload)?;
    let fetched =
        broker.store.fetch_upload(&mut pending, &mut upload).await.map_err(ApiError::store)?;
    let done = match fetched {
        FetchedUpload::All if upload.is(pending.announced()) => {
            publish::publish(broker, caller, path, upload, pending.announced().format).await
        }
        FetchedUpload::All => {
            Err(ApiError::new(ErrorCode::BadArchive, "what was uploaded is not what was announced")
                .hint("begin the upload again"))
        }
        FetchedUpload::Nothing => nothing_there(broker, caller, path, pending.announced()).await,
    };
    // What can still come to something stays: its sender may try again.
    let over = match &done {
        Ok(_) => true,
        Err(error) => {
            error.code() == ErrorCode::Conflict
                || error.code() == ErrorCode::BadArchive && fetched == FetchedUpload::All
        }
    };
    if over {
        broker.store.end_upload(pending).await;
    }
    done
}

/// Nothing is there before it was put, and after somebody has completed it: then it is published.
async fn nothing_there(
    broker: &Broker,
    caller: &Caller,
    path: &ModulePath,
    announced: &Announced,
) -> Result<Done, ApiError> {
    let access = path.access(&caller.again(broker).await?, publish::bad_name)?;
    let version = path.version()?;
    match broker.store.published(&access, &version, announced).await.map_err(ApiError::store)? {
        Some(published) => answer(published, access.address(), &version, &announced.sha256),
        None => Err(ApiError::new(ErrorCode::BadArchive, "nothing was put at the URL of this upload")
            .hint("put the archive there, with the headers that came with it, and complete the upload then")),
    }
}

/// One answer for an id that is unknown, somebody else's, for another version, or over.
fn unknown() -> ApiError {
    ApiError::not_found("there is no such upload")
        .hint("begin it again: what was published already is told there")
}
