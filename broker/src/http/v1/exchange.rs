//! `POST /v1/token`: exchanges a proof for a token, or a JWT in a form.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use secrecy::ExposeSecret;
use stile_protocol::reply::TokenReply;

use super::exchange_form;
use crate::app::Broker;
use crate::app::mint::{Minted, by_proof};
use crate::authn::sigv4::proof::Proof;
use crate::http::decision::{Sender, conclude};
use crate::http::error::ApiError;
use crate::http::form_body::is_form;
use crate::http::json_body::read_json;
use crate::http::request_id::request_id_of;
use crate::http::run_detached::run_detached;
use stile_core::audit::{Event, Kind};
use stile_core::clock::rfc3339;
use stile_core::identity::Issuer;

/// `POST /v1/token`.
pub async fn mint(
    State(broker): State<Arc<Broker>>,
    request: Request,
) -> Result<Response, ApiError> {
    if is_form(request.headers()) {
        return exchange_form::mint(broker, request).await;
    }
    // The exchange continues when the client disconnects, so that every mint has an audit event.
    let minted = async move {
        let sender = Sender::of(request.headers(), request.extensions());
        let mut draft = sender.draft(&broker, Kind::Exchange);
        draft.issuer(Issuer::Sts);
        let minted = exchange(&broker, request, &mut draft).await;
        conclude(draft, minted)
    };
    run_detached(minted).await.map(|minted| reply(minted).into_response())
}

async fn exchange(
    broker: &Broker,
    request: Request,
    event: &mut Event,
) -> Result<Minted, ApiError> {
    let source = request.extensions().get().copied();
    let request_id = request_id_of(&request);
    let body = read_json(request).await?;
    let proof = Proof::parse(&body).map_err(|error| ApiError::proof(&error))?;
    by_proof(broker, &proof, source, &request_id, event)
        .await
        .map_err(|error| ApiError::mint(error, broker))
}

/// Returns the answer with a new token.
pub(super) fn reply(minted: Minted) -> Json<TokenReply> {
    let Minted { token, claims, notices } = minted;
    Json(TokenReply {
        token: token.expose_secret().to_owned(),
        expires_at: rfc3339(claims.expires_at()),
        principal: claims.principal().to_string(),
        namespaces: claims.namespaces().clone(),
        permissions: claims.permissions(),
        notices,
    })
}
