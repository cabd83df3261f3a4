//! The routes that list packages, in the form of Terraform's public registry. Modules and providers
//! share them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use stile_protocol::names::Namespace;
use stile_protocol::reply::ErrorCode;

use super::package_path::PackagePath;
use crate::app::Broker;
use crate::app::authorize::Bearer;
use crate::app::catalogue::CatalogueError;
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use stile_core::audit::Kind;
use stile_core::grants::Download;

/// The largest page of a list, in packages.
const PAGE: usize = 100;

/// The query of a list: the offset and the size of the page.
#[derive(Debug, Deserialize)]
pub struct PageQuery {
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

/// The part of a list that a client asks for.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// The number of packages before it.
    pub offset: usize,
    /// The largest number of packages in it.
    pub limit: usize,
}

impl Window {
    /// Returns the part that a client asks for, within the largest page.
    pub(super) fn new(offset: usize, limit: Option<usize>) -> Self {
        Self { offset, limit: limit.unwrap_or(PAGE).clamp(1, PAGE) }
    }

    /// Returns the answer with these packages, in the field of that name. `more` says whether another
    /// page follows.
    pub(super) fn answer(self, field: &str, packages: &[Value], more: bool) -> Json<Value> {
        let Self { offset, limit } = self;
        let mut meta = json!({ "limit": limit, "current_offset": offset });
        if more {
            meta["next_offset"] = (offset + limit).into();
        }
        Json(json!({ "meta": meta, field: packages }))
    }
}

/// A kind of packages that can be listed.
pub trait ListedPackages: PackagePath {
    /// Lists the packages that the bearer may read, and whether more follow.
    fn list(
        broker: &Broker,
        bearer: &Bearer,
        namespace: Option<&Namespace>,
        window: Window,
    ) -> impl Future<Output = Result<(Vec<Value>, bool), CatalogueError>> + Send;
}

/// `GET /v1/modules` and `GET /v1/providers`: lists all packages that the bearer may read.
pub async fn all<P: ListedPackages>(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    page: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let (draft, bearer) = credential.authenticate(&broker, Kind::List).await?;
    conclude(draft, summaries::<P>(&broker, &bearer, None, page).await)
}

/// `GET …/{namespace}`: lists the packages of one namespace.
pub async fn of_namespace<P: ListedPackages>(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<String>, PathRejection>,
    page: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::List).await?;
    let answer = async {
        let Path(text) = path.map_err(|_| P::absent())?;
        let access = bearer
            .namespace::<Download>(&text, &mut draft)
            .map_err(|error| ApiError::access(error, |_| P::absent()))?;
        summaries::<P>(&broker, &bearer, Some(access.namespace()), page).await
    }
    .await;
    conclude(draft, answer)
}

async fn summaries<P: ListedPackages>(
    broker: &Broker,
    bearer: &Bearer,
    namespace: Option<&Namespace>,
    page: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(PageQuery { offset, limit }) = page.map_err(|_| {
        ApiError::new(ErrorCode::InvalidRequest, "`offset` and `limit` must be whole numbers")
    })?;
    let window = Window::new(offset, limit);
    let found = P::list(broker, bearer, namespace, window).await;
    let (packages, more) = found.map_err(|error| ApiError::catalogue(error, P::absent))?;
    Ok(window.answer(&format!("{}s", P::KIND), &packages, more))
}
