//! `grant`: creates, changes, deletes, shows and lists grants in the store.

use std::process::ExitCode;

use serde_json::{Value, json};
use stile_core::audit::{Kind, Outcome};
use stile_core::clock::rfc3339;
use stile_core::grants::{Grant, GrantNamespace, MAX_GRANTS, Pin};
use stile_core::principal::{AwsPrincipal, Principal, parse_typed};
use stile_protocol::names::{Permission, Permissions};
use stile_store::{Change, Created, NewGrant, Updated};
use terraform_credentials_stile::message::one_line;

use super::grant_text::{GrantFlags, GrantLine, namespace, object, permission_flags, unique_id};
use super::{CommandResult, Context, existing_principal, explain, record};
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
    let store = args.store.open().await?;
    let mut event = context.event(Kind::Grant);
    event.about(&principal);
    event.grant(access.namespace(), Some(permissions.to_string()));
    let created = store.create_grant(&access, new, context.now).await;
    match record(event, created, |created| match created {
        Created::Done { .. } => Outcome::Created,
        Created::Exists(_) | Created::DiffersByCase(_) | Created::PinnedOtherwise(_) => {
            Outcome::Conflict
        }
        Created::TooMany => Outcome::Full,
    })? {
        Created::Done { grant, new_namespace } => {
            if new_namespace {
                notice(format_args!(
                    "the grant created the namespace `{}`, which had no grants and no modules",
                    grant.namespace
                ));
            }
            let mut json = with_status("created", &grant);
            json["new_namespace"] = new_namespace.into();
            context.output.outcome(format_args!("created {}", GrantLine(&grant)), &json)
        }
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
    let store = args.store.open().await?;
    let access = context.operator().grant_access(namespace.clone());
    let updated = store.update_grant(&access, principal.clone(), change).await;
    let mut event = context.event(Kind::Grant);
    event.about(&principal);
    let held = match &updated {
        Ok(Updated::Done(grant)) => Some(grant.permissions.to_string()),
        _ => None,
    };
    event.grant(&namespace, held);
    match record(event, updated, |updated| match updated {
        Updated::Done(_) => Outcome::Changed,
        Updated::Absent => Outcome::Absent,
        Updated::WouldBeEmpty => Outcome::Conflict,
    })? {
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
    let deleted = args.store.open().await?.delete_grant(&access, principal.clone()).await;
    let mut event = context.event(Kind::Grant);
    event.about(&principal);
    event.grant(&namespace, None);
    if !record(event, deleted, |deleted| if *deleted { Outcome::Deleted } else { Outcome::Absent })?
    {
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
    let cleared = args.store.open().await?.unpin(&context.operator(), principal.clone()).await;
    let mut event = context.event(Kind::Repin);
    event.about(&principal);
    if !record(event, cleared, |cleared| if *cleared { Outcome::Cleared } else { Outcome::Absent })?
    {
        return Err(CommandError::refused(format!("`{principal}` has no pinned unique id"))
            .hint("its next token pins its current id"));
    }
    let line = format!("removed the pin of {principal}; its next token pins its current unique id");
    context.output.outcome(line, &json!({ "status": "cleared", "principal": principal }))
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

fn with_status(status: &str, grant: &Grant) -> Value {
    let mut json = object(grant);
    json["status"] = status.into();
    json
}
