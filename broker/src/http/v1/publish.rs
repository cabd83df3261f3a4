//! `POST …/{version}`: publishes a version with the archive in the body of the request.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use stile_protocol::names::NameError;
use stile_protocol::reply::ErrorCode;

use super::modules::ModulePath;
use crate::app::Broker;
use crate::app::publish::{self, IncomingArchive, Publication};
use crate::http::archive_body::{format, read_archive};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use crate::http::run_detached::run_detached;
use stile_core::audit::Kind;
use stile_core::package::{Claimed, NewVersion, SearchText};
use stile_store::Published;

/// `POST /v1/modules/{namespace}/{name}/{system}/{version}`.
///
/// Answers `201` for a new version, `200` if the same bytes are already published, and `409` if
/// other bytes are.
pub async fn module(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<ModulePath>, PathRejection>,
    request: Request,
) -> Result<PublishReply, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Publish).await?;
    let received = async {
        let Path(path) = path.map_err(|_| ApiError::not_found("there is no such route"))?;
        let access = path.access(&bearer, &mut draft, bad_name)?;
        let new = NewVersion {
            version: path.version()?,
            format: format(request.headers())?,
            claimed: claimed(request.headers())?,
            search: SearchText::default(),
        };
        let permit = publish::permit(&broker, &bearer, &access).map_err(ApiError::publish)?;
        let begin = |announced| IncomingArchive::begin(&broker, announced);
        let upload = read_archive(request, begin).await?;
        Ok((access, new, permit, upload))
    }
    .await;
    let (access, new, permit, upload) = match received {
        Ok(received) => received,
        Err(error) => return conclude(draft, Err(error)),
    };
    // The work continues when the client disconnects, so that every published version has an audit
    // event.
    let published = async move {
        let _permit = permit;
        let done = publish::publish(&broker, &bearer, &access, new, upload, &mut draft).await;
        conclude(draft, done.map_err(ApiError::publish).and_then(|done| answer(&done)))
    };
    run_detached(published).await
}

/// The header with what the publisher's environment claims.
const CLAIMED_HEADER: &str = "stile-claimed";

/// Returns the claims in the header, if it is there.
fn claimed(headers: &HeaderMap) -> Result<Option<Claimed>, ApiError> {
    let Some(value) = headers.get(CLAIMED_HEADER) else { return Ok(None) };
    let claimed = Claimed::parse_header(value.to_str().unwrap_or_default());
    claimed.map(Some).map_err(|error| {
        let message = format!("header `{CLAIMED_HEADER}`: {}", error.problem);
        ApiError::new(ErrorCode::InvalidRequest, message)
    })
}

const fn outcome(published: Published) -> &'static str {
    match published {
        Published::Created => "created",
        Published::Same => "unchanged",
        Published::Different | Published::Unpublished => "conflict",
        Published::Full | Published::OverQuota(_) => "full",
    }
}

/// Returns the answer for an invalid address.
#[expect(clippy::needless_pass_by_value, reason = "callers pass it as a function of the error")]
pub(super) fn bad_name(error: NameError) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, error.to_string())
}

/// Returns the answer for a publication.
pub(super) fn answer(publication: &Publication) -> Result<PublishReply, ApiError> {
    let Publication { address, version, sha256, outcome: published, warnings } = publication;
    let status = match published {
        Published::Created => StatusCode::CREATED,
        Published::Same => StatusCode::OK,
        Published::Full => {
            return Err(ApiError::new(
                ErrorCode::TooLarge,
                format!("`{address}` has the maximum number of versions"),
            )
            .hint("publish the next versions under another module name"));
        }
        Published::OverQuota(exceeded) => {
            return Err(ApiError::quota_exceeded(address.namespace(), *exceeded));
        }
        Published::Different => {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                format!("`{address}` {version} is already published with other content"),
            )
            .hint("a published version never changes; publish the next version"));
        }
        Published::Unpublished => {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                format!("`{address}` {version} is unpublished, with the same content"),
            )
            .hint(format!("run `stile-admin module restore {address} {version}`")));
        }
    };
    let body = serde_json::json!({
        "module": address.to_string(),
        "version": version.to_string(),
        "sha256": sha256,
        "status": outcome(*published),
        "warnings": warnings,
    });
    Ok((status, Json(body)))
}

/// The answer to a publisher: a status and a JSON body.
pub(super) type PublishReply = (StatusCode, Json<serde_json::Value>);
