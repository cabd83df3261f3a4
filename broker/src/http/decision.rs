//! Authenticates the requests to guarded routes, and drafts the audit event of each.
//!
//! A handler takes a [`Credential`]. It gets the bearer only together with the draft of the event.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};
use secrecy::SecretString;

use super::error::ApiError;
use super::request_id::RequestId;
use super::run_detached::run_detached;
use crate::app::Broker;
use crate::app::authorize::{self, Bearer, token_of};
use crate::audit::Draft;
use crate::client_source::ClientAddress;
use stile_core::audit::{Kind, Network, Outcome};

/// What the audit log says of a request, apart from the decision.
#[derive(Debug, Clone, Default)]
pub(super) struct Sender {
    network: Option<Network>,
    address: Option<ClientAddress>,
    request_id: Option<RequestId>,
    user_agent: Option<String>,
}

impl Sender {
    /// Returns the sender of a request. A `User-Agent` that is no text is left out.
    pub(super) fn of(headers: &HeaderMap, extensions: &Extensions) -> Self {
        let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        Self {
            network: extensions.get().copied(),
            address: extensions.get().copied(),
            request_id: extensions.get().copied(),
            user_agent: user_agent.map(str::to_owned),
        }
    }

    /// Creates the draft of the event for a decision about this request.
    pub(super) fn draft(&self, broker: &Broker, kind: Kind) -> Draft {
        let mut draft = broker.audit.draft(kind, self.network);
        if let Some(id) = self.request_id {
            draft.request_id(id.to_string());
        }
        draft.client(self.user_agent.as_deref().unwrap_or_default());
        draft
    }
}

/// The unverified token of a request, and its sender.
#[derive(Debug)]
pub struct Credential {
    token: Option<SecretString>,
    sender: Sender,
}

impl FromRequestParts<Arc<Broker>> for Credential {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Broker>) -> Result<Self, Infallible> {
        let token = bearer(&parts.headers).map(SecretString::from);
        Ok(Self { token, sender: Sender::of(&parts.headers, &parts.extensions) })
    }
}

impl Credential {
    /// Authenticates the bearer, for a decision of this kind.
    pub async fn authenticate(
        self,
        broker: &Arc<Broker>,
        kind: Kind,
    ) -> Result<(Draft, Bearer), ApiError> {
        let draft = self.sender.draft(broker, kind);
        authenticate(broker, self.token, self.sender.address, draft).await
    }
}

/// Authenticates the bearer of a token. A refusal completes the draft.
///
/// The work continues when the client disconnects. So the answer of the store gets into the cache,
/// and the next client that disconnects does not cost another call.
pub(super) async fn authenticate(
    broker: &Arc<Broker>,
    token: Option<SecretString>,
    address: Option<ClientAddress>,
    mut draft: Draft,
) -> Result<(Draft, Bearer), ApiError> {
    let broker = Arc::clone(broker);
    let address = address.map(|ClientAddress(address)| address);
    run_detached(async move {
        match authorize::authenticate(&broker, token.as_ref(), address, &mut draft).await {
            Ok(bearer) => Ok((draft, bearer)),
            Err(error) => conclude(draft, Err(ApiError::authenticate(error))),
        }
    })
    .await
}

/// Records the outcome of a decision in its event. A more exact outcome from the use case stays.
pub(super) fn conclude<T>(mut draft: Draft, answer: Result<T, ApiError>) -> Result<T, ApiError> {
    match &answer {
        Ok(_) => draft.outcome(Outcome::Allowed),
        Err(error) => draft.refused(error.code()),
    }
    answer
}

/// Returns the token in the `Authorization` header.
///
/// Two headers, or two tokens in one header, count as no token. A proxy in front of the broker
/// might have checked the other one.
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
    fn only_a_single_header_with_one_token_is_accepted() {
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
