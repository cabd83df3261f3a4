//! `GET …/usage`: which principals download which versions of a module.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use stile_protocol::reply::ErrorCode;

use super::package_path::{ModulePath, PackagePath as _};
use super::publication::bad_name;
use crate::app::{Broker, usage};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use stile_core::audit::Kind;
use stile_core::clock::rfc3339;
use stile_core::package::Version;
use stile_core::usage::start_of;
use stile_store::AfterDownload;

/// The days that an answer covers, if the query names no number.
const DAYS: i64 = 30;

/// The most days that an answer covers. The store keeps counts a little longer.
const MAX_DAYS: i64 = 366;

/// The largest page, in lines.
///
/// Each line can have a row for each day, and the rows of a page are read at once.
const PAGE: usize = 100;

/// The query: the number of days up to today, and the page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    days: Option<i64>,
    cursor: Option<String>,
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
        let invalid = |problem: &str| ApiError::new(ErrorCode::InvalidRequest, problem);
        let Query(Window { days, cursor, limit }) = window.map_err(|_| {
            invalid("the query has `days` and `limit`, both whole numbers, and `cursor`")
        })?;
        let after =
            cursor.as_deref().map(parse_cursor).unwrap_or_else(|| Some(AfterDownload::default()));
        let after = after.ok_or_else(|| invalid("`cursor` must be the `next_cursor` of a page"))?;
        let days = days.unwrap_or(DAYS);
        if !(1..=MAX_DAYS).contains(&days) {
            return Err(invalid(&format!("`days` must be a number from 1 to {MAX_DAYS}")));
        }
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
        let found = usage::of_module(&broker, &access, days, &after, limit).await;
        let found = found.map_err(ApiError::store)?;
        let mut meta = json!({ "limit": limit });
        if let Some(next) = &found.next {
            meta["next_cursor"] = cursor_of(next).into();
        }
        let lines = found.totals.iter().map(|total| {
            json!({
                "version": total.version.to_string(),
                "principal": total.principal,
                "downloads": total.downloads,
                "last_day": date(total.last_day),
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

fn cursor_of(after: &AfterDownload) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {}", after.version, after.principal))
}

fn parse_cursor(text: &str) -> Option<AfterDownload> {
    let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (version, principal) = decoded.split_once(' ')?;
    Version::parse(version).ok()?;
    let is_principal = !principal.is_empty() && !principal.contains(' ');
    is_principal
        .then(|| AfterDownload { version: version.to_owned(), principal: principal.to_owned() })
}

/// Returns a day as `2026-11-20`.
fn date(day: i64) -> String {
    rfc3339(start_of(day)).split('T').next().unwrap_or_default().to_owned()
}
