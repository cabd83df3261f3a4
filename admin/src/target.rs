//! The target of a command: a store, or a broker's API.

mod any;
mod two;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use stile_protocol::audience::Audience;
use stile_store::{AwsDeadlines, AwsEndpoints, EmbeddedDeadlines, Place, STORE_TIMEOUT};
use terraform_credentials_stile::call::TIMEOUT_SECONDS;
use terraform_credentials_stile::config::{Config, Environment, RegistryConfig, check_region};

use crate::error::CommandError;

pub(crate) use any::{AnyTarget, ChosenTarget, operators_only};
pub(crate) use two::TwoRegistries;

/// The beginning of the error of a command line that selects no registry.
const NO_REGISTRY: &str = "no registry is named";

/// The flags that select a store: a folder or a table.
#[derive(Debug, Default, Args)]
pub(crate) struct StoreTarget {
    /// Use the store in this data folder
    ///
    /// Either this or `--table` is required. Variable: `STILE_DATA`. Example: `--data /var/lib/stile`
    #[arg(long, value_name = "DIR", env = "STILE_DATA", hide_env = true)]
    pub(crate) data: Option<PathBuf>,

    /// Use the store in this DynamoDB table
    ///
    /// Requires `--bucket` and `--kms-key`. Region and credentials are those of AWS tools.
    /// Variable: `STILE_TABLE`. Example: `--table stile`
    #[arg(long, value_name = "NAME", env = "STILE_TABLE", hide_env = true)]
    table: Option<String>,

    /// The bucket of the store on AWS
    ///
    /// Required with `--table`. Variable: `STILE_BUCKET`. Example: `--bucket acme-stile`
    #[arg(long, value_name = "NAME", env = "STILE_BUCKET", hide_env = true)]
    bucket: Option<String>,

    /// The KMS key of the store on AWS
    ///
    /// Required with `--table`: an ARN, an id or an alias. Variable: `STILE_KMS_KEY`.
    /// Example: `--kms-key alias/stile`
    #[arg(long, value_name = "KEY", env = "STILE_KMS_KEY", hide_env = true)]
    kms_key: Option<String>,

    /// The KMS key that signs the heads of the audit chains
    ///
    /// `audit verify` and `audit expire` ask KMS for its public half. Only with `--table`: an ARN, an
    /// id or an alias. Default: none. Variable: `STILE_AUDIT_KEY`. Example: `--audit-key alias/stile-audit`
    #[arg(long, value_name = "KEY", env = "STILE_AUDIT_KEY", hide_env = true)]
    audit_key: Option<String>,

    /// Wait at most this many seconds for the store, from 1 to 600
    ///
    /// Default: 4 with `--table`, 5 with `--data`. Variable: `STILE_STORE_TIMEOUT`.
    /// Example: `--store-timeout 30`
    #[arg(long, value_name = "SECONDS", env = "STILE_STORE_TIMEOUT", hide_env = true,
        value_parser = clap::value_parser!(u64).range(STORE_TIMEOUT))]
    store_timeout: Option<u64>,

    /// The endpoints in the variables of the AWS SDK, which also reads them itself
    #[command(flatten)]
    endpoints: AwsEndpoints,
}

/// The location of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreLocation {
    /// An embedded store in this folder.
    Folder(PathBuf),
    /// A store on AWS.
    Aws(Place),
}

impl StoreTarget {
    #[cfg(test)]
    pub(crate) fn of(data: &str) -> Self {
        Self { data: Some(data.into()), ..Self::default() }
    }

    /// Returns the location that the flags select.
    pub(crate) fn location(&self) -> Result<StoreLocation, CommandError> {
        let lacks = |flag| CommandError::usage(format!("`--table` requires `{flag}`"));
        match (&self.data, &self.table) {
            (Some(folder), None) => Ok(StoreLocation::Folder(folder.clone())),
            (None, Some(table)) => {
                self.endpoints.check()?;
                Ok(StoreLocation::Aws(Place {
                    table: table.clone(),
                    bucket: self.bucket.clone().ok_or_else(|| lacks("--bucket"))?,
                    kms_key: self.kms_key.clone().ok_or_else(|| lacks("--kms-key"))?,
                    bucket_kms_key: None,
                    audit_key: self.audit_key.clone(),
                }))
            }
            _ => Err(CommandError::usage("exactly one of `--data` and `--table` is required")
                .hint("use `--data DIR`, or `--table NAME --bucket NAME --kms-key KEY`")),
        }
    }

    /// Returns the deadlines of an embedded store.
    pub(crate) fn embedded_deadlines(&self) -> EmbeddedDeadlines {
        self.timeout().map_or_else(EmbeddedDeadlines::default, EmbeddedDeadlines::within)
    }

    /// Returns the deadlines of a store on AWS.
    pub(crate) fn aws_deadlines(&self) -> AwsDeadlines {
        self.timeout().map_or_else(AwsDeadlines::default, AwsDeadlines::within)
    }

    fn timeout(&self) -> Option<Duration> {
        self.store_timeout.map(Duration::from_secs)
    }

    /// Returns whether the store is a data folder.
    pub(crate) const fn is_folder(&self) -> bool {
        self.data.is_some()
    }

    /// Returns whether a flag or a variable names a store, or a part of one.
    pub(crate) fn is_named(&self) -> bool {
        self.data.is_some()
            || [&self.table, &self.bucket, &self.kms_key].into_iter().any(Option::is_some)
    }

    /// Returns whether a flag or a variable selects a store: a part of one is not enough.
    const fn selects(&self) -> bool {
        self.data.is_some() || self.table.is_some()
    }

    /// Returns the endpoints in the variables of the AWS SDK.
    pub(crate) const fn endpoints(&self) -> &AwsEndpoints {
        &self.endpoints
    }

    /// Returns a command for the same store, for a hint that users can paste into a shell.
    pub(crate) fn command(&self, verb: &str) -> String {
        let data = self.data.as_ref().map(|data| data.display().to_string());
        let flags = [
            ("--data", data.as_ref()),
            ("--table", self.table.as_ref()),
            ("--bucket", self.bucket.as_ref()),
            ("--kms-key", self.kms_key.as_ref()),
        ];
        let given = flags
            .into_iter()
            .filter_map(|(flag, value)| Some(format!(" {flag} {}", quoted(value?))));
        format!("stile-admin {verb}{}", given.collect::<String>())
    }
}

/// Quotes a value for a shell, if necessary.
pub(crate) fn quoted(value: &str) -> String {
    let plain = !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte));
    if plain { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

/// The flags that select a broker.
#[derive(Debug, Args)]
pub(crate) struct ApiTarget {
    /// Call this registry, with a token for your AWS identity
    ///
    /// Default: the only registry in the helper's `config.toml`, which may also set its URL and the
    /// credentials. Variable: `STILE_HOST`. Example: `--registry-host registry.example.com`
    #[arg(long, value_name = "HOST", env = "STILE_HOST", hide_env = true, value_parser = NamedHost::parse)]
    registry_host: Option<NamedHost>,

    /// Read this configuration file of the helper
    ///
    /// Default: `stile/config.toml` in the platform's configuration folder. Variable: `STILE_CONFIG`.
    /// Example: `--config /etc/stile/config.toml`
    #[arg(long, value_name = "FILE", env = "STILE_CONFIG", hide_env = true)]
    config: Option<PathBuf>,

    /// Sign requests to STS for this AWS region
    ///
    /// Default: `region` in `config.toml`, or else the region of AWS tools. Variable: `AWS_REGION`.
    /// Example: `--region eu-central-1`
    #[arg(long, value_name = "REGION", value_parser = |text: &str| check_region(text.to_owned()))]
    region: Option<String>,

    /// Use only the credentials of this AWS profile
    ///
    /// Default: `profile` in `config.toml`, or else the first credentials that AWS tools find: keys in
    /// the environment come before `AWS_PROFILE`.
    /// Example: `--profile deploy`
    #[arg(long, value_name = "PROFILE", value_parser = NonEmptyStringValueParser::new())]
    profile: Option<String>,

    /// Wait at most this many seconds for a token, and three times as long for a response, from 1 to 600
    ///
    /// Default: 10. Variable: `STILE_TIMEOUT`.
    /// Example: `--timeout 30`
    #[arg(long, value_name = "SECONDS", env = "STILE_TIMEOUT", hide_env = true,
        value_parser = clap::value_parser!(u64).range(TIMEOUT_SECONDS))]
    timeout: Option<u64>,
}

impl ApiTarget {
    /// Returns the timeout of a call, if the user set one.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }

    /// Returns the AWS profile of the flag.
    pub(crate) fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// Returns the registry that the flag or the variable names, or else the only configured one.
    ///
    /// A named registry that is not configured is at its own host name.
    pub(crate) fn registry(
        &self,
        environment: &Environment,
    ) -> Result<RegistryConfig, CommandError> {
        self.registry_in(&self.load_config(environment)?)
    }

    /// Returns the path of the helper's configuration file.
    pub(crate) fn config_path(&self, environment: &Environment) -> Option<PathBuf> {
        self.config.clone().or_else(|| environment.default_config())
    }

    /// Reads the helper's configuration file.
    pub(crate) fn load_config(&self, environment: &Environment) -> Result<Config, CommandError> {
        Ok(Config::load(self.config.as_deref(), environment)?)
    }

    /// Returns whether a flag or a variable names a registry.
    pub(crate) fn names_registry(&self) -> bool {
        self.named_host().is_some()
    }

    fn named_host(&self) -> Option<&Audience> {
        self.registry_host.as_ref().and_then(|named| named.0.as_ref())
    }

    /// Returns the same as [`ApiTarget::registry`], from a file that was read.
    pub(crate) fn registry_in(&self, config: &Config) -> Result<RegistryConfig, CommandError> {
        let mut registry = match self.named_host() {
            Some(host) => match config.registry(host) {
                Some(registry) => registry.clone(),
                None => RegistryConfig::new(host.clone()).map_err(CommandError::failed)?,
            },
            None => only_registry(config)?.clone(),
        };
        if self.region.is_some() {
            registry.region.clone_from(&self.region);
        }
        if self.profile.is_some() {
            registry.profile.clone_from(&self.profile);
        }
        Ok(registry)
    }
}

/// The registry host of a flag or a variable. An empty one names no registry, as for the broker.
#[derive(Debug, Clone)]
struct NamedHost(Option<Audience>);

impl NamedHost {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        Audience::parse(text).map(|host| Self(Some(host))).map_err(|error| error.to_string())
    }
}

/// Returns the only configured registry.
///
/// The program does not choose one of several: it would publish to the wrong one.
fn only_registry(config: &Config) -> Result<&RegistryConfig, CommandError> {
    let all: Vec<&RegistryConfig> = config.registries().collect();
    match all.as_slice() {
        [only] => Ok(only),
        [] => Err(CommandError::usage(format!(
            "{NO_REGISTRY}, and the helper's `config.toml` has none"
        ))
        .hint("use `--registry-host HOST`, or set `STILE_HOST`")),
        several => {
            let hosts: Vec<String> =
                several.iter().map(|registry| format!("`{}`", registry.host)).collect();
            Err(CommandError::usage(format!(
                "{NO_REGISTRY}, and the helper's `config.toml` has several: {}",
                hosts.join(", ")
            ))
            .hint("use `--registry-host HOST`, or set `STILE_HOST`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_quotes_unusual_folder_names_for_a_shell() {
        for (data, expected) in [
            ("", "''"),
            ("it's mine", r"'it'\''s mine'"),
            ("$(x)", "'$(x)'"),
            ("/var/lib/stile", "/var/lib/stile"),
        ] {
            let target = StoreTarget::of(data);
            assert_eq!(
                target.command("grant list"),
                format!("stile-admin grant list --data {expected}")
            );
        }
    }
}
