//! The command line: nouns, verbs, flags and the help that teaches them. The one place where the environment is read.

mod grant;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use stile_protocol::audience::Audience;

pub(crate) use self::grant::*;
use crate::output::OutputFormat;
use crate::target::{ApiTarget, StoreTarget};

/// Manage a private Terraform registry: who may do what there, and what is published
///
/// `store`, `grant` and `token` work on the store itself, while the broker runs or not.
/// `module` asks the broker, with a token got by your AWS identity.
///
/// Exit codes: 0 done, 1 refused or not found, 2 could not try (usage, network, store).
///
/// To begin: `stile-admin store init --data DIR`, then
/// `stile-admin grant create --data DIR --role-arn ARN --namespace NS --download`.
#[derive(Debug, Parser)]
#[command(name = "stile-admin", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Print data in this form
    ///
    /// Default: `table`. Example: `--output json`
    #[arg(
        long,
        global = true,
        help_heading = "Everywhere",
        value_enum,
        value_name = "FORM",
        default_value = "table",
        hide_default_value = true
    )]
    pub(crate) output: OutputFormat,

    #[command(subcommand)]
    pub(crate) noun: Noun,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Make the store in which a broker keeps everything
    Store {
        #[command(subcommand)]
        verb: StoreVerb,
    },
    /// Say who may do what, in which namespace, until when
    Grant {
        #[command(subcommand)]
        verb: GrantVerb,
    },
    /// Revoke what was given out
    Token {
        #[command(subcommand)]
        verb: TokenVerb,
    },
    /// Publish and list modules
    Module {
        #[command(subcommand)]
        verb: ModuleVerb,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreVerb {
    /// Make what is missing of a store, and say what was made
    ///
    /// Safe to repeat: what is there stays as it is.
    ///
    /// Example: `stile-admin store init --data /var/lib/stile`
    Init(StoreInit),
}

#[derive(Debug, Args)]
pub(crate) struct StoreInit {
    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// Write into the table which registry it is for, so that brokers need not be told
    ///
    /// With `--table` alone. A table that is for another registry stays so, and that is an error.
    /// Default: brokers are told by `stile-broker --host`. Example: `--host registry.example.com`
    #[arg(long, value_name = "HOST", value_parser = |text: &str| Audience::parse(text).map_err(|error| error.to_string()))]
    pub(crate) host: Option<Audience>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Revoke one token, a principal, or everything at once
    ///
    /// Works within 10 seconds in every process.
    ///
    /// Example: `stile-admin token revoke --data /var/lib/stile --principal
    /// arn:aws:iam::111122223333:role/deploy`
    Revoke(TokenRevoke),
    /// Let a revoked principal in again
    ///
    /// Its tokens that have not expired are good again; a token revoked by its id stays revoked.
    ///
    /// Example: `stile-admin token lift --data /var/lib/stile --principal
    /// arn:aws:iam::111122223333:role/deploy`
    Lift(TokenLift),
    /// List what is revoked
    ///
    /// Example: `stile-admin token list --data /var/lib/stile`
    List(StoreTarget),
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["token", "principal", "all"])]
pub(crate) struct TokenRevoke {
    /// The token's id, `token_id` in the audit log
    #[arg(value_name = "JTI")]
    pub(crate) token: Option<String>,

    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// Revoke a principal: no new tokens, and none that is out is good
    ///
    /// A role or user by its ARN, `sso:111122223333/Admin`, or `account:111122223333`.
    /// Example: `--principal arn:aws:iam::111122223333:role/deploy`
    #[arg(long, visible_alias = "role-arn", value_name = "ARN")]
    pub(crate) principal: Option<String>,

    /// Take a role of IAM Identity Center itself, not its permission set
    ///
    /// Default: off. Example: `--exact`
    #[arg(long, requires = "principal")]
    pub(crate) exact: bool,

    /// Revoke every token there is, by dropping every key
    ///
    /// Whoever is granted something may get a new one at once; a helper that kept the old one goes on with
    /// that until it ends, or until `terraform-credentials-stile forget HOST`. Example: `--all --yes`
    #[arg(long)]
    pub(crate) all: bool,

    /// Confirm `--all`
    ///
    /// Default: off. Example: `--yes`
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TokenLift {
    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// Name the principal as it was revoked
    ///
    /// Required. Example: `--principal arn:aws:iam::111122223333:role/deploy`
    #[arg(long, visible_alias = "role-arn", value_name = "ARN")]
    pub(crate) principal: String,

    /// Take a role of IAM Identity Center itself, not its permission set
    ///
    /// Default: off. Example: `--exact`
    #[arg(long)]
    pub(crate) exact: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModuleVerb {
    /// Publish one version of a module
    ///
    /// A folder is packed the same way every time, so that publishing it again changes nothing. `.git`,
    /// `.terraform` and Terraform's state, which holds secrets, are left out. What is too large for one
    /// request is put where the registry says, without the token.
    ///
    /// Example: `stile-admin module publish acme/vpc/aws 1.2.0 ./vpc --registry-host registry.example.com`
    Publish(ModulePublish),
    /// List modules, a namespace's modules, or a module's versions
    ///
    /// Example: `stile-admin module list acme/vpc/aws --registry-host registry.example.com`
    List(ModuleList),
}

#[derive(Debug, Args)]
pub(crate) struct ModulePublish {
    /// The module's address, `namespace/name/system`
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,

    /// The version, such as `1.2.0` or `1.2.0-rc.1`
    #[arg(value_name = "VERSION")]
    pub(crate) version: String,

    /// The module's folder, or a `.zip` or `.tar.gz` with its files at the top
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,

    #[command(flatten)]
    pub(crate) api: ApiTarget,
}

#[derive(Debug, Args)]
pub(crate) struct ModuleList {
    /// A namespace, or an address `namespace/name/system`; default: every module you may read
    #[arg(value_name = "NAMESPACE | ADDRESS")]
    pub(crate) of: Option<String>,

    #[command(flatten)]
    pub(crate) api: ApiTarget,
}

/// Who runs this, as far as this machine can tell: for the record of who made a grant, never for a decision.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the program reads its environment"
)]
pub(crate) fn local_user() -> String {
    let name = std::env::var("USER").ok().filter(|name| {
        !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_graphic())
    });
    format!("local:{}", name.unwrap_or_else(|| rustix::process::getuid().as_raw().to_string()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
