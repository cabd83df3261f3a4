//! The subcommands and flags of `trust`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use crate::target::StoreTarget;

#[derive(Debug, Subcommand)]
pub(crate) enum TrustVerb {
    /// Believe the JWTs of an issuer, if their claims say what you expect
    ///
    /// The trust makes the principal `oidc:NAME`, to which you give grants as to any other. It takes
    /// effect within 10 seconds in every process.
    ///
    /// It does not change an existing trust: an identical one is `unchanged`, with exit code 0, and a
    /// different one is an error; use `update` for that.
    ///
    /// At a public issuer, everyone can get a JWT. So a `--claim` must say whose it is, such as
    /// `repository_id` for GitHub Actions and `project_id` for GitLab. Prefer ids to names, which
    /// another owner can have later.
    ///
    /// With `--aws-account` or `--aws-org`, it believes AWS's own JWTs (`sts:GetWebIdentityToken`). The
    /// caller is then the role or user that the JWT names, and has its grants.
    ///
    /// Example: `stile-admin trust create release-ci --data /var/lib/stile
    /// --issuer https://token.actions.githubusercontent.com
    /// --claim repository_id=74128573 --claim ref=refs/heads/main`
    Create(TrustCreate),
    /// Change what a trust believes, and end its tokens
    ///
    /// What you leave out does not change. One of `--claim`, `--claim-prefix` and `--claim-contains`
    /// replaces all conditions. Its grants stay. Its tokens end within 10 seconds.
    ///
    /// Example: `stile-admin trust update release-ci --data /var/lib/stile
    /// --claim repository_id=74128573 --claim environment=production`
    Update(TrustUpdate),
    /// List all trusts
    ///
    /// Example: `stile-admin trust list --data /var/lib/stile`
    List(StoreTarget),
    /// Show one trust
    ///
    /// Example: `stile-admin trust show release-ci --data /var/lib/stile`
    Show(TrustOne),
    /// Delete a trust, and end its tokens
    ///
    /// It refuses while grants name the trust. A later trust of the same name is another principal, and
    /// no token of this one is good for it. It takes effect within 10 seconds in every process.
    ///
    /// Example: `stile-admin trust delete release-ci --data /var/lib/stile --with-grants`
    Delete(TrustDelete),
}

/// The conditions of a trust.
#[derive(Debug, Args)]
pub(crate) struct TrustConditions {
    /// A claim of the JWT equals this text; repeat it for more claims, which must all hold
    ///
    /// The type must be the same: after `:=` comes a number, `true` or `false`. For a nested claim,
    /// write its JSON Pointer, which begins with `/`.
    /// Default: none. Example: `--claim ref_protected=true`, `--claim count:=7`,
    /// `--claim /https:~1~1sts.amazonaws.com~1/org_id=o-abcdefghij`
    #[arg(long = "claim", value_name = "CLAIM=TEXT")]
    pub(crate) equals: Vec<String>,

    /// A claim begins with this text, and goes on without `/` and `:`; repeat it for more claims
    ///
    /// The one `*` stands at the end.
    /// Default: none. Example: `--claim-prefix 'ref=refs/heads/release-*'`
    #[arg(long = "claim-prefix", value_name = "CLAIM=TEXT*")]
    pub(crate) prefix: Vec<String>,

    /// A claim is a list with this text in it; repeat it for more
    ///
    /// Default: none. Example: `--claim-contains groups=platform`
    #[arg(long = "claim-contains", value_name = "CLAIM=TEXT")]
    pub(crate) contains: Vec<String>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("conditions").multiple(true).required(true)
    .args(["equals", "prefix", "contains", "aws_account", "aws_org"]))]
pub(crate) struct TrustCreate {
    /// The name, such as `release-ci`
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// The issuer, exactly as the claim `iss` says it
    ///
    /// Required, except with `--aws-org`. Example: `--issuer https://gitlab.com`
    #[arg(long, value_name = "URL", required_unless_present = "aws_org")]
    pub(crate) issuer: Option<String>,

    #[command(flatten)]
    pub(crate) conditions: TrustConditions,

    /// Believe the roles and users of this AWS account, by AWS's own JWTs
    ///
    /// `--issuer` is the issuer of the account, which
    /// `aws iam get-outbound-web-identity-federation-info` shows. A broker asks no other issuer.
    /// Default: none. Example: `--aws-account 111122223333`
    #[arg(long, value_name = "ID", conflicts_with = "aws_org")]
    pub(crate) aws_account: Option<String>,

    /// Believe the roles and users of all accounts of this organization, by AWS's own JWTs
    ///
    /// Each account has an issuer of its own, of the form `https://ID.tokens.sts.global.api.aws`. A
    /// broker asks each of them for its keys.
    /// Default: none. Example: `--aws-org o-a1b2c3d4e5`
    #[arg(long, value_name = "ID", conflicts_with_all = ["issuer", "jwks"])]
    pub(crate) aws_org: Option<String>,

    /// Accept such callers although a unique id is pinned for them
    ///
    /// AWS's JWT does not say the unique id of a role. So a role that someone deletes and creates again
    /// has the grants of the first one. Without the flag, the broker refuses a role with a pin.
    /// Default: off. Example: `--without-pin`
    #[arg(long)]
    pub(crate) without_pin: bool,

    /// The audience of the JWTs: their claim `aud`
    ///
    /// Default: the registry's host, with or without `https://`. Example: `--audience stile`
    #[arg(long, value_name = "TEXT")]
    pub(crate) audience: Option<String>,

    /// How old a JWT may be since its claim `iat`
    ///
    /// A JWT ends earlier if its claim `exp` says so. At most 24 hours.
    /// Default: `1h`. Example: `--max-age 4h`
    #[arg(long, value_name = "DURATION")]
    pub(crate) max_age: Option<String>,

    /// The public keys of the issuer, as a file with a JWK set, instead of those at its URL
    ///
    /// For an issuer that a broker cannot reach. A broker then never asks the issuer, so update the
    /// trust when the issuer changes its keys.
    /// Default: the issuer's own, by its discovery document. Example: `--jwks jwks.json`
    #[arg(long, value_name = "FILE")]
    pub(crate) jwks: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) store: StoreTarget,
}

#[derive(Debug, Args)]
pub(crate) struct TrustUpdate {
    /// The name, such as `release-ci`
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// The new issuer, exactly as the claim `iss` says it
    ///
    /// Default: unchanged. Example: `--issuer https://gitlab.com`
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: Option<String>,

    #[command(flatten)]
    pub(crate) conditions: TrustConditions,

    /// The new audience of the JWTs: their claim `aud`
    ///
    /// Default: unchanged. Example: `--audience stile`
    #[arg(long, value_name = "TEXT")]
    pub(crate) audience: Option<String>,

    /// Take the registry's host as the audience again
    ///
    /// Default: off. Example: `--no-audience`
    #[arg(long, conflicts_with = "audience")]
    pub(crate) no_audience: bool,

    /// How old a JWT may be since its claim `iat`, at most 24 hours
    ///
    /// Default: unchanged. Example: `--max-age 4h`
    #[arg(long, value_name = "DURATION")]
    pub(crate) max_age: Option<String>,

    /// The new public keys of the issuer, as a file with a JWK set
    ///
    /// Default: unchanged. Example: `--jwks jwks.json`
    #[arg(long, value_name = "FILE")]
    pub(crate) jwks: Option<PathBuf>,

    /// Take the keys at the issuer's URL again
    ///
    /// Default: off. Example: `--no-jwks`
    #[arg(long, conflicts_with = "jwks")]
    pub(crate) no_jwks: bool,

    /// Whether callers of AWS are accepted although a unique id is pinned for them
    ///
    /// Default: unchanged. Example: `--without-pin`, `--without-pin=false`
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) without_pin: Option<bool>,

    #[command(flatten)]
    pub(crate) store: StoreTarget,
}

#[derive(Debug, Args)]
pub(crate) struct TrustOne {
    /// The name, such as `release-ci`
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) store: StoreTarget,
}

#[derive(Debug, Args)]
pub(crate) struct TrustDelete {
    /// The name, such as `release-ci`
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Delete its grants first
    ///
    /// If it stops halfway, repeat it: it goes on with the grants that are left.
    /// Default: off. Example: `--with-grants`
    #[arg(long)]
    pub(crate) with_grants: bool,

    #[command(flatten)]
    pub(crate) store: StoreTarget,
}
