//! Reads the token of a request: a handler that takes a [`Bearer`] runs for an authenticated bearer only.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use secrecy::SecretString;

use super::error::ApiError;
use super::run_detached::run_detached;
use crate::app::Broker;
use crate::app::authorize::{self, Bearer, token_of};
use stile_core::clock::rfc3339;

impl FromRequestParts<Arc<Broker>> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, broker: &Arc<Broker>) -> Result<Self, ApiError> {
        authenticate(broker, bearer(&parts.headers).map(SecretString::from)).await
    }
}

/// Authenticates the bearer of a token.
///
/// The work ends though the client hangs up: the store's answer is then known, and the next client who hangs up does
/// not cost another call.
pub(super) async fn authenticate(
    broker: &Arc<Broker>,
    token: Option<SecretString>,
) -> Result<Bearer, ApiError> {
    let broker = Arc::clone(broker);
    run_detached(async move {
        authorize::authenticate(&broker, token.as_ref()).await.map_err(ApiError::authenticate)
    })
    .await
}

/// The token of the one `Authorization` header.
///
/// Two headers, or two tokens in one, are none: a proxy before the broker might have looked at the other.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return None };
    token_of(value.to_str().ok()?)
}

/// `GET /v1/whoami`.
pub async fn whoami(State(_): State<Arc<Broker>>, bearer: Bearer) -> impl IntoResponse {
    let claims = bearer.claims();
    let grants: Vec<_> = bearer
        .grants()
        .iter()
        .map(|grant| {
            serde_json::json!({
                "principal": grant.principal,
                "namespace": grant.namespace.to_string(),
                "permissions": grant.permissions,
                "expires_at": grant.expires_at.map(rfc3339),
            })
        })
        .collect();
    Json(serde_json::json!({
        "principal": claims.principal(),
        "expires_at": rfc3339(claims.expires_at()),
        "namespaces": claims.namespaces(),
        "permissions": claims.permissions(),
        "grants": grants,
    }))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn exactly_one_header_with_one_token_is_read() {
        for values in [
            vec![],
            vec!["Bearer a", "Bearer a"],
            vec!["Bearer a", "Basic b"],
            vec!["Bearer a, Bearer b"],
            vec!["Bearer  a"],
            vec!["Bearer\ta"],
            vec!["Bearer"],
            vec!["Bearer "],
            vec!["Basic a"],
            vec!["a"],
            vec![" Bearer a"],
            vec!["Bearer a "],
            vec!["Bearer a=b"],
        ] {
            assert_eq!(read(&values), None, "{values:?}");
        }
        assert_eq!(read(&[&format!("Bearer {}", "a".repeat(4097))]), None);
        for value in ["Bearer a.b-c_d", "bearer a.b-c_d", "BEARER a.b-c_d"] {
            assert_eq!(read(&[value]).as_deref(), Some("a.b-c_d"));
        }
    }
}
