//! The discovery document, in which clients find the services of the registry.

use axum::Json;
use axum::http::header;
use axum::response::IntoResponse;

/// `GET /.well-known/terraform.json`. The paths end in `/`, because some clients do not add it.
pub async fn document() -> impl IntoResponse {
    (
        [(header::CACHE_CONTROL, "public, max-age=300")],
        Json(serde_json::json!({
            "modules.v1": "/v1/modules/",
            "providers.v1": "/v1/providers/",
        })),
    )
}
