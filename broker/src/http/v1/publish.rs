//! `POST …/{version}`: publishes a version with the archive in the body of the request.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};

use super::package_path::{ModulePath, PackagePath as _};
use super::publication::{PublishReply, bad_name, claimed, reply};
use super::publish_source;
use crate::app::Broker;
use crate::app::publish::{self, IncomingArchive, Publication};
use crate::http::archive_body::{Accepted, format, read_archive};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use crate::http::json_body::is_json;
use crate::http::run_detached::run_detached;
use stile_core::audit::Kind;
use stile_core::package::{NewVersion, SearchText};

/// `POST /v1/modules/{namespace}/{name}/{system}/{version}`, with an archive, or a source as JSON.
///
/// Answers `201` for a new version, `200` if the same bytes are already published, and `409` if
/// other bytes are.
pub async fn module(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<ModulePath>, PathRejection>,
    request: Request,
) -> Result<PublishReply, ApiError> {
    if is_json(request.headers()) {
        return publish_source::module(broker, credential, path, request).await;
    }
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
        let upload = read_archive(request, Accepted::MODULE, begin).await?;
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

/// Returns the answer for the publication of an archive.
pub(super) fn answer(publication: &Publication) -> Result<PublishReply, ApiError> {
    let Publication { address, version, sha256, outcome, warnings } = publication;
    let (status, Json(mut body)) = reply(address, version, ("sha256", sha256), *outcome)?;
    body["warnings"] = warnings.as_slice().into();
    Ok((status, Json(body)))
}
