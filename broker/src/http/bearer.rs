//! From an `Authorization` header to a caller: taking [`Caller`] is being authenticated.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use secrecy::{ExposeSecret, SecretString};
use stile_protocol::names::{Namespace, Permission};

use super::error::ApiError;
use super::run_detached::run_detached;
use crate::boot::Broker;
use stile_core::clock::rfc3339;
use stile_core::grants::{Access, PrincipalState, Reach, Right, decide, reach};
use stile_core::principal::Principal;
use stile_core::token::{Claims, MAX_TOKEN};

/// The holder of a token that opened and is not revoked, and what is known of it.
#[derive(Debug)]
pub struct Caller {
    token: SecretString,
    claims: Claims,
    state: Arc<PrincipalState>,
    now: i64,
}

impl Caller {
    /// The same caller as it stands now: after a long upload its token may have ended, or its grant be gone.
    pub async fn again(&self, broker: &Broker) -> Result<Self, ApiError> {
        authenticate(self.token.expose_secret(), broker).await
    }

    /// Who it is.
    pub const fn principal(&self) -> &Principal {
        self.claims.principal()
    }

    /// The right to do something in a namespace, decided before anything is looked up there.
    pub fn access<R: Right>(&self, namespace: &Namespace) -> Result<Access<R>, ApiError> {
        decide(&self.claims, &self.state, namespace, self.now).map_err(ApiError::refusal)
    }

    /// Every namespace the caller may do something in.
    pub fn reach(&self, permission: Permission) -> Reach {
        reach(&self.claims, &self.state, permission, self.now)
    }
}

impl FromRequestParts<Arc<Broker>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, broker: &Arc<Broker>) -> Result<Self, ApiError> {
        let token = SecretString::from(bearer(&parts.headers).ok_or_else(ApiError::unauthorized)?);
        let broker = Arc::clone(broker);
        // Runs to its end though whoever asks hangs up: what was asked of the store is then known, and is not asked again
        // for each who does so.
        run_detached(async move { authenticate(token.expose_secret(), &broker).await }).await
    }
}

async fn authenticate(token: &str, broker: &Broker) -> Result<Caller, ApiError> {
    let now = broker.clock.now();
    let opened = broker.tokens.open(token, &broker.store, now).await.map_err(ApiError::open)?;
    let claims = opened.claims.clone();
    let state = broker
        .principal_cache
        .recent(claims.principal(), &broker.store, now)
        .await
        .map_err(ApiError::store)?;
    broker
        .tokens
        .confirm(&opened.key_id, &state.keyring, &broker.store, now)
        .await
        .map_err(ApiError::open)?;
    if state.revoked.is_some() || state.revoked_tokens.contains(claims.id()) {
        return Err(ApiError::unauthorized());
    }
    // Of a state the age counts, which a clock that was set back must not lessen; of a grant the end.
    Ok(Caller { token: token.to_owned().into(), claims, state, now: broker.tokens.never_back(now) })
}

/// The token of the one `Authorization` header: the scheme in any case, one space (RFC 6750, section 2.1).
///
/// Two headers, or two tokens in one, are none: what stands before us might have looked at the other.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let plain = !token.is_empty()
        && token.len() <= MAX_TOKEN
        && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    (scheme.eq_ignore_ascii_case("bearer") && plain).then_some(token)
}

/// `GET /v1/whoami`.
pub async fn whoami(State(_): State<Arc<Broker>>, caller: Caller) -> impl IntoResponse {
    let grants: Vec<_> = caller
        .state
        .grants
        .iter()
        .map(|grant| {
            serde_json::json!({
                "principal": grant.principal, "namespace": grant.namespace.to_string(),
                "permissions": grant.permissions, "expires_at": grant.expires_at.map(rfc3339),
            })
        })
        .collect();
    Json(serde_json::json!({
        "principal": caller.claims.principal(), "expires_at": rfc3339(caller.claims.expires_at()),
        "namespaces": caller.claims.namespaces(), "permissions": caller.claims.permissions(), "grants": grants,
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
