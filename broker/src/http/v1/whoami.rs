//! `GET /v1/whoami`: returns the claims of the token, and the grants of its bearer that the scope
//! of the token covers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;

use crate::app::Broker;
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use stile_core::audit::Kind;
use stile_core::clock::rfc3339;

/// `GET /v1/whoami`.
pub async fn whoami(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
) -> Result<impl IntoResponse, ApiError> {
    let (draft, bearer) = credential.authenticate(&broker, Kind::Whoami).await?;
    let claims = bearer.claims();
    let grants: Vec<_> = bearer
        .grants_in_scope()
        .into_iter()
        .map(|grant| {
            serde_json::json!({
                "principal": grant.principal,
                "namespace": grant.namespace.to_string(),
                "permissions": grant.permissions,
                "expires_at": grant.expires_at.map(rfc3339),
            })
        })
        .collect();
    let body = serde_json::json!({
        "principal": claims.principal(),
        "expires_at": rfc3339(claims.expires_at()),
        "namespaces": claims.namespaces(),
        "permissions": claims.permissions(),
        "grants": grants,
    });
    conclude(draft, Ok(Json(body)))
}
