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
        // A broker without them never came to answer this.
        BootError::Client(_) | BootError::NoHost(_) | BootError::NoHostInTable { .. } => {
            ApiError::new(stile_protocol::reply::ErrorCode::Internal, "the broker cannot be made")
        }
    })?;
    Ok(Json(serde_json::json!({ "status": "ready" })))
}
