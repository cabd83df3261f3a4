//! The Lambda authorizer of API Gateway: guards another registry with the tokens of this one.
//!
//! An answer is for one method and one path. API Gateway must not cache it, because it would use a
//! cached answer for other paths with the same token.

use std::sync::Arc;

use axum::http::Method;
use lambda_http::aws_lambda_events::apigw::{
    ApiGatewayCustomAuthorizerRequest, ApiGatewayCustomAuthorizerRequestTypeRequest,
    ApiGatewayV2CustomAuthorizerV2Request,
};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use stile_protocol::names::{Namespace, Permission};
use stile_protocol::reply::ErrorCode;

use super::event_error::EventError;
use super::method_arn::MethodArn;
use super::shape::without_stage;
use crate::app::Broker;
use crate::app::authorize::{Bearer, token_of};
use crate::client_source::ClientAddress;
use crate::config::AuthorizerBase;
use crate::http::decision::{authenticate, bearer, conclude};
use crate::http::error::ApiError;
use stile_core::audit::{Event, Kind};
use stile_core::grants::{Access, Download, Refusal, Right, Upload};

/// Answers one authorizer event of the given type.
pub(super) async fn answer(
    kind: &str,
    event: &RawValue,
    base: Option<&AuthorizerBase>,
    broker: &Arc<Broker>,
) -> Result<Value, EventError> {
    let base = base.ok_or(EventError::Unauthorized)?;
    let version =
        serde_json::from_str::<Version>(event.get()).map_err(|_| EventError::NoEvent)?.version;
    match (kind, version.as_deref()) {
        ("TOKEN", _) => {
            let request = GuardedRequest::token(event).ok_or_else(|| audit_invalid(broker));
            policy(request.map_err(|()| EventError::Unauthorized)?, base, broker).await
        }
        ("REQUEST", Some("2.0")) => match GuardedRequest::request_v2(event) {
            None => {
                audit_invalid(broker);
                Ok(simple(None))
            }
            Some(request) => match request.decide(base, broker).await {
                Ok(allowed) => Ok(simple(Some(&allowed))),
                Err(Denied::NoToken | Denied::NoAccess(_)) => Ok(simple(None)),
                Err(Denied::Undecided) => Err(EventError::Unavailable),
            },
        },
        ("REQUEST", _) => {
            let request = GuardedRequest::request_v1(event).ok_or_else(|| audit_invalid(broker));
            policy(request.map_err(|()| EventError::Unauthorized)?, base, broker).await
        }
        _ => Err(EventError::NoEvent),
    }
}

/// Writes the audit event for an event that contradicts itself, or whose ARN matches several
/// requests.
fn audit_invalid(broker: &Broker) {
    broker.audit.draft(Kind::Authorize, None).refused(ErrorCode::InvalidRequest);
}

#[derive(Deserialize)]
struct Version {
    version: Option<String>,
}

/// A request to the guarded registry, which API Gateway asks about.
struct GuardedRequest {
    token: Option<SecretString>,
    /// The address of the client, as API Gateway saw it. An event with only the token has none.
    address: Option<ClientAddress>,
    method: Method,
    path: String,
    arn: String,
}

/// The reason why the authorizer does not allow a request.
enum Denied {
    /// The request has no valid token.
    NoToken,
    /// This principal does not have the right, or no principal can have it.
    NoAccess(String),
    /// The broker cannot decide now.
    Undecided,
}

impl GuardedRequest {
    fn token(event: &RawValue) -> Option<Self> {
        let event: ApiGatewayCustomAuthorizerRequest = serde_json::from_str(event.get()).ok()?;
        let arn = MethodArn::parse(event.method_arn.as_deref()?)?;
        let token = token_of(event.authorization_token.as_deref()?).map(SecretString::from);
        let (method, path) = (arn.method(), arn.path());
        Some(Self { token, address: None, method, path, arn: event.method_arn? })
    }

    fn request_v1(event: &RawValue) -> Option<Self> {
        let event: ApiGatewayCustomAuthorizerRequestTypeRequest =
            serde_json::from_str(event.get()).ok()?;
        let arn = MethodArn::parse(event.method_arn.as_deref()?)?;
        let context = &event.request_context;
        let same_api = context.account_id.as_deref() == Some(arn.account)
            && context.apiid.as_deref() == Some(arn.api)
            && context.stage.as_deref() == Some(arn.stage);
        let same_request = event.http_method == Some(arn.method())
            && context.http_method.as_ref().is_none_or(|method| *method == arn.method())
            && event.path == Some(arn.path());
        let headers = if event.multi_value_headers.is_empty() {
            event.headers
        } else {
            event.multi_value_headers
        };
        let (method, path) = (arn.method(), arn.path());
        let address =
            address(context.identity.as_ref().and_then(|identity| identity.source_ip.as_deref()));
        (same_api && same_request).then_some(Self {
            address,
            token: bearer(&headers).map(SecretString::from),
            method,
            path,
            arn: event.method_arn?,
        })
    }

    fn request_v2(event: &RawValue) -> Option<Self> {
        let event: ApiGatewayV2CustomAuthorizerV2Request =
            serde_json::from_str(event.get()).ok()?;
        let arn = MethodArn::parse(event.route_arn.as_deref()?)?;
        let context = &event.request_context;
        let same_api = context.account_id.as_deref() == Some(arn.account)
            && context.apiid.as_deref() == Some(arn.api)
            && context.stage.as_deref() == Some(arn.stage);
        let raw_path = event.raw_path.as_deref()?;
        let same_request = context.http.method == arn.method()
            && without_stage(raw_path, Some(arn.stage)) == arn.path();
        let (method, path) = (arn.method(), arn.path());
        let address = address(context.http.source_ip.as_deref());
        (same_api && same_request).then_some(Self {
            address,
            token: bearer(&event.headers).map(SecretString::from),
            method,
            path,
            arn: event.route_arn?,
        })
    }

    /// Decides the request, and writes one audit event.
    async fn decide(&self, base: &AuthorizerBase, broker: &Arc<Broker>) -> Result<Allowed, Denied> {
        let draft = broker.audit.draft(Kind::Authorize, None);
        let bearer = authenticate(broker, self.token.clone(), self.address, draft).await;
        let (mut draft, bearer) = bearer.map_err(|error| match error.code() {
            ErrorCode::Unauthorized => Denied::NoToken,
            _ => Denied::Undecided,
        })?;
        draft.resource(format!("{} {}", self.method, self.path));
        let allowed = self.allowed(base, &bearer, &mut draft);
        conclude(draft, allowed).map_err(|_| Denied::NoAccess(bearer.principal().to_string()))
    }

    fn allowed(
        &self,
        base: &AuthorizerBase,
        bearer: &Bearer,
        event: &mut Event,
    ) -> Result<Allowed, ApiError> {
        let (namespace, permission) = required(base, &self.method, &self.path)
            .ok_or_else(|| ApiError::new(ErrorCode::NoGrant, "no grant can allow this request"))?;
        match permission {
            Permission::Upload => allowed(bearer.access::<Upload>(&namespace, event)),
            _ => allowed(bearer.access::<Download>(&namespace, event)),
        }
    }
}

fn address(source_ip: Option<&str>) -> Option<ClientAddress> {
    Some(ClientAddress(source_ip?.parse().ok()?))
}

fn allowed<R: Right>(access: Result<Access<R>, Refusal>) -> Result<Allowed, ApiError> {
    let access = access.map_err(ApiError::refusal)?;
    Ok(Allowed {
        principal: access.principal().to_string(),
        namespace: access.namespace().to_string(),
        permission: R::PERMISSION,
    })
}

/// The decision for an allowed request, which the guarded registry can read.
struct Allowed {
    principal: String,
    namespace: String,
    permission: Permission,
}

/// Returns the right that a request requires, by the table in `docs/lambda.md`.
///
/// No principal can have the right for a request that is not in the table.
fn required(base: &AuthorizerBase, method: &Method, path: &str) -> Option<(Namespace, Permission)> {
    let permission = match *method {
        Method::GET | Method::HEAD => Permission::Download,
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE => Permission::Upload,
        _ => return None,
    };
    let route = path.strip_prefix(base.as_str())?;
    let below =
        route.strip_prefix("/v1/modules/").or_else(|| route.strip_prefix("/v1/providers/"))?;
    Some((Namespace::parse(below.split('/').next()?).ok()?, permission))
}

/// Returns the answer in the format of REST APIs: an IAM policy.
async fn policy(
    request: GuardedRequest,
    base: &AuthorizerBase,
    broker: &Arc<Broker>,
) -> Result<Value, EventError> {
    let statement = |effect: &str, principal: &str| {
        json!({
            "principalId": principal,
            "policyDocument": {
                "Version": "2012-10-17",
                "Statement": [{"Action": "execute-api:Invoke", "Effect": effect, "Resource": request.arn}],
            },
        })
    };
    match request.decide(base, broker).await {
        Ok(allowed) => {
            let mut answer = statement("Allow", &allowed.principal);
            answer["context"] = context(&allowed);
            Ok(answer)
        }
        Err(Denied::NoAccess(principal)) => Ok(statement("Deny", &principal)),
        Err(Denied::NoToken) => Err(EventError::Unauthorized),
        Err(Denied::Undecided) => Err(EventError::Unavailable),
    }
}

/// Returns the answer in the simple format of HTTP APIs.
fn simple(allowed: Option<&Allowed>) -> Value {
    match allowed {
        None => json!({"isAuthorized": false}),
        Some(allowed) => json!({"isAuthorized": true, "context": context(allowed)}),
    }
}

/// Returns the part of the decision that the guarded registry can read.
fn context(allowed: &Allowed) -> Value {
    json!({
        "principal": allowed.principal,
        "namespace": allowed.namespace,
        "permission": allowed.permission.as_str(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_requires_the_right_in_the_table() {
        let base = AuthorizerBase::parse("/terraform").unwrap();
        for (method, path, expected) in [
            ("GET", "/terraform/v1/modules/acme/vpc/aws/versions", Some("acme download")),
            ("HEAD", "/terraform/v1/providers/acme/x/versions", Some("acme download")),
            ("GET", "/terraform/v1/modules/acme", Some("acme download")),
            ("POST", "/terraform/v1/modules/acme/vpc/aws/1.0.0", Some("acme upload")),
            ("PUT", "/terraform/v1/modules/acme/vpc/aws/1.0.0", Some("acme upload")),
            ("PATCH", "/terraform/v1/modules/acme/vpc/aws/1.0.0", Some("acme upload")),
            ("DELETE", "/terraform/v1/providers/acme/x/1.0.0", Some("acme upload")),
            ("OPTIONS", "/terraform/v1/modules/acme/vpc/aws/versions", None),
            ("get", "/terraform/v1/modules/acme/vpc/aws/versions", None),
            ("ANY", "/terraform/v1/modules/acme/vpc/aws/versions", None),
            ("GET", "/v1/modules/acme/vpc/aws/versions", None),
            ("GET", "/terraformer/v1/modules/acme/vpc/aws/versions", None),
            ("GET", "/terraform/v1/modules", None),
            ("GET", "/terraform/v2/modules/acme/vpc/aws/versions", None),
            ("GET", "/terraform/v1/token", None),
            ("GET", "/terraform/v1/modules/ac~me/vpc/aws/versions", None),
        ] {
            let right = required(&base, &Method::from_bytes(method.as_bytes()).unwrap(), path);
            assert_eq!(
                right.map(|(namespace, permission)| format!("{namespace} {permission}")).as_deref(),
                expected,
                "{method} {path}"
            );
        }
    }
}
