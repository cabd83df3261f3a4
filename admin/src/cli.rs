//! The command line: commands, flags and help. Only this module reads environment variables.

mod audit;
mod backup;
mod export;
mod grant;
mod module;
mod namespace;
mod promote;
mod provider;
mod token;
mod trust;
mod webhook;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use stile_protocol::audience::Audience;

pub(crate) use self::audit::*;
pub(crate) use self::backup::*;
pub(crate) use self::export::*;
pub(crate) use self::grant::*;
pub(crate) use self::module::*;
pub(crate) use self::namespace::*;
pub(crate) use self::promote::*;
pub(crate) use self::provider::*;
pub(crate) use self::token::*;
pub(crate) use self::trust::*;
pub(crate) use self::webhook::*;
use crate::output::OutputFormat;
use crate::target::{ApiTarget, StoreTarget};

/// Manage a private Terraform registry: grants, revocations, published modules and providers
///
/// `store`, `namespace`, `grant`, `token`, `audit`, `trust`, `webhook`, `backup` and `restore` open the
/// store directly.
/// The broker need not run.
/// `module`, `provider`, `export` and `promote` call the broker, with a token for your AWS identity.
/// `grant` and `audit` do one or the other.
///
/// Set `STILE_AUDIT_LOG` to a file to log each change of the store, as one line of JSON.
///
/// Exit codes: 0 success, 1 refused or not found, 2 failed (usage, network, store), 3 only from
/// `grant explain`: yes, under a condition.
///
/// Only help, usage errors and the plan of a file of grants have colours, and only on a terminal.
/// `NO_COLOR` turns them off.
///
/// First steps: `stile-admin store init --data DIR`, then
/// `stile-admin grant create --data DIR --role-arn ARN --namespace NS --download`.
#[derive(Debug, Parser)]
#[command(name = "stile-admin", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Print data, notices and errors in this format
    ///
    /// With `json`, stdout has the data, and stderr has one object on each line: an error with
    /// `error`, `message` and `hint`, or a notice with `notice` and `hint`.
    /// Default: `table`. Example: `--output json`
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_enum,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true
    )]
    pub(crate) output: OutputFormat,

    /// Print no notices, and show no progress
    ///
    /// Results and errors are printed. Default: off. Example: `--quiet`
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,

    #[command(subcommand)]
    pub(crate) noun: Noun,
}

/// Returns whether an invalid command line asks for JSON, so that its error is JSON.
pub(crate) fn asks_for_json(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let mut before = OsString::new();
    for argument in arguments {
        if argument == "--" {
            return false;
        }
        if argument == "--output=json" || argument == "json" && before == "--output" {
            return true;
        }
        before = argument;
    }
    false
}

#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Create and migrate the store of a registry
    Store {
        #[command(subcommand)]
        verb: StoreVerb,
    },
    /// Create and list namespaces, and set their limits
    Namespace {
        #[command(subcommand)]
        verb: NamespaceVerb,
    },
    /// Manage the permissions of principals on namespaces
    Grant {
        #[command(subcommand)]
        verb: Box<GrantVerb>,
    },
    /// Issue, rotate and revoke service tokens, and revoke tokens and principals
    Token {
        #[command(subcommand)]
        verb: TokenVerb,
    },
    /// List the changes that the store has kept, and verify that nobody changed their list
    ///
    /// Without a subcommand, it is `audit list`.
    ///
    /// Example: `stile-admin audit --data /var/lib/stile --since 7d --follow`
    Audit(Box<Audit>),
    /// Say whose JWTs the registry believes, such as those of a CI service
    Trust {
        #[command(subcommand)]
        verb: Box<TrustVerb>,
    },
    /// Add, list and remove receivers of events
    Webhook {
        #[command(subcommand)]
        verb: WebhookVerb,
    },
    /// Publish, find, show and list modules, and deprecate or take back a version
    Module {
        #[command(subcommand)]
        verb: ModuleVerb,
    },
    /// Publish, show and list providers, manage their signing keys, and deprecate or yank a version
    Provider {
        #[command(subcommand)]
        verb: Box<ProviderVerb>,
    },
    Export(Box<Export>),
    Promote(Box<Promote>),
    /// Copy a data folder into a backup, while brokers serve it
    ///
    /// It copies the database as it is at one moment, and every archive that it names. Repeat it with
    /// the same folder: it copies only archives that the backup does not have, and verifies them. The
    /// previous backup stays whole until the new one is complete, also if you stop the program.
    ///
    /// The backup has no keyring, and no key of tokens. It has the secrets of webhooks, so keep it as
    /// private as the data folder. Only its owner can read it.
    ///
    /// It migrates nothing, so use it before an upgrade. A store on AWS needs no such backup: see
    /// `docs/operations.md`.
    ///
    /// Example: `stile-admin backup --data /var/lib/stile --out /backup/stile`
    Backup(Backup),
    /// Restore a backup into a new data folder
    ///
    /// Stop the brokers of the registry first. It verifies each archive while it copies.
    ///
    /// The new folder has no keyring, so every earlier token is invalid, and users get new ones. For
    /// two minutes, the registry accepts no proof. Grants and revocations are those of the backup, so
    /// repeat what you revoked since.
    ///
    /// Example: `stile-admin restore --from /backup/stile --data /var/lib/stile-restored`
    Restore(Restore),
    /// Show the configuration of this program
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Show each setting, where it comes from, and its value
    ///
    /// A value comes from a flag, a variable, a file, or is the default. The output has no secrets.
    /// It opens no store and sends nothing. It exits with 2 if the program cannot use a setting, and
    /// says why. Without a store or a registry, it shows that there is none.
    ///
    /// Example: `stile-admin config show --data /var/lib/stile`
    Show(ConfigShow),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigShow {
    #[command(flatten)]
    pub(crate) store: StoreTarget,

    #[command(flatten)]
    pub(crate) api: ApiTarget,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreVerb {
    /// Create the missing parts of a store, and list them
    ///
    /// You can repeat the command: it does not change existing parts.
    ///
    /// Example: `stile-admin store init --data /var/lib/stile`
    Init(StoreInit),
    /// Bring a store to the format of this release
    ///
    /// Every program that opens a store does the same, so the command is only for doing it at a time
    /// that you choose. It adds tables and columns, and removes nothing.
    ///
    /// Example: `stile-admin store migrate --data /var/lib/stile --dry-run`
    Migrate(StoreMigrate),
    /// Find versions without an archive, wrong lists of versions, and archives without a version
    ///
    /// A publish that was killed leaves archives that no version names. A broker with a data folder
    /// deletes them after 30 days. In a bucket, they stay until you delete them with `--repair`.
    ///
    /// It also finds trusts that cannot be read, and grants whose trust is gone.
    ///
    /// Exit code: 1 if a version has no archive, if a trust has a fault, or if a record or a list is
    /// wrong and not repaired.
    ///
    /// Example: `stile-admin store check --data /var/lib/stile`
    Check(StoreCheck),
}

#[derive(Debug, Args)]
pub(crate) struct StoreCheck {
    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// Correct the lists of versions, delete the old archives that no version names, and list both
    ///
    /// It makes a list from the records of the versions. It deletes no archive if the store can be that
    /// of other archives. Default: off, and then nothing changes. Example: `--repair`
    #[arg(long)]
    pub(crate) repair: bool,

    /// Delete archives that were written at least that long ago, a day or more
    ///
    /// A backup of the store from before that time can name archives that are deleted now.
    /// Default: 30d. Example: `--older-than 40d`
    #[arg(long, value_name = "DURATION", requires = "repair", value_parser = parse_age, default_value = "30d", hide_default_value = true)]
    pub(crate) older_than: i64,
}

/// Parses the age of a leftover, and returns it in seconds. A publish of the last day can be in progress.
fn parse_age(text: &str) -> Result<i64, String> {
    let age = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match i64::try_from(age.as_secs()) {
        Ok(seconds) if seconds >= 24 * 3600 => Ok(seconds),
        _ => Err("must be at least a day, such as `30d`".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct StoreMigrate {
    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// Show the change, and do not make it
    ///
    /// Default: off. Example: `--dry-run`
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StoreInit {
    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// Record in the store which registry it is for
    ///
    /// Brokers on a table then need no `--host`. No broker serves the store for another host. It is
    /// an error if the store belongs to another registry.
    /// Default: a table has no host, and a folder gets that of the broker that first serves it.
    /// Example: `--host registry.example.com`
    #[arg(long, value_name = "HOST", value_parser = |text: &str| Audience::parse(text).map_err(|error| error.to_string()))]
    pub(crate) host: Option<Audience>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModuleVerb {
    /// Publish one version of a module, or of every module in a folder
    ///
    /// SOURCE is a folder, a `.zip` or `.tar.gz` with the module's files at its top level, or the
    /// `https` URL of such an archive. ADDRESS is `namespace/name/system`, and VERSION is such as
    /// `1.2.0` or `1.2.0-rc.1`. Leave out both for an archive with the name
    /// `terraform-module_NAMESPACE_NAME_SYSTEM_vVERSION.tar.gz`.
    ///
    /// The archive of an unchanged folder is always the same, so you can repeat the command. The
    /// program uploads an archive that is too large for one request to the URL that the registry
    /// returns, without the token.
    ///
    /// From a folder, the program skips `.git`, `.terraform`, `.terragrunt-cache`, `node_modules`,
    /// `.venv`, `.env*`, state, plans, `crash.log`, and `*.tfvars`. It skips what
    /// `.terraformignore` excludes, with the rules of Terraform: a folder needs a `/` at its end.
    /// One notice lists what it skipped. It refuses a folder with private keys or CLI
    /// configurations with tokens. It packs a symbolic link to a file of the folder as that file.
    /// It sends an archive unchanged, and refuses one with files that it would skip or refuse.
    ///
    /// At its end, it prints the block that uses the version in Terraform.
    ///
    /// In a job of GitHub Actions, GitLab CI, CodeBuild or Jenkins, the registry records the
    /// repository, commit and run that the job's variables name, as claims.
    ///
    /// Example: `stile-admin module publish acme/vpc/aws 1.2.0 ./vpc --registry-host registry.example.com`
    #[command(
        override_usage = "stile-admin module publish [OPTIONS] [ADDRESS VERSION] SOURCE\n       \
            stile-admin module publish [OPTIONS] --all --namespace NS --system SYSTEM SOURCE"
    )]
    Publish(ModulePublish),
    /// List modules, a namespace's modules, or a module's versions
    ///
    /// Example: `stile-admin module list acme/vpc/aws --registry-host registry.example.com`
    List(ModuleList),
    /// Find modules by words in their name, description, inputs or README
    ///
    /// Each word must begin a word of the module. The best module comes first: a word in a name counts
    /// most. It finds the latest version of each module that you may read.
    ///
    /// Example: `stile-admin module search vpc subnet --system aws`
    Search(ModuleSearch),
    /// Show one version: its state, who published it, its inputs and outputs
    ///
    /// It also shows an unpublished version. A value that is marked as claimed comes from the
    /// environment of the publisher, and nobody verified it.
    ///
    /// Example: `stile-admin module show acme/vpc/aws 1.2.0 --registry-host registry.example.com`
    Show(ModuleShow),
    /// Show who downloads which version, for a decision about an old one
    ///
    /// It shows the downloads of the last days by version and principal, with the last day of each.
    /// A client that has a version already downloads nothing. It needs `upload` on the namespace.
    ///
    /// Example: `stile-admin module usage acme/vpc/aws --version 1 --days 90`
    Usage(ModuleUsage),
    /// Mark a version as deprecated, which still can be downloaded
    ///
    /// The helper prints a notice for those who use the version, and its `check` shows the reason.
    /// You can repeat the command, also with another reason.
    ///
    /// Example: `stile-admin module deprecate acme/vpc/aws 1.2.0 --reason 'it opens port 22'
    /// --replacement 1.3.0`
    Deprecate(ModuleStatement),
    /// End the deprecation of a version
    ///
    /// Example: `stile-admin module undeprecate acme/vpc/aws 1.2.0`
    Undeprecate(ModuleOne),
    /// Take a version out of the list of versions, so that no client finds it
    ///
    /// The registry keeps its archive, and its number is never free for other bytes. Installed
    /// copies go on working.
    ///
    /// Example: `stile-admin module unpublish acme/vpc/aws 1.2.0 --reason 'it deletes the wrong
    /// bucket' --replacement 1.3.0`
    Unpublish(ModuleStatement),
    /// Bring an unpublished version back
    ///
    /// Example: `stile-admin module restore acme/vpc/aws 1.2.0`
    Restore(ModuleOne),
}

#[derive(Debug, Args)]
pub(crate) struct ModulePublish {
    /// The module's address and version, and the source
    #[arg(value_name = "ADDRESS VERSION SOURCE", required_unless_present = "object")]
    pub(crate) what: Vec<OsString>,

    /// Publish files that match this pattern, although the program would skip or refuse them
    ///
    /// A pattern as in `.terraformignore`. Repeat the flag for more patterns.
    /// Default: none. Example: `--include 'examples/*.tfvars'`
    #[arg(long, value_name = "PATTERN")]
    pub(crate) include: Vec<String>,

    #[command(flatten)]
    pub(crate) several: SeveralModules,

    /// Publish this source instead of an archive: a repository, or an archive at another server
    ///
    /// Clients fetch the module from there. The registry records only the text, and an operator must
    /// allow the source for the namespace. A source begins with `git::https://`, `git::ssh://`,
    /// `https://` or `s3::https://`. For a repository, the program asks git for the commit of the tag
    /// or the branch in `ref`, and publishes the commit.
    /// Default: none. Example: `--source 'git::https://github.com/acme/vpc.git?ref=v1.2.0'`
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["include", "all"])]
    pub(crate) source: Option<String>,

    /// Publish this object of an S3 bucket instead of an archive
    ///
    /// The registry reads the object once, checks it like an archive, and keeps no copy. Clients fetch
    /// it with signed URLs of the registry. An operator must allow the object for the namespace.
    /// Without an address and a version, the name of the object must say them, as the name of a file.
    /// Default: none. Example: `--object s3://acme-modules/vpc/1.2.0.zip`
    #[arg(long, value_name = "s3://BUCKET/KEY", requires = "sha256",
        conflicts_with_all = ["include", "all", "source"])]
    pub(crate) object: Option<String>,

    /// The SHA-256 of `--object`, as 64 hexadecimal digits
    ///
    /// Default: none.
    /// Example: `--sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`
    #[arg(long, value_name = "HEX", requires = "object")]
    pub(crate) sha256: Option<String>,

    /// Publish the tag or the branch of `--source` itself, and not its commit
    ///
    /// The content of the version can then change. The operator must allow a branch, and a tag that
    /// is not `v` and a version. Default: off. Example: `--keep-ref`
    #[arg(long, requires = "source")]
    pub(crate) keep_ref: bool,

    /// List the files of the archive, its size and its digest, and send nothing
    ///
    /// Default: off. Example: `--dry-run`
    #[arg(long)]
    pub(crate) dry_run: bool,

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

/// Returns the name of the local user, if the environment has a usable one.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place where the program reads its environment"
)]
fn user_name() -> Option<String> {
    std::env::var("USER").ok().filter(|name| {
        !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_graphic())
    })
}

/// Returns whether the environment has a usable name of the local user.
pub(crate) fn has_user_name() -> bool {
    user_name().is_some()
}

/// Returns the name of the local user, or else its number, for records of who created a grant. It
/// never authorises.
pub(crate) fn local_user() -> String {
    let name = user_name();
    format!("local:{}", name.unwrap_or_else(|| rustix::process::getuid().as_raw().to_string()))
}

/// Returns an environment variable of a CI service. No value is a secret of Stile.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place where the program reads its environment"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns the passphrase of a private key, if the environment has one.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place where the program reads its environment"
)]
pub(crate) fn key_passphrase() -> Option<String> {
    std::env::var("STILE_KEY_PASSPHRASE").ok().filter(|text| !text.is_empty())
}

/// Returns the file of the audit log, if the operator set one.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place where the program reads its environment"
)]
pub(crate) fn audit_log() -> Option<PathBuf> {
    std::env::var_os("STILE_AUDIT_LOG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Returns whether the user wants no colours: `NO_COLOR` is set to any text (no-color.org).
#[expect(
    clippy::disallowed_methods,
    reason = "the only place where the program reads its environment"
)]
pub(crate) fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn json_is_recognised_in_an_invalid_command_line() {
        for (line, expected) in [
            ("", false),
            ("grant make", false),
            ("grant list --output", false),
            ("grant list --output yaml", false),
            ("grant list --output=yaml json", false),
            ("namespace show -- --output json", false),
            ("module list json", false),
            ("grant make --output json", true),
            ("--output json grant make", true),
            ("grant --output=json make", true),
        ] {
            assert_eq!(asks_for_json(line.split(' ').map(OsString::from)), expected, "{line}");
        }
    }

    #[test]
    fn the_command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }
}
