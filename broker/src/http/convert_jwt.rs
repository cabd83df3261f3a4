//! Converts the errors of JWTs.
//!
//! A caller whose JWT is not verified gets no names of trusts or claims: it may be anyone.

use stile_protocol::audience::Audience;
use stile_protocol::reply::ErrorCode;

use super::error::ApiError;
use crate::authn::jwt::{JwtError, JwtRefusal, MalformedJwt};

impl ApiError {
    /// Converts the error of a text that is not a JWT.
    pub fn malformed_jwt(error: MalformedJwt) -> Self {
        Self::new(ErrorCode::InvalidRequest, error.to_string())
    }

    /// Converts the error of a JWT. The answer never contains text from it, or from its issuer.
    pub fn jwt(error: JwtError, audience: &Audience) -> Self {
        match error {
            JwtError::Refused(refusal) => Self::jwt_refusal(&refusal, audience),
            JwtError::Issuer(error) if error.is_down() => Self::new(
                ErrorCode::IssuerUnavailable,
                "the registry cannot reach the issuer of the JWT",
            )
            .caused_by(error),
            JwtError::Issuer(error) => Self::new(
                ErrorCode::IssuerBadResponse,
                "the answer of the issuer of the JWT is not valid",
            )
            .caused_by(error),
            JwtError::CopyFailed => Self::new(ErrorCode::Throttled, error.to_string()),
            JwtError::KeysOfTrust => {
                Self::new(ErrorCode::Internal, "the registry is not set up correctly")
                    .caused_by(error)
            }
        }
    }

    fn jwt_refusal(refusal: &JwtRefusal, audience: &Audience) -> Self {
        let (code, hint) = match refusal {
            JwtRefusal::UnknownIssuer => (
                ErrorCode::JwtNotTrusted,
                "ask an operator for `stile-admin trust create NAME --issuer URL`, with the `iss` of the JWT byte for byte"
                    .to_owned(),
            ),
            JwtRefusal::OtherTrust => (
                ErrorCode::JwtNotTrusted,
                "leave out the parameter `trust`, or ask an operator for the name of the trust"
                    .to_owned(),
            ),
            JwtRefusal::OtherAudience => (
                ErrorCode::JwtNotTrusted,
                format!("request the JWT for the audience `https://{audience}`, and for no other"),
            ),
            JwtRefusal::OtherClaims => (
                ErrorCode::JwtNotTrusted,
                "compare the claims of the JWT with `stile-admin trust show NAME`; with `--log debug`, the broker's log names the claim"
                    .to_owned(),
            ),
            JwtRefusal::NoCallerOfAws(_) => (
                ErrorCode::JwtNotTrusted,
                "request the JWT as a role or user, without `SubjectMode`, in an account that the trust believes"
                    .to_owned(),
            ),
            JwtRefusal::Ambiguous => (
                ErrorCode::AmbiguousTrust,
                "choose one with the parameter `trust`, or make the conditions of the trusts exclude each other"
                    .to_owned(),
            ),
            JwtRefusal::Expired => {
                (ErrorCode::JwtExpired, "request a new JWT right before the exchange".to_owned())
            }
            JwtRefusal::TooOld => (
                ErrorCode::JwtExpired,
                "exchange the JWT at the beginning of the job, or ask an operator for `--max-age` in the trust"
                    .to_owned(),
            ),
            JwtRefusal::FromFuture => (
                ErrorCode::JwtFromFuture,
                "compare the clock of the issuer with `server_time`".to_owned(),
            ),
            JwtRefusal::BeforeRestore { .. } => {
                (ErrorCode::JwtExpired, "request a new JWT after that time".to_owned())
            }
            JwtRefusal::UnknownKey => (
                ErrorCode::JwtBadSignature,
                "if the issuer has changed its keys, try again in a minute".to_owned(),
            ),
            JwtRefusal::BadSignature => (
                ErrorCode::JwtBadSignature,
                "send the JWT as the issuer gave it".to_owned(),
            ),
            JwtRefusal::Replayed => (
                ErrorCode::JwtReplayed,
                "request a new JWT for each token; a JWT in a variable of a job is good for one exchange"
                    .to_owned(),
            ),
        };
        Self::new(code, refusal.to_string()).hint(hint)
    }
}
