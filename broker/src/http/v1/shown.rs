//! The routes that show one version of a package. Modules and providers share them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::Value;

use super::package_path::{PackagePath, PathResult, no_version};
use crate::app::{Broker, catalogue};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use stile_core::audit::{Event, Kind};
use stile_core::grants::{Download, PackageAccess};
use stile_core::package::Version;

/// A kind of packages whose versions can be shown.
pub trait ShownPackage: PackagePath {
    /// Returns what the registry shows of a version, also of one that its publisher took back.
    fn details(
        broker: &Broker,
        access: &PackageAccess<Download>,
        version: &Version,
        event: &mut Event,
    ) -> impl Future<Output = Result<Value, ApiError>> + Send;
}

/// `GET /v1/modules/{namespace}/{name}/{system}` and `GET /v1/providers/{namespace}/{type}`: shows the
/// latest version.
pub async fn latest<P: ShownPackage>(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: PathResult<P>,
) -> Result<Json<Value>, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Show).await?;
    let answer = async {
        let Path(path) = path.map_err(|_| no_version())?;
        let access = path.access(&bearer, &mut draft, |_| no_version())?;
        let latest = catalogue::latest(&broker, &access, &mut draft).await;
        let version = latest.map_err(|error| ApiError::catalogue(error, no_version))?;
        P::details(&broker, &access, &version, &mut draft).await.map(Json)
    }
    .await;
    conclude(draft, answer)
}

/// `GET …/{version}` of a package: shows one version, also one that its publisher took back.
pub async fn version<P: ShownPackage>(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: PathResult<P>,
) -> Result<Json<Value>, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Show).await?;
    let answer = async {
        let Path(path) = path.map_err(|_| no_version())?;
        let access = path.access(&bearer, &mut draft, |_| no_version())?;
        let version = path.version().map_err(|_| no_version())?;
        P::details(&broker, &access, &version, &mut draft).await.map(Json)
    }
    .await;
    conclude(draft, answer)
}
