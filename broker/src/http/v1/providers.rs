//! The routes that read providers: versions, the download of a file, and the details of a version.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{Method, header};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::detail::life_of;
use super::lists::{ListedPackages, Window};
use super::package_path::{PackagePath as _, PathResult, ProviderPath, no_version};
use super::shown::ShownPackage;
use crate::app::authorize::Bearer;
use crate::app::catalogue::{self, CatalogueError};
use crate::app::{Broker, provider, usage};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use stile_core::audit::{Event, Kind};
use stile_core::clock::rfc3339;
use stile_core::grants::{Download, PackageAccess};
use stile_core::package::provider::{Platform, ReleaseFile, zip_name};
use stile_core::package::{Claimed, ProviderSummary, Version};
use stile_protocol::names::{Namespace, ProviderAddress};
use stile_store::ProviderVersion;

type ProviderResult = PathResult<ProviderPath>;

/// `GET /v1/providers/{namespace}/{type}/versions`.
pub async fn versions(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: ProviderResult,
) -> Result<impl IntoResponse, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Versions).await?;
    let answer = async {
        let Path(path) = path.map_err(|_| no_provider())?;
        let access = path.access(&bearer, &mut draft, |_| no_provider())?;
        let document = provider::versions(&broker, &bearer, &access)
            .await
            .map_err(|error| ApiError::catalogue(error, no_provider))?;
        Ok(([(header::CONTENT_TYPE, "application/json")], document))
    }
    .await;
    conclude(draft, answer)
}

/// `GET /v1/providers/{namespace}/{type}/{version}/download/{os}/{arch}`.
pub async fn download(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    method: Method,
    path: ProviderResult,
) -> Result<Json<Value>, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Download).await?;
    let answer = async {
        let absent = || ApiError::not_found("there is no such file of this provider");
        let Path(path) = path.map_err(|_| absent())?;
        let access = path.access(&bearer, &mut draft, |_| absent())?;
        let version = path.version().map_err(|_| absent())?;
        let (os, arch) = path.unverified_platform();
        let platform = Platform::new(os, arch).map_err(|_| absent())?;
        let found = provider::download(&broker, &access, &version, &platform, &mut draft);
        let found = Box::pin(found).await.map_err(|error| ApiError::catalogue(error, absent))?;
        // `HEAD` fetches nothing.
        if method == Method::GET {
            usage::count(&broker, &access, &version, found.is_deprecated).await;
        }
        Ok(Json(found.document))
    }
    .await;
    conclude(draft, answer)
}

impl ShownPackage for ProviderPath {
    async fn details(
        broker: &Broker,
        access: &PackageAccess<Download>,
        version: &Version,
        event: &mut Event,
    ) -> Result<Value, ApiError> {
        let details = provider::details(broker, access, version, event).await;
        let details = details.map_err(|error| ApiError::catalogue(error, no_version))?;
        let address = access.address().provider().ok_or_else(no_version)?;
        Ok(render(address, version, &details))
    }
}

fn render(address: &ProviderAddress, version: &Version, details: &ProviderVersion) -> Value {
    let release = &details.release;
    let file = |(platform, file): (&Platform, &ReleaseFile)| {
        json!({
            "os": platform.os(),
            "arch": platform.arch(),
            "filename": zip_name(&address.provider_type, version, platform),
            "sha256": file.sha256,
            "h1": file.h1,
            "bytes": file.bytes,
        })
    };
    let key_id = &release.sums.key_id;
    let compromised = details
        .keys
        .compromised_at(key_id)
        .map(|at| json!({ "key_id": key_id.as_str(), "at": rfc3339(at) }));
    let mut shown = json!({
        "id": format!("{address}/{version}"),
        "namespace": address.namespace,
        "type": address.provider_type,
        "version": version.to_string(),
        "source": details.claimed.as_ref().and_then(Claimed::repository_url),
        "published_at": rfc3339(details.published_at),
        "published_by": details.published_by,
        "claimed": details.claimed,
        "protocols": release.protocols.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "platforms": release.files.iter().map(file).collect::<Vec<_>>(),
        "sha256": release.sha256(),
        "sha256sums": release.sums.text,
        "signature": STANDARD.encode(&release.sums.signature),
        "key_id": key_id.as_str(),
        "compromised_key": compromised,
        "manifest": release.manifest,
    });
    life_of(&details.life, &mut shown);
    shown
}

impl ListedPackages for ProviderPath {
    async fn list(
        broker: &Broker,
        bearer: &Bearer,
        namespace: Option<&Namespace>,
        Window { offset, limit }: Window,
    ) -> Result<(Vec<Value>, bool), CatalogueError> {
        let page = catalogue::list_providers(broker, bearer, namespace, offset, limit).await?;
        Ok((page.packages.iter().map(summary).collect(), page.more))
    }
}

/// Returns a provider as lists show it.
fn summary(provider: &ProviderSummary) -> Value {
    let ProviderSummary { address, latest, published_at } = provider;
    json!({
        "id": format!("{address}/{latest}"),
        "namespace": address.namespace,
        "type": address.provider_type,
        "version": latest.to_string(),
        "published_at": rfc3339(*published_at),
    })
}

fn no_provider() -> ApiError {
    ProviderPath::absent()
}
