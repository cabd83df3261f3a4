//! The error of every command: a message, an optional hint and an exit code.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use stile_core::principal::TypedPrincipalError;
use stile_protocol::audience::AudienceError;
use stile_protocol::names::NameError;
use stile_store::StoreError;
use terraform_credentials_stile::call::CallError;
use terraform_credentials_stile::config::ConfigError;
use terraform_credentials_stile::exchange::ExchangeError;
use terraform_credentials_stile::message;
use terraform_credentials_stile::token::TokenError;

/// The kind of an error, which determines the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// Exit code 1: the request was refused, or its object does not exist.
    Refused,
    /// Exit code 2: the request failed, for example because of the network or the store.
    Failed,
}

/// The reason why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandError {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    connection_closed: bool,
}

impl CommandError {
    /// Creates an error for a refused request or a missing object (exit code 1).
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Refused,
            message: message.into(),
            hint: None,
            connection_closed: false,
        }
    }

    /// Creates an error for a failed request (exit code 2).
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Failed,
            message: message.into(),
            hint: None,
            connection_closed: false,
        }
    }

    /// Creates an error for a failed request, with the chain of its causes (exit code 2).
    pub(crate) fn failed_because(what: impl fmt::Display, error: &dyn Error) -> Self {
        Self::failed(format!("{what}: {}", message::chain(error)))
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

    /// Adds a context before the message.
    #[must_use]
    pub(crate) fn context(self, what: impl fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
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

    /// Returns the exit code of the program.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.kind {
            ErrorKind::Refused => ExitCode::from(1),
            ErrorKind::Failed => ExitCode::from(2),
        }
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

impl From<TypedPrincipalError> for CommandError {
    fn from(error: TypedPrincipalError) -> Self {
        Self::refused(error.to_string()).hint(error.hint())
    }
}

impl From<NameError> for CommandError {
    fn from(error: NameError) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Self::failed(message::chain(&error))
    }
}

impl From<AudienceError> for CommandError {
    fn from(error: AudienceError) -> Self {
        Self::failed(message::chain(&error))
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
        Self { kind, message: message::chain(&error), hint: error.hint(), connection_closed: false }
    }
}
