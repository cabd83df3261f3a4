//! The id of a request: its answer has it, and so have all its log lines. So an operator finds the
//! lines of an error that a user reports.

use std::fmt;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use stile_protocol::request_id;

/// The id of a request: 64 random bits.
///
/// It never comes from the client. So no client can write into the log with it, or give its request
/// the id of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestId([u8; 8]);

impl RequestId {
    /// Creates an id.
    pub(super) fn random() -> Self {
        let mut bytes = [0; 8];
        // Without random bytes, every request has the same id. Minting then fails with its own error.
        let _ = getrandom::fill(&mut bytes);
        Self(bytes)
    }

    /// Writes the id into the headers of an answer, in the place of any other one.
    pub(super) fn write_to(self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.to_string()) {
            headers.insert(request_id::HEADER, value);
        }
    }

    /// Adds the id to the end of an error's sentence.
    pub(super) fn append_to(self, sentence: &str) -> String {
        request_id::append(sentence, &self.to_string())
    }
}

/// Returns the id of a request as a value that the use cases take. A request that passed no
/// [`trace::request`](super::trace::request) gets a new one.
pub(super) fn request_id_of(request: &Request) -> request_id::RequestId {
    let id = request.extensions().get().copied().unwrap_or_else(RequestId::random);
    id.into()
}

impl From<RequestId> for request_id::RequestId {
    fn from(id: RequestId) -> Self {
        Self::from_bytes(id.0)
    }
}

impl fmt::Display for RequestId {
    /// Writes 16 hexadecimal digits, always. So two answers differ in nothing else.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_requests_have_two_ids_and_both_are_ids_for_a_client() {
        let (one, two) = (RequestId::random(), RequestId::random());
        assert_ne!(one, two);
        for id in [one.to_string(), two.to_string()] {
            assert!(id.len() == 16 && request_id::is_id(&id), "{id}");
        }
    }

    #[test]
    fn an_id_replaces_any_other_one_in_the_headers() {
        let mut headers = HeaderMap::new();
        for value in ["a", "b"] {
            headers.append("X-Request-Id", HeaderValue::from_static(value));
        }
        RequestId([0xab; 8]).write_to(&mut headers);
        let values: Vec<_> = headers.get_all(request_id::HEADER).iter().collect();
        assert_eq!(values, ["abababababababab"]);
    }

    #[test]
    fn a_sentence_ends_with_the_id() {
        let line = RequestId([0; 8]).append_to("no; hint: ask");
        assert_eq!(line, "no; hint: ask; request id: 0000000000000000");
    }
}
