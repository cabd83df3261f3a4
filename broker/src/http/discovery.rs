//! Where clients find the registry's services; only what is built is advertised.

use axum::Json;
use axum::http::header;
use axum::response::IntoResponse;

/// `GET /.well-known/terraform.json`; the paths end in `/`, since some clients add none.
pub async fn document() -> impl IntoResponse {
    (
        [(header::CACHE_CONTROL, "public, max-age=300")],
        Json(serde_json::json!({ "modules.v1": "/v1/modules/" })),
    )
}
