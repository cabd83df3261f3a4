//! `POST /v1/token` with a form: a JWT for a token, by OAuth 2.0 Token Exchange (RFC 8693).
//!
//! A form has no limit of time and no proof of its own: the JWT in it is the proof. So no signature
//! covers the requested scope.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::exchange::{MAX_NAMESPACES, Namespaces};
use crate::names::{Namespace, Permission, Permissions};

/// The media type of the form.
pub const MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// Longest form, in bytes.
pub const MAX_FORM: usize = 32 * 1024;

/// The only grant type.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// The type of a JWT as the subject token. [`ID_TOKEN`] means the same here.
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The type of an id token as the subject token.
pub const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// The type of every token of the registry.
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The namespace in a scope that means every namespace. No namespace can have this name.
const ALL: &str = "all";

/// The scope is not one that a token can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// An item is not `NAMESPACE:PERMISSION`, or is there twice.
    #[error(
        "`scope` must be distinct items `NAMESPACE:PERMISSION`, separated by one space, such as \
         `acme:download`"
    )]
    Malformed,
    /// It has too many namespaces.
    #[error("`scope` must name at most {MAX_NAMESPACES} namespaces, or `all`")]
    TooMany,
    /// A token has each of its permissions on each of its namespaces, and the scope does not.
    #[error("`scope` must name the same permissions for each namespace")]
    Uneven,
}

/// The scope of a token, as RFC 6749 writes it: items `NAMESPACE:PERMISSION`, separated by spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The namespaces.
    pub namespaces: Namespaces,
    /// The permissions on each of them, at least one.
    pub permissions: Permissions,
}

impl Scope {
    /// The scope of a request that names none: `download` on every namespace of the caller.
    pub fn default_of_requests() -> Self {
        let permissions = Permissions::NONE.with(Permission::Download);
        Self { namespaces: Namespaces::All, permissions }
    }

    /// Parses a scope. `all` stands for every namespace on which the caller has a grant.
    ///
    /// # Errors
    ///
    /// [`ScopeError`], with the reason. A scope with other permissions for each namespace is one: a
    /// token would have all of them everywhere, which is more than the request asks for.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        let mut of_each: Vec<(&str, Permissions)> = Vec::new();
        for item in text.split(' ') {
            let (namespace, permission) = item.split_once(':').ok_or(ScopeError::Malformed)?;
            let permission = Permission::ALL.into_iter().find(|known| known.as_str() == permission);
            let permission = permission.ok_or(ScopeError::Malformed)?;
            match of_each.iter_mut().find(|(known, _)| *known == namespace) {
                Some((_, held)) if held.contains(permission) => return Err(ScopeError::Malformed),
                Some((_, held)) => *held = held.with(permission),
                None => of_each.push((namespace, Permissions::NONE.with(permission))),
            }
            if of_each.len() > MAX_NAMESPACES {
                return Err(ScopeError::TooMany);
            }
        }
        let (_, permissions) = *of_each.first().ok_or(ScopeError::Malformed)?;
        if of_each.iter().any(|(_, others)| *others != permissions) {
            return Err(ScopeError::Uneven);
        }
        let names: Vec<&str> = of_each.into_iter().map(|(namespace, _)| namespace).collect();
        if names == [ALL] {
            return Ok(Self { namespaces: Namespaces::All, permissions });
        }
        let list: Result<Vec<_>, _> = names.into_iter().map(Namespace::parse).collect();
        let list = list.map_err(|_| ScopeError::Malformed)?;
        Ok(Self { namespaces: Namespaces::List(list), permissions })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = match &self.namespaces {
            Namespaces::All => vec![ALL],
            Namespaces::List(list) => list.iter().map(Namespace::as_str).collect(),
        };
        let mut between = "";
        for name in names {
            for permission in self.permissions.iter() {
                write!(formatter, "{between}{name}:{}", permission.as_str())?;
                between = " ";
            }
        }
        Ok(())
    }
}

/// The body of a `200` answer to the form (RFC 8693, section 2.2.1).
#[derive(Clone, Serialize, Deserialize)]
pub struct AccessTokenReply {
    /// The bearer token, opaque to its holder.
    pub access_token: String,
    /// Always [`ACCESS_TOKEN`].
    pub issued_token_type: String,
    /// Always `Bearer`.
    pub token_type: String,
    /// The time until the token expires, in seconds.
    pub expires_in: i64,
    /// The scope of the token, as [`Scope`] writes it.
    pub scope: String,
    /// When the token expires, RFC 3339 in UTC.
    pub expires_at: String,
    /// The principal of the token, in canonical form.
    pub principal: String,
    /// What the caller should know, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

impl fmt::Debug for AccessTokenReply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AccessTokenReply")
            .field("access_token", &"[REDACTED]")
            .field("expires_at", &self.expires_at)
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

/// The body of an error answer to the form: RFC 6749, section 5.2, with the fields of the registry's
/// other errors next to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuthErrorReply {
    /// The error code of OAuth.
    pub error: String,
    /// The same sentence as `message`, for OAuth clients.
    pub error_description: String,
    /// The name of an [`ErrorCode`](crate::reply::ErrorCode). A newer broker may send other codes.
    pub code: String,
    /// One sentence for the user.
    pub message: String,
    /// What the user can do about it, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The broker's clock, RFC 3339 in UTC.
    pub server_time: String,
    /// The id of the request, which the lines of the broker's log have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_that_a_token_cannot_have_is_rejected() {
        let many: Vec<_> = (0..=MAX_NAMESPACES).map(|n| format!("a{n}:download")).collect();
        for (text, error) in [
            ("", ScopeError::Malformed),
            (" ", ScopeError::Malformed),
            ("acme", ScopeError::Malformed),
            ("acme:", ScopeError::Malformed),
            (":download", ScopeError::Malformed),
            ("acme:Download", ScopeError::Malformed),
            ("acme:download ", ScopeError::Malformed),
            (" acme:download", ScopeError::Malformed),
            ("acme:download  acme:upload", ScopeError::Malformed),
            ("acme:download\tacme:upload", ScopeError::Malformed),
            ("acme:download,upload", ScopeError::Malformed),
            ("acme:download:upload", ScopeError::Malformed),
            ("acme:download acme:download", ScopeError::Malformed),
            ("Acme:download", ScopeError::Malformed),
            ("*:download", ScopeError::Malformed),
            ("all:download acme:download", ScopeError::Malformed),
            ("acme:upload beta:download", ScopeError::Uneven),
            ("acme:upload acme:download beta:download", ScopeError::Uneven),
            (&many.join(" "), ScopeError::TooMany),
        ] {
            assert_eq!(Scope::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_scope_is_written_in_the_form_that_it_is_read_in() {
        for (text, written) in [
            ("all:download", "all:download"),
            ("acme:download", "acme:download"),
            ("b:upload b:download", "b:download b:upload"),
            ("a:download b:upload a:upload b:download", "a:download a:upload b:download b:upload"),
        ] {
            let scope = Scope::parse(text).unwrap();
            assert_eq!(scope.to_string(), written);
            assert_eq!(Scope::parse(written), Ok(scope));
        }
        assert_eq!(Scope::default_of_requests().to_string(), "all:download");
    }

    #[test]
    fn the_debug_output_of_a_reply_has_no_token() {
        let reply: AccessTokenReply = serde_json::from_str(
            r#"{"access_token":"stile_v4.local.x","issued_token_type":"x","token_type":"Bearer","expires_in":1,"scope":"a:download","expires_at":"2026-11-20T11:11:12Z","principal":"oidc:ci"}"#,
        )
        .unwrap();
        assert!(!format!("{reply:?}").contains("stile_"));
    }
}
