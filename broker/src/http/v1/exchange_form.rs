//! `POST /v1/token` with a form: exchanges a JWT for a token, by OAuth 2.0 Token Exchange (RFC 8693).

use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use stile_protocol::audience::Audience;
use stile_protocol::exchange::RequestDocument;
use stile_protocol::reply::ErrorCode;
use stile_protocol::token_exchange::{
    ACCESS_TOKEN, AccessTokenReply, GRANT_TYPE, ID_TOKEN, JWT, Scope,
};

use crate::app::Broker;
use crate::app::mint::{JwtRequest, Minted, by_jwt};
use crate::authn::jwt::{UnverifiedJwt, is_registry};
use crate::http::decision::{Sender, conclude};
use crate::http::error::ApiError;
use crate::http::form_body::Form;
use crate::http::request_id::request_id_of;
use crate::http::run_detached::run_detached;
use crate::tokens::KeyError;
use stile_core::audit::{Event, Kind};
use stile_core::clock::rfc3339;
use stile_core::identity::Issuer;

/// `POST /v1/token` with a form.
pub(super) async fn mint(broker: Arc<Broker>, request: Request) -> Result<Response, ApiError> {
    // The exchange continues when the client disconnects, so that every mint has an audit event.
    let minted = async move {
        let sender = Sender::of(request.headers(), request.extensions());
        let mut draft = sender.draft(&broker, Kind::Exchange);
        draft.issuer(Issuer::Trust);
        let minted = exchange(&broker, request, &mut draft).await;
        conclude(draft, minted).map(|minted| reply(minted, broker.clock.now()).into_response())
    };
    run_detached(minted).await
}

async fn exchange(
    broker: &Broker,
    request: Request,
    event: &mut Event,
) -> Result<Minted, ApiError> {
    let request_id = request_id_of(&request);
    let (form, bytes) = Form::read(request).await?;
    let request = parse(form, &bytes, &broker.audience, broker.default_ttl)?;
    by_jwt(broker, &request, &request_id, event)
        .await
        .map_err(|error| ApiError::mint(error, broker))
}

/// Parses the parameters of RFC 8693, section 2.1, and `trust`, which chooses one of several trusts.
///
/// It ignores other parameters, as OAuth demands (RFC 6749, section 3.2).
fn parse(mut form: Form, bytes: &[u8], host: &Audience, ttl: i64) -> Result<JwtRequest, ApiError> {
    let invalid = |message: &str| ApiError::new(ErrorCode::InvalidRequest, message);
    if form.take("grant_type").as_deref() != Some(GRANT_TYPE) {
        return Err(ApiError::new(
            ErrorCode::UnsupportedGrantType,
            format!("`grant_type` must be `{GRANT_TYPE}`"),
        ));
    }
    if !matches!(form.take("subject_token_type").as_deref(), Some(JWT | ID_TOKEN)) {
        return Err(invalid(&format!("`subject_token_type` must be `{JWT}` or `{ID_TOKEN}`")));
    }
    if form.take("requested_token_type").is_some_and(|wanted| wanted != ACCESS_TOKEN) {
        return Err(invalid(&format!("`requested_token_type` must be `{ACCESS_TOKEN}`")));
    }
    // The token would not say who acts for whom.
    if form.take("actor_token").is_some() || form.take("actor_token_type").is_some() {
        return Err(invalid("this registry does not support `actor_token`"));
    }
    for name in ["audience", "resource"] {
        let target = form.take(name);
        let target = target.as_deref().map(|target| target.strip_suffix('/').unwrap_or(target));
        if target.is_some_and(|target| !is_registry(target, host)) {
            return Err(ApiError::new(
                ErrorCode::InvalidTarget,
                format!("`{name}` is not this registry, which is `https://{host}`"),
            ));
        }
    }
    let scope = match form.take("scope") {
        None => Scope::default_of_requests(),
        Some(text) => Scope::parse(&text)
            .map_err(|error| ApiError::new(ErrorCode::InvalidScope, error.to_string()))?,
    };
    let trust = form.take("trust").map(|name| name.parse()).transpose();
    let trust = trust.map_err(|_| invalid("`trust` is not the name of a trust"))?;
    let jwt = form.take("subject_token").ok_or_else(|| invalid("`subject_token` is missing"))?;
    let jwt = UnverifiedJwt::parse(&jwt).map_err(ApiError::malformed_jwt)?;
    let document = RequestDocument::new(ttl, scope.namespaces, scope.permissions)
        .map_err(|_| ApiError::key(KeyError::Crypto))?;
    let digest = Sha256::new().chain_update(b"stile-form\0").chain_update(bytes).finalize().into();
    Ok(JwtRequest { jwt, trust, document, digest })
}

fn reply(minted: Minted, now: i64) -> Json<AccessTokenReply> {
    let Minted { token, claims, notices } = minted;
    let scope =
        Scope { namespaces: claims.namespaces().clone(), permissions: claims.permissions() };
    Json(AccessTokenReply {
        access_token: token.expose_secret().to_owned(),
        issued_token_type: ACCESS_TOKEN.to_owned(),
        token_type: "Bearer".to_owned(),
        expires_in: claims.expires_at().saturating_sub(now),
        scope: scope.to_string(),
        expires_at: rfc3339(claims.expires_at()),
        principal: claims.principal().to_string(),
        notices,
    })
}
