//! Is it alive, and can it work?

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;

use super::error::ApiError;
use crate::boot::{BootError, Broker};

/// `GET /healthz`: the process answers.
pub async fn alive() -> impl IntoResponse {
    Json(serde_json::json!({ "status": "alive" }))
}

/// `GET /readyz`: the store answers and there is a key.
pub async fn ready(State(broker): State<Arc<Broker>>) -> Result<impl IntoResponse, ApiError> {
    broker.ready().await.map_err(|error| match error {
        BootError::Store(error) => ApiError::store(error),
        BootError::Key(error) => ApiError::key(error),
        BootError::Client(_) => ApiError::new(stile_protocol::reply::ErrorCode::Internal, "no HTTP client can be made"),
    })?;
    Ok(Json(serde_json::json!({ "status": "ready" })))
}
