//! The liveness and readiness probes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;

use super::error::ApiError;
use super::run_detached::run_detached;
use crate::app::{Broker, NotReady, Ready};

/// `GET /healthz`: succeeds while the process runs.
pub async fn alive() -> impl IntoResponse {
    Json(serde_json::json!({ "status": "alive" }))
}

/// `GET /readyz`: succeeds if the store answers and the broker has a key. The answer contains the
/// age of the key in seconds, and a warning while the broker refuses to publish.
pub async fn ready(State(broker): State<Arc<Broker>>) -> Result<impl IntoResponse, ApiError> {
    // The check continues when the client disconnects. Otherwise each client that disconnects would
    // cost another check of the store.
    let ready = run_detached(async move { broker.ready().await.map_err(unready) }).await?;
    Ok(Json(body(ready)))
}

fn body(Ready { key_age, disk_is_full }: Ready) -> serde_json::Value {
    let mut body = serde_json::json!({ "status": "ready", "key_age": key_age });
    if disk_is_full {
        body["warning"] = "publishing is refused: too little free disk space".into();
    }
    body
}

fn unready(error: NotReady) -> ApiError {
    match error {
        NotReady::Store(error) => ApiError::store(error),
        NotReady::Key(error) => ApiError::key(error),
    }
}
