//! The routes that change the life of a version: deprecation, unpublishing and restoring. Modules and
//! providers share them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use stile_protocol::reply::ErrorCode;

use super::package_path::{PackagePath, PathResult};
use super::publication::bad_name;
use crate::app::{Broker, life};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use crate::http::json_body::{read_json, read_nothing};
use crate::http::run_detached::run_detached;
use stile_core::audit::Kind;
use stile_core::package::{Explanation, LifeChange};

/// `PUT …/{version}/deprecation`.
pub async fn deprecate<P: PackagePath>(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: PathResult<P>,
    request: Request,
) -> Result<Json<serde_json::Value>, ApiError> {
    let body = Body::Explanation(request, LifeChange::Deprecate);
    change(broker, credential, Kind::Deprecate, path, body, "deprecated").await
}

/// `DELETE …/{version}/deprecation`.
pub async fn undeprecate<P: PackagePath>(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: PathResult<P>,
    request: Request,
) -> Result<Json<serde_json::Value>, ApiError> {
    let body = Body::None(request, LifeChange::Undeprecate);
    change(broker, credential, Kind::Undeprecate, path, body, "undeprecated").await
}

/// `DELETE …/{version}`.
pub async fn unpublish<P: PackagePath>(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: PathResult<P>,
    request: Request,
) -> Result<Json<serde_json::Value>, ApiError> {
    let body = Body::Explanation(request, LifeChange::Unpublish);
    change(broker, credential, Kind::Unpublish, path, body, "unpublished").await
}

/// `POST …/{version}/restore`.
pub async fn restore<P: PackagePath>(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: PathResult<P>,
    request: Request,
) -> Result<Json<serde_json::Value>, ApiError> {
    let body = Body::None(request, LifeChange::Restore);
    change(broker, credential, Kind::Restore, path, body, "restored").await
}

/// What a route reads from the body of its request, to know the change.
enum Body {
    /// Nothing: the route alone says the change.
    None(Request, LifeChange),
    /// An explanation, as JSON.
    Explanation(Request, fn(Explanation) -> LifeChange),
}

impl Body {
    async fn read(self) -> Result<LifeChange, ApiError> {
        match self {
            Self::None(request, change) => read_nothing(request).await.map(|()| change),
            Self::Explanation(request, change) => {
                let explanation = Explanation::parse(&read_json(request).await?)
                    .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error.problem))?;
                Ok(change(explanation))
            }
        }
    }
}

/// Decides the right, and makes the change. It answers with `done` if the version changed.
async fn change<P: PackagePath>(
    broker: Arc<Broker>,
    credential: Credential,
    kind: Kind,
    path: PathResult<P>,
    body: Body,
    done: &'static str,
) -> Result<Json<serde_json::Value>, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, kind).await?;
    let wanted = async {
        let Path(path) = path.map_err(|_| ApiError::not_found("there is no such route"))?;
        let access = path.access(&bearer, &mut draft, bad_name)?;
        Ok((access, path.version()?, body.read().await?))
    }
    .await;
    let (access, version, wanted) = match wanted {
        Ok(wanted) => wanted,
        Err(error) => return conclude(draft, Err(error)),
    };
    // The work continues when the client disconnects, so that every change has an audit event.
    run_detached(async move {
        let changed = life::change(&broker, &bearer, &access, &version, &wanted, &mut draft).await;
        let answer = changed.map_err(ApiError::life).map(|changed| {
            Json(serde_json::json!({
                (access.address().kind()): access.address().to_string(),
                "version": version.to_string(),
                "status": if changed { done } else { "unchanged" },
            }))
        });
        conclude(draft, answer)
    })
    .await
}
