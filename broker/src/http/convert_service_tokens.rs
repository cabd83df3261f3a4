//! Converts the errors of service tokens into answers, with the next step of each.

use stile_protocol::reply::ErrorCode;

use super::error::ApiError;
use crate::app::service_tokens::ServiceTokensError;

impl ApiError {
    /// Converts the error of a list, an issue or a revocation of service tokens.
    pub fn service_tokens(error: ServiceTokensError) -> Self {
        let message = error.to_string();
        match error {
            ServiceTokensError::Authenticate(error) => Self::authenticate(error),
            ServiceTokensError::Refused(refusal) => Self::delegation(refusal),
            ServiceTokensError::ByTrust => Self::new(ErrorCode::NoGrant, message)
                .hint("set `proof = \"sigv4\"`, so that the role signs its request for a token"),
            ServiceTokensError::NoAddress => Self::new(ErrorCode::InvalidRequest, message)
                .hint("leave `networks` out, or ask an operator to set `--trusted-hops`"),
            ServiceTokensError::Absent(_) => Self::not_found(message)
                .hint("`GET /v1/service-tokens` lists those that you may revoke"),
            ServiceTokensError::TooMany(_) => Self::new(ErrorCode::Conflict, message)
                .hint("revoke tokens that nobody uses, or ask an operator"),
            ServiceTokensError::TooManyGrants => Self::new(ErrorCode::Conflict, message)
                .hint("use another `name`, or delete grants that nobody needs"),
            ServiceTokensError::NotDelegated(error) => Self::new(ErrorCode::NoGrant, message)
                .hint("ask an operator to set `delegated_grants = true` in `infra/registry`, or to issue the token with `stile-admin`")
                .caused_by(error),
            ServiceTokensError::Random => Self::new(ErrorCode::Internal, message),
            ServiceTokensError::Store(error) => Self::store(error),
        }
    }
}
