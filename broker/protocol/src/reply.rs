//! Responses of the broker: a token, or an error with a stable code.

use serde::{Deserialize, Deserializer, Serialize};

use crate::exchange::Namespaces;
use crate::names::Permissions;
use crate::request_id::id_or_none;

/// The body of a `200` response to `POST /v1/token`.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenReply {
    /// The bearer token, opaque to its holder.
    pub token: String,
    /// When the token expires, RFC 3339 in UTC. It may be earlier than requested.
    pub expires_at: String,
    /// The principal of the token, in canonical form.
    pub principal: String,
    /// The namespaces for which the token is valid.
    pub namespaces: Namespaces,
    /// The permissions of the token.
    pub permissions: Permissions,
    /// What the caller should know, one sentence each, for example that a version that it fetched is
    /// deprecated. An earlier broker sends none. Any other value than a list of texts counts as none.
    #[serde(default, deserialize_with = "texts_or_none", skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// Reads a list of texts. A notice is never a reason to refuse a token.
fn texts_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let texts = value.as_array().into_iter().flatten();
    Ok(texts.filter_map(|text| text.as_str().map(str::to_owned)).collect())
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

/// The body of an error response, except on the routes of Terraform's registry protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// The name of an [`ErrorCode`]. A newer broker may send other codes.
    pub error: String,
    /// One sentence for the user.
    pub message: String,
    /// What the user can do about it, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The broker's clock, RFC 3339 in UTC.
    pub server_time: String,
    /// The id of the request, which the lines of the broker's log have. An earlier broker sends none,
    /// and any value that is not an id counts as none.
    #[serde(default, deserialize_with = "id_or_none", skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal,)+) => {
        /// The stable code of an error, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $code,)+
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$code,)+];

            /// Returns the name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)+
                }
            }
        }
    };
}

codes! {
    /// A field is missing, unknown, duplicate or invalid.
    InvalidRequest = "invalid_request",
    /// The broker does not support this version of the exchange.
    UnsupportedVersion = "unsupported_version",
    /// AWS has no region with this name.
    BadRegion = "bad_region",
    /// The operator has not enabled the region.
    RegionNotEnabled = "region_not_enabled",
    /// The proof is too old, by the broker's clock.
    ProofExpired = "proof_expired",
    /// The proof is from the future, by the broker's clock.
    ProofFromFuture = "proof_from_future",
    /// STS reports that the signature does not match the request.
    SignatureMismatch = "signature_mismatch",
    /// STS does not know the credentials.
    InvalidCredentials = "invalid_credentials",
    /// The credentials have expired.
    ExpiredCredentials = "expired_credentials",
    /// The proof was already used.
    ProofReplayed = "proof_replayed",
    /// No trust of the registry believes the JWT: its issuer, its audience or its claims.
    JwtNotTrusted = "jwt_not_trusted",
    /// More than one trust believes the JWT, and the request does not choose one.
    AmbiguousTrust = "ambiguous_trust",
    /// The JWT has expired, or is older than its trust allows.
    JwtExpired = "jwt_expired",
    /// The JWT is from the future, by the broker's clock.
    JwtFromFuture = "jwt_from_future",
    /// No key of the issuer signed the JWT.
    JwtBadSignature = "jwt_bad_signature",
    /// The JWT was already used.
    JwtReplayed = "jwt_replayed",
    /// The broker does not support this grant type of OAuth.
    UnsupportedGrantType = "unsupported_grant_type",
    /// The scope of an OAuth request is malformed, or is not one that a token can have.
    InvalidScope = "invalid_scope",
    /// The audience or the resource of an OAuth request is not this registry.
    InvalidTarget = "invalid_target",
    /// The token is missing or invalid.
    Unauthorized = "unauthorized",
    /// No grant allows this.
    NoGrant = "no_grant",
    /// The scope of the token does not include this.
    OutOfScope = "out_of_scope",
    /// The broker never accepts this kind of identity.
    UnsupportedPrincipal = "unsupported_principal",
    /// The principal was deleted, and a new one has its name.
    PrincipalRecreated = "principal_recreated",
    /// An operator revoked the principal.
    PrincipalRevoked = "principal_revoked",
    /// The namespace does not allow the source of the version.
    SourceNotAllowed = "source_not_allowed",
    /// The requested object does not exist.
    NotFound = "not_found",
    /// A publisher took the version back, so that nobody gets it.
    Unpublished = "unpublished",
    /// The object of the version is not what was published, so nobody gets it.
    ObjectChanged = "object_changed",
    /// The version of a provider is signed by a compromised key, so nobody gets it.
    CompromisedKey = "compromised_key",
    /// Something else already exists under this name.
    Conflict = "conflict",
    /// The object is not in the state that the client has seen, so nothing changed.
    PreconditionFailed = "precondition_failed",
    /// The route does not support the method.
    MethodNotAllowed = "method_not_allowed",
    /// The client sent its request too slowly.
    RequestTimeout = "request_timeout",
    /// The body is too large.
    TooLarge = "too_large",
    /// The broker does not accept the media type or encoding of the body.
    UnsupportedMediaType = "unsupported_media_type",
    /// The archive cannot be published.
    BadArchive = "bad_archive",
    /// The namespace has a limit of bytes or versions, and the archive would exceed it.
    QuotaExceeded = "quota_exceeded",
    /// Too many requests at once.
    Throttled = "throttled",
    /// STS is unreachable or overloaded.
    StsUnavailable = "sts_unavailable",
    /// The store is unreachable.
    StoreUnavailable = "store_unavailable",
    /// The disk of the broker has too little free space for archives.
    InsufficientStorage = "insufficient_storage",
    /// The broker has no key to seal or open tokens.
    KeyUnavailable = "key_unavailable",
    /// The response of STS is invalid.
    StsBadResponse = "sts_bad_response",
    /// The response of STS contradicts itself.
    StsInconsistent = "sts_inconsistent",
    /// STS did not respond in time.
    StsTimeout = "sts_timeout",
    /// The issuer of the JWT is unreachable or overloaded.
    IssuerUnavailable = "issuer_unavailable",
    /// The keys or the discovery document of the issuer are not valid.
    IssuerBadResponse = "issuer_bad_response",
    /// An internal error of the broker.
    Internal = "internal",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_name() {
        let names: std::collections::HashSet<_> =
            ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn the_debug_output_of_a_reply_has_no_token() {
        let reply: TokenReply = serde_json::from_str(
            r#"{"token":"stile_v4.local.x","expires_at":"2026-11-20T11:11:12Z","principal":"aws:111122223333:role/deploy","namespaces":["acme"],"permissions":["download"]}"#,
        )
        .unwrap();
        assert!(!format!("{reply:?}").contains("stile_"));
    }

    #[test]
    fn an_error_of_an_earlier_broker_and_one_with_an_invalid_id_have_no_id() {
        let long = format!(r#","request_id":"{}""#, "a".repeat(65));
        for (id, expected) in [
            ("", None),
            (r#","request_id":null"#, None),
            (r#","request_id":7"#, None),
            (r#","request_id":["a"]"#, None),
            (r#","request_id":"""#, None),
            (r#","request_id":"a\u001b[2J""#, None),
            (&long, None),
            (r#","request_id":"64ee87ba88f3e21a","later":1"#, Some("64ee87ba88f3e21a")),
        ] {
            let body = format!(r#"{{"error":"x","message":"m","server_time":"t"{id}}}"#);
            let reply: ErrorReply = serde_json::from_str(&body).unwrap();
            assert_eq!(reply.request_id.as_deref(), expected, "{id}");
            let again = serde_json::to_value(&reply).unwrap();
            assert_eq!(again.get("request_id").is_some(), expected.is_some(), "{id}");
        }
    }

    #[test]
    fn a_reply_can_have_notices_and_no_notice_makes_it_invalid() {
        for (notices, expected) in [
            ("", &[][..]),
            (r#","notices":null"#, &[]),
            (r#","notices":"a""#, &[]),
            (r#","notices":[]"#, &[]),
            (r#","notices":[7,"a",{},"b"]"#, &["a", "b"]),
        ] {
            let body = format!(
                r#"{{"token":"x","expires_at":"x","principal":"x","namespaces":"all","permissions":["download"]{notices}}}"#
            );
            let reply: TokenReply = serde_json::from_str(&body).unwrap();
            assert_eq!(reply.notices, expected, "{notices}");
            let again = serde_json::to_value(&reply).unwrap();
            assert_eq!(again.get("notices").is_some(), !expected.is_empty(), "{notices}");
        }
    }
}
