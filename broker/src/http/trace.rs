//! One line a request: route, status, time taken, and why it failed. Never a path's query, a header or a body.

use std::any::Any;
use std::error::Error;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use stile_protocol::reply::ErrorCode;
use tracing::Instrument;

use super::error::ApiError;

/// Writes the line when the answer is ready; all that is logged meanwhile carries the same request id.
pub async fn request(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = told(request.method());
    let started = Instant::now();
    let span = tracing::info_span!("request", id = %request_id());
    let response = next.run(request).instrument(span.clone()).await;
    let _entered = span.enter();
    let (status, took) = (response.status(), started.elapsed());
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    match response.extensions().get::<ApiError>() {
        Some(error) if status.is_server_error() => {
            tracing::error!(%method, route, status = status.as_u16(), micros, code = error.code().as_str(), error = error.chain());
        }
        Some(error) => {
            tracing::info!(%method, route, status = status.as_u16(), micros, code = error.code().as_str(), error = error.chain());
        }
        None => tracing::info!(%method, route, status = status.as_u16(), micros),
    }
    response
}

/// A method as the log has it: a client may make one up that is as long as all its headers.
fn told(method: &Method) -> String {
    const LONGEST: usize = 16;
    if method.as_str().len() <= LONGEST { method.to_string() } else { "too long".to_owned() }
}

/// What a handler that panicked is answered with; the panic itself is in the log.
#[expect(clippy::needless_pass_by_value, reason = "the shape the layer asks for")]
pub fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    tracing::error!(alarm = "panic", error = &Panicked(text.unwrap_or_default()) as &dyn Error);
    ApiError::new(ErrorCode::Internal, "the registry failed; its log says how").into_response()
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Panicked(String);

fn request_id() -> String {
    let mut bytes = [0; 8];
    // Without random bytes a request has a dull name, and minting fails elsewhere.
    let _ = getrandom::fill(&mut bytes);
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_told_in_no_more_than_a_word() {
        let long = "A".repeat(30_000);
        for (method, expected) in [("GET", "GET"), ("PROPFIND", "PROPFIND"), (long.as_str(), "too long")] {
            assert_eq!(told(&Method::from_bytes(method.as_bytes()).unwrap()), expected);
        }
    }
}
