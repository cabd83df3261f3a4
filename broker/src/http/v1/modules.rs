//! The routes that read modules: versions and download.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::Value;
use stile_protocol::names::Namespace;

use super::lists::{ListedPackages, Window};
use super::package_path::{ModulePath, PackagePath as _, PathResult, no_version};
use crate::app::authorize::Bearer;
use crate::app::catalogue::{self, CatalogueError};
use crate::app::{Broker, usage};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use stile_core::audit::Kind;
use stile_core::clock::rfc3339;
use stile_core::package::ModuleSummary;

/// `GET /v1/modules/{namespace}/{name}/{system}/versions`.
pub async fn versions(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: PathResult<ModulePath>,
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
    path: PathResult<ModulePath>,
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
    path: PathResult<ModulePath>,
) -> Result<impl IntoResponse, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Download).await?;
    let answer = async {
        let Path(path) = path.map_err(|_| no_module())?;
        let access = path.access(&bearer, &mut draft, |_| no_version())?;
        let version = path.version().map_err(|_| no_version())?;
        let found = catalogue::download(&broker, &access, &version, &mut draft)
            .await
            .map_err(|error| ApiError::catalogue(error, no_version))?;
        // `HEAD` fetches nothing.
        if method == Method::GET {
            usage::count(&broker, &access, &version, found.is_deprecated).await;
        }
        Ok((StatusCode::NO_CONTENT, [("x-terraform-get", found.url)]))
    }
    .await;
    conclude(draft, answer)
}

impl ListedPackages for ModulePath {
    async fn list(
        broker: &Broker,
        bearer: &Bearer,
        namespace: Option<&Namespace>,
        Window { offset, limit }: Window,
    ) -> Result<(Vec<Value>, bool), CatalogueError> {
        let page = catalogue::list(broker, bearer, namespace, offset, limit).await?;
        Ok((page.packages.iter().map(summary).collect(), page.more))
    }
}

/// Returns a module as lists show it.
pub(super) fn summary(module: &ModuleSummary) -> Value {
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
    ModulePath::absent()
}
