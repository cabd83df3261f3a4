//! The error of an event, in the form of Lambda's runtime API.

use lambda_http::lambda_runtime::Diagnostic;

/// The reason why an event has no answer. The gateway turns it into a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The request has no valid token. API Gateway turns exactly this word into a 401 (API Gateway
    /// developer guide, "Output from a Lambda authorizer").
    #[error("Unauthorized")]
    Unauthorized,
    /// The broker cannot decide now. API Gateway turns this into a 500.
    #[error("the registry cannot decide now")]
    Unavailable,
    /// The broker does not know this form of event.
    #[error("the event is not from API Gateway, a load balancer or a function URL")]
    NoEvent,
}

impl From<EventError> for Diagnostic {
    fn from(error: EventError) -> Self {
        Self { error_type: format!("{error:?}"), error_message: error.to_string() }
    }
}
