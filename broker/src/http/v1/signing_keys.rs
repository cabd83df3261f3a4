//! The routes of the signing keys of a namespace.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use stile_protocol::reply::ErrorCode;
use stile_protocol::strict_json::{FieldError, StrictObject};

use crate::app::Broker;
use crate::app::signing_keys::{self, KeyChange};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use crate::http::json_body::{read_json_of, read_no_body};
use crate::http::run_detached::run_detached;
use stile_core::audit::Kind;
use stile_core::clock::rfc3339;
use stile_core::package::provider::{KeyId, KeyState, RegisteredKey};

/// Maximum length of the body with a key, in bytes: twice the longest key, because JSON escapes lines.
const MAX_KEY_BODY: usize = 64 * 1024;

/// The decoded segments of the route of a key.
#[derive(Debug, Deserialize)]
pub struct KeyPath {
    namespace: String,
    key_id: String,
}

/// The query of a deletion.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retired {
    #[serde(default)]
    compromised: bool,
}

/// `GET /v1/namespaces/{namespace}/signing-keys`.
pub async fn list(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::ListSigningKeys).await?;
    let answer = async {
        let Path(namespace) = path.map_err(|_| no_route())?;
        let keys = signing_keys::list(&broker, &bearer, &namespace, &mut draft).await;
        let keys = keys.map_err(ApiError::signing_keys)?;
        Ok(Json(json!({ "keys": keys.keys.iter().map(object).collect::<Vec<_>>() })))
    }
    .await;
    conclude(draft, answer)
}

/// `POST /v1/namespaces/{namespace}/signing-keys`.
pub async fn add(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::AddSigningKey).await?;
    let wanted = async {
        let Path(namespace) = path.map_err(|_| no_route())?;
        let namespace = signing_keys::may_change(&bearer, &namespace, &mut draft)
            .map_err(ApiError::signing_keys)?;
        Ok((namespace, read_armor(&read_json_of(request, MAX_KEY_BODY).await?)?))
    };
    let (namespace, armor) = match wanted.await {
        Ok(wanted) => wanted,
        Err(error) => return conclude(draft, Err(error)),
    };
    // The work continues when the client disconnects, so that every change has an audit event.
    run_detached(async move {
        let added = signing_keys::add(&broker, &bearer, &namespace, &armor, &mut draft).await;
        let answer = added.map_err(ApiError::signing_keys).map(|added| {
            let key = &added.key;
            let (status, word) = match added.change {
                KeyChange::Added => (StatusCode::CREATED, "added"),
                KeyChange::Renewed => (StatusCode::OK, "renewed"),
                KeyChange::Unchanged => (StatusCode::OK, "unchanged"),
            };
            let body = json!({
                "key_id": key.key_id().as_str(),
                "fingerprint": key.fingerprint(),
                "algorithm": key.algorithm(),
                "user_id": key.user_id(),
                "expires_at": key.expires_at().map(rfc3339),
                "status": word,
                "warnings": warnings(key.is_old_client_safe()),
            });
            (status, Json(body))
        });
        conclude(draft, answer)
    })
    .await
}

/// `DELETE /v1/namespaces/{namespace}/signing-keys/{key_id}`.
pub async fn retire(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<KeyPath>, PathRejection>,
    query: Result<Query<Retired>, QueryRejection>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::RetireSigningKey).await?;
    let wanted = async {
        let Path(KeyPath { namespace, key_id }) = path.map_err(|_| no_route())?;
        let namespace = signing_keys::may_change(&bearer, &namespace, &mut draft)
            .map_err(ApiError::signing_keys)?;
        let Query(Retired { compromised }) = query
            .map_err(|_| invalid("the query has only `compromised`, which is `true` or `false`"))?;
        read_no_body(request).await?;
        Ok((namespace, key_id, compromised))
    };
    let (namespace, unverified_id, compromised) = match wanted.await {
        Ok(wanted) => wanted,
        Err(error) => return conclude(draft, Err(error)),
    };
    run_detached(async move {
        let done = async {
            // A text that is not an id is not the id of a key here.
            let key_id = KeyId::parse(&unverified_id)
                .ok_or_else(|| invalid("the id of a key has 16 upper-case hexadecimal digits"))?;
            let (broker, bearer) = (&broker, &bearer);
            let retired =
                signing_keys::retire(broker, bearer, &namespace, &key_id, compromised, &mut draft);
            let retired = retired.await.map_err(ApiError::signing_keys)?;
            let status = match (retired.changed, compromised) {
                (false, _) => "unchanged",
                (true, false) => "retired",
                (true, true) => "compromised",
            };
            Ok(Json(json!({ "status": status, "versions": retired.versions })))
        }
        .await;
        conclude(draft, done)
    })
    .await
}

/// Reads the body of a new key.
fn read_armor(body: &[u8]) -> Result<String, ApiError> {
    let read = || -> Result<String, FieldError> {
        let mut body = StrictObject::parse(body)?;
        let armor = body.string("ascii_armor")?;
        body.finish()?;
        Ok(armor)
    };
    read().map_err(|error| invalid(error.problem))
}

fn object(key: &RegisteredKey) -> Value {
    let mut object = json!({
        "key_id": key.key_id.as_str(),
        "fingerprint": key.fingerprint,
        "algorithm": key.algorithm,
        "user_id": key.user_id,
        "ascii_armor": key.armor,
        "expires_at": key.expires_at.map(rfc3339),
        "added_by": key.added_by,
        "added_at": rfc3339(key.added_at),
        "state": key.state.as_str(),
    });
    if let KeyState::Retired { at, by } | KeyState::Compromised { at, by } = &key.state {
        object["retired_at"] = rfc3339(*at).into();
        object["retired_by"] = by.as_str().into();
    }
    object
}

fn warnings(is_old_client_safe: bool) -> Vec<&'static str> {
    let old = "older clients refuse signatures of such a key; all clients accept those of RSA";
    if is_old_client_safe { Vec::new() } else { vec![old] }
}

fn no_route() -> ApiError {
    ApiError::not_found("there is no such route")
}

fn invalid(problem: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, problem)
}
