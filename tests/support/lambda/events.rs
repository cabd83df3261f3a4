//! Creates gateway events for a function.
//!
//! It reads golden events from files, and converts any request to the format of each of four
//! gateways.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::broker::Reply;

/// Reads a golden event from `tests/fixtures/events/`.
pub fn golden(name: &str) -> Value {
    let path = format!("{}/fixtures/events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A request of a client, before it passes a gateway.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Sent {
    /// Creates a request for that path and query.
    pub fn new(method: impl Into<String>, target: impl Into<String>) -> Self {
        Self { method: method.into(), target: target.into(), ..Self::default() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a bearer token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("content-type", kind)
    }

    /// Returns the request as an HTTP request.
    pub fn request(&self) -> Request<Body> {
        let request = Request::builder().method(self.method.as_str()).uri(&self.target);
        let request =
            self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        request.body(Body::from(self.body.clone())).unwrap()
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// The gateway in front of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A function URL.
    FunctionUrl,
    /// An HTTP API of API Gateway with payload 2.0, in a named stage.
    HttpApi,
    /// A REST API of API Gateway, in a stage with the name of the first part of the registry's
    /// paths.
    RestApi,
    /// An application load balancer whose target group has multi-value headers.
    LoadBalancer,
}

impl Shape {
    /// All four gateways.
    pub const ALL: [Self; 4] =
        [Self::FunctionUrl, Self::HttpApi, Self::RestApi, Self::LoadBalancer];

    /// Converts a request to the event of this gateway.
    pub fn event(self, sent: &Sent) -> Value {
        let mut event = golden(match self {
            Self::FunctionUrl => "function_url",
            Self::HttpApi => "http_api",
            Self::RestApi => "rest_api",
            Self::LoadBalancer => "alb",
        });
        let text = std::str::from_utf8(&sent.body)
            .ok()
            .filter(|_| self == Self::RestApi || self == Self::LoadBalancer);
        event["body"] = text.map_or_else(|| STANDARD.encode(&sent.body).into(), Value::from);
        event["isBase64Encoded"] = text.is_none().into();
        match self {
            Self::FunctionUrl | Self::HttpApi => {
                let stage = if self == Self::HttpApi { "/prod" } else { "" };
                event["rawPath"] = format!("{stage}{}", sent.path()).into();
                event["rawQueryString"] = sent.query().into();
                event["requestContext"]["http"]["method"] = sent.method.as_str().into();
                event["requestContext"]["http"]["path"] = event["rawPath"].clone();
                for (name, value) in &sent.headers {
                    let before = event["headers"][name].as_str().map(|before| format!("{before},"));
                    event["headers"][name] =
                        format!("{}{value}", before.unwrap_or_default()).into();
                }
            }
            Self::RestApi | Self::LoadBalancer => {
                event["path"] = sent.path().into();
                event["httpMethod"] = sent.method.as_str().into();
                if self == Self::RestApi {
                    event["requestContext"]["httpMethod"] = sent.method.as_str().into();
                }
                for (name, value) in &sent.headers {
                    push(&mut event["multiValueHeaders"], name, value);
                    if event["headers"].is_object() {
                        event["headers"][name] = value.as_str().into();
                    }
                }
                let pairs = if self == Self::RestApi {
                    decoded_pairs(sent.query())
                } else {
                    raw_pairs(sent.query())
                };
                for (name, value) in pairs {
                    push(&mut event["multiValueQueryStringParameters"], &name, &value);
                    if self == Self::RestApi {
                        object(&mut event["queryStringParameters"]).insert(name, value.into());
                    }
                }
            }
        }
        event
    }

    /// Converts a function's answer to the response of this gateway.
    pub fn reply(self, answer: &Value) -> Reply {
        let single = |headers: &Value| -> Vec<(String, String)> {
            let headers: BTreeMap<String, String> =
                serde_json::from_value(headers.clone()).unwrap();
            headers.into_iter().collect()
        };
        let multiple = |headers: &Value| -> Vec<(String, String)> {
            let headers: BTreeMap<String, Vec<String>> =
                serde_json::from_value(headers.clone()).unwrap();
            headers
                .into_iter()
                .flat_map(|(name, values)| {
                    values.into_iter().map(move |value| (name.clone(), value))
                })
                .collect()
        };
        let pairs = match self {
            Self::FunctionUrl | Self::HttpApi => single(&answer["headers"]),
            Self::RestApi | Self::LoadBalancer => multiple(&answer["multiValueHeaders"]),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(&value).unwrap(),
            );
        }
        let body = answer["body"].as_str().unwrap_or_default();
        let body = if answer["isBase64Encoded"] == true {
            STANDARD.decode(body).unwrap()
        } else {
            body.as_bytes().to_vec()
        };
        let status =
            StatusCode::from_u16(u16::try_from(answer["statusCode"].as_i64().unwrap()).unwrap())
                .unwrap();
        Reply { status, headers, body }
    }
}

fn object(value: &mut Value) -> &mut serde_json::Map<String, Value> {
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().unwrap()
}

fn push(map: &mut Value, name: &str, value: &str) {
    object(map).entry(name).or_insert_with(|| json!([])).as_array_mut().unwrap().push(value.into());
}

/// Splits the query as a load balancer does, which decodes nothing.
fn raw_pairs(query: &str) -> Vec<(String, String)> {
    let pieces = query.split('&').filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| piece.split_once('=').unwrap_or((piece, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Splits and decodes the query as a REST API does.
fn decoded_pairs(query: &str) -> Vec<(String, String)> {
    reqwest::Url::parse(&format!("http://x/?{query}")).unwrap().query_pairs().into_owned().collect()
}
