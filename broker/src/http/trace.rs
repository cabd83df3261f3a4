//! Logs one line for each request: route, status, duration and the cause of a failure. Gives each
//! request its id.
//!
//! The line never contains a query, a header or a body, except the trace id of a valid `traceparent`.

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
use super::request_id::RequestId;
use super::trace_context::trace_id;

/// Logs the request when the answer is ready. All its log lines and the answer have the same request
/// id, which this function creates. It ignores an id that the client sends.
pub async fn request(mut request: Request, next: Next) -> Response {
    let route =
        request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = method_name(request.method());
    let started = Instant::now();
    let id = RequestId::random();
    let trace_id = trace_id(request.headers()).map(tracing::field::display);
    let span = tracing::info_span!("request", %id, trace_id);
    request.extensions_mut().insert(id);
    let mut response = next.run(request).instrument(span.clone()).await;
    id.write_to(response.headers_mut());
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

/// Returns the method for the log. A client can send a method of many kilobytes, so it is limited.
fn method_name(method: &Method) -> String {
    const LONGEST: usize = 16;
    if method.as_str().len() <= LONGEST { method.to_string() } else { "too long".to_owned() }
}

/// Logs every panic of this process, with an alarm.
///
/// If the client disconnected, nothing else shows the panic of its task.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or_default().to_owned();
        let place = panic.location().map(ToString::to_string);
        tracing::error!(alarm = "panic", place, error = &Panicked(message) as &dyn Error);
    }));
}

/// Returns the answer for a handler that panicked. The panic itself is in the log.
pub fn panicked(_panic: Box<dyn Any + Send + 'static>) -> Response {
    ApiError::new(ErrorCode::Internal, "the registry failed; its log contains the cause")
        .into_response()
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Panicked(String);

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_panic_is_logged_with_an_alarm_in_every_task() {
        let mut file = tempfile::tempfile().unwrap();
        let lines = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(Arc::new(file.try_clone().unwrap()))
            .finish();
        let usual = std::panic::take_hook();
        log_panics();
        let panicked = tracing::subscriber::with_default(lines, || {
            std::panic::catch_unwind(|| unreachable!("it broke"))
        });
        std::panic::set_hook(usual);
        assert!(panicked.is_err());
        let mut log = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut log).unwrap();
        let line: serde_json::Value = serde_json::from_str(log.trim()).unwrap();
        assert_eq!(
            (line["alarm"].as_str(), line["level"].as_str()),
            (Some("panic"), Some("ERROR")),
            "{log}"
        );
        assert!(
            line["error"].as_str().unwrap().contains("it broke")
                && line["place"].as_str().unwrap().contains("trace.rs"),
            "{log}"
        );
    }

    #[test]
    fn the_log_has_no_long_method() {
        let long = "A".repeat(30_000);
        for (method, expected) in
            [("GET", "GET"), ("PROPFIND", "PROPFIND"), (long.as_str(), "too long")]
        {
            assert_eq!(method_name(&Method::from_bytes(method.as_bytes()).unwrap()), expected);
        }
    }
}
