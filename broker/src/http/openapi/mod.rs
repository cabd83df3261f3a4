//! The OpenAPI document of all routes, for `stile-broker openapi` and `GET /openapi.json`.
//!
//! [`paths`] has the routes, with the codes of their errors, and `components.json` has the schemas,
//! headers and parameters. The answers of the broker have no types of their own, so the document is
//! written by hand. Tests compare it with the router and with answers.

mod operation;
mod paths;
mod provider_paths;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use stile_protocol::reply::ErrorCode;

use super::error::ApiError;
use crate::app::Broker;

/// The version of OpenAPI.
const OPENAPI: &str = "3.1.0";

/// The licence of this program, as SPDX names it.
const LICENSE: &str = env!("CARGO_PKG_LICENSE");

/// The schemas, headers, parameters and security schemes, as JSON.
const COMPONENTS: &str = include_str!("components.json");

/// What a reader must know before the routes.
const DESCRIPTION: &str = "A private registry for modules and providers of Terraform and OpenTofu. \
    Callers authenticate with their AWS identity.\n\n\
    Each answer has the header `X-Request-Id`. \
    An error has one of three forms: an object, a list of one sentence, or one line. \
    `x-error-codes` lists the codes of a status. Only the object has the code in its body.\n\n\
    `HEAD` works on each route with `GET`, except `/v1/token`. \
    Another method is `405 method_not_allowed`, and another path `404 not_found`.";

/// Returns the document, with the version of this program.
///
/// # Errors
///
/// If `components.json` is not JSON. A test shows that it is.
pub fn openapi_document() -> Result<Value, serde_json::Error> {
    let components: Value = serde_json::from_str(COMPONENTS)?;
    Ok(json!({
        "openapi": OPENAPI,
        "info": {
            "title": "Stile",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": LICENSE, "identifier": LICENSE },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "tags": [
            { "name": "service", "description": "Discovery and health, without a token." },
            { "name": "tokens", "description": "The exchange of an identity for a token." },
            { "name": "grants", "description": "Grants that their holders change." },
            { "name": "modules", "description": "The module registry, for readers." },
            { "name": "providers", "description": "The provider registry, for readers, and its keys." },
            { "name": "publishing", "description": "Both registries, for publishers." },
        ],
        "paths": paths::paths(),
        "components": components,
    }))
}

/// `GET /openapi.json`: the document, if the operator switched the route on.
pub(super) async fn document(
    State(broker): State<Arc<Broker>>,
) -> Result<impl IntoResponse, ApiError> {
    if !broker.serves_openapi {
        return Err(ApiError::not_found("there is no such route"));
    }
    let document = openapi_document().map_err(|error| {
        ApiError::new(ErrorCode::Internal, "the registry cannot read its document").caused_by(error)
    })?;
    Ok(Json(document))
}
