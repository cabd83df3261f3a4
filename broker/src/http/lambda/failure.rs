//! Why an event has no answer, as Lambda's runtime API says it.

use lambda_http::lambda_runtime::Diagnostic;

/// Why an event has no answer; Lambda's runtime API is told so, and the gateway makes of it what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// API Gateway makes a 401 of exactly this word (API Gateway developer guide, "Output from a Lambda authorizer").
    #[error("Unauthorized")]
    Unauthorized,
    /// Whether it may be cannot be told now; API Gateway makes a 500 of it.
    #[error("the registry cannot decide now")]
    Unavailable,
    /// The event is of no shape that is known.
    #[error("the event is none of API Gateway, a load balancer or a function URL")]
    NoEvent,
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        Self { error_type: format!("{failure:?}"), error_message: failure.to_string() }
    }
}
