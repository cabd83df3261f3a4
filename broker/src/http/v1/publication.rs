//! What the routes that publish have in common: the claims of the publisher, and the answer.

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use stile_protocol::names::NameError;
use stile_protocol::reply::ErrorCode;

use crate::http::error::ApiError;
use stile_core::package::{Claimed, PackageAddress, PackageKind, Version};
use stile_store::Published;

/// The answer to a publisher: a status and a JSON body.
pub(super) type PublishReply = (StatusCode, Json<serde_json::Value>);

/// The header with what the publisher's environment claims.
const CLAIMED_HEADER: &str = "stile-claimed";

/// Returns the claims in the header, if it is there.
pub(super) fn claimed(headers: &HeaderMap) -> Result<Option<Claimed>, ApiError> {
    let Some(value) = headers.get(CLAIMED_HEADER) else { return Ok(None) };
    let claimed = Claimed::parse_header(value.to_str().unwrap_or_default());
    claimed.map(Some).map_err(|error| {
        let message = format!("header `{CLAIMED_HEADER}`: {}", error.problem);
        ApiError::new(ErrorCode::InvalidRequest, message)
    })
}

const fn outcome(published: Published, kind: PackageKind) -> &'static str {
    match (published, kind) {
        (Published::Created, _) => "created",
        (Published::Same, _) => "unchanged",
        (Published::Replaced, PackageKind::Module) => "replaced",
        (Published::Replaced, PackageKind::Provider) => "changed",
        (Published::Different | Published::InProgress | Published::Unpublished, _) => "conflict",
        (Published::Full | Published::OverQuota(_), _) => "full",
    }
}

/// Returns the answer for an invalid address.
#[expect(clippy::needless_pass_by_value, reason = "callers pass it as a function of the error")]
pub(super) fn bad_name(error: NameError) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, error.to_string())
}

/// Returns the answer for a publication. `content` is the field that identifies the content, with its
/// value.
pub(super) fn reply(
    address: &PackageAddress,
    version: &Version,
    content: (&str, &str),
    published: Published,
) -> Result<PublishReply, ApiError> {
    let kind = address.kind();
    let status = match published {
        Published::Created => StatusCode::CREATED,
        Published::Same | Published::Replaced => StatusCode::OK,
        Published::Full => {
            return Err(ApiError::new(
                ErrorCode::TooLarge,
                format!("`{address}` has the maximum number of versions"),
            )
            .hint(format!("publish the next versions under another {kind} name")));
        }
        Published::OverQuota(exceeded) => {
            return Err(ApiError::quota_exceeded(address.namespace(), exceeded));
        }
        Published::Different => {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                format!("`{address}` {version} is already published with other content"),
            )
            .hint("a published version never changes; publish the next version"));
        }
        Published::InProgress => {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                format!(
                    "another publish of `{address}` {version}, with other content, is in progress"
                ),
            )
            .hint("try again in two minutes, or publish the next version"));
        }
        Published::Unpublished => {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                format!("`{address}` {version} is unpublished, with the same content"),
            )
            .hint(format!("run `stile-admin {kind} restore {address} {version}`")));
        }
    };
    let (field, value) = content;
    let body = serde_json::json!({
        (kind): address.to_string(),
        "version": version.to_string(),
        field: value,
        "status": outcome(published, address.package_kind()),
    });
    Ok((status, Json(body)))
}
