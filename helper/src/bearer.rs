//! A bearer token as the helper holds it: the secret, its expiry, and whom it is for.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use stile_protocol::names::Permissions;

use crate::clock;

/// Longest token that Terraform can send through every gateway, in bytes.
pub(crate) const MAX_TOKEN: usize = 4096;

/// Returns whether a text can be a token.
///
/// A token goes into a header, a shell command or HCL, so it must not contain a delimiter.
pub(crate) fn is_usable(token: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(is_plain)
}

/// A bearer token with its expiry and principal.
#[derive(Debug, Clone)]
pub struct Token {
    pub(crate) secret: SecretString,
    /// When the token expires, by the broker's clock.
    pub expires_at: DateTime<Utc>,
    /// The principal of the token, in canonical form.
    pub principal: String,
    /// How far the broker's clock is ahead of this one, if the exchange had to correct for it.
    pub skew: Option<TimeDelta>,
    /// The requested lifetime in seconds, if the registry issued a shorter one.
    pub shortened_from: Option<i64>,
    /// The only access key that may use the cached token, if the settings do not fix the identity.
    pub(crate) access_key_id: Option<String>,
    /// The permissions of the token, if it has more than requested: all calls of a job share it.
    pub more_than_asked: Option<Permissions>,
    /// Whether the token comes from the cache.
    pub cached: bool,
    /// What the registry says about the caller's modules and grants, one printable line each. The
    /// cache does not keep them.
    pub notices: Vec<String>,
}

impl Token {
    /// Returns the secret token, for a request header or as the output of a verb.
    pub fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    /// Returns a notice about a wrong clock, if the exchange found one.
    pub fn clock_notice(&self) -> Option<String> {
        Some(format!(
            "this computer's clock is {} the registry's; the helper signed with the registry's time",
            clock::describe_skew(self.skew?)
        ))
    }

    /// Returns a notice about a lifetime that is shorter than requested.
    pub fn lifetime_notice(&self) -> Option<String> {
        Some(format!(
            "the registry shortened the requested lifetime of {} s; the token expires at {}",
            self.shortened_from?,
            self.expiry_text()
        ))
    }

    /// Returns a notice about permissions that the caller did not ask for.
    pub fn scope_notice(&self) -> Option<String> {
        Some(format!(
            "the token has the permissions `{}`, because the job has no other unused JWT, and all calls of the job share this token",
            self.more_than_asked?
        ))
    }

    /// Returns the time of expiry, RFC 3339 in UTC.
    pub fn expiry_text(&self) -> String {
        self.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_notice_names_the_skew_and_its_direction() {
        let token = |skew| Token {
            secret: "x".into(),
            expires_at: DateTime::UNIX_EPOCH,
            principal: String::new(),
            skew: Some(TimeDelta::seconds(skew)),
            shortened_from: None,
            access_key_id: None,
            more_than_asked: None,
            cached: false,
            notices: Vec::new(),
        };
        for (skew, expected) in [
            (843, "clock is 14 min 3 s behind the registry's"),
            (-200, "clock is 3 min 20 s ahead of the registry's"),
        ] {
            assert!(token(skew).clock_notice().unwrap().contains(expected), "{skew}");
        }
        assert!(!format!("{:?}", token(0)).contains("\"x\""));
    }
}
