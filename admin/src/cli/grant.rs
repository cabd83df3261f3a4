//! The verbs and flags of `grant`.

use clap::{Args, Subcommand};
use stile_protocol::names::{Permission, Permissions};

use crate::target::StoreTarget;

#[derive(Debug, Subcommand)]
pub(crate) enum GrantVerb {
    /// Give a principal permissions on a namespace
    ///
    /// A grant that exists is not touched; `update` changes it.
    ///
    /// Example: `stile-admin grant create --data /var/lib/stile
    /// --role-arn arn:aws:iam::111122223333:role/deploy --namespace acme --download --expires 90d`
    Create(GrantCreate),
    /// Change the permissions that are named, and no others
    ///
    /// Example: `stile-admin grant update --data /var/lib/stile
    /// --role-arn arn:aws:iam::111122223333:role/deploy --namespace acme --upload --download=false`
    Update(GrantUpdate),
    /// Take a grant away
    ///
    /// Works within 10 seconds, also for tokens that are out.
    ///
    /// Example: `stile-admin grant delete --data /var/lib/stile
    /// --role-arn arn:aws:iam::111122223333:role/deploy --namespace acme`
    Delete(GrantOne),
    /// Show one grant
    ///
    /// Example: `stile-admin grant show --data /var/lib/stile
    /// --role-arn arn:aws:iam::111122223333:role/deploy --namespace acme`
    Show(GrantOne),
    /// List grants: all, a principal's, or a namespace's
    ///
    /// Example: `stile-admin grant list --data /var/lib/stile --namespace acme`
    List(GrantList),
    /// Say whether a principal would be let in, and why
    ///
    /// Where it would not, the nearest grant is shown and what it differs by. Exits 1 for "no".
    ///
    /// Example: `stile-admin grant explain --data /var/lib/stile
    /// --role-arn arn:aws:iam::111122223333:role/deploy --namespace acme --permission upload`
    Explain(GrantExplain),
    /// Forget which unique id a role or user had, after it was deleted and made anew in AWS
    ///
    /// Its next token pins the id that it has then.
    ///
    /// Example: `stile-admin grant repin --data /var/lib/stile
    /// --role-arn arn:aws:iam::111122223333:role/deploy`
    Repin(GrantRepin),
}

#[derive(Debug, Args)]
pub(crate) struct PrincipalArgs {
    /// Name the role or user by its ARN
    ///
    /// Required. As `--principal` also a permission set (`sso:111122223333/Admin`) or all roles and users
    /// of an account (`account:111122223333`). Example: `--role-arn arn:aws:iam::111122223333:role/deploy`
    #[arg(long = "role-arn", visible_alias = "principal", value_name = "ARN")]
    pub(crate) principal: String,

    /// Take a role of IAM Identity Center itself, not its permission set
    ///
    /// Default: off, since such a role gets another name when its set is provisioned anew.
    /// Example: `--exact`
    #[arg(long)]
    pub(crate) exact: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NamespaceArgs {
    /// Name the namespace
    ///
    /// Required. `*` is all there are and will be. Example: `--namespace acme`
    #[arg(long, value_name = "NS")]
    pub(crate) namespace: String,
}

#[derive(Debug, Args)]
pub(crate) struct GrantCreate {
    #[command(flatten)]
    pub(crate) store: StoreTarget,
    #[command(flatten)]
    pub(crate) who: PrincipalArgs,
    #[command(flatten)]
    pub(crate) on: NamespaceArgs,

    /// Let it read modules and providers
    ///
    /// Default: off. Example: `--download`
    #[arg(long)]
    download: bool,

    /// Let it publish modules and providers
    ///
    /// Default: off. Example: `--upload`
    #[arg(long)]
    upload: bool,

    /// Let it give others what it holds
    ///
    /// Default: off. Example: `--create-grant`
    #[arg(long)]
    create_grant: bool,

    /// Let it take grants away
    ///
    /// Default: off. Example: `--delete-grant`
    #[arg(long)]
    delete_grant: bool,

    /// End the grant at this time, or after this long
    ///
    /// Default: never. RFC 3339 or a duration. Example: `--expires 90d`,
    /// `--expires 2027-01-31T18:00:00Z`
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<String>,

    /// Let in only the role or user with this unique id of AWS
    ///
    /// Default: the one that gets the first token. Example: `--unique-id AROAEXAMPLEEXAMPLE222`
    #[arg(long, value_name = "ID", conflicts_with = "no_pin")]
    pub(crate) unique_id: Option<String>,

    /// Let in whatever AWS calls by that name, also when it was deleted and made anew
    ///
    /// Default: off. Example: `--no-pin`
    #[arg(long)]
    pub(crate) no_pin: bool,

    /// Confirm a grant on `*`, or for a whole account
    ///
    /// Default: off. Example: `--yes`
    #[arg(long)]
    pub(crate) yes: bool,
}

impl GrantCreate {
    /// What is to be allowed.
    pub(crate) fn permissions(&self) -> Permissions {
        let flags = [
            (self.create_grant, Permission::CreateGrant),
            (self.delete_grant, Permission::DeleteGrant),
            (self.download, Permission::Download),
            (self.upload, Permission::Upload),
        ];
        flags.into_iter().filter_map(|(given, permission)| given.then_some(permission)).collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct GrantUpdate {
    #[command(flatten)]
    pub(crate) store: StoreTarget,
    #[command(flatten)]
    pub(crate) who: PrincipalArgs,
    #[command(flatten)]
    pub(crate) on: NamespaceArgs,

    /// Let it read modules and providers, or no more
    ///
    /// Default: as it is. Example: `--download`, `--download=false`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    download: Option<bool>,

    /// Let it publish modules and providers, or no more
    ///
    /// Default: as it is. Example: `--upload`, `--upload=false`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    upload: Option<bool>,

    /// Let it give others what it holds, or no more
    ///
    /// Default: as it is. Example: `--create-grant`, `--create-grant=false`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    create_grant: Option<bool>,

    /// Let it take grants away, or no more
    ///
    /// Default: as it is. Example: `--delete-grant`, `--delete-grant=false`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    delete_grant: Option<bool>,

    /// End the grant at this time, or after this long
    ///
    /// Default: as it is. RFC 3339 or a duration. Example: `--expires 90d`,
    /// `--expires 2027-01-31T18:00:00Z`
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<String>,
}

impl GrantUpdate {
    /// What is to be allowed from now on, if `value`, or what no more.
    pub(crate) fn permissions(&self, value: bool) -> Permissions {
        let flags = [
            (self.create_grant, Permission::CreateGrant),
            (self.delete_grant, Permission::DeleteGrant),
            (self.download, Permission::Download),
            (self.upload, Permission::Upload),
        ];
        flags
            .into_iter()
            .filter_map(|(given, permission)| (given == Some(value)).then_some(permission))
            .collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct GrantOne {
    #[command(flatten)]
    pub(crate) store: StoreTarget,
    #[command(flatten)]
    pub(crate) who: PrincipalArgs,
    #[command(flatten)]
    pub(crate) on: NamespaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GrantList {
    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// List the grants of this principal only
    ///
    /// Default: everybody's. Example: `--principal arn:aws:iam::111122223333:role/deploy`
    #[arg(long, visible_alias = "role-arn", value_name = "ARN")]
    pub(crate) principal: Option<String>,

    /// Take a role of IAM Identity Center itself, not its permission set
    ///
    /// Default: off. Example: `--exact`
    #[arg(long, requires = "principal")]
    pub(crate) exact: bool,

    /// List the grants on this namespace only, `*` being the grants on all
    ///
    /// Default: every grant. Example: `--namespace acme`
    #[arg(long, value_name = "NS")]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GrantExplain {
    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// Name the caller by its ARN, as `aws sts get-caller-identity` shows it
    ///
    /// Required. Example: `--role-arn arn:aws:sts::111122223333:assumed-role/deploy/session`
    #[arg(long = "role-arn", visible_alias = "principal", value_name = "ARN")]
    pub(crate) principal: String,

    #[command(flatten)]
    pub(crate) on: NamespaceArgs,

    /// Ask about this permission
    ///
    /// One of `create_grant`, `delete_grant`, `download`, `upload`. Default: `download`.
    /// Example: `--permission upload`
    #[arg(long, value_name = "P", default_value = "download", hide_default_value = true)]
    pub(crate) permission: Permission,

    /// Say which unique id AWS shows for the caller
    ///
    /// Default: the one that is pinned, if any. Example: `--unique-id AROAEXAMPLEEXAMPLE222`
    #[arg(long, value_name = "ID")]
    pub(crate) unique_id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GrantRepin {
    #[command(flatten)]
    pub(crate) store: StoreTarget,

    /// Name the role or user by its ARN
    ///
    /// Required. Example: `--role-arn arn:aws:iam::111122223333:role/deploy`
    #[arg(long = "role-arn", visible_alias = "principal", value_name = "ARN")]
    pub(crate) principal: String,
}
