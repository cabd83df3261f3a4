//! `GET …/usage`: which principals download which versions of a module.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use stile_protocol::reply::ErrorCode;

use super::modules::ModulePath;
use super::publish::bad_name;
use crate::app::{Broker, usage};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use stile_core::audit::Kind;
use stile_core::clock::rfc3339;
use stile_core::usage::start_of;

/// The days that an answer covers, if the query names no number.
const DAYS: i64 = 30;

/// The most days that an answer covers. The store keeps counts a little longer.
const MAX_DAYS: i64 = 366;

/// The largest page, in lines.
const PAGE: usize = 1000;

/// The query: the number of days up to today, and the page.
#[derive(Debug, Deserialize)]
pub struct Window {
    days: Option<i64>,
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

/// `GET /v1/modules/{namespace}/{name}/{system}/usage`.
pub async fn module(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<ModulePath>, PathRejection>,
    window: Result<Query<Window>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Usage).await?;
    let answer = async {
        let Path(path) = path.map_err(|_| ApiError::not_found("there is no such route"))?;
        let access = path.access(&bearer, &mut draft, bad_name)?;
        let Query(Window { days, offset, limit }) = window.map_err(|_| {
            let problem = "`days`, `offset` and `limit` must be whole numbers";
            ApiError::new(ErrorCode::InvalidRequest, problem)
        })?;
        let days = days.unwrap_or(DAYS);
        if !(1..=MAX_DAYS).contains(&days) {
            let problem = format!("`days` must be a number from 1 to {MAX_DAYS}");
            return Err(ApiError::new(ErrorCode::InvalidRequest, problem));
        }
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
        let found = usage::of_module(&broker, &access, days).await.map_err(ApiError::store)?;
        let mut meta = json!({ "limit": limit, "current_offset": offset });
        if found.lines.len() > offset.saturating_add(limit) {
            meta["next_offset"] = (offset + limit).into();
        }
        let lines = found.lines.iter().skip(offset).take(limit).map(|line| {
            json!({
                "version": line.version.to_string(),
                "principal": line.principal,
                "downloads": line.downloads,
                "last_day": date(line.last_day),
            })
        });
        Ok(Json(json!({
            "module": access.address().to_string(),
            "since": date(found.since),
            "downloads": lines.collect::<Vec<_>>(),
            "meta": meta,
        })))
    }
    .await;
    conclude(draft, answer)
}

/// Returns a day as `2026-11-20`.
fn date(day: i64) -> String {
    rfc3339(start_of(day)).split('T').next().unwrap_or_default().to_owned()
}
