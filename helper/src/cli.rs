//! The command line: verbs, flags and their help.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use stile_protocol::audience::Audience;
use stile_protocol::names::{Namespace, Permission};
use terraform_credentials_stile::call::TIMEOUT_SECONDS;
use terraform_credentials_stile::config::{
    self, Proof, RegistryConfig, Service, check_jwt_audience, check_region, check_trust, check_ttl,
    check_variable,
};

/// Help heading of the flags that every verb takes.
const GLOBAL_OPTIONS: &str = "Global options";

/// Authenticate to a private Terraform registry with your AWS identity
///
/// Terraform runs this program for each registry host and sends the token that it prints.
/// It signs requests only for the hosts in its `config.toml`. For other hosts it prints a stored
/// token, or an empty object.
///
/// To start, run `terraform-credentials-stile install --registry-host registry.example.com`,
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
    /// Default: `region` in `config.toml`, else the region that AWS tools use, else
    /// `us-east-1` for STS. Variable: `AWS_REGION`.
    ///
    /// Example: `--region eu-central-1`
    #[arg(long, global = true, help_heading = GLOBAL_OPTIONS, value_name = "REGION", value_parser = |text: &str| check_region(text.to_owned()))]
    pub(crate) region: Option<String>,

    /// Use only the credentials of this AWS profile
    ///
    /// Default: `profile` in `config.toml`, else the credentials that AWS tools find first. Keys in
    /// the environment take precedence over `AWS_PROFILE`.
    ///
    /// Example: `--profile deploy`
    #[arg(long, global = true, help_heading = GLOBAL_OPTIONS, value_name = "PROFILE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) profile: Option<String>,

    /// Wait at most this many seconds for the registry, from 1 to 600
    ///
    /// Default: 10. Variable: `STILE_TIMEOUT`.
    ///
    /// Example: `--timeout 30`
    #[arg(long, global = true, help_heading = GLOBAL_OPTIONS, value_name = "SECONDS", env = "STILE_TIMEOUT", hide_env = true, value_parser = clap::value_parser!(u64).range(TIMEOUT_SECONDS))]
    pub(crate) timeout: Option<u64>,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Cli {
    /// Parses the arguments that Terraform passes before the verb; `None` if they are not flags.
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
    ///
    /// It checks a cached token with the registry at most once a minute, for at most one second.
    /// If the registry rejects the token, it prints a new one. Any other answer keeps the token.
    ///
    /// Terraform hides its failures for modules. So without a terminal it also writes them to
    /// `stile/get.log` in the platform's cache folder, and to the file that `GITHUB_STEP_SUMMARY` names.
    Get {
        /// The registry's host, as Terraform spells it
        #[arg(value_name = "HOST")]
        host: String,
    },
    /// Store a token from stdin for a host that is not a Stile registry (used by `terraform login`)
    Store {
        /// The host, as Terraform spells it
        #[arg(value_name = "HOST")]
        host: String,
    },
    /// Delete the tokens of a host (used by `terraform logout`)
    Forget {
        /// The host, as Terraform spells it
        #[arg(value_name = "HOST")]
        host: String,
    },
    /// Print a new token for tools that do not support credentials helpers
    ///
    /// Example: `t=$(terraform-credentials-stile get-token env --registry-host registry.example.com) && eval "$t"`
    GetToken(GetToken),
    /// Install the program as Terraform's credentials helper and configure a registry
    ///
    /// A second run changes nothing. It never replaces another credentials helper.
    ///
    /// Example: `terraform-credentials-stile install --registry-host registry.example.com --profile deploy`
    Install(Install),
    /// Show your principal and your grants on a registry
    ///
    /// It shows the grants for `permissions` of `config.toml`, by default `download`. Without a grant
    /// for these, it shows those for all other permissions. `doctor` shows all.
    ///
    /// Example: `terraform-credentials-stile whoami registry.example.com`
    Whoami {
        /// The registry's host
        #[arg(value_name = "HOST", value_parser = parse_host)]
        host: Audience,
    },
    /// Check every step from AWS credentials to an authorised call, and show your grants
    ///
    /// It exits with 1 if a step fails. The line of that step has the command that helps. It asks for
    /// one token for each permission, so the audit log shows each permission that you do not have.
    ///
    /// Example: `terraform-credentials-stile doctor registry.example.com`
    Doctor {
        /// The registry's host; default: every host in `config.toml`
        #[arg(value_name = "HOST", value_parser = parse_host)]
        host: Option<Audience>,

        /// Check your grant on this namespace, the first part of a module's address
        ///
        /// Default: show the grants, and check no namespace.
        ///
        /// Example: `--namespace acme`
        #[arg(long, value_name = "NS")]
        namespace: Option<Namespace>,
    },
    /// Check whether installed modules and providers are deprecated, withdrawn or compromised
    ///
    /// It reads `.terraform/modules/modules.json` and `.terraform.lock.hcl`, which `terraform init`
    /// writes. It asks the registry about each module and provider of a host in `config.toml`, and
    /// lists all others as not checked.
    ///
    /// A provider is compromised if a key that its publisher no longer trusts signed it.
    ///
    /// Exit codes: 0 no unpublished, yanked or compromised version, with a warning about deprecated
    /// ones; 1 an unpublished, yanked or compromised version; 2 a version could not be checked.
    ///
    /// Example: `terraform-credentials-stile check environments/production`
    Check {
        /// The folder of the Terraform configuration; default: the current folder
        #[arg(value_name = "DIR", default_value = ".", hide_default_value = true)]
        folder: PathBuf,
    },
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
    /// It sends nothing. It exits with 2 if the helper cannot use a setting, and says why.
    ///
    /// Example: `terraform-credentials-stile config show registry.example.com`
    Show {
        /// The registry's host; default: every host in `config.toml`
        #[arg(value_name = "HOST", value_parser = parse_host)]
        host: Option<Audience>,
    },
}

impl Verb {
    /// Tells whether the verb may load AWS credentials.
    pub(crate) const fn needs_credentials(&self) -> bool {
        match self {
            Self::Get { .. }
            | Self::GetToken(_)
            | Self::Whoami { .. }
            | Self::Doctor { .. }
            | Self::Check { .. } => true,
            Self::Store { .. } | Self::Forget { .. } | Self::Install(_) | Self::Config { .. } => {
                false
            }
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct GetToken {
    /// The output format
    #[arg(value_enum, value_name = "FORM")]
    pub(crate) form: TokenFormat,

    /// Request the token from this registry
    ///
    /// Required.
    ///
    /// Example: `--registry-host registry.example.com`
    #[arg(long, value_name = "HOST", value_parser = parse_host)]
    pub(crate) registry_host: Audience,

    /// Request a token with this lifetime
    ///
    /// Default: `ttl` in `config.toml`, else 3600. The registry may shorten it, and then stderr
    /// says so. For a JWT, the registry decides it.
    ///
    /// Example: `--time 900`
    #[arg(short = 'T', long, value_name = "SECONDS", value_parser = parse_ttl)]
    pub(crate) time: Option<i64>,

    /// Sign for the service that verifies signatures for this registry
    ///
    /// Default: `service` in `config.toml`, else `sts`.
    ///
    /// Example: `--service execute-api`
    #[arg(long, value_enum, value_name = "SERVICE")]
    pub(crate) service: Option<Service>,

    /// Restrict the token to these namespaces
    ///
    /// Default: every namespace on which you have a grant.
    ///
    /// Example: `--namespace acme,tools`
    #[arg(long, value_name = "NS", value_delimiter = ',')]
    pub(crate) namespace: Vec<Namespace>,

    /// Request these permissions
    ///
    /// One or more of `create_grant`, `delete_grant`, `download`, `upload`.
    /// Default: `permissions` in `config.toml`, else `download`.
    ///
    /// Example: `--permission download,upload`
    #[arg(long, value_name = "P", value_delimiter = ',')]
    pub(crate) permission: Vec<Permission>,

    #[command(flatten)]
    pub(crate) proof: ProofFlags,
}

/// The flags that say how the caller proves its identity.
#[derive(Debug, Default, Args)]
pub(crate) struct ProofFlags {
    /// Prove your identity in this way
    ///
    /// Default: `proof` in `config.toml`, else `sigv4`. `--id-token-env` and `--id-token-file` imply
    /// `oidc`.
    ///
    /// Example: `--proof oidc`
    #[arg(long, value_enum, value_name = "PROOF")]
    pub(crate) proof: Option<Proof>,

    /// Send the JWT in one of these environment variables
    ///
    /// A registry accepts each JWT once, so the helper uses the first unused one.
    /// Default: `id_token_env` in `config.toml`, else GitHub Actions, else `STILE_ID_TOKEN` and
    /// `STILE_ID_TOKEN_2` to `STILE_ID_TOKEN_9`.
    ///
    /// Example: `--id-token-env STILE_ID_TOKEN,UPLOAD_ID_TOKEN`
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = |text: &str| check_variable(text.to_owned()), conflicts_with = "id_token_file")]
    pub(crate) id_token_env: Vec<String>,

    /// Send the JWT in this file
    ///
    /// Default: `id_token_file` in `config.toml`.
    ///
    /// Example: `--id-token-file /var/run/secrets/tokens/stile`
    #[arg(long, value_name = "FILE")]
    pub(crate) id_token_file: Option<PathBuf>,

    /// Be the principal of this trust, if more than one trust of the registry believes the JWT
    ///
    /// Default: `trust` in `config.toml`.
    ///
    /// Example: `--trust deploy-jobs`
    #[arg(long, value_name = "NAME", value_parser = |text: &str| check_trust(text.to_owned()))]
    pub(crate) trust: Option<String>,

    /// Use a JWT with this audience (`aud`), for a trust with an audience of its own
    ///
    /// Default: `audience` in `config.toml`, else the registry's host.
    ///
    /// Example: `--audience stile`
    #[arg(long, value_name = "TEXT", value_parser = |text: &str| check_jwt_audience(text.to_owned()))]
    pub(crate) audience: Option<String>,
}

impl ProofFlags {
    /// Applies the flags to a registry. They take precedence over the file.
    pub(crate) fn apply_to(&self, registry: &mut RegistryConfig) -> Result<(), String> {
        let places = &mut registry.id_tokens;
        if let Some(file) = &self.id_token_file {
            (places.variables, places.file) = (Vec::new(), Some(file.clone()));
        } else if !self.id_token_env.is_empty() {
            (places.variables, places.file) = (self.id_token_env.clone(), None);
        }
        if let Some(proof) = self.proof() {
            registry.proof = proof;
            if proof != Proof::Oidc && !self.names_a_place() {
                *places = config::IdTokenSettings::default();
            }
            if proof == Proof::Sigv4 {
                (registry.trust, registry.audience) = (None, None);
            }
        }
        if self.trust.is_some() {
            registry.trust.clone_from(&self.trust);
        }
        if self.audience.is_some() {
            registry.audience.clone_from(&self.audience);
        }
        registry.check_proof()
    }

    /// Returns the proof that the flags choose, if they choose one.
    pub(crate) fn proof(&self) -> Option<Proof> {
        self.proof.or_else(|| self.names_a_place().then_some(Proof::Oidc))
    }

    fn names_a_place(&self) -> bool {
        self.id_token_file.is_some() || !self.id_token_env.is_empty()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenFormat {
    /// The token and a newline
    Token,
    /// A `credentials` block for the CLI configuration
    Config,
    /// A JSON object with the token and its expiry
    Json,
    /// An `export TF_TOKEN_…` line, for `eval` in a POSIX shell
    Env,
    /// A `set -gx TF_TOKEN_…` line, for `source` in fish
    Fish,
    /// A `$env:TF_TOKEN_…` line, for `Invoke-Expression` in PowerShell
    Powershell,
    /// A `TF_TOKEN_…` line for `$GITHUB_ENV`; stderr gets the command that masks the token
    Github,
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Configure this registry
    ///
    /// Required.
    ///
    /// Example: `--registry-host registry.example.com`
    #[arg(long, value_name = "HOST", value_parser = parse_host)]
    pub(crate) registry_host: Audience,

    /// Sign for the service that verifies signatures for this registry
    ///
    /// Default: `sts`.
    ///
    /// Example: `--service execute-api`
    #[arg(long, value_enum, value_name = "SERVICE")]
    pub(crate) service: Option<Service>,

    /// Request tokens with this lifetime
    ///
    /// Default: 3600. Written to `config.toml` as `ttl`.
    ///
    /// Example: `--expiration-window 7200`
    #[arg(long, value_name = "SECONDS", value_parser = parse_ttl)]
    pub(crate) expiration_window: Option<i64>,

    /// Request tokens with these permissions
    ///
    /// Default: `download`. Written to `config.toml` as `permissions`.
    ///
    /// Example: `--permission download,upload`
    #[arg(long, value_name = "P", value_delimiter = ',')]
    pub(crate) permission: Vec<Permission>,

    #[command(flatten)]
    pub(crate) proof: ProofFlags,

    /// Copy the program to this folder only
    ///
    /// Default: `~/.terraform.d/plugins`, and OpenTofu's plugin folder if OpenTofu is installed.
    ///
    /// Example: `--plugin-directory ~/.terraform.d/plugins/linux_amd64`
    #[arg(long, value_name = "DIR")]
    pub(crate) plugin_directory: Option<PathBuf>,

    /// Edit this CLI configuration file
    ///
    /// Default: `~/.terraformrc`. Variable: `TF_CLI_CONFIG_FILE`.
    ///
    /// Example: `--rc-file ~/.tofurc`
    #[arg(long, value_name = "FILE")]
    pub(crate) rc_file: Option<PathBuf>,

    /// Show the changes without making them
    ///
    /// Default: off.
    ///
    /// Example: `--dry-run`
    #[arg(long)]
    pub(crate) dry_run: bool,
}

fn parse_host(text: &str) -> Result<Audience, String> {
    config::parse_host(text).map_err(|error| error.to_string())
}

fn parse_ttl(text: &str) -> Result<i64, String> {
    check_ttl(text.parse().map_err(|_| "not a whole number of seconds".to_owned())?)
        .map_err(|problem| problem.replace("`ttl` ", ""))
}
