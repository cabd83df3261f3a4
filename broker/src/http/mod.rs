//! Every route, and the order of what every request passes through.

mod archives;
mod decision;
mod discovery;
mod error;
mod exchange;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod gateway;
mod health;
mod json_body;
pub mod lambda;
mod modules;
mod publish;
mod run_detached;
mod serve;
mod trace;
mod uploads;
mod whoami;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use stile_protocol::reply::ErrorCode;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

pub use serve::{ConnectionTimeouts, ServeError, Server, tls};
pub use trace::have_panics_logged;

use crate::app::Broker;
use error::ApiError;

/// The whole service.
pub fn router(broker: Arc<Broker>) -> Router {
    Router::new()
        // Anyone.
        .route("/.well-known/terraform.json", get(discovery::document))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        // A proof in, a token out; or what a gateway verified in its stead.
        .route(
            "/v1/token",
            get(gateway::mint).post(exchange::mint).fallback(gateway::no_such_method),
        )
        // Bearers.
        .route("/v1/whoami", get(whoami::whoami))
        .route("/v1/modules", get(modules::list))
        .route("/v1/modules/{namespace}", get(modules::list_namespace))
        .route("/v1/modules/{namespace}/{name}/{system}/versions", get(modules::versions))
        .route("/v1/modules/{namespace}/{name}/{system}/{version}/download", get(modules::download))
        .route("/v1/modules/{namespace}/{name}/{system}/{version}", post(publish::module))
        .route("/v1/modules/{namespace}/{name}/{system}/{version}/uploads", post(uploads::begin))
        .route(
            "/v1/modules/{namespace}/{name}/{system}/{version}/uploads/{upload}",
            post(uploads::complete),
        )
        // Holders of a signed link.
        .route("/v1/archives/{file}", get(archives::fetch))
        .fallback(async || ApiError::not_found("there is nothing here"))
        .method_not_allowed_fallback(async || {
            ApiError::new(ErrorCode::MethodNotAllowed, "this route has no such method")
        })
        // From the last to the first that a request meets.
        .layer(CatchPanicLayer::custom(trace::panicked))
        .layer(from_fn_with_state(Arc::clone(&broker), error::render_errors))
        .layer(axum::middleware::from_fn(trace::request))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .with_state(broker)
}
