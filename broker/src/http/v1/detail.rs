//! The routes that show one version of a module, as Terraform's public registry shows it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::modules::ModulePath;
use crate::app::Broker;
use crate::app::authorize::Bearer;
use crate::app::catalogue::{self, CatalogueError};
use crate::app::metadata;
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use stile_core::audit::{Event, Kind};
use stile_core::clock::rfc3339;
use stile_core::grants::{Download, PackageAccess};
use stile_core::package::source::ModuleSource;
use stile_core::package::{Format, PackageAddress, Step, Version};
use stile_metadata::Metadata;
use stile_store::VersionDetails;

/// `GET /v1/modules/{namespace}/{name}/{system}`: shows the latest version.
pub async fn latest(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<ModulePath>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Show).await?;
    let answer = async {
        let access = access(&bearer, path, &mut draft)?;
        let version = catalogue::latest(&broker, &access, &mut draft).await.map_err(catalogue)?;
        show(&broker, &access, &version, &mut draft).await
    }
    .await;
    conclude(draft, answer)
}

/// `GET /v1/modules/{namespace}/{name}/{system}/{version}`: shows one version, also an unpublished
/// one.
pub async fn version(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<ModulePath>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Show).await?;
    let answer = async {
        let version = path.as_ref().ok().and_then(|Path(path)| path.version().ok());
        let access = access(&bearer, path, &mut draft)?;
        show(&broker, &access, &version.ok_or_else(absent)?, &mut draft).await
    }
    .await;
    conclude(draft, answer)
}

fn access(
    bearer: &Bearer,
    path: Result<Path<ModulePath>, PathRejection>,
    event: &mut Event,
) -> Result<PackageAccess<Download>, ApiError> {
    let Path(path) = path.map_err(|_| absent())?;
    path.access(bearer, event, |_| absent())
}

async fn show(
    broker: &Broker,
    access: &PackageAccess<Download>,
    version: &Version,
    event: &mut Event,
) -> Result<Json<Value>, ApiError> {
    let details = catalogue::details(broker, access, version, event).await.map_err(catalogue)?;
    let listed = catalogue::listed(broker, access).await.map_err(catalogue)?;
    // A version with a source has no archive here.
    let metadata = match &details.sha256 {
        None => None,
        Some(sha256) => {
            metadata::of_archive(broker, access, sha256).await.map_err(ApiError::store)?
        }
    };
    Ok(Json(render(access.address(), version, &details, &listed, metadata.as_ref())))
}

fn catalogue(error: CatalogueError) -> ApiError {
    ApiError::catalogue(error, absent)
}

fn absent() -> ApiError {
    ApiError::not_found("there is no such version")
}

/// Returns the answer. Fields that the public registry has, and this one does not know, are null.
fn render(
    address: &PackageAddress,
    version: &Version,
    details: &VersionDetails,
    listed: &[Version],
    metadata: Option<&Metadata>,
) -> Value {
    let PackageAddress::Module(module) = address;
    let shape = metadata.map(|metadata| metadata.registry_shape(module.name.as_str()));
    let (root, submodules, examples) =
        shape.map(|shape| (shape.root, shape.submodules, shape.examples)).unwrap_or_default();
    let step = |step: &Option<Step>, by: &str, at: &str| {
        step.as_ref().map(|step| {
            let explanation = &step.explanation;
            let mut shown = json!({
                "reason": explanation.reason,
                "link": explanation.link,
                "replacement": explanation.replacement,
            });
            shown[by] = step.by.as_str().into();
            shown[at] = rfc3339(step.at).into();
            shown
        })
    };
    let object = details.object.as_ref();
    let source = details.source.as_ref().map(ModuleSource::as_str);
    let source = source.or_else(|| object.map(|object| object.address.as_str()));
    let mut shown = json!({
        "id": format!("{address}/{version}"),
        "namespace": module.namespace,
        "name": module.name,
        "provider": module.system,
        "version": version.to_string(),
        "description": metadata.and_then(Metadata::description),
        "source": null,
        "published_at": rfc3339(details.published_at),
        "versions": listed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "deprecation": step(&details.life.deprecated, "deprecated_by", "deprecated_at"),
        "unpublished": step(&details.life.unpublished, "unpublished_by", "unpublished_at"),
        "readme": metadata.and_then(|metadata| metadata.root.readme.as_ref()),
        "root": root,
        "submodules": submodules,
        "examples": examples,
        "provenance": {
            "published_by": details.published_by,
            "published_at": rfc3339(details.published_at),
            "token_id": details.token_id,
            "sha256": details.sha256,
            "bytes": details.bytes,
            "format": details.format.map(Format::extension),
            "source": source,
            "claimed": details.claimed,
        },
    });
    if let Some(object) = object {
        shown["provenance"]["object_version"] = object.version.as_deref().into();
    }
    shown
}
