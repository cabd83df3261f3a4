//! The subcommands and flags of `token`.

use clap::{Args, Subcommand};

use crate::target::StoreTarget;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Issue a service token, for a client that can hold only a plain token
    ///
    /// It prints the token once, and the registry keeps only a digest of it. The token is the principal
    /// `service:NAME`. The same commit creates or widens the grant of that principal on each namespace,
    /// and the command says so. The token gives what both its own list and these grants allow.
    ///
    /// Example: `stile-admin token issue --data /var/lib/stile --name renovate --namespace acme
    /// --permission download --expires 90d`
    Issue(TokenIssue),
    /// Issue the next token of a service, and let the old one end at a set time
    ///
    /// The new token has the same name, namespaces, permissions, networks and issuer. It is printed
    /// once.
    ///
    /// Example: `stile-admin token rotate --data /var/lib/stile 5Xh0kq0y3bF2m1p7Qn4w8A --expires 90d
    /// --old-ends 7d`
    Rotate(TokenRotate),
    /// Become the issuer of a service token that someone else issued through the API
    ///
    /// The token then no longer ends when its issuer loses a right.
    ///
    /// Example: `stile-admin token adopt --data /var/lib/stile 5Xh0kq0y3bF2m1p7Qn4w8A`
    Adopt(TokenAdopt),
    /// Revoke one token, a principal, or all tokens
    ///
    /// It takes effect within 10 seconds in every process.
    ///
    /// Example: `stile-admin token revoke --data /var/lib/stile --principal
    /// arn:aws:iam::111122223333:role/deploy`
    Revoke(TokenRevoke),
    /// End the revocation of a principal
    ///
    /// Its unexpired tokens are valid again, except tokens that you revoked by their id.
    ///
    /// Example: `stile-admin token lift --data /var/lib/stile --principal
    /// arn:aws:iam::111122223333:role/deploy`
    Lift(TokenLift),
    /// List the service tokens, and the revoked principals and tokens
    ///
    /// A service token has the day of its last use, in UTC. No list shows a token itself.
    ///
    /// Example: `stile-admin token list --data /var/lib/stile`
    List(StoreTarget),
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["token", "principal", "all"])]
pub(crate) struct TokenRevoke {
    /// The token id: `token_id` in the audit log, or the id of a service token in `token list`
    // An id is base64url, so one of 64 begins with `-`.
    #[arg(value_name = "JTI", allow_hyphen_values = true)]
    pub(crate) token: Option<String>,

    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// Revoke a principal: it gets no new tokens, and its tokens become invalid
    ///
    /// A role or user by its ARN, `sso:111122223333/Admin`, `account:111122223333`, a trust
    /// (`oidc:release-ci`), a service (`service:renovate`), or a group of AWS callers
    /// (`org:o-a1b2c3d4e5`, `ou:…` or `…tag:team=data`).
    /// Example: `--principal arn:aws:iam::111122223333:role/deploy`, `--principal oidc:release-ci`
    #[arg(long, visible_alias = "role-arn", value_name = "PRINCIPAL")]
    pub(crate) principal: Option<String>,

    /// Use a role of IAM Identity Center itself, not its permission set
    ///
    /// Default: off. Example: `--exact`
    #[arg(long, requires = "principal")]
    pub(crate) exact: bool,

    /// Revoke all tokens, by deleting all keys and all service tokens
    ///
    /// Principals with grants can get new tokens at once. A helper uses its cached token until it
    /// expires, or until `terraform-credentials-stile forget HOST`. Example: `--all --yes`
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

    /// The revoked principal
    ///
    /// Required. As for `token revoke`, and as `token list` shows it.
    /// Example: `--principal arn:aws:iam::111122223333:role/deploy`, `--principal oidc:release-ci`
    #[arg(long, visible_alias = "role-arn", value_name = "PRINCIPAL")]
    pub(crate) principal: String,

    /// Use a role of IAM Identity Center itself, not its permission set
    ///
    /// Default: off. Example: `--exact`
    #[arg(long)]
    pub(crate) exact: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TokenIssue {
    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// The name of the service: lower-case letters, digits and hyphens
    ///
    /// Required. Several tokens can have one name. Example: `--name renovate`
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,

    /// A namespace of the token, or `*` for all
    ///
    /// Required. Repeat it, or separate several with commas. At most 16. Example: `--namespace acme`
    #[arg(long = "namespace", value_name = "NS", required = true, value_delimiter = ',')]
    pub(crate) namespaces: Vec<String>,

    /// What the token allows: `download` or `upload`
    ///
    /// Required. Repeat it, or separate both with a comma. Example: `--permission download`
    #[arg(long = "permission", value_name = "PERMISSION", required = true, value_delimiter = ',')]
    pub(crate) permissions: Vec<String>,

    /// The end of the token: a time, a date or a duration, at most 400 days away
    ///
    /// Required. Example: `--expires 90d`
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: String,

    /// A network from which the token works, and no other one
    ///
    /// Default: from everywhere. Repeat it, or separate several with commas. A broker that does not
    /// know the address of a client refuses a token with a network. Example: `--cidr 203.0.113.0/24`
    #[arg(long = "cidr", value_name = "CIDR", value_delimiter = ',')]
    pub(crate) networks: Vec<String>,

    /// Confirm a token for `*`, which means all current and future namespaces
    ///
    /// Default: off. Example: `--yes`
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TokenRotate {
    /// The id of the service token, from `token list`
    #[arg(value_name = "ID", allow_hyphen_values = true)]
    pub(crate) token: String,

    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// The end of the new token: a time, a date or a duration, at most 400 days away
    ///
    /// Required. Example: `--expires 90d`
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: String,

    /// The end of the old token: a time, a date or a duration
    ///
    /// Default: `1d`. It never ends later than before. Example: `--old-ends 7d`
    #[arg(long, value_name = "WHEN", default_value = "1d")]
    pub(crate) old_ends: String,
}

#[derive(Debug, Args)]
pub(crate) struct TokenAdopt {
    /// The id of the service token, from `token list`
    #[arg(value_name = "ID", allow_hyphen_values = true)]
    pub(crate) token: String,

    #[command(flatten)]
    pub(crate) store: StoreTarget,
}
