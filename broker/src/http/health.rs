//! Is it alive, and can it work?

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;

use super::error::ApiError;
use super::run_detached::run_detached;
use crate::app::{Broker, NotReady};

/// `GET /healthz`: the process answers.
pub async fn alive() -> impl IntoResponse {
    Json(serde_json::json!({ "status": "alive" }))
}

/// `GET /readyz`: the store answers and there is a key.
pub async fn ready(State(broker): State<Arc<Broker>>) -> Result<impl IntoResponse, ApiError> {
    // To its end though whoever asks hangs up: else each who does so would have the store looked at anew.
    run_detached(async move { broker.ready().await.map_err(unready) }).await?;
    Ok(Json(serde_json::json!({ "status": "ready" })))
}

fn unready(error: NotReady) -> ApiError {
    match error {
        NotReady::Store(error) => ApiError::store(error),
        NotReady::Key(error) => ApiError::key(error),
    }
}
