//! `GET /v1/modules/search`: finds modules by words, as Terraform's public registry does.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::Value;
use stile_protocol::names::System;
use stile_protocol::reply::ErrorCode;

use super::lists::Window;
use super::modules::summary;
use crate::app::{Broker, search};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use stile_core::audit::Kind;
use stile_core::grants::Download;
use stile_core::package::ModuleSummary;
use stile_core::search::SearchQuery;

/// The query: words, a namespace, a system, and the page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    #[serde(default)]
    q: String,
    namespace: Option<String>,
    provider: Option<String>,
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

/// `GET /v1/modules/search`.
pub async fn modules(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Search).await?;
    let answer = async {
        let invalid = |problem: String| ApiError::new(ErrorCode::InvalidRequest, problem);
        let Query(wanted) = wanted.map_err(|_| {
            invalid("`q`, `namespace` and `provider` must be text, and `offset` and `limit` whole numbers, each once".to_owned())
        })?;
        // The right comes first, so that a bearer without it learns nothing.
        let access = wanted.namespace.as_deref().map(|text| {
            let access = bearer.namespace::<Download>(text, &mut draft);
            access.map_err(|error| ApiError::access(error, |error| invalid(error.to_string())))
        });
        let access = access.transpose()?;
        let system = wanted.provider.as_deref().map(System::parse).transpose();
        let system = system.map_err(|error| invalid(format!("`provider`: {error}")))?;
        let query =
            SearchQuery::parse(&wanted.q, system).map_err(|error| invalid(error.to_string()))?;
        let window = Window::new(wanted.offset, wanted.limit);
        let namespace = access.as_ref().map(|access| access.namespace());
        let found = search::search(&broker, &bearer, &query, namespace, window.offset, window.limit)
            .await
            .map_err(ApiError::store)?;
        let modules = found.modules.into_iter().map(|module| {
            let mut shown = summary(&ModuleSummary {
                address: module.address,
                latest: module.version,
                published_at: module.published_at,
            });
            shown["description"] = module.description.into();
            shown
        });
        Ok(window.answer("modules", &modules.collect::<Vec<_>>(), found.more))
    }
    .await;
    conclude(draft, answer)
}
