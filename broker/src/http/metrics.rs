//! The endpoint of metrics: a router of its own, for a listener of its own on loopback.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::app::Broker;
use crate::metrics::Format;

/// The media type of OpenMetrics, without its parameters.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// Returns the router of the endpoint. It has one route, and knows no token.
pub fn metrics_router(broker: Arc<Broker>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .fallback(StatusCode::NOT_FOUND)
        .layer(from_fn(only_for_loopback))
        .with_state(broker)
}

/// Answers 421, unless the client asked for a loopback address or `localhost`.
///
/// Otherwise a web page could read the metrics in a browser of this machine: its server lets its own
/// name lead to 127.0.0.1 (DNS rebinding).
async fn only_for_loopback(request: Request, next: Next) -> Response {
    if is_for_loopback(request.headers()) {
        next.run(request).await
    } else {
        (StatusCode::MISDIRECTED_REQUEST, "use a loopback address or `localhost` in the URL\n")
            .into_response()
    }
}

fn is_for_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return false };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

async fn metrics(State(broker): State<Arc<Broker>>, headers: HeaderMap) -> impl IntoResponse {
    let format = accepted(&headers);
    let media_type = match format {
        Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
    };
    ([(header::CONTENT_TYPE, media_type)], broker.metrics_in(format))
}

/// Returns OpenMetrics, unless the client asks only for plain text, as older tools do.
fn accepted(headers: &HeaderMap) -> Format {
    let accepted = headers.get_all(header::ACCEPT);
    let mut accepted = accepted.iter().filter_map(|value| value.to_str().ok());
    let wants_plain = |value: &str| value.contains("text/plain") && !value.contains(OPEN_METRICS);
    if accepted.any(wants_plain) { Format::Prometheus } else { Format::OpenMetrics }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_host_that_a_web_page_can_have_is_not_loopback() {
        let is_for = |hosts: &[&'static str]| {
            let name = || header::HOST;
            is_for_loopback(
                &hosts.iter().map(|host| (name(), HeaderValue::from_static(host))).collect(),
            )
        };
        for hosts in [
            &[][..],
            &[""],
            &["127.0.0.1:9464", "127.0.0.1:9464"],
            &["evil.example:9464"],
            &["127.0.0.1.evil.example"],
            &["localhost.evil.example"],
            &["localhost@evil.example"],
            &["10.0.0.1:9464"],
            &["0.0.0.0:9464"],
            &["[::]:9464"],
            &["[2001:db8::1]:9464"],
            &["[evil.example]"],
        ] {
            assert!(!is_for(hosts), "{hosts:?}");
        }
        for host in ["127.0.0.1:9464", "127.0.0.1", "127.1.2.3:1", "localhost:9464", "LOCALHOST"] {
            assert!(is_for(&[host]), "{host}");
        }
        assert!(is_for(&["[::1]:9464"]) && is_for(&["[::1]"]));
    }

    #[test]
    fn a_client_gets_openmetrics_unless_it_wants_plain_text() {
        for (accept, expected) in [
            (None, Format::OpenMetrics),
            (Some("*/*"), Format::OpenMetrics),
            (
                Some("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"),
                Format::OpenMetrics,
            ),
            (Some("text/plain"), Format::Prometheus),
            (Some("text/plain;version=0.0.4;q=1,*/*;q=0.1"), Format::Prometheus),
        ] {
            let value = accept.map(|accept| (header::ACCEPT, HeaderValue::from_static(accept)));
            assert_eq!(accepted(&value.into_iter().collect()), expected, "{accept:?}");
        }
    }
}
