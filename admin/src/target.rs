//! Where a command works: on a store itself, or through a broker's API.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use stile_broker::store::{Embedded, Store};
use stile_protocol::audience::Audience;
use terraform_credentials_stile::config::{Config, Environment, Registry, check_region};

use crate::failure::Failure;

/// A store to work on directly.
#[derive(Debug, Args)]
pub(crate) struct StoreTarget {
    /// Work on the store in this folder
    ///
    /// Required. Variable: `STILE_DATA`. Example: `--data /var/lib/stile`
    #[arg(long, value_name = "DIR", env = "STILE_DATA", hide_env = true)]
    pub(crate) data: PathBuf,
}

impl StoreTarget {
    /// Opens it.
    pub(crate) fn open(&self) -> Result<Store, Failure> {
        Ok(Store::Embedded(Embedded::open(&self.data)?))
    }

    /// A command on the same store, for a hint that can be pasted into a shell.
    pub(crate) fn command(&self, verb: &str) -> String {
        let data = self.data.display().to_string();
        let plain = !data.is_empty() && data.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte));
        let data = if plain { data } else { format!("'{}'", data.replace('\'', r"'\''")) };
        format!("stile-admin {verb} --data {data}")
    }
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
    pub(crate) fn registry(&self, environment: &Environment) -> Result<Registry, Failure> {
        let config = Config::load(self.config.as_deref(), environment)?;
        let mut registry = match config.registry(&self.registry_host) {
            Some(registry) => registry.clone(),
            None => Registry::of(self.registry_host.clone()).map_err(Failure::not_tried)?,
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
        for (data, expected) in [("", "''"), ("it's mine", r"'it'\''s mine'"), ("$(x)", "'$(x)'"), ("/var/lib/stile", "/var/lib/stile")] {
            let target = StoreTarget { data: data.into() };
            assert_eq!(target.command("grant list"), format!("stile-admin grant list --data {expected}"));
        }
    }
}
