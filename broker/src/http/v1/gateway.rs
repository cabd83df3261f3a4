//! The mint where a gateway has verified the signature: `GET /v1/token`, for whom the event's request context names.
//!
//! Nothing in the request itself says who calls, and there is no proof, so none that is used once. On a plain server, and
//! without a caller the gateway vouches for, the method is not allowed.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use stile_protocol::exchange::{
    MAX_TTL, MIN_TTL, Namespaces, RequestDocument, parse_namespaces, parse_permissions,
};
use stile_protocol::names::{Permission, Permissions};
use stile_protocol::reply::ErrorCode;
use stile_protocol::strict_json::FieldError;
use url::form_urlencoded;

use super::exchange::reply;
use crate::app::Broker;
use crate::app::mint::{Minted, by_gateway};
use crate::authn::gateway::GatewayCaller;
use crate::http::decision::conclude;
use crate::http::error::ApiError;
use crate::tokens::KeyError;
use stile_core::audit::{Event, Kind};
use stile_core::identity::Issuer;

/// `GET /v1/token`.
pub async fn mint(
    State(broker): State<Arc<Broker>>,
    request: Request,
) -> Result<Response, ApiError> {
    // The router gives `HEAD` to this handler as well, and looking is no reason to mint.
    let caller =
        request.extensions().get::<GatewayCaller>().filter(|_| request.method() == Method::GET);
    let Some(caller) = caller else { return Ok(no_such_method(request).await) };
    let mut draft = broker.audit.draft(Kind::Exchange, None);
    draft.issuer(Issuer::Gateway);
    let query = request.uri().query().unwrap_or_default();
    let minted = exchange(&broker, caller, query, &mut draft).await;
    Ok(reply(conclude(draft, minted)?).into_response())
}

/// Every other method: `GET` is one of the route's for those alone whom a gateway vouches for, so nobody else is told of it.
pub async fn no_such_method(request: Request) -> Response {
    let error = ApiError::new(ErrorCode::MethodNotAllowed, "this route has no such method")
        .hint("exchange a proof with `POST /v1/token`");
    let vouched_for = request.extensions().get::<GatewayCaller>().is_some();
    let mut response = error.into_response();
    response.headers_mut().insert(
        header::ALLOW,
        HeaderValue::from_static(if vouched_for { "GET,POST" } else { "POST" }),
    );
    response
}

async fn exchange(
    broker: &Broker,
    caller: &GatewayCaller,
    query: &str,
    event: &mut Event,
) -> Result<Minted, ApiError> {
    let document = asked_for(query, broker.default_ttl)?;
    by_gateway(broker, caller, &document, event)
        .await
        .map_err(|error| ApiError::mint(error, broker))
}

/// Reads the query: each parameter once, none but the three, lists with commas.
fn asked_for(query: &str, default_ttl: i64) -> Result<RequestDocument, ApiError> {
    let refused = |error: FieldError| ApiError::new(ErrorCode::InvalidRequest, error.problem);
    let (mut ttl, mut namespaces, mut permissions) = (None, None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let slot = match &*name {
            "expiration_seconds" => &mut ttl,
            "namespace" => &mut namespaces,
            "permission" => &mut permissions,
            _ => {
                return Err(ApiError::new(
                    ErrorCode::InvalidRequest,
                    "the query has a parameter that is not known",
                ));
            }
        };
        if slot.replace(value.into_owned()).is_some() {
            return Err(ApiError::new(
                ErrorCode::InvalidRequest,
                format!("parameter `{name}` is there twice"),
            ));
        }
    }
    let list = |text: &str| Value::Array(text.split(',').map(Value::from).collect());
    let ttl = match ttl.as_deref() {
        None => default_ttl,
        Some(text) => seconds(text).map_err(refused)?,
    };
    let namespaces = match namespaces.as_deref() {
        None | Some("all") => Namespaces::All,
        Some(text) => parse_namespaces("namespace", list(text)).map_err(refused)?,
    };
    let permissions = match permissions.as_deref() {
        None => Permissions::NONE.with(Permission::Download),
        Some(text) => parse_permissions("permission", list(text)).map_err(refused)?,
    };
    RequestDocument::new(ttl, namespaces, permissions).map_err(|_| ApiError::key(KeyError::Crypto))
}

/// Plain decimal digits: no sign, no space, no fraction.
fn seconds(text: &str) -> Result<i64, FieldError> {
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .filter(|ttl| (MIN_TTL..=MAX_TTL).contains(ttl))
        .ok_or_else(|| {
            FieldError::new(
                "expiration_seconds",
                format_args!("an integer from {MIN_TTL} to {MAX_TTL} seconds"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_out_of_its_grammar_is_refused() {
        for query in [
            "expiration_seconds=59",
            "expiration_seconds=43201",
            "expiration_seconds=",
            "expiration_seconds=%2B900",
            "expiration_seconds=900.0",
            "expiration_seconds=900&expiration_seconds=900",
            "expiration_seconds=900&expiration%5Fseconds=900",
            "Expiration_Seconds=900",
            "namespace=",
            "namespace=a,",
            "namespace=a,a",
            "namespace=a&namespace=b",
            "namespace=all,a",
            "namespace=*",
            "namespace=ALL",
            "permission=",
            "permission=admin",
            "permission=download,download",
            "permission=download&permission=upload",
            "nonce=x",
            "userArn=arn:aws:iam::111122223333:user/alice",
            "X-Amz-Signature=0",
            "=",
        ] {
            assert!(asked_for(query, 3600).is_err(), "{query}");
        }
    }

    #[test]
    fn what_is_not_asked_for_has_its_default() {
        for (query, ttl, namespaces, permissions) in [
            ("", 1800, "all", "download"),
            ("expiration_seconds=900", 900, "all", "download"),
            ("namespace=all", 1800, "all", "download"),
            ("namespace=a,b&permission=upload", 1800, "a,b", "upload"),
            (
                "permission=upload%2Cdownload&expiration_seconds=43200&namespace=a",
                43_200,
                "a",
                "download,upload",
            ),
        ] {
            let document = asked_for(query, 1800).unwrap();
            let read =
                (document.ttl, document.namespaces.to_string(), document.permissions.to_string());
            assert_eq!(read, (ttl, namespaces.to_owned(), permissions.to_owned()), "{query}");
        }
    }
}
