//! The input and the failure type that all verbs share.

use std::fmt;
use std::path::PathBuf;

use stile_protocol::audience::{Audience, AudienceError};
use terraform_credentials_stile::call::CallError;
use terraform_credentials_stile::clock::Clock;
use terraform_credentials_stile::config::{Config, ConfigError, Environment, RegistryConfig};
use terraform_credentials_stile::message;
use terraform_credentials_stile::private_file::PrivateFileError;
use terraform_credentials_stile::token::TokenError;

use crate::cli::Cli;

/// The environment, the clock and the global flags of one run.
#[derive(Debug, Clone)]
pub(crate) struct VerbContext {
    pub(crate) environment: Environment,
    pub(crate) clock: Clock,
    pub(crate) config: Option<PathBuf>,
    pub(crate) region: Option<String>,
    pub(crate) profile: Option<String>,
}

impl VerbContext {
    /// Fills in flags that this run does not set.
    pub(crate) fn with_fallback(&self, flags: &Cli) -> Self {
        let own = self.clone();
        Self {
            config: own.config.or_else(|| flags.config.clone()),
            region: own.region.or_else(|| flags.region.clone()),
            profile: own.profile.or_else(|| flags.profile.clone()),
            ..own
        }
    }

    /// Reads the configuration file.
    pub(crate) fn load_config(&self) -> Result<Config, VerbFailure> {
        Ok(Config::load(self.config.as_deref(), &self.environment)?)
    }

    /// Applies the command line flags to a registry. They take precedence over the file.
    pub(crate) fn with_flags(&self, registry: &RegistryConfig) -> RegistryConfig {
        let mut registry = registry.clone();
        if self.region.is_some() {
            registry.region.clone_from(&self.region);
        }
        if self.profile.is_some() {
            registry.profile.clone_from(&self.profile);
        }
        registry
    }

    /// Returns the registry of a host. It fails for a host that is not configured.
    pub(crate) fn registry(&self, host: &Audience) -> Result<RegistryConfig, VerbFailure> {
        let config = self.load_config()?;
        let missing = || {
            let mut message = format!("`{host}` is not configured as a Stile registry");
            let hosts: Vec<_> = config.registries().map(|it| format!("`{}`", it.host)).collect();
            if !hosts.is_empty() {
                message = format!("{message}; configured: {}", hosts.join(", "));
            }
            VerbFailure::new(message)
                .hint(format!("run `terraform-credentials-stile install --registry-host {host}`"))
        };
        Ok(self.with_flags(config.registry(host).ok_or_else(missing)?))
    }
}

/// Runs an async operation. Verbs that need no async runtime never start one.
pub(crate) fn block_on<T>(
    work: impl Future<Output = Result<T, VerbFailure>>,
) -> Result<T, VerbFailure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| VerbFailure::new(format!("cannot start the async runtime: {error}")))?;
    let done = runtime.block_on(work);
    // A DNS lookup blocks its thread and cannot be cancelled, so do not wait for it after a timeout.
    runtime.shutdown_background();
    done
}

/// Why a verb failed: one line, and a hint if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VerbFailure {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl VerbFailure {
    /// Creates a failure without a hint.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Prefixes the message with the operation that failed.
    #[must_use]
    pub(crate) fn context(self, what: impl fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), hint: self.hint }
    }

    /// Adds a hint: what the user can do about it.
    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for VerbFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) => write!(formatter, "{}; hint: {hint}", self.message),
            None => formatter.write_str(&self.message),
        }
    }
}

impl From<TokenError> for VerbFailure {
    fn from(error: TokenError) -> Self {
        Self { message: message::chain(&error), hint: error.hint() }
    }
}

impl From<CallError> for VerbFailure {
    fn from(error: CallError) -> Self {
        Self { message: message::chain(&error), hint: error.hint().map(str::to_owned) }
    }
}

impl From<ConfigError> for VerbFailure {
    fn from(error: ConfigError) -> Self {
        Self::new(message::chain(&error))
    }
}

impl From<PrivateFileError> for VerbFailure {
    fn from(error: PrivateFileError) -> Self {
        Self::new(message::chain(&error))
    }
}

impl From<AudienceError> for VerbFailure {
    fn from(error: AudienceError) -> Self {
        Self::new(message::one_line(&error.to_string()))
    }
}

impl From<std::io::Error> for VerbFailure {
    fn from(error: std::io::Error) -> Self {
        Self::new(message::one_line(&error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocking_task_that_cannot_be_cancelled_is_not_waited_for() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let done = block_on(async {
            let (begin, begun) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || {
                begin.send(()).unwrap();
                let _ended = ended.recv();
            });
            begun.await.unwrap();
            Ok(7)
        });
        assert_eq!(done, Ok(7));
        drop(end);
    }
}
