//! The subcommands and flags of `grant`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use stile_protocol::names::{Permission, Permissions};

use crate::target::AnyTarget;

#[derive(Debug, Subcommand)]
pub(crate) enum GrantVerb {
    /// Grant permissions on a namespace to a principal
    ///
    /// It does not change an existing grant: an identical one is `unchanged`, with exit code 0, and a
    /// different one is an error; use `update` for that. A notice names each namespace, account or role
    /// that nothing else in the store mentions, and the nearest known name.
    ///
    /// Through the API, with `--registry-host`, you need `create_grant` and each permission of the
    /// grant. Only an operator creates grants on `*` and of accounts, and sets pins.
    ///
    /// Example: `stile-admin grant create --data /var/lib/stile
    /// --role-arn arn:aws:iam::111122223333:role/deploy --namespace acme --download --expires 90d`
    Create(GrantCreate),
    /// Change the named permissions of a grant, and no others
    ///
    /// With `--registry-host`, it reads the grant first. If others change the grant meanwhile, it
    /// changes nothing, with exit code 1.
    ///
    /// Example: `stile-admin grant update --data /var/lib/stile
    /// --role-arn arn:aws:iam::111122223333:role/deploy --namespace acme --upload --download=false`
    Update(GrantUpdate),
    /// Delete a grant
    ///
    /// It takes effect within 10 seconds, also for existing tokens.
    ///
    /// With `--registry-host`, it reads the grant first. If others change the grant meanwhile, it
    /// deletes nothing, with exit code 1.
    ///
    /// Example: `stile-admin grant delete --data /var/lib/stile
    /// --role-arn arn:aws:iam::111122223333:role/deploy --namespace acme`
    Delete(GrantDelete),
    /// Show one grant
    ///
    /// Example: `stile-admin grant show --data /var/lib/stile
    /// --role-arn arn:aws:iam::111122223333:role/deploy --namespace acme`
    Show(GrantOne),
    /// List all grants, or those of a principal or namespace
    ///
    /// With `--registry-host`, it lists the grants on the namespaces on which you may change grants.
    /// If there are none, it lists your own grants.
    ///
    /// Example: `stile-admin grant list --data /var/lib/stile --namespace acme`
    List(GrantList),
    /// Explain whether a principal has a permission, and why
    ///
    /// If it has not, show the nearest grant and how it differs.
    ///
    /// The answer is `yes, if …` where the store alone does not decide. A role or user with a pinned
    /// unique id has access only if AWS has not recreated it; pass its present id as `--unique-id`. A
    /// permission set or account with revoked roles or users gives access only to the others. The
    /// command does not know which regions the broker accepts.
    ///
    /// With `--request-id`, show a refused exchange, and whether the broker would refuse it today.
    ///
    /// With `--registry-host`, the registry explains it to you if you have `create_grant` on the
    /// namespace. The nearest grant is then one that you may list. The answer does not say which
    /// unique id is pinned. It says that a principal is revoked only if a grant on the namespace
    /// concerns it, and not whether that is the role, its permission set or its account.
    ///
    /// Exit codes: 0 yes, 1 no, 3 yes under that condition, 2 no answer. There is no answer if the
    /// command line, the network or the store fails, if the question is refused, or if no record has
    /// the id of the request.
    ///
    /// Example: `stile-admin grant explain --data /var/lib/stile
    /// --role-arn arn:aws:iam::111122223333:role/deploy --namespace acme --permission upload`
    Explain(GrantExplain),
    /// Remove the pinned unique id of a role or user that was deleted and recreated in AWS
    ///
    /// Its next token pins its current id. Only with a store: the API does not change pins.
    ///
    /// Example: `stile-admin grant repin --data /var/lib/stile
    /// --role-arn arn:aws:iam::111122223333:role/deploy`
    Repin(GrantRepin),
    /// Show how the grants differ from a file, and change nothing
    ///
    /// FILE is TOML, or JSON if its name ends with `.json`; `-` is standard input. It owns the
    /// namespaces in its `owns`: the grants on these, and no others. `+` is a grant to create, `~`
    /// one to change, `-` one to delete, and `?` one that this program cannot read. A grant that has
    /// ended and is not in the file stays, unless it is in the way of a new one. Grants of services
    /// (`service:NAME`) belong to their tokens: a file has none, and they stay.
    ///
    /// With `--registry-host`, the file or `--namespace` must name the namespaces, and you may change
    /// grants on each of them.
    ///
    /// Example: `stile-admin grant plan --data /var/lib/stile grants.toml --check`
    Plan(GrantPlan),
    /// Make the grants like a file
    ///
    /// It shows the plan, and asks on a terminal. It creates and widens grants first, and then
    /// narrows and deletes. It changes a grant only if the grant is still as planned. You can repeat
    /// the command, also after it was killed. If two run at once, the second waits for the first.
    /// It refuses to delete very many grants without `--allow-deletes`. Grants of services
    /// (`service:NAME`) stay as they are.
    ///
    /// With `--registry-host`, no run waits for another. It narrows and deletes nothing if it sees that
    /// others change grants at the same time, and exits with 1.
    ///
    /// Example: `stile-admin grant apply --data /var/lib/stile grants.toml --yes`
    Apply(GrantApply),
    /// Print the grants as a file, for `plan` and `apply`
    ///
    /// The file owns the namespaces that you name, or else every grant. It has no pins, no grants that
    /// have ended, and no grants of services, which belong to their tokens. With `--output json`, it is
    /// JSON. With `--registry-host`, name the namespaces.
    ///
    /// Example: `stile-admin grant export --data /var/lib/stile --namespace acme > grants.toml`
    Export(GrantExport),
}

#[derive(Debug, Args)]
pub(crate) struct PrincipalArgs {
    /// The ARN of the role or user
    ///
    /// Required. `--principal` also accepts a permission set (`sso:111122223333/Admin`), all roles and
    /// users of an account (`account:111122223333`), a trust (`oidc:release-ci`) or a service
    /// (`service:renovate`). With AWS's own JWTs only, it is an organization
    /// (`org:o-a1b2c3d4e5`), an organizational unit (`ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111`) or a tag
    /// (`account:111122223333/tag:team=data`).
    /// Example: `--role-arn arn:aws:iam::111122223333:role/deploy`
    #[arg(long = "role-arn", visible_alias = "principal", value_name = "PRINCIPAL")]
    pub(crate) principal: String,

    /// Use a role of IAM Identity Center itself, not its permission set
    ///
    /// Default: off, because the role's name changes when the set is provisioned again.
    /// Example: `--exact`
    #[arg(long)]
    pub(crate) exact: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NamespaceArgs {
    /// The namespace
    ///
    /// Required. `*` means all current and future namespaces. Example: `--namespace acme`
    #[arg(long, value_name = "NS")]
    pub(crate) namespace: String,
}

#[derive(Debug, Args)]
pub(crate) struct GrantCreate {
    #[command(flatten)]
    pub(crate) at: AnyTarget,
    #[command(flatten)]
    pub(crate) who: PrincipalArgs,
    #[command(flatten)]
    pub(crate) on: NamespaceArgs,

    /// Allow reading modules
    ///
    /// Default: off. Example: `--download`
    #[arg(long)]
    download: bool,

    /// Allow publishing modules
    ///
    /// Default: off. Example: `--upload`
    #[arg(long)]
    upload: bool,

    /// Allow creating grants of its own permissions for others
    ///
    /// Default: off. Example: `--create-grant`
    #[arg(long)]
    create_grant: bool,

    /// Allow narrowing and deleting grants
    ///
    /// Default: off. Example: `--delete-grant`
    #[arg(long)]
    delete_grant: bool,

    /// End the grant at this time, or after this duration
    ///
    /// Default: `never`. RFC 3339, a date, which means 00:00 UTC, or a duration. An existing grant is
    /// identical if it has the same duration since its creation. Example: `--expires 90d`,
    /// `--expires 2027-01-31`, `--expires 2027-01-31T18:00:00Z`
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<String>,

    /// Create nothing, and exit with 0, if the grant would have ended already
    ///
    /// For a list of commands that you run again. Another grant that has not ended is still an error.
    /// Default: off, so an end in the past is an error. Example: `--expires 2027-01-31 --skip-expired`
    #[arg(long, requires = "expires")]
    pub(crate) skip_expired: bool,

    /// Pin this AWS unique id: the grant applies only to the role or user that has it
    ///
    /// Default: the first token pins the id. Example: `--unique-id AROAEXAMPLEEXAMPLE222`
    #[arg(long, value_name = "ID", conflicts_with = "no_pin")]
    pub(crate) unique_id: Option<String>,

    /// Do not pin a unique id: the grant also applies to a recreated role or user of that name
    ///
    /// Default: off. Example: `--no-pin`
    #[arg(long)]
    pub(crate) no_pin: bool,

    /// Confirm a grant on `*`, to a whole account, or to an organization, an organizational unit or a
    /// tag
    ///
    /// Default: off. Example: `--yes`
    #[arg(long)]
    pub(crate) yes: bool,

    /// Confirm that a tag counts in every account that a trust believes
    ///
    /// An administrator of any of these accounts can set the tag. Without the flag, a tag names an
    /// account (`account:111122223333/tag:team=data`) or an organizational unit
    /// (`ou:o-a1b2c3d4e5/r-ab12/tag:team=data`). Default: off. Example: `--any-account`
    #[arg(long)]
    pub(crate) any_account: bool,
}

impl GrantCreate {
    /// Returns the permissions of the new grant.
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
    pub(crate) at: AnyTarget,
    #[command(flatten)]
    pub(crate) who: PrincipalArgs,
    #[command(flatten)]
    pub(crate) on: NamespaceArgs,

    /// Allow or stop reading modules
    ///
    /// Default: unchanged. Example: `--download`, `--download=false`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    download: Option<bool>,

    /// Allow or stop publishing modules
    ///
    /// Default: unchanged. Example: `--upload`, `--upload=false`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    upload: Option<bool>,

    /// Allow or stop creating grants of its own permissions for others
    ///
    /// Default: unchanged. Example: `--create-grant`, `--create-grant=false`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    create_grant: Option<bool>,

    /// Allow or stop narrowing and deleting grants
    ///
    /// Default: unchanged. Example: `--delete-grant`, `--delete-grant=false`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    delete_grant: Option<bool>,

    /// End the grant at this time, or after this duration
    ///
    /// Default: unchanged. `never`, RFC 3339, a date, which means 00:00 UTC, or a duration from now.
    /// Example: `--expires 90d`, `--expires 2027-01-31`, `--expires never`
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<String>,

    /// Make the change, although nobody else would have `create_grant` on the namespace
    ///
    /// Only for `--registry-host`: an operator needs no confirmation. Default: off. Example: `--force`
    #[arg(long)]
    pub(crate) force: bool,
}

impl GrantUpdate {
    /// Returns the permissions to add, if `value`, or else the permissions to remove.
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
    pub(crate) at: AnyTarget,
    #[command(flatten)]
    pub(crate) who: PrincipalArgs,
    #[command(flatten)]
    pub(crate) on: NamespaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GrantDelete {
    #[command(flatten)]
    pub(crate) of: GrantOne,

    /// Delete it, although nobody else would have `create_grant` on the namespace
    ///
    /// Only for `--registry-host`: an operator needs no confirmation. Default: off. Example: `--force`
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GrantList {
    #[command(flatten)]
    pub(crate) at: AnyTarget,

    /// List only the grants of this principal
    ///
    /// Default: all principals. Example: `--principal arn:aws:iam::111122223333:role/deploy`
    #[arg(long, visible_alias = "role-arn", value_name = "PRINCIPAL")]
    pub(crate) principal: Option<String>,

    /// Use a role of IAM Identity Center itself, not its permission set
    ///
    /// Default: off. Example: `--exact`
    #[arg(long, requires = "principal")]
    pub(crate) exact: bool,

    /// List only the grants on this namespace, or on all namespaces for `*`
    ///
    /// Default: all grants. Example: `--namespace acme`
    #[arg(long, value_name = "NS")]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GrantExplain {
    #[command(flatten)]
    pub(crate) at: AnyTarget,

    /// The ARN of the caller, as in the output of `aws sts get-caller-identity`
    ///
    /// Required without `--request-id`.
    /// Example: `--role-arn arn:aws:sts::111122223333:assumed-role/deploy/session`
    #[arg(
        long = "role-arn",
        visible_alias = "principal",
        value_name = "ARN",
        required_unless_present = "request_id"
    )]
    pub(crate) principal: Option<String>,

    /// The namespace
    ///
    /// Required without `--request-id`. `*` means all current and future namespaces.
    /// Example: `--namespace acme`
    #[arg(long, value_name = "NS", required_unless_present = "request_id")]
    pub(crate) namespace: Option<String>,

    /// The permission to explain
    ///
    /// One of `create_grant`, `delete_grant`, `download`, `upload`. Default: `download`.
    /// Example: `--permission upload`
    #[arg(long, value_name = "P")]
    pub(crate) permission: Option<Permission>,

    /// The AWS unique id of the caller
    ///
    /// Default: unknown, so that a pinned id is a condition. Example: `--unique-id AROAEXAMPLEEXAMPLE222`
    #[arg(long, value_name = "ID")]
    pub(crate) unique_id: Option<String>,

    /// Explain the refusal of the exchange with this id, with the grants of today
    ///
    /// Every error shows the id of its request, and `X-Request-Id` has it. The store keeps the refused
    /// exchanges of seven days. Default: none, so `--role-arn` and `--namespace` say what to explain.
    /// Example: `--request-id 64ee87ba88f3e21a`
    #[arg(
        long,
        value_name = "ID",
        conflicts_with_all = [
            "principal", "namespace", "permission", "unique_id",
            "token_id", "token_namespace", "token_permission",
        ]
    )]
    pub(crate) request_id: Option<String>,

    /// Explain for a token whose scope has only this namespace
    ///
    /// Repeat the flag for more namespaces. The audit log has the scope of each token, in the line of its
    /// exchange. Default: a token for all namespaces. Example: `--token-namespace acme`
    #[arg(long, value_name = "NS")]
    pub(crate) token_namespace: Vec<String>,

    /// Explain for a token whose scope has only this permission
    ///
    /// Repeat the flag for more permissions. Default: a token for every permission.
    /// Example: `--token-permission download`
    #[arg(long, value_name = "P")]
    pub(crate) token_permission: Vec<Permission>,

    /// Explain for the token with this id, which an operator can have revoked
    ///
    /// The audit log has it, as `token_id`. Default: any token.
    /// Example: `--token-id 6bUbVPlBBrKqJZ8Yoz3rDA`
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub(crate) token_id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GrantRepin {
    #[command(flatten)]
    pub(crate) at: AnyTarget,

    /// The ARN of the role or user
    ///
    /// Required. Example: `--role-arn arn:aws:iam::111122223333:role/deploy`
    #[arg(long = "role-arn", visible_alias = "principal", value_name = "ARN")]
    pub(crate) principal: String,
}

#[derive(Debug, Args)]
pub(crate) struct GrantFileArgs {
    /// The file of grants, or `-` for standard input
    ///
    /// Required. Example: `grants.toml`
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Leave out the grants of the file that have ended
    ///
    /// For a file that a program writes. Default: off, so an end in the past is an error.
    /// Example: `--skip-expired`
    #[arg(long)]
    pub(crate) skip_expired: bool,

    /// Use only the part of the file for this namespace
    ///
    /// Repeat the flag for more namespaces. Default: everything that the file owns.
    /// Example: `--namespace acme`
    #[arg(long, value_name = "NS")]
    pub(crate) namespace: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GrantPlan {
    #[command(flatten)]
    pub(crate) at: AnyTarget,
    #[command(flatten)]
    pub(crate) from: GrantFileArgs,

    /// Exit with 1 if there is a difference
    ///
    /// Default: off, so the exit code is 0. Example: `--check`
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GrantApply {
    #[command(flatten)]
    pub(crate) at: AnyTarget,
    #[command(flatten)]
    pub(crate) from: GrantFileArgs,

    /// Do not ask, and confirm grants on `*`, to whole accounts, and to organizations,
    /// organizational units and tags
    ///
    /// Required without a terminal, and for such grants. Default: off. Example: `--yes`
    #[arg(long)]
    pub(crate) yes: bool,

    /// Confirm new or changed grants to a tag that counts in every account that a trust believes
    ///
    /// An administrator of any of these accounts can set the tag. `--yes` does not confirm that.
    /// Without the flag, a tag names an account (`account:111122223333/tag:team=data`) or an
    /// organizational unit (`ou:o-a1b2c3d4e5/r-ab12/tag:team=data`).
    /// Default: off. Example: `--any-account`
    #[arg(long)]
    pub(crate) any_account: bool,

    /// Allow so many deletions
    ///
    /// Required for a plan that deletes every grant that the file owns, or more than 16 and more than
    /// a tenth of them: a part of the file can be missing. Grants that have ended do not count.
    /// Default: 0. Example: `--allow-deletes 40`
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) allow_deletes: usize,
}

#[derive(Debug, Args)]
pub(crate) struct GrantExport {
    #[command(flatten)]
    pub(crate) at: AnyTarget,

    /// Print only the grants on this namespace, or on all namespaces for `*`
    ///
    /// Repeat the flag for more namespaces. Default: all grants. Example: `--namespace acme`
    #[arg(long, value_name = "NS")]
    pub(crate) namespace: Vec<String>,
}
