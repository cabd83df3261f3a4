//! Normalizes the four forms of events, so that each means the same as the request on a server.
//!
//! `lambda_http` would put the stage before the path, keep only one of two equal headers, and
//! resolve `..`. It would also put the `Host` of the client into the URL, and panic if the URL is
//! then invalid. So this module reads these parts and removes them from the event.

use axum::http::{HeaderMap, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use lambda_http::request::LambdaRequest;

use crate::authn::gateway::UnverifiedContext;
use crate::client_source::ClientAddress;
use crate::http::malformed::Malformed;
use stile_core::package::{MAX_IN_ANY_EVENT, MAX_IN_EVENT};

/// The stage of tests in the API Gateway console, which do not authenticate the caller.
const TEST_STAGE: &str = "test-invoke-stage";

/// The path and the query of a request, as the client wrote them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    path: String,
    /// The query; `None` if the event contains only its parameters.
    query: Option<String>,
}

impl Target {
    /// Returns the URI. `from_parameters` is the query for an event that contains only parameters.
    ///
    /// An invalid URI becomes `/`, which has no route.
    pub(super) fn uri(&self, from_parameters: Option<&str>) -> Uri {
        let mut text = self.path.clone();
        if let Some(query) =
            self.query.as_deref().or(from_parameters).filter(|query| !query.is_empty())
        {
            text.push('?');
            text.push_str(query);
        }
        text.parse().unwrap_or_default()
    }
}

/// Removes from the event the client's values that `lambda_http` would misread, and returns the
/// target of the request.
pub(super) fn normalize(event: &mut LambdaRequest) -> Target {
    match event {
        LambdaRequest::ApiGatewayV1(event) => {
            remove_duplicate_headers(&mut event.headers, &event.multi_value_headers);
            (event.request_context.stage, event.request_context.domain_name) = (None, None);
            // The path of a REST API never contains the stage, even if it begins with the same
            // word.
            Target {
                path: absolute(&event.path.replace("/".to_owned()).unwrap_or_default(), is_path),
                query: None,
            }
        }
        LambdaRequest::ApiGatewayV2(event) => {
            event.headers.remove(header::HOST);
            event.request_context.domain_name = None;
            let stage = event.request_context.stage.take();
            let path = event.raw_path.replace("/".to_owned()).unwrap_or_default();
            let query = event.raw_query_string.take().unwrap_or_default();
            Target {
                path: absolute(without_stage(&path, stage.as_deref()), is_path),
                query: Some(encoded(&query, is_query)),
            }
        }
        LambdaRequest::Alb(event) => {
            remove_duplicate_headers(&mut event.headers, &event.multi_value_headers);
            Target {
                path: absolute(&event.path.replace("/".to_owned()).unwrap_or_default(), is_path),
                query: None,
            }
        }
        _ => Target { path: "/".to_owned(), query: None },
    }
}

/// Removes the body from the event, and returns its bytes.
///
/// `lambda_http` would panic if the body is not base64 although the event says so.
///
/// # Errors
///
/// [`Malformed::NotBase64`] for such a body.
pub(super) fn take_body(event: &mut LambdaRequest) -> Result<Bytes, Malformed> {
    let (body, is_base64) = match event {
        LambdaRequest::ApiGatewayV1(event) => (event.body.take(), event.is_base64_encoded),
        LambdaRequest::ApiGatewayV2(event) => (event.body.take(), event.is_base64_encoded),
        LambdaRequest::Alb(event) => (event.body.take(), event.is_base64_encoded),
        _ => (None, false),
    };
    match body {
        Some(text) if is_base64 => {
            STANDARD.decode(text).map(Bytes::from).map_err(|_| Malformed::NotBase64)
        }
        body => Ok(Bytes::from(body.unwrap_or_default())),
    }
}

/// Returns the size of the largest archive in this form of event, in bytes.
///
/// AWS itself rejects most larger requests. It accepts a few more bytes if the rest of the event is
/// small.
pub(super) fn largest_archive(event: &LambdaRequest) -> u64 {
    if matches!(event, LambdaRequest::Alb(_)) { MAX_IN_ANY_EVENT } else { MAX_IN_EVENT }
}

/// Returns the address of the client, as API Gateway or the function URL saw it.
///
/// A load balancer names none here: what its `X-Forwarded-For` ends with depends on how it is set up.
pub(super) fn client_address(event: &LambdaRequest) -> Option<ClientAddress> {
    let address = match event {
        LambdaRequest::ApiGatewayV1(event) => event.request_context.identity.source_ip.as_deref(),
        LambdaRequest::ApiGatewayV2(event) => event.request_context.http.source_ip.as_deref(),
        _ => None,
    };
    Some(ClientAddress(address?.parse().ok()?))
}

/// Returns the source and the caller of the event, only from its request context.
pub(super) fn unverified_context(event: &LambdaRequest) -> UnverifiedContext {
    match event {
        LambdaRequest::ApiGatewayV1(event)
            if event.request_context.stage.as_deref() != Some(TEST_STAGE) =>
        {
            let (context, identity) = (&event.request_context, &event.request_context.identity);
            UnverifiedContext {
                account: context.account_id.clone(),
                api: context.apiid.clone(),
                caller_arn: identity.user_arn.clone(),
                caller_user_id: identity.user.clone(),
                caller_id: identity.caller.clone(),
                caller_account: identity.account_id.clone(),
            }
        }
        LambdaRequest::ApiGatewayV2(event) => {
            let context = &event.request_context;
            let Some(iam) =
                context.authorizer.as_ref().and_then(|authorizer| authorizer.iam.as_ref())
            else {
                return UnverifiedContext::default();
            };
            UnverifiedContext {
                account: context.account_id.clone(),
                api: context.apiid.clone(),
                caller_arn: iam.user_arn.clone(),
                caller_user_id: iam.user_id.clone(),
                caller_id: iam.caller_id.clone(),
                caller_account: iam.account_id.clone(),
            }
        }
        _ => UnverifiedContext::default(),
    }
}

/// Removes the stage from the path of an HTTP API. The path contains every stage except `$default`,
/// also on a custom domain.
pub(super) fn without_stage<'a>(path: &'a str, stage: Option<&str>) -> &'a str {
    let Some(stage) = stage.filter(|stage| *stage != "$default") else { return path };
    match path.strip_prefix('/').and_then(|path| path.strip_prefix(stage)) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => path,
    }
}

/// Removes the headers with one value for each name, if the event also has all values.
///
/// The set with one value would hide the second of two headers with the same name.
fn remove_duplicate_headers(single: &mut HeaderMap, multiple: &HeaderMap) {
    if multiple.is_empty() {
        single.remove(header::HOST);
    } else {
        single.clear();
    }
}

fn absolute(path: &str, is_allowed: fn(u8) -> bool) -> String {
    let path = encoded(path, is_allowed);
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// Encodes the bytes of a path or query that a URI does not allow. A gateway decodes some of them.
fn encoded(text: &str, is_allowed: fn(u8) -> bool) -> String {
    text.bytes()
        .map(
            |byte| {
                if is_allowed(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
            },
        )
        .collect()
}

/// Returns whether a path may contain the byte (RFC 3986, section 3.3). `%` stays unchanged.
fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte)
}

/// Returns whether a query may contain the byte (RFC 3986, section 3.4).
fn is_query(byte: u8) -> bool {
    is_path(byte) || byte == b'?'
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn normalized(event: &Value) -> (LambdaRequest, Target) {
        let mut event: LambdaRequest = serde_json::from_str(&event.to_string()).unwrap();
        let target = normalize(&mut event);
        (event, target)
    }

    fn http_api(path: &str, stage: &str, query: &str) -> Value {
        json!({"version": "2.0", "rawPath": path, "rawQueryString": query, "headers": {"host": "[::not a host"},
               "requestContext": {"stage": stage, "domainName": "x y", "http": {"method": "GET"}}})
    }

    fn rest_api(path: &str, stage: &str) -> Value {
        json!({"path": path, "httpMethod": "GET", "headers": null, "multiValueHeaders": {"Host": ["[::"], "A": ["1", "2"]},
               "requestContext": {"stage": stage, "domainName": "x y", "httpMethod": "GET"}})
    }

    #[test]
    fn only_an_http_api_path_with_a_stage_loses_its_first_segment() {
        for (event, expected) in [
            (http_api("/v1/token", "$default", ""), "/v1/token"),
            (http_api("/prod/v1/token", "prod", ""), "/v1/token"),
            (http_api("/v1/v1/token", "v1", ""), "/v1/token"),
            (http_api("/prod", "prod", ""), "/"),
            (http_api("/production/v1/token", "prod", ""), "/production/v1/token"),
            (http_api("/prod/prod/v1/token", "prod", ""), "/prod/v1/token"),
            (rest_api("/v1/token", "v1"), "/v1/token"),
            (rest_api("/prod/v1/token", "prod"), "/prod/v1/token"),
        ] {
            assert_eq!(normalized(&event).1.uri(None).path(), expected, "{event}");
        }
    }

    #[test]
    fn the_target_is_exactly_what_the_client_wrote() {
        for (path, query, expected) in [
            ("/v1/modules/a/../b", "", "/v1/modules/a/../b"),
            ("/v1/modules/a/%2e%2e/b", "", "/v1/modules/a/%2e%2e/b"),
            ("/v1/token?namespace=a", "", "/v1/token%3Fnamespace=a"),
            ("/v1/token#a", "", "/v1/token%23a"),
            ("/v1/to ken\n\u{e9}", "", "/v1/to%20ken%0A%C3%A9"),
            ("v1/token", "", "/v1/token"),
            ("", "", "/"),
            ("//evil.example/v1", "", "//evil.example/v1"),
            ("/v1/token", "namespace=a%2Cb&x=y z#", "/v1/token?namespace=a%2Cb&x=y%20z%23"),
        ] {
            let (event, target) = normalized(&http_api(path, "$default", query));
            assert_eq!(target.uri(None).path_and_query().map(|both| both.as_str()), Some(expected));
            // The rest of the event cannot make the library panic.
            let _ = axum::http::Request::<lambda_http::Body>::from(event);
        }
    }

    #[test]
    fn both_of_two_equal_headers_remain() {
        let rest_api = json!({"path": "/", "httpMethod": "GET", "headers": {"Authorization": "Bearer b"},
            "multiValueHeaders": {"Authorization": ["Bearer a", "Bearer b"]}, "requestContext": {"httpMethod": "GET"}});
        let balancer = json!({"path": "/", "httpMethod": "GET", "headers": {"authorization": "Bearer b"},
            "multiValueHeaders": {"authorization": ["Bearer a", "Bearer b"]}, "requestContext": {"elb": {}}});
        for event in [rest_api, balancer] {
            let request = axum::http::Request::<lambda_http::Body>::from(normalized(&event).0);
            assert_eq!(request.headers().get_all("authorization").iter().count(), 2, "{event}");
        }
    }

    #[test]
    fn the_test_stage_of_the_console_has_no_caller() {
        let event = |stage| {
            let mut event = rest_api("/v1/token", stage);
            event["requestContext"]["identity"] = json!({"userArn": "arn"});
            serde_json::from_str::<LambdaRequest>(&event.to_string()).unwrap()
        };
        assert_eq!(unverified_context(&event(TEST_STAGE)).caller_arn, None);
        assert_eq!(unverified_context(&event("prod")).caller_arn.as_deref(), Some("arn"));
    }
}
