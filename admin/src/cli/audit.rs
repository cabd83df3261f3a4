//! The subcommands and flags of `audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::target::{AnyTarget, StoreTarget};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Audit {
    #[command(subcommand)]
    pub(crate) verb: Option<AuditVerb>,

    #[command(flatten)]
    pub(crate) list: AuditList,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// List the changes that the store has kept, the latest last
    ///
    /// The log has more: it also has the decisions that changed nothing. With `--registry-host`, it
    /// lists the namespaces on which you have `create_grant`. At the store, it also lists the changes
    /// of operators that are about no single namespace, as chain `*`.
    ///
    /// Example: `stile-admin audit list --data /var/lib/stile --namespace acme --since 7d`
    List(AuditList),
    /// Print the signed head of each chain, as lines of JSON
    ///
    /// Keep them where nobody who can write to the store can change them. `audit verify --head`
    /// compares the store with them.
    ///
    /// Example: `stile-admin audit head --data /var/lib/stile >> /elsewhere/stile-heads.jsonl`
    Head(AuditHead),
    /// Verify that no kept event was removed, changed or moved
    ///
    /// It prints one line for each fault. Exit code 1 if there is one. Without `--head`, it does not
    /// find that the latest events of a chain were removed together with their signed heads, or that
    /// the owner of the audit key wrote a chain again.
    ///
    /// Example: `stile-admin audit verify --data /var/lib/stile --head /elsewhere/stile-heads.jsonl`
    Verify(AuditVerify),
    /// Remove kept events that are older than a number of days
    ///
    /// It removes only whole segments, the oldest first, and only those whose end is signed. The
    /// signed head of each stays. A broker with a data folder does the same by itself. You can repeat
    /// the command, also after it was killed.
    ///
    /// Example: `stile-admin audit expire --table stile --bucket acme-stile --kms-key alias/stile
    /// --audit-key alias/stile-audit --dry-run`
    Expire(AuditExpire),
}

#[derive(Debug, Args)]
pub(crate) struct AuditList {
    #[command(flatten)]
    pub(crate) at: AnyTarget,

    /// List only what this principal did, and what is about it
    ///
    /// A role or user by its ARN, `sso:111122223333/Admin`, or `account:111122223333`. Default: all.
    /// Example: `--principal arn:aws:iam::111122223333:role/deploy`
    #[arg(long, visible_alias = "role-arn", value_name = "ARN")]
    pub(crate) principal: Option<String>,

    /// Use a role of IAM Identity Center itself, not its permission set
    ///
    /// Default: off. Example: `--exact`
    #[arg(long, requires = "principal")]
    pub(crate) exact: bool,

    /// List only the changes of this namespace
    ///
    /// `*` lists the changes of operators that are about no single namespace, at the store only.
    /// Default: all. Example: `--namespace acme`
    #[arg(long, value_name = "NS")]
    pub(crate) namespace: Option<String>,

    /// List only changes from this time on
    ///
    /// A time, a date, or how long ago. Default: the first. Example: `--since 7d`
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,

    /// List only changes before this time
    ///
    /// A time, a date, or how long ago. Default: now. Example: `--until 2027-01-31`
    #[arg(long, value_name = "WHEN", conflicts_with = "follow")]
    pub(crate) until: Option<String>,

    /// List at most this many changes: the latest
    ///
    /// Default: 1000. Example: `--limit 20`
    #[arg(long, value_name = "COUNT", default_value_t = 1000, hide_default_value = true,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,

    /// Go on, and print each change when it happens
    ///
    /// With `--output json`, each line is an object. It asks every two seconds, until you stop it.
    /// Default: off. Example: `--follow`
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditHead {
    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// Print only the head of this namespace, or of the operators' chain for `*`
    ///
    /// Default: all. Example: `--namespace acme`
    #[arg(long, value_name = "NS")]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// Compare the store with the signed heads in this file
    ///
    /// Each line is a head of `audit head`, or an `audit_head` line of a JSON log. You can repeat it.
    /// Default: none. Example: `--head /elsewhere/stile-heads.jsonl`
    #[arg(long, value_name = "FILE")]
    pub(crate) head: Vec<PathBuf>,

    /// Verify only the chain of this namespace, or the operators' chain for `*`
    ///
    /// Default: all. Example: `--namespace acme`
    #[arg(long, value_name = "NS")]
    pub(crate) namespace: Option<String>,

    #[command(flatten)]
    pub(crate) keys: TrustedKeys,

    /// Report expired events that are younger than this many days
    ///
    /// Give the number with which events expire. `0`: none may expire. Default: 400.
    /// Variable: `STILE_AUDIT_DAYS`. Example: `--audit-days 730`
    #[arg(long, value_name = "DAYS", env = "STILE_AUDIT_DAYS", hide_env = true, default_value_t = 400,
        hide_default_value = true, value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub(crate) audit_days: u32,
}

#[derive(Debug, Args)]
pub(crate) struct TrustedKeys {
    /// Also accept heads that this earlier audit key signed
    ///
    /// After a restore, a data folder has a new audit key. The text is `algorithm`, a colon, and
    /// `public_key` of a head that you have kept. You can repeat it. Default: only the present key.
    /// Example: `--public-key ed25519:8Zq3…`
    #[arg(long, value_name = "KEY")]
    pub(crate) public_key: Vec<String>,

    /// Accept only heads of this registry
    ///
    /// Default: the host that the store has. A table without a host needs it. Variable: `STILE_HOST`.
    /// Example: `--host registry.example.com`
    #[arg(long, value_name = "HOST", env = "STILE_HOST", hide_env = true)]
    pub(crate) host: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditExpire {
    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// Remove segments whose last event is older than this many days
    ///
    /// Default: 400. Variable: `STILE_AUDIT_DAYS`. Example: `--audit-days 730`
    #[arg(long, value_name = "DAYS", env = "STILE_AUDIT_DAYS", hide_env = true, default_value_t = 400,
        hide_default_value = true, value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub(crate) audit_days: u32,

    #[command(flatten)]
    pub(crate) keys: TrustedKeys,

    /// Show what would be removed, and remove nothing
    ///
    /// Default: off. Example: `--dry-run`
    #[arg(long)]
    pub(crate) dry_run: bool,
}
