//! The one way in which every verb fails: a line, a next step where there is one, and whether it was a "no" or could not be tried.

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

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// 1: it was refused, or there is no such thing.
    Refused,
    /// 2: it could not be tried: no network, no store.
    Failed,
}

/// Why a verb came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandError {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    connection_closed: bool,
}

impl CommandError {
    /// It was refused, or there is no such thing.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Refused,
            message: message.into(),
            hint: None,
            connection_closed: false,
        }
    }

    /// It could not be tried.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Failed,
            message: message.into(),
            hint: None,
            connection_closed: false,
        }
    }

    /// It could not be tried, and that is why.
    pub(crate) fn failed_because(what: impl fmt::Display, error: &dyn Error) -> Self {
        Self::failed(format!("{what}: {}", message::chain(error)))
    }

    /// The same with a next step.
    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same with a next step where it has none.
    #[must_use]
    pub(crate) fn or_hint(self, hint: &str) -> Self {
        Self { hint: self.hint.or_else(|| Some(hint.to_owned())), ..self }
    }

    /// The failure of something bigger, which is put before it.
    #[must_use]
    pub(crate) fn context(self, what: impl fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// The same where the other side broke off while it was being sent to.
    #[must_use]
    pub(crate) fn connection_closed(self) -> Self {
        Self { connection_closed: true, ..self }
    }

    /// Whether the other side broke off while it was being sent to.
    pub(crate) const fn is_connection_closed(&self) -> bool {
        self.connection_closed
    }

    /// The program's exit code.
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
    /// A registry that says no is a refusal; everything else on the way to a token is down.
    fn from(error: TokenError) -> Self {
        let kind = if matches!(error, TokenError::Exchange(ExchangeError::Refused(_))) {
            ErrorKind::Refused
        } else {
            ErrorKind::Failed
        };
        Self { kind, message: message::chain(&error), hint: error.hint(), connection_closed: false }
    }
}
