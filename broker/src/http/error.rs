//! The error of every route: the status of each code, and the body in the form that the client
//! expects.

use std::error::Error;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use stile_protocol::reply::{ErrorCode, ErrorReply};
use stile_protocol::token_exchange::OAuthErrorReply;

use super::media_type::is_form;
use super::request_id::RequestId;
use crate::app::Broker;
use crate::error_chain::with_causes;
use stile_core::clock::rfc3339;

/// The value of `Retry-After` while the broker is down or busy, in seconds.
const RETRY_AFTER: &str = "2";

/// The value of `Retry-After` while the disk is full, in seconds. An operator must free space first.
const RETRY_AFTER_FULL: &str = "60";

/// The error of a request: a refusal or a failure.
#[derive(Debug, Clone)]
pub struct ApiError {
    code: ErrorCode,
    message: String,
    hint: Option<String>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// Creates an error with a code and a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, source: None }
    }

    /// Adds a hint: the next step for the user.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause, which only the log shows.
    pub(super) fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Creates the error for every missing or invalid token. It never shows the reason.
    pub fn unauthorized() -> Self {
        Self::new(ErrorCode::Unauthorized, "a valid token is required")
            .hint("run `terraform-credentials-stile doctor` to find the cause")
    }

    /// Creates the error for an object that does not exist.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, what)
    }

    /// Returns the code, for the log.
    pub const fn code(&self) -> ErrorCode {
        self.code
    }

    /// Returns the message and all causes for the log: one line of at most 512 characters.
    pub fn chain(&self) -> String {
        let source = self.source.as_deref().map(|source| source as &(dyn Error + 'static));
        let text = with_causes(self.message.clone(), source);
        text.chars().take(512).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    fn status(&self) -> StatusCode {
        match self.code {
            ErrorCode::InvalidRequest
            | ErrorCode::UnsupportedVersion
            | ErrorCode::BadRegion
            | ErrorCode::RegionNotEnabled
            | ErrorCode::AmbiguousTrust
            | ErrorCode::UnsupportedGrantType
            | ErrorCode::InvalidScope
            | ErrorCode::InvalidTarget
            | ErrorCode::BadArchive => StatusCode::BAD_REQUEST,
            ErrorCode::ProofExpired
            | ErrorCode::ProofFromFuture
            | ErrorCode::SignatureMismatch
            | ErrorCode::InvalidCredentials
            | ErrorCode::ExpiredCredentials
            | ErrorCode::ProofReplayed
            | ErrorCode::JwtNotTrusted
            | ErrorCode::JwtExpired
            | ErrorCode::JwtFromFuture
            | ErrorCode::JwtBadSignature
            | ErrorCode::JwtReplayed
            | ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorCode::NoGrant
            | ErrorCode::OutOfScope
            | ErrorCode::UnsupportedPrincipal
            | ErrorCode::PrincipalRecreated
            | ErrorCode::PrincipalRevoked
            | ErrorCode::SourceNotAllowed => StatusCode::FORBIDDEN,
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::Unpublished | ErrorCode::ObjectChanged | ErrorCode::CompromisedKey => {
                StatusCode::GONE
            }
            ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            ErrorCode::Conflict => StatusCode::CONFLICT,
            ErrorCode::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            ErrorCode::TooLarge | ErrorCode::QuotaExceeded => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ErrorCode::Throttled => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::StsUnavailable
            | ErrorCode::IssuerUnavailable
            | ErrorCode::StoreUnavailable
            | ErrorCode::KeyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::InsufficientStorage => StatusCode::INSUFFICIENT_STORAGE,
            ErrorCode::StsBadResponse
            | ErrorCode::StsInconsistent
            | ErrorCode::IssuerBadResponse => StatusCode::BAD_GATEWAY,
            ErrorCode::StsTimeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the message with the hint, for an error body without fields.
    pub(super) fn sentence(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; hint: {hint}", self.message),
            None => self.message.clone(),
        }
    }
}

impl IntoResponse for ApiError {
    /// Creates the status and the headers. [`render_errors`] adds the body, in the form of the
    /// route.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        let headers = response.headers_mut();
        if self.code == ErrorCode::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let retry_after = match self.status() {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Some(RETRY_AFTER),
            StatusCode::INSUFFICIENT_STORAGE => Some(RETRY_AFTER_FULL),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The form of the error bodies of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorShape {
    /// One line of text, because Terraform prints the body of a failed download unchanged. It ends
    /// with the id of the request.
    Line,
    /// The list of Terraform's public registry: `{"errors": ["…"]}`. Its sentence ends with the id of
    /// the request.
    List,
    /// An object of Stile, with code, message, hint and the id of the request.
    Object,
    /// The same object, or that of OAuth with the same fields, if the request has a form.
    Exchange,
}

/// Adds the body to an error response, in the form of its route, with the id of the request.
pub async fn render_errors(
    State((shape, broker)): State<(ErrorShape, Arc<Broker>)>,
    request: Request,
    next: Next,
) -> Response {
    let id = request.extensions().get::<RequestId>().copied();
    let is_oauth = shape == ErrorShape::Exchange
        && request.method() == Method::POST
        && is_form(request.headers());
    let response = next.run(request).await;
    let Some(error) = response.extensions().get::<ApiError>().cloned() else { return response };
    let (mut parts, _) = response.into_parts();
    let line = || id.map_or_else(|| error.sentence(), |id| id.append_to(&error.sentence()));
    let body = match shape {
        ErrorShape::Line => format!("{}\n", line()).into_response(),
        ErrorShape::List => Json(serde_json::json!({ "errors": [line()] })).into_response(),
        ErrorShape::Exchange if is_oauth => Json(OAuthErrorReply {
            error: oauth_code(error.code).to_owned(),
            error_description: error.message.clone(),
            code: error.code.as_str().to_owned(),
            message: error.message,
            hint: error.hint,
            server_time: rfc3339(broker.clock.now()),
            request_id: id.map(|id| id.to_string()),
        })
        .into_response(),
        ErrorShape::Object | ErrorShape::Exchange => Json(ErrorReply {
            error: error.code.as_str().to_owned(),
            message: error.message,
            hint: error.hint,
            server_time: rfc3339(broker.clock.now()),
            request_id: id.map(|id| id.to_string()),
        })
        .into_response(),
    };
    let (body_parts, body) = body.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(body_parts.headers);
    Response::from_parts(parts, Body::new(body))
}

/// Returns the error code of OAuth: RFC 6749, section 5.2, and RFC 8693, section 2.2.2.
///
/// These have no code for a token that is not valid, other than `invalid_request`.
const fn oauth_code(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UnsupportedGrantType => "unsupported_grant_type",
        ErrorCode::InvalidScope | ErrorCode::NoGrant => "invalid_scope",
        ErrorCode::InvalidTarget => "invalid_target",
        ErrorCode::PrincipalRevoked | ErrorCode::PrincipalRecreated => "unauthorized_client",
        ErrorCode::Throttled
        | ErrorCode::IssuerUnavailable
        | ErrorCode::StoreUnavailable
        | ErrorCode::KeyUnavailable => "temporarily_unavailable",
        ErrorCode::IssuerBadResponse | ErrorCode::Internal => "server_error",
        _ => "invalid_request",
    }
}
