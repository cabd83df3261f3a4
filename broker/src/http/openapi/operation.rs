//! Builds the description of one method of one route, with each answer that it can give.

use std::collections::BTreeMap;

use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use stile_protocol::reply::ErrorCode;

use crate::http::error::{ApiError, ErrorShape};

/// The errors of every route: a malformed request, and a fault of the broker.
const ALWAYS: [ErrorCode; 2] = [ErrorCode::InvalidRequest, ErrorCode::Internal];

/// The errors of a route that requires a token.
const BEARER: [ErrorCode; 3] =
    [ErrorCode::Unauthorized, ErrorCode::StoreUnavailable, ErrorCode::KeyUnavailable];

/// The errors of a route that decides a right of the bearer.
pub(super) const RIGHT: [ErrorCode; 3] =
    [ErrorCode::NoGrant, ErrorCode::OutOfScope, ErrorCode::PrincipalRecreated];

/// The errors of a route that reads a body of JSON.
pub(super) const BODY: [ErrorCode; 3] =
    [ErrorCode::RequestTimeout, ErrorCode::TooLarge, ErrorCode::UnsupportedMediaType];

/// The headers of each answer.
const ID: &str = "X-Request-Id";

/// A method in lower case, a path as in the router, and the description.
pub(super) type Route = (&'static str, &'static str, Value);

/// The body of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    /// No body.
    None,
    /// JSON of this schema.
    Json(&'static str),
    /// A file of one of these types.
    File(&'static [&'static str]),
}

impl Content {
    fn render(self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Json(name) => json!({ "application/json": { "schema": schema(name) } }),
            Self::File(types) => types.iter().map(|name| ((*name).to_owned(), file())).collect(),
        }
    }
}

/// Returns the description of bytes of any kind. Version 3.1 of OpenAPI has no schema for them.
pub(super) fn file() -> Value {
    json!({ "schema": { "type": "string", "format": "binary" } })
}

/// Returns the reference to a schema in `components.json`.
pub(super) fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// One method of one route.
#[derive(Debug)]
pub(super) struct Operation {
    value: Value,
    shape: ErrorShape,
    errors: BTreeMap<StatusCode, Vec<ErrorCode>>,
}

impl Operation {
    /// Begins the description of a method whose errors have that form. It has the errors of every
    /// route, and requires a token.
    ///
    /// `id` names the method in generated clients, and `summary` is one line.
    pub fn new(id: &str, tag: &str, shape: ErrorShape, summary: &str) -> Self {
        let value =
            json!({ "operationId": id, "tags": [tag], "summary": summary, "responses": {} });
        Self { value, shape, errors: BTreeMap::new() }.errors(&ALWAYS)
    }

    /// Says that the method requires no token.
    pub fn open(mut self) -> Self {
        self.value["security"] = json!([]);
        self
    }

    /// Adds sentences to the summary.
    pub fn description(mut self, text: &str) -> Self {
        self.value["description"] = text.into();
        self
    }

    /// Adds parameters of `components.json`, by their names there.
    pub fn parameters(mut self, names: &[&str]) -> Self {
        let references = names.iter().map(|name| {
            let path = format!("#/components/parameters/{name}");
            json!({ "$ref": path })
        });
        self.value["parameters"] = references.collect();
        self
    }

    /// Says that the request has a body with one of these contents.
    pub fn body(mut self, content: &Value) -> Self {
        self.value["requestBody"] = json!({ "required": true, "content": content });
        self
    }

    /// Says that the request can have a file of one of these media types.
    pub fn optional_body(mut self, media_types: &'static [&'static str]) -> Self {
        self.value["requestBody"] = json!({ "content": Content::File(media_types).render() });
        self
    }

    /// Says that the request has a body of JSON of that schema.
    pub fn json_body(self, name: &'static str) -> Self {
        self.body(&Content::Json(name).render())
    }

    /// Adds an answer without an error. `headers` are names in `components.json`; an answer always
    /// has the id of the request.
    pub fn answers(
        mut self,
        status: StatusCode,
        description: &str,
        headers: &[&str],
        content: Content,
    ) -> Self {
        let mut answer = json!({ "description": description, "headers": references(headers) });
        if let Value::Object(content) = content.render() {
            answer["content"] = content.into();
        }
        self.value["responses"][status.as_str()] = answer;
        self
    }

    /// Adds errors. The status of each comes from its code, as in an answer.
    pub fn errors(mut self, codes: &[ErrorCode]) -> Self {
        for code in codes {
            let status = ApiError::new(*code, "").into_response().status();
            let known = self.errors.entry(status).or_default();
            if !known.contains(code) {
                known.push(*code);
            }
        }
        self
    }

    /// Says that an answer with an error of that status has another header.
    ///
    /// Call it after [`Self::errors`] is complete, and before [`Self::finish`].
    pub fn finish_with(self, status: StatusCode, extra: &str) -> Value {
        let mut value = self.finish();
        let headers = &mut value["responses"][status.as_str()]["headers"];
        headers[extra] = header_reference(extra);
        value
    }

    /// Returns the description.
    pub fn finish(mut self) -> Value {
        for (status, codes) in &self.errors {
            self.value["responses"][status.as_str()] = refusal(*status, codes, self.shape);
        }
        self.value
    }
}

/// Begins the description of a route that requires a token.
pub(super) fn bearer(id: &str, tag: &str, shape: ErrorShape, summary: &str) -> Operation {
    Operation::new(id, tag, shape, summary).errors(&BEARER)
}

/// Adds the usual answer of that schema.
pub(super) fn ok(operation: Operation, name: &'static str) -> Operation {
    operation.answers(StatusCode::OK, "The answer.", &[], Content::Json(name))
}

/// Returns the description of the errors of one status.
///
/// The headers are those of the real answers. A header that only some of them have is not listed.
fn refusal(status: StatusCode, codes: &[ErrorCode], shape: ErrorShape) -> Value {
    let all_have = |name: &header::HeaderName| {
        codes
            .iter()
            .all(|code| ApiError::new(*code, "").into_response().headers().contains_key(name))
    };
    let mut headers = Vec::new();
    if all_have(&header::WWW_AUTHENTICATE) {
        headers.push("WWW-Authenticate");
    }
    if all_have(&header::RETRY_AFTER) {
        headers.push("Retry-After");
    }
    let names: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    let (content_type, name) = match shape {
        ErrorShape::Line => ("text/plain", "ErrorLine"),
        ErrorShape::List => ("application/json", "ErrorList"),
        ErrorShape::Object => ("application/json", "Error"),
        ErrorShape::Exchange => ("application/json", "ExchangeError"),
    };
    let reason = status.canonical_reason().unwrap_or_default();
    json!({
        "description": format!("{reason}: `{}`", names.join("`, `")),
        "headers": references(&headers),
        "content": { content_type: { "schema": schema(name) } },
        "x-error-codes": names,
    })
}

/// Returns the headers of an answer, with the id of the request.
fn references(names: &[&str]) -> Value {
    let all = [&[ID], names].concat();
    all.iter().map(|name| (header_name(name).to_owned(), header_reference(name))).collect()
}

fn header_reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

/// Returns the name of a header of `components.json`. One header can be there in several forms,
/// which a lower-case suffix distinguishes.
fn header_name(name: &str) -> &str {
    name.strip_suffix("-of-one").unwrap_or(name)
}
