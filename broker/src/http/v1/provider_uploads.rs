//! The routes that publish a version of a provider: begin a session, verify each file, complete.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::HttpBody as _;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use stile_protocol::reply::ErrorCode;
use tokio::time::Instant;

use super::package_path::{PackagePath as _, PathResult, ProviderPath};
use super::publication::{PublishReply, bad_name, reply};
use crate::app::Broker;
use crate::app::authorize::Bearer;
use crate::app::provider_upload::{
    self, FileVerification, PATIENCE, ProviderUploadError, SessionFile,
};
use crate::app::publish::IncomingArchive;
use crate::http::archive_body::{Accepted, check_zip, read_archive};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use crate::http::json_body::read_json_of;
use crate::http::run_detached::{StopsAfterAnswer, run_detached, run_detached_for};
use stile_core::audit::{Event, Kind, Outcome};
use stile_core::clock::rfc3339;
use stile_core::package::ArchiveUpload;
use stile_core::package::provider::AnnouncedRelease;
use stile_store::{BegunProviderUpload, ProviderSession, Published, SessionFileState};

/// Maximum length of the body that begins a session, in bytes. It has the list of digests, in which JSON
/// escapes each line break, and the names of the files again.
const MAX_ANNOUNCEMENT: usize = 192 * 1024;

/// The value of `Retry-After` while a file is verified, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// `POST /v1/providers/{namespace}/{type}/{version}/uploads`.
///
/// Answers `201` with what the registry needs, `200` if exactly this is published, and `409` if that
/// contradicts what is published.
pub async fn begin(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: PathResult<ProviderPath>,
    request: Request,
) -> Result<PublishReply, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Upload).await?;
    let begun = Box::pin(session(&broker, &bearer, path, request, &mut draft)).await;
    conclude(draft, begun)
}

async fn session(
    broker: &Broker,
    bearer: &Bearer,
    path: PathResult<ProviderPath>,
    request: Request,
    event: &mut Event,
) -> Result<PublishReply, ApiError> {
    let Path(path) = path.map_err(|_| no_route())?;
    let access = path.access(bearer, event, bad_name)?;
    let version = path.version()?;
    let address = access.address().clone();
    let provider = address.provider().ok_or_else(no_route)?;
    let body = read_json_of(request, MAX_ANNOUNCEMENT).await?;
    let announced = AnnouncedRelease::parse(&body, &provider.provider_type, &version)
        .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error.to_string()))?;
    let sha256 = announced.sha256();
    let begun = provider_upload::begin(broker, &access, &version, announced, event).await;
    let namespace = address.namespace();
    match begun.map_err(|error| ApiError::provider_upload(error, namespace))? {
        BegunProviderUpload::Session(session) => Ok((StatusCode::CREATED, Json(render(&session)))),
        BegunProviderUpload::Same => {
            reply(&address, &version, ("sha256", &sha256), Published::Same)
        }
        BegunProviderUpload::Stale(missing) => Err(ApiError::stale(&address, &version, &missing)),
        BegunProviderUpload::Different(platform) => {
            Err(ApiError::other_file(&address, &version, &platform))
        }
        BegunProviderUpload::NotReplaced(reason) => {
            Err(ApiError::provider_upload(reason.into(), namespace))
        }
        BegunProviderUpload::Unannounced(missing) => Err(ApiError::unannounced(&missing)),
        BegunProviderUpload::OverQuota(exceeded) => {
            Err(ApiError::quota_exceeded(namespace, exceeded))
        }
        BegunProviderUpload::TooManyOpen => Err(ApiError::too_many_open(namespace)),
    }
}

fn render(session: &ProviderSession) -> Value {
    let files = session.files.iter().map(|file| {
        let mut shown = json!({ "name": file.name, "sha256": file.sha256, "status": "verified" });
        if let SessionFileState::Missing { put } = &file.state {
            shown["status"] = "missing".into();
            if let Some(put) = put {
                let headers: BTreeMap<_, _> = put.headers.iter().cloned().collect();
                shown["url"] = put.url.as_str().into();
                shown["headers"] = json!(headers);
            }
        }
        shown
    });
    json!({
        "upload": session.id.as_str(),
        "expires_at": rfc3339(session.expires_at),
        "files": files.collect::<Vec<_>>(),
    })
}

/// `POST /v1/providers/{namespace}/{type}/{version}/uploads/{upload}/files/{file}`.
///
/// Verifies a file that was put to its URL, or that is the body of this request. Answers `200` when the
/// file is verified. It answers `202` if that takes longer than a gateway waits; the work goes on then.
/// A process that stops after its answer goes on with the work when it gets the next request.
pub async fn verify(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: PathResult<ProviderPath>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::VerifyFile).await?;
    let stops = request.extensions().get::<StopsAfterAnswer>().copied();
    let received = async {
        let Path(path) = path.map_err(|_| no_route())?;
        let access = path.access(&bearer, &mut draft, bad_name)?;
        let (version, name) = (path.version()?, path.file().to_owned());
        let id = path.upload();
        let found =
            provider_upload::find(&broker, &bearer, &access, &version, id, &name, &mut draft);
        let namespace = access.address().namespace();
        let failed = |error| ApiError::provider_upload(error, namespace);
        let file = found.await.map_err(failed)?;
        let upload = read_file(&broker, &file, request, failed).await?;
        Ok((access, name, file, upload))
    };
    let (access, name, file, upload) = match Box::pin(received).await {
        Ok(received) => received,
        Err(error) => return conclude(draft, Err(error)),
    };
    let begun = Instant::now();
    let mut patience = PATIENCE;
    let mut permit = None;
    if let Some(StopsAfterAnswer(left)) = stops {
        patience = patience.min(left);
        permit = provider_upload::stopping_check(&broker, patience).await;
        if permit.is_none() {
            draft.outcome(Outcome::Verifying);
            return conclude(draft, Ok(verifying(&name)));
        }
    }
    let patience = patience.saturating_sub(begun.elapsed());
    let work = Box::pin(async move {
        let _permit = permit;
        let event = &mut draft;
        let done =
            provider_upload::verify(&broker, &bearer, &access, &file, upload, patience, event);
        let done = done
            .await
            .map_err(|error| ApiError::provider_upload(error, access.address().namespace()));
        conclude(draft, done)
    });
    let done = run_detached_for(patience, work).await?;
    Ok(match done {
        Some(FileVerification::Verified { sha256 }) => {
            let body = json!({ "name": name, "sha256": sha256, "status": "verified" });
            (StatusCode::OK, Json(body)).into_response()
        }
        Some(FileVerification::InProgress) | None => verifying(&name),
    })
}

/// Answers that the client must ask again.
fn verifying(name: &str) -> Response {
    let body = json!({ "name": name, "status": "verifying" });
    let headers = [(header::RETRY_AFTER, RETRY_AFTER)];
    (StatusCode::ACCEPTED, headers, Json(body)).into_response()
}

/// Reads the file from the body. `None` if there is no body, or if the registry has the file.
async fn read_file(
    broker: &Broker,
    file: &SessionFile,
    request: Request,
    failed: impl Fn(ProviderUploadError) -> ApiError,
) -> Result<Option<ArchiveUpload>, ApiError> {
    if request.uri().query().is_some() {
        return Err(ApiError::new(
            ErrorCode::InvalidRequest,
            "query parameters are not accepted; the path names the file",
        ));
    }
    if request.body().is_end_stream() {
        return Ok(None);
    }
    if !provider_upload::receives_files(broker) {
        return Err(failed(ProviderUploadError::NotHere));
    }
    check_zip(request.headers())?;
    let announced = file.announced().filter(|announced| !announced.is_verified);
    let Some(announced) = announced else { return Ok(None) };
    let accepted = Accepted::provider_file(announced.bytes);
    let begin = |announced| IncomingArchive::begin_provider_file(broker, announced);
    read_archive(request, accepted, begin).await.map(Some)
}

/// `POST /v1/providers/{namespace}/{type}/{version}/uploads/{upload}`.
///
/// Answers `201` for a new version, `200` for a version that has more files or another signature now, or
/// that exists already, and `409` if files are not verified.
pub async fn complete(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: PathResult<ProviderPath>,
) -> Result<PublishReply, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Publish).await?;
    // The work continues when the client disconnects, so that every change has an audit event.
    run_detached(Box::pin(async move {
        let done = async {
            let Path(path) = path.map_err(|_| no_route())?;
            let access = path.access(&bearer, &mut draft, bad_name)?;
            let (version, id) = (path.version()?, path.upload());
            let done =
                provider_upload::complete(&broker, &bearer, &access, &version, id, &mut draft);
            let namespace = access.address().namespace();
            let done = done.await.map_err(|error| ApiError::provider_upload(error, namespace))?;
            reply(&done.address, &done.version, ("sha256", &done.sha256), done.outcome)
        }
        .await;
        conclude(draft, done)
    }))
    .await
}

fn no_route() -> ApiError {
    ApiError::not_found("there is no such route")
}
