//! `grant`: creates, changes, deletes, shows and lists grants in the store.

use std::fmt;
use std::process::ExitCode;

use serde_json::{Value, json};
use stile_core::clock::rfc3339;
use stile_core::grants::{Grant, GrantNamespace, MAX_GRANTS, Pin};
use stile_core::principal::{AwsPrincipal, Principal, UniqueId, parse_typed};
use stile_protocol::names::{Permission, Permissions};
use stile_store::{Change, Created, NewGrant, Updated};
use terraform_credentials_stile::message::one_line;

use super::{CommandResult, Context, existing_principal, explain};
use crate::cli::{GrantCreate, GrantList, GrantOne, GrantRepin, GrantUpdate, GrantVerb};
use crate::error::CommandError;
use crate::expiry;
use crate::output::notice;

/// Runs one subcommand.
pub(crate) async fn run(context: &Context, verb: GrantVerb) -> CommandResult {
    match verb {
        GrantVerb::Create(args) => create(context, args).await?,
        GrantVerb::Update(args) => update(context, args).await?,
        GrantVerb::Delete(args) => delete(context, args).await?,
        GrantVerb::Show(args) => show(context, args).await?,
        GrantVerb::List(args) => list(context, args).await?,
        GrantVerb::Explain(args) => return explain::run(context, &args).await,
        GrantVerb::Repin(args) => repin(context, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(context: &Context, args: GrantCreate) -> Result<(), CommandError> {
    let typed = parse_typed(&args.who.principal, args.who.exact)?;
    let (principal, namespace) = (typed.principal, namespace(&args.on.namespace)?);
    let permissions = args.permissions();
    if permissions.is_empty() {
        return Err(CommandError::refused("a grant needs at least one permission").hint(
            "add one or more of `--download`, `--upload`, `--create-grant`, `--delete-grant`",
        ));
    }
    let expires_at = end(args.expires.as_deref(), context.now)?;
    let pin = pin(&principal, &args)?;
    if !args.yes {
        confirmed(&principal, typed.needs_confirmation, &namespace)?;
    }
    typed.notices.iter().for_each(notice);
    let access = context.operator().grant_access(namespace);
    let new = NewGrant { principal: principal.clone(), permissions, expires_at, pin };
    match args.store.open().await?.create_grant(&access, new, context.now).await? {
        Created::Done(grant) => context.output.outcome(
            format_args!("created {}", GrantLine(&grant)),
            &with_status("created", &grant),
        ),
        Created::Exists(there) => {
            Err(CommandError::refused(format!("the grant already exists: {}", GrantLine(&there)))
                .hint(format!(
                    "change it with `{} {}{}`",
                    args.store.command("grant update"),
                    GrantFlags(&there.principal, &there.namespace),
                    permission_flags(permissions)
                )))
        }
        Created::DiffersByCase(twin) => {
            let problem = format!(
                "`{principal}` differs only by case from `{twin}`, which already has grants"
            );
            let hint = format!(
                "IAM treats both as the same name; use `{}`, or delete its grants first",
                twin.display_name()
            );
            Err(CommandError::refused(problem).hint(hint))
        }
        Created::PinnedOtherwise(_) => {
            let problem = format!(
                "`{}` already has a different pin, which applies to all its grants",
                principal.display_name()
            );
            Err(CommandError::refused(problem).hint(format!(
                "remove that pin first with `{} --role-arn {}`",
                args.store.command("grant repin"),
                principal.display_name()
            )))
        }
        Created::TooMany => Err(CommandError::refused(format!(
            "`{principal}` has the maximum of {MAX_GRANTS} grants"
        ))
        .hint("create a grant on `*`, which means all namespaces")),
    }
}

fn confirmed(
    principal: &Principal,
    whole_account: bool,
    namespace: &GrantNamespace,
) -> Result<(), CommandError> {
    let hint = "add `--yes` to confirm";
    if whole_account {
        let account = principal.aws().map_or("", AwsPrincipal::account);
        let problem = format!("`{principal}` means all roles and users of account `{account}`");
        return Err(CommandError::refused(problem).hint(hint));
    }
    if *namespace == GrantNamespace::All {
        return Err(CommandError::refused(
            "a grant on `*` applies to all current and future namespaces",
        )
        .hint(hint));
    }
    Ok(())
}

fn pin(principal: &Principal, args: &GrantCreate) -> Result<Option<Pin>, CommandError> {
    let pin = match &args.unique_id {
        Some(text) => Pin::Pinned(unique_id(principal, text)?),
        None if args.no_pin => Pin::Disabled,
        None => return Ok(None),
    };
    concrete(principal)?;
    Ok(Some(pin))
}

/// Parses the unique id of a role or user.
pub(super) fn unique_id(principal: &Principal, text: &str) -> Result<UniqueId, CommandError> {
    let prefix = match principal {
        Principal::Role(_) => "AROA",
        Principal::User(_) => "AIDA",
        Principal::PermissionSet(_) | Principal::Account(_) => "",
    };
    let wrong = || {
        CommandError::refused(format!(
            "`{}` is not a unique id of the principal's kind: `AROA…` for a role, `AIDA…` for a user",
            one_line(text)
        ))
    };
    let id = UniqueId::parse(text).filter(|id| id.as_str().starts_with(prefix));
    id.ok_or_else(|| wrong().hint(lookup(principal)))
}

fn lookup(principal: &Principal) -> String {
    let name = principal.as_str().rsplit_once('/').map_or("NAME", |(_, name)| name);
    match principal {
        Principal::User(_) => {
            format!("`aws iam get-user --user-name {name} --query User.UserId` shows it")
        }
        _ => format!("`aws iam get-role --role-name {name} --query Role.RoleId` shows it"),
    }
}

fn concrete(principal: &Principal) -> Result<(), CommandError> {
    if principal.is_concrete() {
        return Ok(());
    }
    Err(CommandError::refused(format!(
        "`{principal}` is not a single role or user, so it has no unique id"
    ))
    .hint("use the ARN of one role or user"))
}

async fn update(context: &Context, args: GrantUpdate) -> Result<(), CommandError> {
    let (principal, namespace) =
        (existing_principal(&args.who.principal, args.who.exact)?, namespace(&args.on.namespace)?);
    let expires_at = end(args.expires.as_deref(), context.now)?;
    let change = Change { set: args.permissions(true), clear: args.permissions(false), expires_at };
    if change.set.is_empty() && change.clear.is_empty() && expires_at.is_none() {
        return Err(CommandError::refused("the update has no changes")
            .hint("add a permission, such as `--upload` or `--download=false`, or a new expiry with `--expires`"));
    }
    match args
        .store
        .open()
        .await?
        .update_grant(
            &context.operator().grant_access(namespace.clone()),
            principal.clone(),
            change,
        )
        .await?
    {
        Updated::Done(grant) => {
            if grant.expires_at.is_some_and(|end| end <= context.now) {
                notice(
                    "the grant has expired and allows nothing; hint: set a new expiry with `--expires`",
                );
            }
            context.output.outcome(
                format_args!("updated {}", GrantLine(&grant)),
                &with_status("updated", &grant),
            )
        }
        Updated::Absent => {
            let flags = permission_flags(if change.set.is_empty() {
                Permissions::NONE.with(Permission::Download)
            } else {
                change.set
            });
            let hint = format!(
                "create it with `{} {}{flags}`",
                args.store.command("grant create"),
                GrantFlags(&principal, &namespace)
            );
            Err(absent(&principal, &namespace).hint(hint))
        }
        Updated::WouldBeEmpty => {
            Err(CommandError::refused("the update would remove the last permission").hint(format!(
                "delete the grant with `{} {}`",
                args.store.command("grant delete"),
                GrantFlags(&principal, &namespace)
            )))
        }
    }
}

async fn delete(context: &Context, args: GrantOne) -> Result<(), CommandError> {
    let (principal, namespace) =
        (existing_principal(&args.who.principal, args.who.exact)?, namespace(&args.on.namespace)?);
    let access = context.operator().grant_access(namespace.clone());
    if !args.store.open().await?.delete_grant(&access, principal.clone()).await? {
        return Err(absent(&principal, &namespace)
            .hint(format!("`{}` lists all grants", args.store.command("grant list"))));
    }
    let json =
        json!({ "status": "deleted", "principal": principal, "namespace": namespace.to_string() });
    context.output.outcome(format_args!("deleted {principal} on {namespace}"), &json)
}

async fn show(context: &Context, args: GrantOne) -> Result<(), CommandError> {
    let (principal, namespace) =
        (existing_principal(&args.who.principal, args.who.exact)?, namespace(&args.on.namespace)?);
    let store = args.store.open().await?;
    let found = store
        .grants(&context.operator(), Some(principal.clone()), Some(namespace.clone()))
        .await?
        .pop();
    let grant = found.ok_or_else(|| {
        absent(&principal, &namespace)
            .hint(format!("`{}` lists all grants", args.store.command("grant list")))
    })?;
    let pin = store.principal_state(vec![principal]).await?.pin;
    let id = match &pin {
        Pin::Unpinned => None,
        Pin::Disabled => Some("not pinned"),
        Pin::Pinned(id) => Some(id.as_str()),
    };
    let mut json = object(&grant);
    json["unique_id"] = id.into();
    let lines = [
        ("principal", grant.principal.to_string()),
        ("namespace", grant.namespace.to_string()),
        ("permissions", grant.permissions.to_string()),
        ("expires", expiry(&grant, context.now)),
        (
            "unique id",
            if grant.principal.is_concrete() {
                id.unwrap_or("pinned by its first token")
            } else {
                "-"
            }
            .to_owned(),
        ),
        ("created by", one_line(&grant.created_by)),
        ("created at", rfc3339(grant.created_at)),
    ];
    let lines: Vec<String> =
        lines.into_iter().map(|(name, value)| format!("{name:<12} {value}")).collect();
    context.output.outcome(lines.join("\n"), &json)
}

async fn list(context: &Context, args: GrantList) -> Result<(), CommandError> {
    let principal =
        args.principal.as_deref().map(|text| existing_principal(text, args.exact)).transpose()?;
    let namespace = args.namespace.as_deref().map(namespace).transpose()?;
    let grants = args.store.open().await?.grants(&context.operator(), principal, namespace).await?;
    let row = |grant: &Grant| {
        vec![
            grant.principal.to_string(),
            grant.namespace.to_string(),
            grant.permissions.to_string(),
            expiry(grant, context.now),
            grant.created_by.clone(),
            rfc3339(grant.created_at),
        ]
    };
    let rows: Vec<_> = grants.iter().map(row).collect();
    let json = grants.iter().map(object).collect::<Vec<_>>().into();
    context.output.rows(
        "grants",
        &["principal", "namespace", "permissions", "expires", "created by", "created at"],
        &rows,
        &json,
    )
}

async fn repin(context: &Context, args: GrantRepin) -> Result<(), CommandError> {
    // Each role has its own pin, so a permission set must not replace the role.
    let principal = parse_typed(&args.principal, true)?.principal;
    concrete(&principal)?;
    if !args.store.open().await?.unpin(&context.operator(), principal.clone()).await? {
        return Err(CommandError::refused(format!("`{principal}` has no pinned unique id"))
            .hint("its next token pins its current id"));
    }
    let line = format!("removed the pin of {principal}; its next token pins its current unique id");
    context.output.outcome(line, &json!({ "status": "cleared", "principal": principal }))
}

/// Parses a namespace, or `*` for all namespaces.
pub(super) fn namespace(text: &str) -> Result<GrantNamespace, CommandError> {
    Ok(text.parse()?)
}

fn end(text: Option<&str>, now: i64) -> Result<Option<i64>, CommandError> {
    text.map(|text| expiry::parse(text, now))
        .transpose()
        .map_err(|error| CommandError::refused(format!("`--expires`: {error}")))
}

fn absent(principal: &Principal, namespace: &GrantNamespace) -> CommandError {
    CommandError::refused(format!("there is no grant for `{principal}` on `{namespace}`"))
}

fn expiry(grant: &Grant, now: i64) -> String {
    match grant.expires_at {
        None => "never".to_owned(),
        Some(end) if end <= now => format!("{} (expired)", rfc3339(end)),
        Some(end) => rfc3339(end),
    }
}

/// Returns a grant as JSON.
pub(super) fn object(grant: &Grant) -> Value {
    json!({
        "principal": grant.principal, "namespace": grant.namespace.to_string(), "permissions": grant.permissions,
        "expires_at": grant.expires_at.map(rfc3339), "created_by": grant.created_by, "created_at": rfc3339(grant.created_at),
    })
}

fn with_status(status: &str, grant: &Grant) -> Value {
    let mut json = object(grant);
    json["status"] = status.into();
    json
}

/// Formats a grant on one line.
pub(super) struct GrantLine<'a>(pub(super) &'a Grant);

impl fmt::Display for GrantLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Grant { principal, namespace, permissions, expires_at, .. } = self.0;
        write!(formatter, "{principal} on {namespace}: {permissions}")?;
        expires_at.map_or(Ok(()), |end| write!(formatter, " until {}", rfc3339(end)))
    }
}

/// Returns permissions as flags, each with a space before it.
pub(super) fn permission_flags(permissions: Permissions) -> String {
    permissions
        .iter()
        .map(|permission| format!(" --{}", permission.as_str().replace('_', "-")))
        .collect()
}

/// Formats a grant's principal and namespace as flags, quoted for a shell.
pub(super) struct GrantFlags<'a>(pub(super) &'a Principal, pub(super) &'a GrantNamespace);

impl fmt::Display for GrantFlags<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(principal, namespace) = self;
        // Without `--exact`, the permission set would replace the ARN of its role.
        let reserved = parse_typed(&principal.display_name(), false)
            .is_ok_and(|typed| typed.principal != **principal);
        let flag = if principal.is_concrete() { "--role-arn" } else { "--principal" };
        write!(
            formatter,
            "{flag} {}{}",
            principal.display_name(),
            if reserved { " --exact" } else { "" }
        )?;
        match namespace {
            GrantNamespace::All => formatter.write_str(" --namespace '*'"),
            GrantNamespace::One(namespace) => write!(formatter, " --namespace {namespace}"),
        }
    }
}
