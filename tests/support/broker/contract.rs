//! Compares each answer that a test gets in memory with the OpenAPI document of the broker.
//!
//! A status, a header, an error code or a field that the document does not have fails the test. So
//! the document stays complete without a test for each route.

use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::Value;
use stile_broker::http::openapi_document;
use tower::ServiceExt;

use crate::broker::Reply;

/// The document, as the broker prints it.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| openapi_document().unwrap());

/// The headers that an answer has only if the document says so.
const HEADERS: [&str; 5] =
    ["etag", "location", "retry-after", "www-authenticate", "x-terraform-get"];

/// Returns the document.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Follows the reference of a value, if it is one.
pub fn resolve(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            let found = DOCUMENT.pointer(reference.trim_start_matches('#'));
            found.unwrap_or_else(|| panic!("the document has no `{reference}`"))
        }
        None => value,
    }
}

/// Sends a request to the router in memory, and checks the answer.
pub(super) async fn send(router: Router, request: Request<Body>) -> Reply {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let reply = Reply::read(router.oneshot(request).await.unwrap()).await;
    check(&method, &path, &reply);
    reply
}

/// Checks an answer. The document says nothing about `HEAD`, other methods and other paths.
fn check(method: &Method, path: &str, reply: &Reply) {
    let Some((route, methods)) = route_of(path) else { return };
    let Some(operation) = methods.get(method.as_str().to_ascii_lowercase()) else { return };
    let what = format!("{method} {route} {}: {}", reply.status.as_u16(), reply.text());
    let Some(answer) = operation["responses"].get(reply.status.as_str()) else {
        panic!("the OpenAPI document does not have this answer: {what}");
    };
    check_headers(answer, reply, &what);
    let Some(content) = answer["content"].as_object() else {
        assert!(reply.body.is_empty(), "the document has no body: {what}");
        return;
    };
    let content_type = reply.header(header::CONTENT_TYPE.as_str()).split(';').next().unwrap();
    let Some(described) = content.get(content_type) else {
        panic!("the document does not have `{content_type}`: {what}");
    };
    if content_type == "application/json" {
        check_fields(&described["schema"], &reply.json(), &what);
    }
    // In an error of OAuth, the code of the broker is in another field.
    let code = |field: &str| reply.json()[field].as_str().map(str::to_owned);
    if let Some(code) =
        code("code").or_else(|| code("error")).filter(|_| !reply.status.is_success())
    {
        let codes = answer["x-error-codes"].as_array().unwrap();
        assert!(
            codes.iter().any(|known| *known == code),
            "the document does not have the code: {what}"
        );
    }
}

/// Returns the route with that path, and its methods. A route with fewer parameters comes first.
fn route_of(path: &str) -> Option<(&'static str, &'static Value)> {
    let segments: Vec<_> = path.split('/').collect();
    let is_parameter = |part: &str| part.starts_with('{');
    let matches = |route: &str| {
        let parts: Vec<_> = route.split('/').collect();
        parts.len() == segments.len()
            && parts.iter().zip(&segments).all(|(part, segment)| {
                part == segment || (is_parameter(part) && !segment.is_empty())
            })
    };
    let routes = DOCUMENT["paths"].as_object().unwrap().iter();
    routes
        .map(|(route, methods)| (route.as_str(), methods))
        .filter(|(route, _)| matches(route))
        .min_by_key(|(route, _)| route.split('/').filter(|part| is_parameter(part)).count())
}

fn check_headers(answer: &Value, reply: &Reply, what: &str) {
    let described = answer["headers"].as_object().unwrap();
    for (name, header) in described {
        let is_there = reply.headers.contains_key(name);
        let required = resolve(header)["required"] == true;
        assert!(is_there || !required, "the answer has no `{name}`: {what}");
    }
    for name in HEADERS {
        let is_described = described.keys().any(|known| known.eq_ignore_ascii_case(name));
        let is_there = reply.headers.contains_key(name);
        assert!(is_described || !is_there, "the document does not have `{name}`: {what}");
    }
}

/// Checks that a value has every required field, and no other than the described ones.
fn check_fields(schema: &Value, value: &Value, what: &str) {
    let schema = resolve(schema);
    // One of several schemas: null, or an object. Of several objects, it is the one of which the value
    // has every required field.
    if let Some(others) = schema["oneOf"].as_array() {
        let objects: Vec<_> = others
            .iter()
            .filter(|schema| value.is_object() && resolve(schema)["type"] == "object")
            .collect();
        let fits = |schema: &&&Value| {
            let required = resolve(schema)["required"].as_array().into_iter().flatten();
            required.filter_map(Value::as_str).all(|field| value.get(field).is_some())
        };
        let chosen = objects.iter().rev().find(fits).or(objects.first());
        return chosen.into_iter().for_each(|schema| check_fields(schema, value, what));
    }
    for (field, item) in value.as_object().into_iter().flatten() {
        let known = schema["properties"].get(field).or(schema.get("additionalProperties"));
        match known {
            Some(known) => check_fields(known, item, what),
            None => assert!(
                schema.get("properties").is_none(),
                "the document does not have the field `{field}`: {what}"
            ),
        }
    }
    if value.is_object() {
        for field in schema["required"].as_array().into_iter().flatten() {
            let field = field.as_str().unwrap();
            assert!(value.get(field).is_some(), "the answer has no field `{field}`: {what}");
        }
    }
    for item in value.as_array().into_iter().flatten() {
        check_fields(&schema["items"], item, what);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, StatusCode};
    use serde_json::json;

    use super::*;

    /// Returns an answer with the id of a request.
    fn reply(status: u16, headers: &[(&'static str, &'static str)], body: &Value) -> Reply {
        let mut all = HeaderMap::new();
        all.insert("x-request-id", HeaderValue::from_static("0000000000000000"));
        for (name, value) in headers {
            all.insert(*name, HeaderValue::from_static(value));
        }
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        Reply { status: StatusCode::from_u16(status).unwrap(), headers: all, body }
    }

    fn passes(method: &str, path: &str, reply: &Reply) -> bool {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        std::panic::catch_unwind(|| check(&method, path, reply)).is_ok()
    }

    #[test]
    fn an_answer_that_the_document_does_not_have_fails() {
        const JSON: (&str, &str) = ("content-type", "application/json");
        let error = |code: &str| {
            let (message, time, id) = ("m", "t", "i");
            json!({"error": code, "message": message, "server_time": time, "request_id": id})
        };
        let alive = json!({"status": "alive"});
        let mut without_id = reply(200, &[JSON], &alive);
        without_id.headers.remove("x-request-id");
        let tag = ("etag", "\"a\"");
        for (method, path, answer, expected) in [
            ("GET", "/healthz", reply(200, &[JSON], &alive), true),
            ("GET", "/healthz", without_id, false),
            ("GET", "/healthz", reply(418, &[JSON], &alive), false),
            ("GET", "/healthz", reply(200, &[JSON, tag], &alive), false),
            ("GET", "/healthz", reply(200, &[("content-type", "text/html")], &alive), false),
            ("GET", "/healthz", reply(200, &[JSON], &json!({})), false),
            ("GET", "/healthz", reply(200, &[JSON], &json!({"status": "alive", "more": 1})), false),
            ("GET", "/healthz", reply(500, &[JSON], &error("internal")), true),
            ("GET", "/healthz", reply(500, &[JSON], &error("conflict")), false),
            ("GET", "/v1/whoami", reply(401, &[JSON], &error("unauthorized")), false),
            (
                "GET",
                "/v1/whoami",
                reply(401, &[JSON, ("www-authenticate", "Bearer")], &error("unauthorized")),
                true,
            ),
            ("DELETE", "/v1/grants", reply(204, &[], &Value::Null), true),
            ("DELETE", "/v1/grants", reply(204, &[], &alive), false),
            // The document says nothing about them.
            ("HEAD", "/healthz", reply(418, &[], &Value::Null), true),
            ("GET", "/nothing", reply(418, &[], &Value::Null), true),
        ] {
            assert_eq!(passes(method, path, &answer), expected, "{method} {path} {answer:?}");
        }
        let list =
            |module: Value| json!({"meta": {"limit": 1, "current_offset": 0}, "modules": [module]});
        let module = json!({
            "id": "i", "namespace": "a", "name": "b", "provider": "c", "version": "1.0.0",
            "published_at": "t",
        });
        assert!(passes("GET", "/v1/modules", &reply(200, &[JSON], &list(module.clone()))));
        let mut other = module;
        other["more"] = 1.into();
        assert!(!passes("GET", "/v1/modules", &reply(200, &[JSON], &list(other))));
    }

    #[test]
    fn a_path_belongs_to_the_route_with_the_fewest_parameters() {
        for (path, expected) in [
            ("/v1/modules", Some("/v1/modules")),
            ("/v1/modules/search", Some("/v1/modules/search")),
            ("/v1/modules/acme", Some("/v1/modules/{namespace}")),
            (
                "/v1/modules/a/b/c/download",
                Some("/v1/modules/{namespace}/{name}/{system}/download"),
            ),
            ("/v1/modules/a/b/c/1.0.0", Some("/v1/modules/{namespace}/{name}/{system}/{version}")),
            ("/v1/modules/", None),
            ("/v1", None),
        ] {
            assert_eq!(route_of(path).map(|(route, _)| route), expected, "{path}");
        }
    }
}
