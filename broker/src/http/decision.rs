//! Gives each request through a guarded route the event of its decision.
//!
//! A handler takes a [`Credential`], and gets a bearer from it only together with a draft of the event.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use secrecy::SecretString;

use super::error::ApiError;
use super::run_detached::run_detached;
use crate::app::Broker;
use crate::app::authorize::{self, Bearer, token_of};
use crate::audit::Draft;
use stile_core::audit::{Kind, Network, Outcome};

/// What a request brings to be authenticated.
#[derive(Debug)]
pub struct Credential {
    token: Option<SecretString>,
    network: Option<Network>,
}

impl FromRequestParts<Arc<Broker>> for Credential {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Broker>) -> Result<Self, Infallible> {
        let token = bearer(&parts.headers).map(SecretString::from);
        Ok(Self { token, network: parts.extensions.get().copied() })
    }
}

impl Credential {
    /// Authenticates the bearer, for a decision about that.
    pub async fn authenticate(
        self,
        broker: &Arc<Broker>,
        kind: Kind,
    ) -> Result<(Draft, Bearer), ApiError> {
        authenticate(broker, self.token, broker.audit.draft(kind, self.network)).await
    }
}

/// Authenticates the bearer of a token. A refusal ends the draft.
///
/// The work ends though the client hangs up: the store's answer is then known, and the next client who hangs up does
/// not cost another call.
pub(super) async fn authenticate(
    broker: &Arc<Broker>,
    token: Option<SecretString>,
    mut draft: Draft,
) -> Result<(Draft, Bearer), ApiError> {
    let broker = Arc::clone(broker);
    run_detached(async move {
        match authorize::authenticate(&broker, token.as_ref(), &mut draft).await {
            Ok(bearer) => Ok((draft, bearer)),
            Err(error) => conclude(draft, Err(ApiError::authenticate(error))),
        }
    })
    .await
}

/// Ends a decision with what the client is answered. An outcome that the use case knows better stays.
pub(super) fn conclude<T>(mut draft: Draft, answer: Result<T, ApiError>) -> Result<T, ApiError> {
    match &answer {
        Ok(_) => draft.outcome(Outcome::Allowed),
        Err(error) => draft.refused(error.code()),
    }
    answer
}

/// The token of the one `Authorization` header.
///
/// Two headers, or two tokens in one, are none: a proxy before the broker might have looked at the other.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return None };
    token_of(value.to_str().ok()?)
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
