//! The error of every command: a message, an optional hint and an exit code.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use serde_json::{Value, json};
use stile_core::principal::TypedPrincipalError;
use stile_protocol::audience::AudienceError;
use stile_protocol::names::NameError;
use stile_settings::mask::mask;
use stile_store::{EndpointsError, StoreError};
use terraform_credentials_stile::call::CallError;
use terraform_credentials_stile::config::ConfigError;
use terraform_credentials_stile::credentials::CredentialsError;
use terraform_credentials_stile::exchange::ExchangeError;
use terraform_credentials_stile::message::{self, split_request_id};
use terraform_credentials_stile::token::TokenError;

use crate::aws_error::{credentials_hint, explained};

/// The kind of an error, which determines the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// Exit code 1: the request was refused, or its object does not exist.
    Refused,
    /// Exit code 2: the command line is invalid, whether clap or the program finds that.
    Usage,
    /// Exit code 2: the request failed, for example because of the network or the store.
    Failed,
}

impl ErrorKind {
    /// Returns the name of the kind in JSON.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Usage => "usage",
            Self::Failed => "failed",
        }
    }
}

/// The reason why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandError {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    connection_closed: bool,
    no_grant: bool,
}

impl CommandError {
    /// Creates an error for a refused request or a missing object (exit code 1).
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// Creates an error for an invalid command line (exit code 2).
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// Creates an error for a failed request (exit code 2).
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message, hint: None, connection_closed: false, no_grant: false }
    }

    /// Creates an error for a failed request, with the chain of its causes (exit code 2).
    pub(crate) fn failed_because(what: impl fmt::Display, error: &dyn Error) -> Self {
        Self::failed(format!("{what}: {}", message::chain(error)))
    }

    /// Creates an error for an archive that cannot be written to a temporary file (exit code 2). Most
    /// often, the disk is full.
    pub(crate) fn unwritable(error: &io::Error) -> Self {
        Self::failed_because("cannot write an archive to a temporary file", error)
            .hint("set `TMPDIR` to a folder with enough space")
    }

    /// Adds or replaces the hint.
    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Adds a hint, if the error has none.
    #[must_use]
    pub(crate) fn or_hint(self, hint: &str) -> Self {
        Self { hint: self.hint.or_else(|| Some(hint.to_owned())), ..self }
    }

    /// Hides passwords and tokens in the message.
    #[must_use]
    pub(crate) fn masked(self) -> Self {
        Self { message: mask(&self.message), ..self }
    }

    /// Makes a refusal a failure (exit code 2), for a command whose exit code 1 is an answer.
    #[must_use]
    pub(crate) fn unanswered(self) -> Self {
        let kind = if self.is_refusal() { ErrorKind::Failed } else { self.kind };
        Self { kind, ..self }
    }

    /// Adds a context before the message.
    #[must_use]
    pub(crate) fn context(self, what: impl fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// Adds the object before the message, unless the message names it.
    #[must_use]
    pub(crate) fn about(self, object: &str) -> Self {
        let name = format!("`{object}`");
        if self.message.contains(&name) { self } else { self.context(name) }
    }

    /// Returns whether the request was refused, or its object does not exist (exit code 1).
    pub(crate) fn is_refusal(&self) -> bool {
        self.kind == ErrorKind::Refused
    }

    /// Returns whether the command line is invalid (exit code 2).
    pub(crate) fn is_usage(&self) -> bool {
        self.kind == ErrorKind::Usage
    }

    /// Marks that the server closed the connection while the program was sending.
    #[must_use]
    pub(crate) fn connection_closed(self) -> Self {
        Self { connection_closed: true, ..self }
    }

    /// Returns whether the server closed the connection while the program was sending.
    pub(crate) const fn is_connection_closed(&self) -> bool {
        self.connection_closed
    }

    /// Returns whether the registry gives no token, because the caller has no grant for its scope.
    pub(crate) const fn is_no_grant(&self) -> bool {
        self.no_grant
    }

    /// Returns the message without its hint.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Returns the exit code of the program.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.kind {
            ErrorKind::Refused => ExitCode::from(1),
            ErrorKind::Usage | ErrorKind::Failed => ExitCode::from(2),
        }
    }

    /// Returns the error as JSON: its kind, its message, its hint or `null`, and the id of the request
    /// if a broker answered with the error.
    pub(crate) fn json(&self) -> Value {
        let (message, in_message) = split_hint(&self.message);
        let (message, id) = split_request_id(message);
        let mut json = json!({
            "error": self.kind.as_str(),
            "message": message,
            "hint": self.hint.as_deref().or(in_message),
        });
        if let Some(id) = id {
            json["request_id"] = id.into();
        }
        json
    }

    fn with_hint_of(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) => write!(formatter, "{}; hint: {hint}", self.message),
            None => formatter.write_str(&self.message),
        }
    }
}

/// Splits a message into its text and its hint. Messages of other packages can contain a hint.
pub(crate) fn split_hint(message: &str) -> (&str, Option<&str>) {
    message.split_once("; hint: ").map_or((message, None), |(text, hint)| (text, Some(hint)))
}

impl From<clap::Error> for CommandError {
    /// The message is the first paragraph. The hint is clap's tip, or else the usage of the command.
    fn from(error: clap::Error) -> Self {
        // Before it is cut: a value can contain an empty line, and a password after it.
        let text = mask(&error.render().to_string());
        let mut paragraphs = text.split("\n\n").map(message::one_line);
        let first = paragraphs.next().unwrap_or_default();
        let (mut tip, mut usage) = (None, None);
        for paragraph in paragraphs {
            if let Some(text) = paragraph.strip_prefix("tip: ") {
                tip.get_or_insert(text.to_owned());
            } else if let Some(text) = paragraph.strip_prefix("Usage: ") {
                usage.get_or_insert(format!("use `{text}`"));
            }
        }
        let message = first.strip_prefix("error: ").unwrap_or(&first);
        Self::usage(message).with_hint_of(tip.or(usage))
    }
}

impl From<TypedPrincipalError> for CommandError {
    fn from(error: TypedPrincipalError) -> Self {
        Self::usage(error.to_string()).hint(error.hint())
    }
}

impl From<NameError> for CommandError {
    fn from(error: NameError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        match explained(&error) {
            Some((message, hint)) => Self::failed(message).hint(hint),
            None => Self::failed(message::chain(&error)),
        }
    }
}

impl From<CredentialsError> for CommandError {
    fn from(error: CredentialsError) -> Self {
        let hint = credentials_hint(&error).map_or_else(|| error.hint(), str::to_owned);
        Self::failed(message::chain(&error)).hint(hint)
    }
}

impl From<EndpointsError> for CommandError {
    fn from(error: EndpointsError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<AudienceError> for CommandError {
    fn from(error: AudienceError) -> Self {
        Self::usage(message::chain(&error))
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::failed(message::chain(&error))
    }
}

impl From<CallError> for CommandError {
    fn from(error: CallError) -> Self {
        Self::failed(message::chain(&error)).with_hint_of(error.hint().map(str::to_owned))
    }
}

impl From<TokenError> for CommandError {
    /// Only a rejection by the registry is a refusal. Every other token error is a failure.
    fn from(error: TokenError) -> Self {
        let kind = if matches!(error, TokenError::Exchange(ExchangeError::Refused(_))) {
            ErrorKind::Refused
        } else {
            ErrorKind::Failed
        };
        let no_grant = error.is_no_grant();
        let error = Self::new(kind, message::chain(&error)).with_hint_of(error.hint());
        Self { no_grant, ..error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_as_json_has_its_hint_apart_from_its_message() {
        for (error, expected) in [
            (
                CommandError::refused("no"),
                json!({ "error": "refused", "message": "no", "hint": null }),
            ),
            (
                CommandError::refused("no").hint("do"),
                json!({ "error": "refused", "message": "no", "hint": "do" }),
            ),
            (
                CommandError::failed("full; hint: use `*`"),
                json!({ "error": "failed", "message": "full", "hint": "use `*`" }),
            ),
            (
                CommandError::usage("which").context("x"),
                json!({ "error": "usage", "message": "x: which", "hint": null }),
            ),
            (
                CommandError::usage("no (request id: a b)"),
                json!({ "error": "usage", "message": "no (request id: a b)", "hint": null }),
            ),
            (
                CommandError::refused("no (request id: 1a)").context("x").hint("do"),
                json!({ "error": "refused", "message": "x: no", "hint": "do", "request_id": "1a" }),
            ),
            (
                CommandError::refused("no (request id: 1a); hint: do"),
                json!({ "error": "refused", "message": "no", "hint": "do", "request_id": "1a" }),
            ),
        ] {
            assert_eq!(error.json(), expected);
        }
    }
}
