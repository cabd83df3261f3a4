//! All routes, and the layers that each request passes.

mod archive_body;
mod checked_body;
mod convert;
mod convert_grants;
mod convert_jwt;
mod convert_providers;
mod convert_service_tokens;
mod decision;
mod discovery;
mod error;
mod form_body;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod health;
mod json_body;
pub mod lambda;
mod malformed;
mod media_type;
mod metrics;
mod openapi;
mod reload;
mod request_id;
mod run_detached;
mod serve;
mod tls;
mod trace;
mod trace_context;
mod v1;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post, put};
use stile_protocol::reply::ErrorCode;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

pub use metrics::metrics_router;
pub use openapi::openapi_document;
pub use reload::{CertificateReloader, RELOAD_INTERVAL, Trigger, reload_certificate};
pub use serve::{ConnectionTimeouts, ServeError, Server};
pub use tls::{Certificate, CertificateProblem, Tls, TlsError};
pub use trace::log_panics;

use crate::app::Broker;
use error::{ApiError, ErrorShape};
use v1::package_path::{ModulePath, ProviderPath};
use v1::{
    archives, audit, exchange, explain, gateway, grants, life, lists, modules, provider_uploads,
    providers, publish, search, service_tokens, shown, signing_keys, uploads, usage, whoami,
};

/// Returns the router of the whole service.
pub fn router(broker: Arc<Broker>) -> Router {
    let routes = Router::new()
        // Without authentication.
        .route("/.well-known/terraform.json", get(discovery::document))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/openapi.json", get(openapi::document))
        // With a token.
        .route("/v1/whoami", get(whoami::whoami))
        .route(
            "/v1/grants",
            get(grants::list).post(grants::create).patch(grants::update).delete(grants::delete),
        )
        .route("/v1/audit", get(audit::list))
        .route("/v1/service-tokens", get(service_tokens::list).post(service_tokens::issue))
        .route("/v1/service-tokens/{id}", delete(service_tokens::revoke))
        .route("/v1/grants/explain", get(explain::access))
        .route(
            "/v1/namespaces/{namespace}/signing-keys",
            get(signing_keys::list).post(signing_keys::add),
        )
        .route("/v1/namespaces/{namespace}/signing-keys/{key_id}", delete(signing_keys::retire))
        // With a signed URL.
        .route("/v1/archives/{file}", get(archives::fetch))
        .route(
            "/v1/providers-files/{namespace}/{type}/{version}/{file}",
            get(archives::provider_file),
        )
        .fallback(no_such_route);
    // With a proof or a JWT, or with a signature that a gateway verified.
    let token = Router::new().route(
        "/v1/token",
        get(gateway::mint).post(exchange::mint).fallback(gateway::unsupported_method),
    );
    with_errors(routes, ErrorShape::Object, &broker)
        .merge(with_errors(token, ErrorShape::Exchange, &broker))
        .nest("/v1/modules", module_routes(&broker))
        .nest("/v1/providers", provider_routes(&broker))
        // A request passes the last layer first.
        .layer(from_fn(trace::request))
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

/// Returns the routes of the module registry: Terraform's protocol, and publishing.
fn module_routes(broker: &Arc<Broker>) -> Router<Arc<Broker>> {
    let download = Router::new()
        .route("/{namespace}/{name}/{system}/download", get(modules::latest))
        .route("/{namespace}/{name}/{system}/{version}/download", get(modules::download));
    let others = Router::new()
        .route("/", get(lists::all::<ModulePath>))
        .route("/search", get(search::modules))
        .route("/{namespace}", get(lists::of_namespace::<ModulePath>))
        .route("/{namespace}/{name}/{system}/versions", get(modules::versions))
        .route("/{namespace}/{name}/{system}/usage", get(usage::module))
        .route("/{namespace}/{name}/{system}", get(shown::latest::<ModulePath>))
        .route(
            "/{namespace}/{name}/{system}/{version}",
            get(shown::version::<ModulePath>)
                .post(publish::module)
                .delete(life::unpublish::<ModulePath>),
        )
        .route("/{namespace}/{name}/{system}/{version}/restore", post(life::restore::<ModulePath>))
        .route(
            "/{namespace}/{name}/{system}/{version}/deprecation",
            put(life::deprecate::<ModulePath>).delete(life::undeprecate::<ModulePath>),
        )
        .route("/{namespace}/{name}/{system}/{version}/uploads", post(uploads::begin))
        .route("/{namespace}/{name}/{system}/{version}/uploads/{upload}", post(uploads::complete))
        .fallback(no_such_route);
    with_errors(others, ErrorShape::List, broker).merge(with_errors(
        download,
        ErrorShape::Line,
        broker,
    ))
}

/// Returns the routes of the provider registry: Terraform's protocol, and publishing.
///
/// No client shows the body of an error of the protocol, so all routes have one form.
fn provider_routes(broker: &Arc<Broker>) -> Router<Arc<Broker>> {
    let routes = Router::new()
        .route("/", get(lists::all::<ProviderPath>))
        .route("/{namespace}", get(lists::of_namespace::<ProviderPath>))
        .route("/{namespace}/{type}", get(shown::latest::<ProviderPath>))
        .route("/{namespace}/{type}/versions", get(providers::versions))
        .route("/{namespace}/{type}/{version}/download/{os}/{arch}", get(providers::download))
        .route(
            "/{namespace}/{type}/{version}",
            get(shown::version::<ProviderPath>).delete(life::unpublish::<ProviderPath>),
        )
        .route("/{namespace}/{type}/{version}/restore", post(life::restore::<ProviderPath>))
        .route(
            "/{namespace}/{type}/{version}/deprecation",
            put(life::deprecate::<ProviderPath>).delete(life::undeprecate::<ProviderPath>),
        )
        .route("/{namespace}/{type}/{version}/uploads", post(provider_uploads::begin))
        .route("/{namespace}/{type}/{version}/uploads/{upload}", post(provider_uploads::complete))
        .route(
            "/{namespace}/{type}/{version}/uploads/{upload}/files/{file}",
            post(provider_uploads::verify),
        )
        .fallback(no_such_route);
    with_errors(routes, ErrorShape::List, broker)
}

/// Sets the form of a router's errors, including malformed requests, unsupported methods and panics.
fn with_errors(
    routes: Router<Arc<Broker>>,
    shape: ErrorShape,
    broker: &Arc<Broker>,
) -> Router<Arc<Broker>> {
    routes
        .method_not_allowed_fallback(async || {
            ApiError::new(ErrorCode::MethodNotAllowed, "this route does not support this method")
        })
        .layer(from_fn(malformed::reject))
        .layer(CatchPanicLayer::custom(trace::panicked))
        .layer(from_fn_with_state((shape, Arc::clone(broker)), error::render_errors))
}

async fn no_such_route() -> ApiError {
    ApiError::not_found("there is no such route")
}
