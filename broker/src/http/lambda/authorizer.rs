//! Answers API Gateway as its authorizer, so that a token of this registry opens somebody else's.
//!
//! The answer is for one method and one path, and API Gateway must not remember it: a remembered one would be used for
//! other paths with the same token.

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

use super::failure::Failure;
use super::method_arn::MethodArn;
use super::shape::without_stage;
use crate::app::Broker;
use crate::app::authorize::{Bearer, token_of};
use crate::config::AuthorizerBase;
use crate::http::decision::{authenticate, bearer, conclude};
use crate::http::error::ApiError;
use stile_core::audit::{Event, Kind};
use stile_core::grants::{Access, Download, Refusal, Right, Upload};

/// Answers one question of the given type.
pub(super) async fn answer(
    kind: &str,
    event: &RawValue,
    base: Option<&AuthorizerBase>,
    broker: &Arc<Broker>,
) -> Result<Value, Failure> {
    let base = base.ok_or(Failure::Unauthorized)?;
    let version =
        serde_json::from_str::<Version>(event.get()).map_err(|_| Failure::NoEvent)?.version;
    match (kind, version.as_deref()) {
        ("TOKEN", _) => {
            let question = Question::token(event).ok_or_else(|| unreadable(broker));
            policy(question.map_err(|()| Failure::Unauthorized)?, base, broker).await
        }
        ("REQUEST", Some("2.0")) => match Question::request_v2(event) {
            None => {
                unreadable(broker);
                Ok(simple(None))
            }
            Some(question) => match question.decide(base, broker).await {
                Ok(access) => Ok(simple(Some(&access))),
                Err(No::Token | No::Access(_)) => Ok(simple(None)),
                Err(No::Unknown) => Err(Failure::Unavailable),
            },
        },
        ("REQUEST", _) => {
            let question = Question::request_v1(event).ok_or_else(|| unreadable(broker));
            policy(question.map_err(|()| Failure::Unauthorized)?, base, broker).await
        }
        _ => Err(Failure::NoEvent),
    }
}

/// A question that contradicts itself, or whose ARN could stand for more than one request, is refused.
fn unreadable(broker: &Broker) {
    broker.audit.draft(Kind::Authorize, None).refused(ErrorCode::InvalidRequest);
}

#[derive(Deserialize)]
struct Version {
    version: Option<String>,
}

/// May the bearer of this token do this to that path?
struct Question {
    token: Option<SecretString>,
    method: Method,
    path: String,
    arn: String,
}

/// Why not.
enum No {
    /// There is no good token.
    Token,
    /// Its holder, by name, may not do this here, or nobody may.
    Access(String),
    /// It cannot be told.
    Unknown,
}

impl Question {
    fn token(event: &RawValue) -> Option<Self> {
        let event: ApiGatewayCustomAuthorizerRequest = serde_json::from_str(event.get()).ok()?;
        let arn = MethodArn::parse(event.method_arn.as_deref()?)?;
        let token = token_of(event.authorization_token.as_deref()?).map(SecretString::from);
        Some(Self { token, method: arn.method(), path: arn.path(), arn: event.method_arn? })
    }

    fn request_v1(event: &RawValue) -> Option<Self> {
        let event: ApiGatewayCustomAuthorizerRequestTypeRequest =
            serde_json::from_str(event.get()).ok()?;
        let arn = MethodArn::parse(event.method_arn.as_deref()?)?;
        let context = &event.request_context;
        let of_one_api = context.account_id.as_deref() == Some(arn.account)
            && context.apiid.as_deref() == Some(arn.api)
            && context.stage.as_deref() == Some(arn.stage);
        let of_one_request = event.http_method == Some(arn.method())
            && context.http_method.as_ref().is_none_or(|method| *method == arn.method())
            && event.path == Some(arn.path());
        let headers = if event.multi_value_headers.is_empty() {
            event.headers
        } else {
            event.multi_value_headers
        };
        let (method, path) = (arn.method(), arn.path());
        (of_one_api && of_one_request).then_some(Self {
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
        let of_one_api = context.account_id.as_deref() == Some(arn.account)
            && context.apiid.as_deref() == Some(arn.api)
            && context.stage.as_deref() == Some(arn.stage);
        let raw_path = event.raw_path.as_deref()?;
        let of_one_request = context.http.method == arn.method()
            && without_stage(raw_path, Some(arn.stage)) == arn.path();
        let (method, path) = (arn.method(), arn.path());
        (of_one_api && of_one_request).then_some(Self {
            token: bearer(&event.headers).map(SecretString::from),
            method,
            path,
            arn: event.route_arn?,
        })
    }

    /// Decides; one event says how.
    async fn decide(&self, base: &AuthorizerBase, broker: &Arc<Broker>) -> Result<Allowed, No> {
        let draft = broker.audit.draft(Kind::Authorize, None);
        let bearer = authenticate(broker, self.token.clone(), draft).await;
        let (mut draft, bearer) = bearer.map_err(|error| match error.code() {
            ErrorCode::Unauthorized => No::Token,
            _ => No::Unknown,
        })?;
        draft.resource(format!("{} {}", self.method, self.path));
        let allowed = self.allowed(base, &bearer, &mut draft);
        conclude(draft, allowed).map_err(|_| No::Access(bearer.principal().to_string()))
    }

    fn allowed(
        &self,
        base: &AuthorizerBase,
        bearer: &Bearer,
        event: &mut Event,
    ) -> Result<Allowed, ApiError> {
        let (namespace, permission) = needed(base, &self.method, &self.path)
            .ok_or_else(|| ApiError::new(ErrorCode::NoGrant, "nobody may do this"))?;
        match permission {
            Permission::Upload => allowed(bearer.access::<Upload>(&namespace, event)),
            _ => allowed(bearer.access::<Download>(&namespace, event)),
        }
    }
}

fn allowed<R: Right>(access: Result<Access<R>, Refusal>) -> Result<Allowed, ApiError> {
    let access = access.map_err(ApiError::refusal)?;
    Ok(Allowed {
        principal: access.principal().to_string(),
        namespace: access.namespace().to_string(),
        permission: R::PERMISSION,
    })
}

/// What was decided, as the guarded registry may read it.
struct Allowed {
    principal: String,
    namespace: String,
    permission: Permission,
}

/// What a request needs: the table of `docs/lambda.md`. Whatever is not in it, nobody may.
fn needed(base: &AuthorizerBase, method: &Method, path: &str) -> Option<(Namespace, Permission)> {
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

async fn policy(
    question: Question,
    base: &AuthorizerBase,
    broker: &Arc<Broker>,
) -> Result<Value, Failure> {
    let statement = |effect: &str, principal: &str| {
        json!({
            "principalId": principal,
            "policyDocument": {
                "Version": "2012-10-17",
                "Statement": [{"Action": "execute-api:Invoke", "Effect": effect, "Resource": question.arn}],
            },
        })
    };
    match question.decide(base, broker).await {
        Ok(access) => {
            let mut answer = statement("Allow", &access.principal);
            answer["context"] = context(&access);
            Ok(answer)
        }
        Err(No::Access(principal)) => Ok(statement("Deny", &principal)),
        Err(No::Token) => Err(Failure::Unauthorized),
        Err(No::Unknown) => Err(Failure::Unavailable),
    }
}

fn simple(access: Option<&Allowed>) -> Value {
    match access {
        None => json!({"isAuthorized": false}),
        Some(access) => json!({"isAuthorized": true, "context": context(access)}),
    }
}

/// What the guarded registry may read of the decision.
fn context(access: &Allowed) -> Value {
    json!({
        "principal": access.principal,
        "namespace": access.namespace,
        "permission": access.permission.as_str(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_and_path_need_what_the_table_says() {
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
            let needs = needed(&base, &Method::from_bytes(method.as_bytes()).unwrap(), path);
            assert_eq!(
                needs.map(|(namespace, permission)| format!("{namespace} {permission}")).as_deref(),
                expected,
                "{method} {path}"
            );
        }
    }
}
