//! The command line: verbs, flags and the help that teaches them.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use stile_protocol::audience::Audience;
use stile_protocol::names::{Namespace, Permission};
use terraform_credentials_stile::config::{Service, check_region, check_ttl};

/// Heading of the flags that every verb takes.
const GLOBAL_OPTIONS: &str = "Everywhere";

/// Enter a private Terraform registry with the AWS identity you already have
///
/// Terraform runs this program for each registry host and sends the token that it prints.
/// It signs only for the hosts in its `config.toml`; for every other host it says that it has nothing.
///
/// To begin: `terraform-credentials-stile install --registry-host registry.example.com`,
/// then `terraform-credentials-stile doctor`.
#[derive(Debug, Parser)]
#[command(
    name = "terraform-credentials-stile",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    /// Read this configuration file
    ///
    /// Default: `stile/config.toml` in the platform's configuration folder. Variable: `STILE_CONFIG`.
    ///
    /// Example: `--config /etc/stile/config.toml`
    #[arg(long, global = true, help_heading = GLOBAL_OPTIONS, value_name = "FILE", env = "STILE_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,

    /// Sign for this AWS region
    ///
    /// Default: `region` in `config.toml`, else what AWS tools use. Variable: `AWS_REGION`.
    ///
    /// Example: `--region eu-central-1`
    #[arg(long, global = true, help_heading = GLOBAL_OPTIONS, value_name = "REGION", value_parser = |text: &str| check_region(text.to_owned()))]
    pub(crate) region: Option<String>,

    /// Use the credentials of this AWS profile, and no others
    ///
    /// Default: `profile` in `config.toml`, else what AWS tools find first: keys in the environment
    /// go before `AWS_PROFILE`.
    ///
    /// Example: `--profile deploy`
    #[arg(long, global = true, help_heading = GLOBAL_OPTIONS, value_name = "PROFILE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) profile: Option<String>,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Cli {
    /// What arguments say that Terraform passes before the verb, if they are flags.
    pub(crate) fn parse_before_verb(arguments: &[String]) -> Option<Self> {
        let arguments = arguments.iter().map(String::as_str);
        Self::try_parse_from(
            ["terraform-credentials-stile"]
                .into_iter()
                .chain(arguments)
                .chain(["get", "a.example"]),
        )
        .ok()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Print a host's token as JSON, for Terraform
    Get {
        /// The registry's host, as Terraform spells it
        #[arg(value_name = "HOST")]
        host: String,
    },
    /// Keep the token on standard input for a host that is no Stile registry, for `terraform login`
    Store {
        /// The host, as Terraform spells it
        #[arg(value_name = "HOST")]
        host: String,
    },
    /// Drop what is kept for a host, for `terraform logout`
    Forget {
        /// The host, as Terraform spells it
        #[arg(value_name = "HOST")]
        host: String,
    },
    /// Print a new token, for tools that know no credentials helper
    ///
    /// Example: `t=$(terraform-credentials-stile get-token env --registry-host registry.example.com) && eval "$t"`
    GetToken(GetToken),
    /// Put the program where Terraform looks for it, and configure both
    ///
    /// Run twice, it changes nothing; another credentials helper is never replaced.
    ///
    /// Example: `terraform-credentials-stile install --registry-host registry.example.com --profile deploy`
    Install(Install),
    /// Show whom a registry takes you for, and what you may do there
    ///
    /// Example: `terraform-credentials-stile whoami registry.example.com`
    Whoami {
        /// The registry's host
        #[arg(value_name = "HOST", value_parser = parse_host)]
        host: Audience,
    },
    /// Walk the whole way to a token and tell what is wrong on it
    ///
    /// Example: `terraform-credentials-stile doctor registry.example.com`
    Doctor {
        /// The registry's host; default: every host in `config.toml`
        #[arg(value_name = "HOST", value_parser = parse_host)]
        host: Option<Audience>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct GetToken {
    /// How to print it
    #[arg(value_enum, value_name = "FORM")]
    pub(crate) form: TokenFormat,

    /// Get the token for this registry
    ///
    /// Required.
    ///
    /// Example: `--registry-host registry.example.com`
    #[arg(long, value_name = "HOST", value_parser = parse_host)]
    pub(crate) registry_host: Audience,

    /// Ask for a token that lives this long
    ///
    /// Default: `ttl` in `config.toml`, else 3600. The registry may give less.
    ///
    /// Example: `--time 900`
    #[arg(short = 'T', long, value_name = "SECONDS", value_parser = parse_ttl)]
    pub(crate) time: Option<i64>,

    /// Sign for what verifies the signature at this registry
    ///
    /// Default: `service` in `config.toml`, else `sts`.
    ///
    /// Example: `--service execute-api`
    #[arg(long, value_enum, value_name = "SERVICE")]
    pub(crate) service: Option<Service>,

    /// Ask for these namespaces only
    ///
    /// Default: every namespace you have a grant on.
    ///
    /// Example: `--namespace acme,tools`
    #[arg(long, value_name = "NS", value_delimiter = ',')]
    pub(crate) namespace: Vec<Namespace>,

    /// Ask for these permissions
    ///
    /// One or more of `create_grant`, `delete_grant`, `download`, `upload`.
    /// Default: `permissions` in `config.toml`, else `download`.
    ///
    /// Example: `--permission download,upload`
    #[arg(long, value_name = "P", value_delimiter = ',')]
    pub(crate) permission: Vec<Permission>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenFormat {
    /// The token and a newline
    Token,
    /// A `credentials` block for the CLI configuration
    Config,
    /// An `export TF_TOKEN_…` line, for `eval`
    Env,
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Get tokens for this registry
    ///
    /// Required.
    ///
    /// Example: `--registry-host registry.example.com`
    #[arg(long, value_name = "HOST", value_parser = parse_host)]
    pub(crate) registry_host: Audience,

    /// Sign for what verifies the signature at this registry
    ///
    /// Default: `sts`.
    ///
    /// Example: `--service execute-api`
    #[arg(long, value_enum, value_name = "SERVICE")]
    pub(crate) service: Option<Service>,

    /// Ask for tokens that live this long
    ///
    /// Default: 3600. Becomes `ttl` in `config.toml`.
    ///
    /// Example: `--expiration-window 7200`
    #[arg(long, value_name = "SECONDS", value_parser = parse_ttl)]
    pub(crate) expiration_window: Option<i64>,

    /// Put the program into this folder, and no other
    ///
    /// Default: `~/.terraform.d/plugins`, and OpenTofu's folder if it has one.
    ///
    /// Example: `--plugin-directory ~/.terraform.d/plugins/linux_amd64`
    #[arg(long, value_name = "DIR")]
    pub(crate) plugin_directory: Option<PathBuf>,

    /// Edit this CLI configuration
    ///
    /// Default: `~/.terraformrc`. Variable: `TF_CLI_CONFIG_FILE`.
    ///
    /// Example: `--rc-file ~/.tofurc`
    #[arg(long, value_name = "FILE")]
    pub(crate) rc_file: Option<PathBuf>,

    /// Show what would change, and change nothing
    ///
    /// Default: off.
    ///
    /// Example: `--dry-run`
    #[arg(long)]
    pub(crate) dry_run: bool,
}

fn parse_host(text: &str) -> Result<Audience, String> {
    Audience::parse(text).map_err(|error| error.to_string())
}

fn parse_ttl(text: &str) -> Result<i64, String> {
    check_ttl(text.parse().map_err(|_| "not a whole number of seconds".to_owned())?)
        .map_err(|problem| problem.replace("`ttl` ", ""))
}
