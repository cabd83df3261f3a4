//! Tells why a session of `aws login` gives no credentials.
//!
//! The SDK reads the session from `~/.aws/login/cache`, and renews it at AWS Sign-In. It does not
//! export its error type, so a session's own errors are known by their texts.

use std::error::Error;
use std::io;
use std::iter::successors;

use aws_sdk_signin::operation::create_o_auth2_token::CreateOAuth2TokenError;
use aws_sdk_signin::types::OAuth2ErrorCode;

use crate::credentials::profiles::ProfileSummary;
use crate::message;
use crate::shell::quoted_for_posix;

/// How the SDK's errors about the file of a session begin: a failed read or write, and its content.
const READING: &str = "failed to read `";
const CONTENT: &str = "cached Login token";

/// The longest code of an error that is shown, in bytes.
const MAX_CODE: usize = 64;

/// Why a session of `aws login` gives no credentials. The text continues a sentence about a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginProblem {
    /// The user never signed in, or signed out.
    #[error("has no session of `aws login`")]
    Missing,
    /// The file of the session cannot be read, for this reason.
    #[error("has a session of `aws login` that cannot be read: {0}")]
    Unreadable(String),
    /// The file of the session is damaged. Its error could contain a secret, so it is not shown.
    #[error("has a damaged session of `aws login`")]
    Damaged,
    /// AWS renews the session no more, for example because it is older than 12 hours.
    #[error("has a session of `aws login` that has ended")]
    Ended,
    /// The policies of the identity do not allow it to renew a session.
    #[error("may not renew its session of `aws login`")]
    Denied,
    /// AWS Sign-In did not renew the session, for this reason, and may do so later. The reason has
    /// nothing of its message, which could repeat the refresh token of the request.
    #[error("cannot renew its session of `aws login`: {0}")]
    NotRenewed(String),
}

impl LoginProblem {
    /// Finds the problem in the chain of an error, if the session is the cause.
    ///
    /// For a role, the cause may also be the call that assumes it.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let causes = || successors(Some(error), |error| (*error).source());
        if let Some(refused) = causes().find_map(<dyn Error>::downcast_ref) {
            return Some(Self::of_sign_in(refused));
        }
        let text = causes()
            .map(ToString::to_string)
            .find(|text| text.starts_with(READING) || text.contains(CONTENT))?;
        Some(match causes().find_map(<dyn Error>::downcast_ref::<io::Error>) {
            Some(error) if error.kind() == io::ErrorKind::NotFound => Self::Missing,
            Some(error) => Self::Unreadable(message::one_line(&format!("{text}: {error}"))),
            None => Self::Damaged,
        })
    }

    fn of_sign_in(error: &CreateOAuth2TokenError) -> Self {
        match error {
            CreateOAuth2TokenError::AccessDeniedException(denied)
                if denied.error == OAuth2ErrorCode::InsufficientPermissions =>
            {
                Self::Denied
            }
            CreateOAuth2TokenError::AccessDeniedException(_)
            | CreateOAuth2TokenError::ValidationException(_) => Self::Ended,
            other => Self::NotRenewed(answer(other.meta().code(), os_error(other))),
        }
    }

    /// What the user can do about it.
    pub(super) fn hint(&self, profile: &ProfileSummary) -> String {
        let source = quoted_for_posix(&profile.source);
        let again = format!("run `aws login --profile {source}`");
        match self {
            Self::Missing | Self::Damaged | Self::Ended => again,
            Self::Unreadable(_) => format!("make the file readable, or {again}"),
            Self::Denied => format!(
                "ask an administrator for the AWS policy `SignInLocalDevelopmentAccess`, then {again}"
            ),
            Self::NotRenewed(_) => format!(
                "check the network, and run `aws sts get-caller-identity --profile {source}`, which renews the session in the same way"
            ),
        }
    }
}

/// Says how AWS Sign-In answered, by the code of its error, or why it could not be reached.
fn answer(code: Option<&str>, os_error: Option<String>) -> String {
    let is_code =
        |code: &&str| code.len() <= MAX_CODE && code.bytes().all(|byte| byte.is_ascii_alphabetic());
    match (code.filter(is_code), os_error) {
        (Some(code), _) => format!("AWS Sign-In answered `{code}`"),
        (None, Some(error)) => error,
        (None, None) => "AWS Sign-In gave no usable answer".to_owned(),
    }
}

/// Returns the error of the operating system that is the cause. Its text has nothing of an answer.
fn os_error(error: &(dyn Error + 'static)) -> Option<String> {
    successors(Some(error), |error| (*error).source())
        .find_map(<dyn Error>::downcast_ref::<io::Error>)
        .filter(|error| error.raw_os_error().is_some())
        .map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_of_an_error_is_shown() {
        assert_eq!(
            answer(Some("TooManyRequestsError"), None),
            "AWS Sign-In answered `TooManyRequestsError`"
        );
        for code in [None, Some("bad token S3CRET"), Some("a-1"), Some(&*"a".repeat(65))] {
            assert_eq!(answer(code, None), "AWS Sign-In gave no usable answer", "{code:?}");
        }
    }
}
