//! Makes the four shapes of event mean what the plain server would have read from the wire.
//!
//! `lambda_http` would put the stage before the path, let a single header hide its twin, resolve `..`, take a client's
//! `Host` for a part of the URL, and panic where that makes none. So those parts are read here and taken out before it.

use axum::http::{HeaderMap, Uri, header};
use lambda_http::request::LambdaRequest;

use crate::authn::gateway::UnverifiedContext;
use stile_core::package::{MAX_IN_ANY_EVENT, MAX_IN_EVENT};

/// The stage that API Gateway's console invokes without asking who may.
const TEST_STAGE: &str = "test-invoke-stage";

/// What a request is for, as the client wrote it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    path: String,
    /// `None` where an event has the query in pieces only.
    query: Option<String>,
}

impl Target {
    /// The URI; one that cannot be is the root, where nothing is.
    pub(super) fn uri(&self, pieced_together: Option<&str>) -> Uri {
        let mut text = self.path.clone();
        if let Some(query) =
            self.query.as_deref().or(pieced_together).filter(|query| !query.is_empty())
        {
            text.push('?');
            text.push_str(query);
        }
        text.parse().unwrap_or_default()
    }
}

/// Takes what is for the client to choose, and would be misread, out of the event.
pub(super) fn normalize(event: &mut LambdaRequest) -> Target {
    match event {
        LambdaRequest::ApiGatewayV1(event) => {
            one_set_of_headers(&mut event.headers, &event.multi_value_headers);
            (event.request_context.stage, event.request_context.domain_name) = (None, None);
            // A REST API's path never has the stage in it, even where it begins alike.
            Target {
                path: plain(&event.path.replace("/".to_owned()).unwrap_or_default(), is_path),
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
                path: plain(without_stage(&path, stage.as_deref()), is_path),
                query: Some(encoded(&query, is_query)),
            }
        }
        LambdaRequest::Alb(event) => {
            one_set_of_headers(&mut event.headers, &event.multi_value_headers);
            Target {
                path: plain(&event.path.replace("/".to_owned()).unwrap_or_default(), is_path),
                query: None,
            }
        }
        _ => Target { path: "/".to_owned(), query: None },
    }
}

/// The largest archive that such an event carries, in bytes. Past that AWS refuses most requests itself, but not all: a
/// few bytes more fit where the rest of the event is small.
pub(super) fn largest_archive(event: &LambdaRequest) -> u64 {
    if matches!(event, LambdaRequest::Alb(_)) { MAX_IN_ANY_EVENT } else { MAX_IN_EVENT }
}

/// What the event says of its source and its caller, from its request context alone.
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

/// An HTTP API's path has a stage before it that is not `$default`, under a custom domain too.
pub(super) fn without_stage<'a>(path: &'a str, stage: Option<&str>) -> &'a str {
    let Some(stage) = stage.filter(|stage| *stage != "$default") else { return path };
    match path.strip_prefix('/').and_then(|path| path.strip_prefix(stage)) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => path,
    }
}

/// The set with every value is the one that counts; the other has one of two twins, and would hide the second.
fn one_set_of_headers(single: &mut HeaderMap, multiple: &HeaderMap) {
    if multiple.is_empty() {
        single.remove(header::HOST);
    } else {
        single.clear();
    }
}

fn plain(path: &str, may: fn(u8) -> bool) -> String {
    let path = encoded(path, may);
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// A path or query in which every byte may stand in a URI; a gateway decodes some that may not.
fn encoded(text: &str, may: fn(u8) -> bool) -> String {
    text.bytes()
        .map(|byte| if may(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// RFC 3986, section 3.3, with `%` as it came.
fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte)
}

/// RFC 3986, section 3.4.
fn is_query(byte: u8) -> bool {
    is_path(byte) || byte == b'?'
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn tamed(event: &Value) -> (LambdaRequest, Target) {
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
    fn a_stage_is_taken_off_where_it_is_and_nowhere_else() {
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
            assert_eq!(tamed(&event).1.uri(None).path(), expected, "{event}");
        }
    }

    #[test]
    fn a_target_is_what_the_client_wrote_and_never_more() {
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
            let (event, target) = tamed(&http_api(path, "$default", query));
            assert_eq!(target.uri(None).path_and_query().map(|both| both.as_str()), Some(expected));
            // What is left of it cannot make the library panic.
            let _ = axum::http::Request::<lambda_http::Body>::from(event);
        }
    }

    #[test]
    fn a_header_never_hides_its_twin() {
        let twins = json!({"path": "/", "httpMethod": "GET", "headers": {"Authorization": "Bearer b"},
            "multiValueHeaders": {"Authorization": ["Bearer a", "Bearer b"]}, "requestContext": {"httpMethod": "GET"}});
        let balancer = json!({"path": "/", "httpMethod": "GET", "headers": {"authorization": "Bearer b"},
            "multiValueHeaders": {"authorization": ["Bearer a", "Bearer b"]}, "requestContext": {"elb": {}}});
        for event in [twins, balancer] {
            let request = axum::http::Request::<lambda_http::Body>::from(tamed(&event).0);
            assert_eq!(request.headers().get_all("authorization").iter().count(), 2, "{event}");
        }
    }

    #[test]
    fn the_consoles_test_stage_vouches_for_nobody() {
        let event = |stage| {
            let mut event = rest_api("/v1/token", stage);
            event["requestContext"]["identity"] = json!({"userArn": "arn"});
            serde_json::from_str::<LambdaRequest>(&event.to_string()).unwrap()
        };
        assert_eq!(unverified_context(&event(TEST_STAGE)).caller_arn, None);
        assert_eq!(unverified_context(&event("prod")).caller_arn.as_deref(), Some("arn"));
    }
}
