//! The two registries of a promotion.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use stile_protocol::audience::Audience;
use terraform_credentials_stile::call::TIMEOUT_SECONDS;
use terraform_credentials_stile::config::{Environment, check_region};

use super::{ApiTarget, NamedHost};
use crate::error::CommandError;

/// The flags that select two brokers. Each has a client and a token of its own.
#[derive(Debug, Args)]
pub(crate) struct TwoRegistries {
    /// Read the version from this registry
    ///
    /// Its URL and the credentials can be in the helper's `config.toml`.
    /// Required. Example: `--from staging.example.com`
    #[arg(long, value_name = "HOST", value_parser = host)]
    from: Audience,

    /// Publish the version in this registry
    ///
    /// Required. Example: `--to registry.example.com`
    #[arg(long, value_name = "HOST", value_parser = host)]
    to: Audience,

    /// Read this configuration file of the helper
    ///
    /// Default: `stile/config.toml` in the platform's configuration folder. Variable: `STILE_CONFIG`.
    /// Example: `--config /etc/stile/config.toml`
    #[arg(long, value_name = "FILE", env = "STILE_CONFIG", hide_env = true)]
    config: Option<PathBuf>,

    /// Sign requests to STS for this AWS region, for both registries
    ///
    /// Default: `region` of each in `config.toml`, or else the region of AWS tools.
    /// Variable: `AWS_REGION`. Example: `--region eu-central-1`
    #[arg(long, value_name = "REGION", value_parser = |text: &str| check_region(text.to_owned()))]
    region: Option<String>,

    /// Use only the credentials of this AWS profile for `--from`
    ///
    /// Default: its `profile` in `config.toml`, or else the first credentials that AWS tools find.
    /// Example: `--from-profile staging`
    #[arg(long, value_name = "PROFILE", value_parser = NonEmptyStringValueParser::new())]
    from_profile: Option<String>,

    /// Use only the credentials of this AWS profile for `--to`
    ///
    /// Default: its `profile` in `config.toml`, or else the first credentials that AWS tools find.
    /// Example: `--to-profile production`
    #[arg(long, value_name = "PROFILE", value_parser = NonEmptyStringValueParser::new())]
    to_profile: Option<String>,

    /// Wait at most this many seconds for a token, and three times as long for a response, from 1 to 600
    ///
    /// Default: 10. Variable: `STILE_TIMEOUT`. Example: `--timeout 30`
    #[arg(long, value_name = "SECONDS", env = "STILE_TIMEOUT", hide_env = true,
        value_parser = clap::value_parser!(u64).range(TIMEOUT_SECONDS))]
    timeout: Option<u64>,
}

impl TwoRegistries {
    /// Returns the registry to read from, and the one to publish in.
    ///
    /// # Errors
    ///
    /// A usage error, if both are the same one, or the error of the configuration file.
    pub(crate) fn targets(&self) -> Result<(ApiTarget, ApiTarget), CommandError> {
        let from = self.target(&self.from, self.from_profile.as_ref());
        let to = self.target(&self.to, self.to_profile.as_ref());
        let environment = Environment::read();
        let config = from.load_config(&environment)?;
        if self.from == self.to || from.registry_in(&config)?.url == to.registry_in(&config)?.url {
            return Err(CommandError::usage("`--from` and `--to` are the same registry")
                .hint("name two registries, each with its own `url` in `config.toml`"));
        }
        Ok((from, to))
    }

    fn target(&self, host: &Audience, profile: Option<&String>) -> ApiTarget {
        ApiTarget {
            registry_host: Some(NamedHost(Some(host.clone()))),
            config: self.config.clone(),
            region: self.region.clone(),
            profile: profile.cloned(),
            timeout: self.timeout,
        }
    }
}

fn host(text: &str) -> Result<Audience, String> {
    Audience::parse(text).map_err(|error| error.to_string())
}
