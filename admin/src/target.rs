//! Where a command works: on a store itself, or through a broker's API.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use stile_protocol::audience::Audience;
use stile_store::{AwsDeadlines, EmbeddedDeadlines, Place, STORE_TIMEOUT, Store};
use terraform_credentials_stile::config::{Config, Environment, RegistryConfig, check_region};

use crate::failure::Failure;

/// A store to work on directly: one of a folder and a table.
#[derive(Debug, Default, Args)]
pub(crate) struct StoreTarget {
    /// Work on the store in this folder
    ///
    /// One of this and `--table` is required. Variable: `STILE_DATA`. Example: `--data /var/lib/stile`
    #[arg(long, value_name = "DIR", env = "STILE_DATA", hide_env = true)]
    pub(crate) data: Option<PathBuf>,

    /// Work on the store in this DynamoDB table
    ///
    /// Reached as AWS tools reach it, and with `--bucket` and `--kms-key`. Variable: `STILE_TABLE`.
    /// Example: `--table stile`
    #[arg(long, value_name = "NAME", env = "STILE_TABLE", hide_env = true)]
    table: Option<String>,

    /// Name the bucket of the store on AWS
    ///
    /// Required with `--table`. Variable: `STILE_BUCKET`. Example: `--bucket acme-stile`
    #[arg(long, value_name = "NAME", env = "STILE_BUCKET", hide_env = true)]
    bucket: Option<String>,

    /// Name the KMS key of the store on AWS
    ///
    /// Required with `--table`: an ARN, an id or an alias. Variable: `STILE_KMS_KEY`.
    /// Example: `--kms-key alias/stile`
    #[arg(long, value_name = "KEY", env = "STILE_KMS_KEY", hide_env = true)]
    kms_key: Option<String>,

    /// Wait for the store no longer than this many seconds, from 1 to 600
    ///
    /// Default: 4 with `--table`, 5 with `--data`. Variable: `STILE_STORE_TIMEOUT`.
    /// Example: `--store-timeout 30`
    #[arg(long, value_name = "SECONDS", env = "STILE_STORE_TIMEOUT", hide_env = true,
        value_parser = clap::value_parser!(u64).range(STORE_TIMEOUT))]
    store_timeout: Option<u64>,
}

/// Which store it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// The one in this folder.
    Folder(PathBuf),
    /// The one on AWS.
    Aws(Place),
}

impl StoreTarget {
    #[cfg(test)]
    pub(crate) fn of(data: &str) -> Self {
        Self { data: Some(data.into()), ..Self::default() }
    }

    /// Opens it.
    pub(crate) async fn open(&self) -> Result<Store, Failure> {
        match self.named()? {
            Named::Folder(folder) => Ok(Store::open_folder(&folder, self.embedded_deadlines())?),
            Named::Aws(place) => {
                let connected = Store::connect_aws(&place, None, None, self.aws_deadlines());
                Ok(Box::pin(connected).await)
            }
        }
    }

    /// Which one is meant.
    pub(crate) fn named(&self) -> Result<Named, Failure> {
        let lacks = |flag| Failure::not_tried(format!("`--table` needs `{flag}`"));
        match (&self.data, &self.table) {
            (Some(folder), None) => Ok(Named::Folder(folder.clone())),
            (None, Some(table)) => Ok(Named::Aws(Place {
                table: table.clone(),
                bucket: self.bucket.clone().ok_or_else(|| lacks("--bucket"))?,
                kms_key: self.kms_key.clone().ok_or_else(|| lacks("--kms-key"))?,
                bucket_kms_key: None,
            })),
            _ => Err(Failure::not_tried("exactly one of `--data` and `--table` is needed")
                .hint("`--data DIR`, or `--table NAME --bucket NAME --kms-key KEY`")),
        }
    }

    /// The time limits of a folder.
    pub(crate) fn embedded_deadlines(&self) -> EmbeddedDeadlines {
        self.timeout().map_or_else(EmbeddedDeadlines::default, EmbeddedDeadlines::within)
    }

    /// The time limits of a table.
    pub(crate) fn aws_deadlines(&self) -> AwsDeadlines {
        self.timeout().map_or_else(AwsDeadlines::default, AwsDeadlines::within)
    }

    fn timeout(&self) -> Option<Duration> {
        self.store_timeout.map(Duration::from_secs)
    }

    /// A command on the same store, for a hint that can be pasted into a shell.
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

fn quoted(value: &str) -> String {
    let plain = !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte));
    if plain { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

/// A broker to ask.
#[derive(Debug, Args)]
pub(crate) struct ApiTarget {
    /// Ask this registry, with a token got by your AWS identity
    ///
    /// Required. The helper's `config.toml` says how it is reached and whose credentials sign.
    /// Example: `--registry-host registry.example.com`
    #[arg(long, value_name = "HOST", value_parser = |text: &str| Audience::parse(text).map_err(|error| error.to_string()))]
    registry_host: Audience,

    /// Read this configuration file of the helper
    ///
    /// Default: `stile/config.toml` in the platform's configuration folder. Variable: `STILE_CONFIG`.
    /// Example: `--config /etc/stile/config.toml`
    #[arg(long, value_name = "FILE", env = "STILE_CONFIG", hide_env = true)]
    config: Option<PathBuf>,

    /// Sign for this AWS region
    ///
    /// Default: `region` in `config.toml`, else what AWS tools use. Variable: `AWS_REGION`.
    /// Example: `--region eu-central-1`
    #[arg(long, value_name = "REGION", value_parser = |text: &str| check_region(text.to_owned()))]
    region: Option<String>,

    /// Use the credentials of this AWS profile, and no others
    ///
    /// Default: `profile` in `config.toml`, else what AWS tools find first: keys in the environment
    /// go before `AWS_PROFILE`.
    /// Example: `--profile deploy`
    #[arg(long, value_name = "PROFILE", value_parser = NonEmptyStringValueParser::new())]
    profile: Option<String>,
}

impl ApiTarget {
    /// The registry as configured, or else reached at its own name: whoever types a host means it.
    pub(crate) fn registry(&self, environment: &Environment) -> Result<RegistryConfig, Failure> {
        let config = Config::load(self.config.as_deref(), environment)?;
        let mut registry = match config.registry(&self.registry_host) {
            Some(registry) => registry.clone(),
            None => RegistryConfig::new(self.registry_host.clone()).map_err(Failure::not_tried)?,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_can_be_pasted_whatever_the_folder_is_called() {
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
