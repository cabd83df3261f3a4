//! The routes of service tokens: a bearer lists, issues and revokes them within its own rights.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use stile_protocol::exchange::{parse_namespaces, parse_permissions};
use stile_protocol::strict_json::{FieldError, StrictObject, string_list};

use super::grants::invalid;
use crate::app::{Broker, service_tokens};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use crate::http::json_body::{read_json, read_nothing};
use crate::http::run_detached::run_detached;
use stile_core::audit::Kind;
use stile_core::clock::{parse_rfc3339, rfc3339};
use stile_core::service_token::{
    ClientNetwork, NewSecret, ServiceToken, ServiceTokenTerms, TokenIssuer,
};
use stile_core::token::TokenId;
use stile_core::usage::start_of;
use stile_store::{IssuedServiceToken, StoredServiceToken};

/// The largest page, in tokens.
const PAGE: usize = 100;

/// The query of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

/// `GET /v1/service-tokens`.
pub async fn list(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    listed: Result<Query<Listed>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let (draft, bearer) = credential.authenticate(&broker, Kind::ListServiceTokens).await?;
    let answer = async {
        let Query(Listed { offset, limit }) = listed.map_err(|_| {
            invalid("the query has `offset` and `limit`, which are whole numbers, at most once")
        })?;
        let limit = limit.unwrap_or(PAGE);
        if !(1..=PAGE).contains(&limit) {
            return Err(invalid(format!("`limit` must be a number from 1 to {PAGE}")));
        }
        let tokens = service_tokens::list(&broker, &bearer).await;
        let tokens = tokens.map_err(ApiError::service_tokens)?;
        let page: Vec<Value> = tokens.iter().skip(offset).take(limit).map(object).collect();
        let mut body = json!({ "service_tokens": page });
        let next = offset.saturating_add(limit);
        if next < tokens.len() {
            body["next_offset"] = next.into();
        }
        Ok(Json(body))
    }
    .await;
    conclude(draft, answer)
}

/// `POST /v1/service-tokens`.
pub async fn issue(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    request: Request,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::ServiceToken).await?;
    let terms = match read_terms(request, broker.clock.now()).await {
        Ok(terms) => terms,
        Err(error) => return conclude(draft, Err(error)),
    };
    // The work continues when the client disconnects, so that every change has an audit event.
    run_detached(async move {
        let issued = Box::pin(service_tokens::issue(&broker, &bearer, &terms, &mut draft)).await;
        let answer = issued.map_err(ApiError::service_tokens);
        let answer = answer
            .map(|(issued, secret)| (StatusCode::CREATED, Json(issued_object(&issued, &secret))));
        conclude(draft, answer)
    })
    .await
}

/// `DELETE /v1/service-tokens/{id}`.
pub async fn revoke(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::ServiceToken).await?;
    let wanted = async {
        let Path(id) = path.map_err(|_| ApiError::not_found("there is no such route"))?;
        read_nothing(request).await?;
        // The answer does not repeat the text, because it may be the token itself.
        TokenId::parse(&id).ok_or_else(|| {
            invalid("the id of a service token has 22 characters; the token itself is not its id")
        })
    };
    let id = match wanted.await {
        Ok(id) => id,
        Err(error) => return conclude(draft, Err(error)),
    };
    run_detached(async move {
        let revoked = Box::pin(service_tokens::revoke(&broker, &bearer, &id, &mut draft)).await;
        let answer = revoked.map_err(ApiError::service_tokens);
        conclude(draft, answer.map(|()| StatusCode::NO_CONTENT))
    })
    .await
}

/// Reads the body of a new token.
async fn read_terms(request: Request, now: i64) -> Result<ServiceTokenTerms, ApiError> {
    let mut body = StrictObject::parse(&read_json(request).await?).map_err(field)?;
    let name = body.string("name").map_err(field)?;
    let name = name.parse().map_err(|error| invalid(format!("`name`: {error}")))?;
    let namespaces = body.take("namespaces").map_err(field)?;
    let namespaces = parse_namespaces("namespaces", namespaces).map_err(field)?;
    let permissions = body.take("permissions").map_err(field)?;
    let permissions = parse_permissions("permissions", permissions).map_err(field)?;
    let end = body.string("expires_at").map_err(field)?;
    let end = parse_rfc3339(&end).ok_or_else(|| {
        invalid("`expires_at` must be a time of RFC 3339, such as `2027-01-31T00:00:00Z`")
    })?;
    let networks = match body.take_optional("networks") {
        None => Vec::new(),
        Some(listed) => string_list("networks", listed)
            .map_err(field)?
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<ClientNetwork>, _>>()
            .map_err(|error| invalid(format!("`networks`: {error}")))?,
    };
    body.finish().map_err(field)?;
    ServiceTokenTerms::new(name, namespaces, permissions, networks, end, now)
        .map_err(|error| invalid(error.to_string()))
}

/// Returns a token without its secret.
fn object(stored: &StoredServiceToken) -> Value {
    let mut object = record(&stored.token);
    if let Some(day) = stored.last_used {
        let day = rfc3339(start_of(day));
        object["last_used"] = day.split('T').next().unwrap_or_default().into();
    }
    object
}

/// Returns a new token with its secret.
fn issued_object(issued: &IssuedServiceToken, secret: &NewSecret) -> Value {
    let mut object = record(&issued.token);
    object["token"] = secret.expose().as_str().into();
    object["grants"] = issued.grants.iter().map(super::grants::object).collect();
    object
}

fn record(token: &ServiceToken) -> Value {
    let terms = token.terms();
    let mut object = json!({
        "id": token.id().as_str(),
        "name": token.name().as_str(),
        "principal": terms.principal(),
        "namespaces": token.namespaces(),
        "permissions": terms.permissions(),
        "networks": terms.networks().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "created_at": rfc3339(token.created_at()),
        "expires_at": rfc3339(terms.expires_at()),
        "issued_by": match token.issuer() {
            TokenIssuer::Operator(_) => "operator",
            TokenIssuer::Delegate { principal, .. } => principal.as_str(),
        },
    });
    if let Some(by) = token.replaced_by() {
        object["replaced_by"] = by.as_str().into();
    }
    object
}

fn field(error: FieldError) -> ApiError {
    invalid(error.problem)
}
