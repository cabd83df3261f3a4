//! What comes back from the exchange: a token, or an error whose code programs may rely on.

use serde::{Deserialize, Serialize};

use crate::exchange::Namespaces;
use crate::names::Permissions;

/// The `200` of `POST /v1/token`.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenReply {
    /// The bearer token, opaque to its holder.
    pub token: String,
    /// When it ends, RFC 3339 in UTC; may be sooner than was asked for.
    pub expires_at: String,
    /// Whom the token is for, canonical.
    pub principal: String,
    /// The namespaces it is good for.
    pub namespaces: Namespaces,
    /// The permissions it is good for.
    pub permissions: Permissions,
}

impl std::fmt::Debug for TokenReply {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TokenReply")
            .field("token", &"[REDACTED]")
            .field("expires_at", &self.expires_at)
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

/// Every refusal that is not a registry route's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// The code, one of [`ErrorCode`]'s names; a newer broker may send others.
    pub error: String,
    /// One plain sentence.
    pub message: String,
    /// The next step, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The broker's clock, RFC 3339 in UTC.
    pub server_time: String,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal,)+) => {
        /// What went wrong, as programs see it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $code,)+
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$code,)+];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)+
                }
            }
        }
    };
}

codes! {
    /// A field is missing, unknown, twice there or out of its grammar.
    InvalidRequest = "invalid_request",
    /// The exchange has no such version.
    UnsupportedVersion = "unsupported_version",
    /// AWS has no such region.
    BadRegion = "bad_region",
    /// The operator did not enable that region.
    RegionNotEnabled = "region_not_enabled",
    /// Signed too long ago, by the broker's clock.
    ProofExpired = "proof_expired",
    /// Signed in the future, by the broker's clock.
    ProofFromFuture = "proof_from_future",
    /// AWS says the signature is for another request.
    SignatureMismatch = "signature_mismatch",
    /// AWS does not know the credentials.
    InvalidCredentials = "invalid_credentials",
    /// The credentials have expired.
    ExpiredCredentials = "expired_credentials",
    /// The proof was used already.
    ProofReplayed = "proof_replayed",
    /// No token, or none that is good.
    Unauthorized = "unauthorized",
    /// Nobody granted this.
    NoGrant = "no_grant",
    /// The token was not made for this.
    OutOfScope = "out_of_scope",
    /// A kind of identity that is never let in.
    UnsupportedPrincipal = "unsupported_principal",
    /// A principal of the same name, deleted and made anew.
    PrincipalRecreated = "principal_recreated",
    /// An operator revoked the principal.
    PrincipalRevoked = "principal_revoked",
    /// No such thing.
    NotFound = "not_found",
    /// There is something else under that name already.
    Conflict = "conflict",
    /// The route has no such method.
    MethodNotAllowed = "method_not_allowed",
    /// The sender was too slow.
    RequestTimeout = "request_timeout",
    /// The body is too long.
    TooLarge = "too_large",
    /// The body's type or encoding is not accepted.
    UnsupportedMediaType = "unsupported_media_type",
    /// The archive cannot be published.
    BadArchive = "bad_archive",
    /// Too much at once.
    Throttled = "throttled",
    /// STS cannot be reached, or says that it is overloaded.
    StsUnavailable = "sts_unavailable",
    /// The store cannot be reached.
    StoreUnavailable = "store_unavailable",
    /// There is no key to seal or open tokens with.
    KeyUnavailable = "key_unavailable",
    /// STS answered with something that is not its answer.
    StsBadResponse = "sts_bad_response",
    /// STS's answer contradicts itself.
    StsInconsistent = "sts_inconsistent",
    /// STS did not answer in time.
    StsTimeout = "sts_timeout",
    /// A fault of the broker's own.
    Internal = "internal",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_codes_share_a_name() {
        let names: std::collections::HashSet<_> =
            ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn a_reply_shows_no_token_in_debug() {
        let reply: TokenReply = serde_json::from_str(
            r#"{"token":"stile_v4.local.x","expires_at":"2026-11-20T11:11:12Z","principal":"aws:111122223333:role/deploy","namespaces":["acme"],"permissions":["download"]}"#,
        )
        .unwrap();
        assert!(!format!("{reply:?}").contains("stile_"));
    }
}
