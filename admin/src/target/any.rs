//! The target of a command that works with a store and through a broker's API.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use terraform_credentials_stile::config::Environment;

use super::{ApiTarget, NO_REGISTRY, StoreTarget, quoted};
use crate::error::CommandError;

/// The flags that select a store, by their ids.
const STORE: [&str; 4] = ["data", "table", "bucket", "kms_key"];

/// The flag that selects a registry, by its id.
const REGISTRY: &str = "registry_host";

/// The flags that only a call of a registry reads, by their ids.
const OF_REGISTRY: [&str; 4] = ["config", "region", "profile", "timeout"];

/// The flag that only a store reads, by its id.
const OF_STORE: [&str; 1] = ["store_timeout"];

/// The help of `--data` for a command that also works through the API.
const DATA: &str = "Use the store in this data folder

One of this, `--table` and `--registry-host` is required, or one registry in the helper's \
`config.toml`. A flag comes before a variable, and a variable for a store before one for a registry. \
Variable: `STILE_DATA`. Example: `--data /var/lib/stile`";

/// The help of `--registry-host` for a command that also works with a store.
const HOST: &str = "Call this registry, with a token for your AWS identity

Default without a store: the only registry in the helper's `config.toml`, which may also set its URL \
and the credentials. Variable: `STILE_HOST`. Example: `--registry-host registry.example.com`";

/// The flags that select a store or a registry.
#[derive(Debug)]
pub(crate) struct AnyTarget {
    store: StoreTarget,
    api: ApiTarget,
    /// Whether a flag selects a store, apart from variables.
    store_by_flag: bool,
    /// Whether a flag selects a registry, apart from variables.
    registry_by_flag: bool,
    /// The first flag that only a call of a registry reads.
    of_registry: Option<&'static str>,
    /// The first flag that only a store reads.
    of_store: Option<&'static str>,
}

/// What the flags and the variables select.
#[derive(Debug)]
pub(crate) enum ChosenTarget<'a> {
    /// A store.
    Store(&'a StoreTarget),
    /// A registry, by its API.
    Registry(&'a ApiTarget),
}

impl AnyTarget {
    /// Returns the store or the registry.
    ///
    /// A flag comes before a variable. Of variables, one of a store comes first: the machine of a
    /// broker has both.
    ///
    /// # Errors
    ///
    /// A usage error, if flags select both, if nothing selects one of them, or if a flag is for the
    /// other one. An ignored `--profile` would change a store in the wrong AWS account.
    pub(crate) fn chosen(&self) -> Result<ChosenTarget<'_>, CommandError> {
        if self.store_by_flag && self.registry_by_flag {
            return Err(CommandError::usage(
                "`--registry-host` cannot be combined with a flag that selects a store",
            )
            .hint("use one of `--data`, `--table` and `--registry-host`"));
        }
        if self.is_store() {
            return match self.of_registry {
                None => Ok(ChosenTarget::Store(&self.store)),
                Some(id) => Err(unread(id, "registry", "store").hint(
                    "leave it out, or name a registry with `--registry-host`; the credentials and \
                     the region of a store are those of AWS tools, as in `AWS_PROFILE`",
                )),
            };
        }
        if let Some(id) = self.of_store {
            return Err(unread(id, "store", "registry")
                .hint("leave it out, or select a store with `--data` or `--table`"));
        }
        match self.api.registry(&Environment::read()) {
            Ok(_) => Ok(ChosenTarget::Registry(&self.api)),
            Err(error) if error.is_usage() && !self.api.names_registry() => Err(unnamed(&error)),
            Err(error) => Err(error),
        }
    }

    /// Returns the store. `what` is what only an operator does, who has the store.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::chosen`], and one that refuses to do it through the API.
    pub(crate) fn store_for(&self, what: &str) -> Result<&StoreTarget, CommandError> {
        match self.chosen()? {
            ChosenTarget::Store(store) => Ok(store),
            ChosenTarget::Registry(_) => Err(operators_only(what)),
        }
    }

    const fn is_store(&self) -> bool {
        self.store_by_flag || (self.store.selects() && !self.registry_by_flag)
    }

    /// Returns a command for the same store or registry, for a hint that users can paste into a shell.
    pub(crate) fn command(&self, verb: &str) -> String {
        if self.is_store() {
            return self.store.command(verb);
        }
        let path = |path: &PathBuf| path.display().to_string();
        let flags = [
            ("--registry-host", self.api.named_host().map(ToString::to_string)),
            ("--config", self.api.config.as_ref().map(path)),
            ("--region", self.api.region.clone()),
            ("--profile", self.api.profile.clone()),
        ];
        let given = flags
            .into_iter()
            .filter_map(|(flag, value)| Some(format!(" {flag} {}", quoted(&value?))));
        format!("stile-admin {verb}{}", given.collect::<String>())
    }
}

/// Returns the error of a flag for something that the command line does not select.
fn unread(id: &str, of: &str, selected: &str) -> CommandError {
    let flag = id.replace('_', "-");
    CommandError::usage(format!("`--{flag}` is for a {of}, but the command uses a {selected}"))
}

/// Returns the error of a command line that selects nothing, from the one about registries.
fn unnamed(error: &CommandError) -> CommandError {
    let registries = error.message().trim_start_matches(NO_REGISTRY);
    CommandError::usage(format!("no store and no registry is named{registries}")).hint(
        "use `--data DIR`, or `--table NAME --bucket NAME --kms-key KEY`, or \
         `--registry-host HOST`",
    )
}

/// Returns the error of something that only an operator does, at the store.
pub(crate) fn operators_only(what: &str) -> CommandError {
    CommandError::refused(format!("only an operator {what}, so the API does not do it"))
        .hint("run the command where the store is, with `--data DIR` or `--table NAME`")
}

impl Args for AnyTarget {
    fn augment_args(command: Command) -> Command {
        let command = ApiTarget::augment_args(StoreTarget::augment_args(command));
        with_help(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        let command = StoreTarget::augment_args_for_update(command);
        with_help(ApiTarget::augment_args_for_update(command))
    }
}

fn with_help(command: Command) -> Command {
    command
        .mut_arg("data", |argument| argument.long_help(DATA))
        .mut_arg(REGISTRY, |argument| argument.long_help(HOST))
}

impl FromArgMatches for AnyTarget {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        let by_flag = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let (store_by_flag, registry_by_flag) = (STORE.into_iter().any(by_flag), by_flag(REGISTRY));
        let first = |ids: &[&'static str]| ids.iter().copied().find(|id| by_flag(id));
        let (of_registry, of_store) = (first(&OF_REGISTRY), first(&OF_STORE));
        let store = StoreTarget::from_arg_matches_mut(matches)?;
        let api = ApiTarget::from_arg_matches_mut(matches)?;
        Ok(Self { store, api, store_by_flag, registry_by_flag, of_registry, of_store })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
