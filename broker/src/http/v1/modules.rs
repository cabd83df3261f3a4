//! The routes that read modules: versions, download and lists.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use stile_protocol::names::{NameError, Namespace};
use stile_protocol::reply::ErrorCode;

use crate::app::authorize::Bearer;
use crate::app::{Broker, catalogue, usage};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use stile_core::audit::{Event, Kind};
use stile_core::clock::rfc3339;
use stile_core::grants::{Download, PackageAccess, Right};
use stile_core::package::{ModuleSummary, Version};

/// The largest page of a list, in modules.
pub(super) const PAGE: usize = 100;

/// The decoded segments of a module route.
///
/// The broker decodes them once. So it decides on the same module that it later reads.
#[derive(Debug, Deserialize)]
pub struct ModulePath {
    namespace: String,
    name: String,
    system: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    upload: String,
}

impl ModulePath {
    /// Decides the right on this module. `bad_name` is the answer for a bearer that has the right,
    /// but sent an invalid address.
    pub fn access<R: Right>(
        &self,
        bearer: &Bearer,
        event: &mut Event,
        bad_name: impl FnOnce(NameError) -> ApiError,
    ) -> Result<PackageAccess<R>, ApiError> {
        bearer
            .module(&self.namespace, &self.name, &self.system, event)
            .map_err(|error| ApiError::access(error, bad_name))
    }

    /// Returns the segment with the id of an upload session.
    pub fn upload(&self) -> &str {
        &self.upload
    }

    /// Parses the version.
    pub fn version(&self) -> Result<Version, ApiError> {
        Version::parse(&self.version)
            .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error.to_string()))
    }
}

/// `GET /v1/modules/{namespace}/{name}/{system}/versions`.
pub async fn versions(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<ModulePath>, PathRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Versions).await?;
    let answer = async {
        let Path(path) = path.map_err(|_| no_module())?;
        let access = path.access(&bearer, &mut draft, |_| no_module())?;
        let document = catalogue::versions(&broker, &access)
            .await
            .map_err(|error| ApiError::catalogue(error, no_module))?;
        Ok(([(header::CONTENT_TYPE, "application/json")], document))
    }
    .await;
    conclude(draft, answer)
}

/// `GET /v1/modules/{namespace}/{name}/{system}/download`: redirects to the latest version, as
/// Terraform's module registry protocol says.
pub async fn latest(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<ModulePath>, PathRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Download).await?;
    let answer = async {
        let Path(path) = path.map_err(|_| no_module())?;
        let access = path.access(&bearer, &mut draft, |_| no_module())?;
        let version = catalogue::latest(&broker, &access, &mut draft)
            .await
            .map_err(|error| ApiError::catalogue(error, no_module))?;
        // A path, so that the client stays at the server to which it sent its token.
        let location = format!("/v1/modules/{}/{version}/download", access.address());
        Ok((StatusCode::FOUND, [(header::LOCATION, location)]))
    }
    .await;
    conclude(draft, answer)
}

/// `GET /v1/modules/{namespace}/{name}/{system}/{version}/download`.
pub async fn download(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    method: Method,
    path: Result<Path<ModulePath>, PathRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Download).await?;
    let answer = async {
        let Path(path) = path.map_err(|_| no_module())?;
        let absent = || ApiError::not_found("there is no such version");
        let access = path.access(&bearer, &mut draft, |_| absent())?;
        let version = path.version().map_err(|_| absent())?;
        let found = catalogue::download(&broker, &access, &version, &mut draft)
            .await
            .map_err(|error| ApiError::catalogue(error, absent))?;
        // `HEAD` fetches nothing.
        if method == Method::GET {
            usage::count(&broker, &access, &version, found.is_deprecated).await;
        }
        Ok((StatusCode::NO_CONTENT, [("x-terraform-get", found.url)]))
    }
    .await;
    conclude(draft, answer)
}

/// The query of a list: the offset and the size of the page.
#[derive(Debug, Deserialize)]
pub struct Page {
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

/// `GET /v1/modules`: lists all modules that the bearer may read.
pub async fn list(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let (draft, bearer) = credential.authenticate(&broker, Kind::List).await?;
    conclude(draft, summaries(&broker, &bearer, None, page).await)
}

/// `GET /v1/modules/{namespace}`: lists the modules of one namespace.
pub async fn list_namespace(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<String>, PathRejection>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::List).await?;
    let answer = async {
        let Path(text) = path.map_err(|_| no_module())?;
        let access = bearer
            .namespace::<Download>(&text, &mut draft)
            .map_err(|error| ApiError::access(error, |_| no_module()))?;
        summaries(&broker, &bearer, Some(access.namespace()), page).await
    }
    .await;
    conclude(draft, answer)
}

/// Returns a list in the form of Terraform's public registry.
async fn summaries(
    broker: &Broker,
    bearer: &Bearer,
    namespace: Option<&Namespace>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let Query(Page { offset, limit }) = page.map_err(|_| {
        ApiError::new(ErrorCode::InvalidRequest, "`offset` and `limit` must be whole numbers")
    })?;
    let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
    let found = catalogue::list(broker, bearer, namespace, offset, limit)
        .await
        .map_err(|error| ApiError::catalogue(error, no_module))?;
    let mut meta = serde_json::json!({ "limit": limit, "current_offset": offset });
    if found.more {
        meta["next_offset"] = (offset + limit).into();
    }
    let modules: Vec<_> = found.modules.iter().map(summary).collect();
    Ok(Json(serde_json::json!({ "meta": meta, "modules": modules })))
}

pub(super) fn summary(module: &ModuleSummary) -> serde_json::Value {
    let ModuleSummary { address, latest, published_at } = module;
    serde_json::json!({
        "id": format!("{address}/{latest}"),
        "namespace": address.namespace,
        "name": address.name,
        "provider": address.system,
        "version": latest.to_string(),
        "published_at": rfc3339(*published_at),
    })
}

fn no_module() -> ApiError {
    ApiError::not_found("there is no such module")
}
