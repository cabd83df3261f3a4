//! `GET /v1/token`: mints a token for the caller whose signature a gateway verified.
//!
//! The caller is in the request context of the event, and never in the request itself. The request
//! has no proof, so no single use is recorded. The broker rejects the method on a server, and in an
//! event without a caller from the trusted API.

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
use stile_protocol::request_id::RequestId;
use stile_protocol::strict_json::FieldError;
use url::form_urlencoded;

use super::exchange::reply;
use crate::app::Broker;
use crate::app::mint::{Minted, by_gateway};
use crate::authn::gateway::GatewayCaller;
use crate::http::decision::{Sender, conclude};
use crate::http::error::ApiError;
use crate::http::request_id::request_id_of;
use crate::tokens::KeyError;
use stile_core::audit::{Event, Kind};
use stile_core::identity::Issuer;

/// `GET /v1/token`.
pub async fn mint(
    State(broker): State<Arc<Broker>>,
    request: Request,
) -> Result<Response, ApiError> {
    // The router also passes `HEAD` to this handler, and a `HEAD` request must not mint.
    let caller =
        request.extensions().get::<GatewayCaller>().filter(|_| request.method() == Method::GET);
    let Some(caller) = caller else { return Ok(unsupported_method(request).await) };
    let sender = Sender::of(request.headers(), request.extensions());
    let mut draft = sender.draft(&broker, Kind::Exchange);
    draft.issuer(Issuer::Gateway);
    let query = request.uri().query().unwrap_or_default();
    let request_id = request_id_of(&request);
    let minted = exchange(&broker, caller, query, &request_id, &mut draft).await;
    Ok(reply(conclude(draft, minted)?).into_response())
}

/// Answers an unsupported method. `Allow` contains `GET` only for a caller from the trusted API.
pub async fn unsupported_method(request: Request) -> Response {
    let error =
        ApiError::new(ErrorCode::MethodNotAllowed, "this route does not support this method")
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
    request_id: &RequestId,
    event: &mut Event,
) -> Result<Minted, ApiError> {
    let document = parse_query(query, broker.default_ttl)?;
    by_gateway(broker, caller, &document, request_id, event)
        .await
        .map_err(|error| ApiError::mint(error, broker))
}

/// Parses the query into a request document. Each of the three parameters may occur once, and
/// commas separate the items of a list.
fn parse_query(query: &str, default_ttl: i64) -> Result<RequestDocument, ApiError> {
    let invalid = |error: FieldError| ApiError::new(ErrorCode::InvalidRequest, error.problem);
    let (mut ttl, mut namespaces, mut permissions) = (None, None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let slot = match &*name {
            "expiration_seconds" => &mut ttl,
            "namespace" => &mut namespaces,
            "permission" => &mut permissions,
            _ => {
                return Err(ApiError::new(
                    ErrorCode::InvalidRequest,
                    "the query contains an unknown parameter",
                ));
            }
        };
        if slot.replace(value.into_owned()).is_some() {
            return Err(ApiError::new(
                ErrorCode::InvalidRequest,
                format!("parameter `{name}` is set twice"),
            ));
        }
    }
    let list = |text: &str| Value::Array(text.split(',').map(Value::from).collect());
    let ttl = match ttl.as_deref() {
        None => default_ttl,
        Some(text) => seconds(text).map_err(invalid)?,
    };
    let namespaces = match namespaces.as_deref() {
        None | Some("all") => Namespaces::All,
        Some(text) => parse_namespaces("namespace", list(text)).map_err(invalid)?,
    };
    let permissions = match permissions.as_deref() {
        None => Permissions::NONE.with(Permission::Download),
        Some(text) => parse_permissions("permission", list(text)).map_err(invalid)?,
    };
    RequestDocument::new(ttl, namespaces, permissions).map_err(|_| ApiError::key(KeyError::Crypto))
}

/// Parses a lifetime of decimal digits, without sign, space or fraction.
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
    fn an_invalid_query_is_rejected() {
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
            assert!(parse_query(query, 3600).is_err(), "{query}");
        }
    }

    #[test]
    fn a_missing_parameter_has_its_default() {
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
            let document = parse_query(query, 1800).unwrap();
            let read =
                (document.ttl, document.namespaces.to_string(), document.permissions.to_string());
            assert_eq!(read, (ttl, namespaces.to_owned(), permissions.to_owned()), "{query}");
        }
    }
}
