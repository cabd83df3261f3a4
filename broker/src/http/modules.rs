//! Reading modules: their versions, where one is downloaded, and lists. The right to is decided before anything is looked up.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use stile_protocol::names::{ModuleName, NameError, Namespace, Permission, System};
use stile_protocol::reply::ErrorCode;

use super::bearer::Caller;
use super::error::ApiError;
use crate::audit;
use crate::boot::Broker;
use stile_core::clock::rfc3339;
use stile_core::grants::{Download, PackageAccess, Right};
use stile_core::package::{ModuleSummary, SignedUrl, Version};
use stile_store::Location;

/// Most modules in one answer of a list.
const PAGE: usize = 100;

/// The segments of a module's routes, decoded once; what is decided on is what is looked up.
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
    /// The right to this module. The right comes first, then the address: a caller without the right learns nothing
    /// of what exists. `bad_name` is the answer to a holder of the right who asks for what is not an address.
    pub fn access<R: Right>(
        &self,
        caller: &Caller,
        bad_name: impl FnOnce(NameError) -> ApiError,
    ) -> Result<PackageAccess<R>, ApiError> {
        // Nobody can hold a grant on what is not a namespace.
        let namespace = Namespace::parse(&self.namespace)
            .map_err(|error| ApiError::new(ErrorCode::NoGrant, error.to_string()))?;
        let access = caller.access(&namespace)?;
        let parts = ModuleName::parse(&self.name)
            .and_then(|name| System::parse(&self.system).map(|system| (name, system)));
        let (name, system) = parts.map_err(bad_name)?;
        Ok(access.module(name, system))
    }

    /// What stands where an upload is named.
    pub fn upload(&self) -> &str {
        &self.upload
    }

    /// The version.
    pub fn version(&self) -> Result<Version, ApiError> {
        Version::parse(&self.version)
            .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error.to_string()))
    }
}

/// `GET /v1/modules/{namespace}/{name}/{system}/versions`.
pub async fn versions(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    path: Result<Path<ModulePath>, PathRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Path(path) = path.map_err(|_| no_module())?;
    let access = path.access(&caller, |_| no_module())?;
    let document = broker
        .store
        .versions_document(&access)
        .await
        .map_err(ApiError::store)?
        .ok_or_else(no_module)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], document))
}

/// `GET /v1/modules/{namespace}/{name}/{system}/{version}/download`.
pub async fn download(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    path: Result<Path<ModulePath>, PathRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Path(path) = path.map_err(|_| no_module())?;
    let absent = || ApiError::not_found("there is no such version");
    let access = path.access(&caller, |_| absent())?;
    let version = path.version().map_err(|_| absent())?;
    let now = broker.clock.now();
    let found = broker
        .store
        .location(&access, &version, now, broker.link_ttl)
        .await
        .map_err(ApiError::store)?;
    let location = match found.ok_or_else(absent)? {
        Location::Presigned(url) => url,
        Location::Local(link) => {
            let keys = broker
                .tokens
                .derived(&SignedUrl::purpose(&broker.audience), &broker.store, now)
                .await
                .map_err(ApiError::key)?;
            link.to_location(&keys)
                .ok_or_else(|| ApiError::new(ErrorCode::Internal, "the link cannot be signed"))?
        }
    };
    audit::package(
        "download",
        access.access(),
        &format!("{} {version}", access.address()),
        "allowed",
    );
    Ok((StatusCode::NO_CONTENT, [("x-terraform-get", location)]))
}

/// Where a list begins and how long it is.
#[derive(Debug, Deserialize)]
pub struct Page {
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

/// `GET /v1/modules`: everything the caller may read.
pub async fn list(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    summaries(&broker, &caller, None, page).await
}

/// `GET /v1/modules/{namespace}`: the same, of one namespace.
pub async fn list_namespace(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Path(text) = path.map_err(|_| no_module())?;
    let namespace = Namespace::parse(&text)
        .map_err(|error| ApiError::new(ErrorCode::NoGrant, error.to_string()))?;
    caller.access::<Download>(&namespace)?;
    summaries(&broker, &caller, Some(namespace), page).await
}

/// The public registry's shape of a list.
async fn summaries(
    broker: &Broker,
    caller: &Caller,
    namespace: Option<Namespace>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let Query(page) = page.map_err(|_| {
        ApiError::new(ErrorCode::InvalidRequest, "`offset` and `limit` must be whole numbers")
    })?;
    let limit = page.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let reach = caller.reach(Permission::Download);
    let mut found = broker
        .store
        .modules(&reach, namespace.as_ref(), page.offset, limit + 1)
        .await
        .map_err(ApiError::store)?;
    let more = found.len() > limit;
    found.truncate(limit);
    let mut meta = serde_json::json!({ "limit": limit, "current_offset": page.offset });
    if more {
        meta["next_offset"] = (page.offset + limit).into();
    }
    Ok(Json(
        serde_json::json!({ "meta": meta, "modules": found.iter().map(summary).collect::<Vec<_>>() }),
    ))
}

fn summary(module: &ModuleSummary) -> serde_json::Value {
    let ModuleSummary { address, latest, published_at } = module;
    serde_json::json!({
        "id": format!("{address}/{latest}"), "namespace": address.namespace, "name": address.name, "provider": address.system,
        "version": latest.to_string(), "published_at": rfc3339(*published_at),
    })
}

fn no_module() -> ApiError {
    ApiError::not_found("there is no such module")
}
