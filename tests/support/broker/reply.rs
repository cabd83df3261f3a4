//! Reads the answer of a broker in the process of a test.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::Value;
use stile_protocol::request_id::HEADER;

/// The text in the place of a request's id, in answers that a test compares.
pub const REQUEST_ID: &str = "REQUEST-ID";

/// An answer of the broker with its whole body.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    pub(crate) async fn read(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Self { status: parts.status, headers: parts.headers, body }
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON; `null` if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the status and the error code: `401 proof_replayed`.
    pub fn error(&self) -> String {
        // An error of OAuth has its own code in the field `error`.
        let body = self.json();
        let code = body["code"].as_str().or_else(|| body["error"].as_str());
        format!("{} {}", self.status.as_u16(), code.unwrap_or("-"))
    }

    /// Returns the id of the request: `X-Request-Id`. Empty if the answer has none, or several.
    pub fn request_id(&self) -> &str {
        let mut all = self.headers.get_all(HEADER).iter();
        match (all.next(), all.next()) {
            (Some(id), None) => id.to_str().unwrap_or_default(),
            _ => "",
        }
    }

    /// Returns the same answer with [`REQUEST_ID`] in the place of its id, to compare it with another
    /// answer or with a text.
    pub fn without_id(&self) -> Self {
        let (mut headers, id) = (self.headers.clone(), self.request_id());
        headers.insert(HEADER, HeaderValue::from_static(REQUEST_ID));
        let body = match self.text() {
            text if !id.is_empty() && text.contains(id) => {
                text.replace(id, REQUEST_ID).into_bytes()
            }
            _ => self.body.clone(),
        };
        Self { status: self.status, headers, body }
    }

    /// Returns a header as text; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}
