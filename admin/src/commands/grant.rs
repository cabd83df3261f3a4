//! `grant`: changes, deletes, shows and lists grants in a store or through the API, and dispatches
//! the other verbs.

use std::process::ExitCode;

use serde_json::json;
use stile_core::audit::{Kind, Outcome};
use stile_core::clock::rfc3339;
use stile_core::grants::{Grant, GrantNamespace, Pin};
use stile_core::principal::{Principal, parse_typed};
use stile_protocol::names::{Permission, Permissions};
use stile_store::{Change, Deleted, ExpiryChange, Updated};
use terraform_credentials_stile::message::one_line;

use super::grant_client::RemoteTarget;
use super::grant_create::create;
use super::grant_text::{
    GrantFlags, GrantLine, concrete, end, expiry, grantable, namespace, object, permission_flags,
    with_status,
};
use super::{
    CommandResult, Context, OpenStore, event, existing_principal, explain, grant_apply,
    grant_export, grant_plan, grant_remote, kept, record, service_token,
};
use crate::cli::{GrantDelete, GrantList, GrantOne, GrantRepin, GrantUpdate, GrantVerb};
use crate::error::CommandError;
use crate::output::notice;
use crate::progress::spinning;
use crate::target::{ChosenTarget, StoreTarget, quoted};

/// Runs one subcommand.
pub(crate) async fn run(context: &Context, verb: GrantVerb) -> CommandResult {
    match verb {
        GrantVerb::Create(args) => create(context, &args).await?,
        GrantVerb::Update(args) => update(context, args).await?,
        GrantVerb::Delete(args) => delete(context, args).await?,
        GrantVerb::Show(args) => show(context, args).await?,
        GrantVerb::List(args) => list(context, args).await?,
        GrantVerb::Explain(args) => return explain::run(context, &args).await,
        GrantVerb::Repin(args) => repin(context, args).await?,
        GrantVerb::Plan(args) => return grant_plan::run(context, &args).await,
        GrantVerb::Apply(args) => grant_apply::run(context, &args).await?,
        GrantVerb::Export(args) => grant_export::run(context, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn update(context: &Context, args: GrantUpdate) -> Result<(), CommandError> {
    let (principal, namespace) =
        (existing_principal(&args.who.principal, args.who.exact)?, namespace(&args.on.namespace)?);
    let expires_at = match expiry(args.expires.as_deref(), context.now)? {
        None => ExpiryChange::Keep,
        Some(expiry) => expiry.end(context.now).map_or(ExpiryChange::Never, ExpiryChange::At),
    };
    let change = Change { set: args.permissions(true), clear: args.permissions(false), expires_at };
    if change.set.is_empty() && change.clear.is_empty() && expires_at == ExpiryChange::Keep {
        return Err(CommandError::usage("the update has no changes")
            .hint("add a permission, such as `--upload` or `--download=false`, or a new expiry with `--expires`"));
    }
    grantable(&principal, change.set)?;
    let updated = match args.at.chosen()? {
        ChosenTarget::Store(target) => {
            update_in_store(context, target, &principal, &namespace, change).await?
        }
        ChosenTarget::Registry(api) => {
            let target = RemoteTarget::new(principal.clone(), &namespace)?;
            Box::pin(grant_remote::update(context, (api, &args), &target, change)).await?
        }
    };
    match updated {
        Updated::Done { after: grant, .. } => {
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
            let expires = args
                .expires
                .as_deref()
                .map(|end| format!(" --expires {}", quoted(end)))
                .unwrap_or_default();
            let hint = format!(
                "create it with `{} {}{flags}{expires}`",
                args.at.command("grant create"),
                GrantFlags(&principal, &namespace)
            );
            Err(absent(&principal, &namespace).hint(hint))
        }
        Updated::Differs(_) => Err(changed(&principal, &namespace)),
        Updated::WouldBeEmpty => {
            Err(CommandError::refused("the update would remove the last permission").hint(format!(
                "delete the grant with `{} {}`",
                args.at.command("grant delete"),
                GrantFlags(&principal, &namespace)
            )))
        }
    }
}

/// Changes a grant in the store, with its audit event.
async fn update_in_store(
    context: &Context,
    target: &StoreTarget,
    principal: &Principal,
    namespace: &GrantNamespace,
    change: Change,
) -> Result<Updated, CommandError> {
    let open = context.open_to_change(target).await?;
    let OpenStore { store, operator } = &open;
    let access = operator.grant_access(namespace.clone());
    let mut event = event(Kind::Grant, operator);
    event.about(principal);
    event.grant(namespace, None);
    event.grant_change(change.set, change.clear);
    match change.expires_at {
        ExpiryChange::Keep => {}
        ExpiryChange::Never => event.grant_end(None),
        ExpiryChange::At(end) => event.grant_end(Some(end)),
    }
    let kept = kept(&event, context);
    let updated = store.update_grant(&access, principal.clone(), change, None, &kept).await;
    if let Ok(Updated::Done { before, after }) = &updated {
        event.grant_changed(before, after);
    }
    let updated = record(event, updated, |updated| match updated {
        Updated::Done { .. } => Outcome::Changed,
        Updated::Absent => Outcome::Absent,
        Updated::WouldBeEmpty | Updated::Differs(_) => Outcome::Conflict,
    })?;
    if let Updated::Done { before, after } = &updated
        && is_narrower(before, after)
    {
        service_token::warn_of_tokens(context, &open, (principal, namespace)).await;
    }
    Ok(updated)
}

/// Returns whether a change took something from a grant.
fn is_narrower(before: &Grant, after: &Grant) -> bool {
    let end = |grant: &Grant| grant.expires_at.unwrap_or(i64::MAX);
    after.permissions.union(before.permissions) != after.permissions || end(after) < end(before)
}

async fn delete(context: &Context, args: GrantDelete) -> Result<(), CommandError> {
    let GrantDelete { of: GrantOne { at, who, on }, force } = args;
    let (principal, namespace) =
        (existing_principal(&who.principal, who.exact)?, namespace(&on.namespace)?);
    let deleted = match at.chosen()? {
        ChosenTarget::Store(target) => {
            delete_in_store(context, target, &principal, &namespace).await?
        }
        ChosenTarget::Registry(api) => {
            let target = RemoteTarget::new(principal.clone(), &namespace)?;
            let deleted =
                Box::pin(grant_remote::delete(context, api, (&at, force), &target)).await?;
            if matches!(deleted, Deleted::Done(_)) {
                service_token::warn_of_any_token(&principal);
            }
            deleted
        }
    };
    match deleted {
        Deleted::Done(_) => {}
        Deleted::Absent => {
            return Err(absent(&principal, &namespace)
                .hint(format!("`{}` lists all grants", at.command("grant list"))));
        }
        Deleted::Differs(_) => return Err(changed(&principal, &namespace)),
    }
    let json =
        json!({ "status": "deleted", "principal": principal, "namespace": namespace.to_string() });
    context.output.outcome(format_args!("deleted {principal} on {namespace}"), &json)
}

/// Deletes a grant in the store, with its audit event.
async fn delete_in_store(
    context: &Context,
    target: &StoreTarget,
    principal: &Principal,
    namespace: &GrantNamespace,
) -> Result<Deleted, CommandError> {
    let open = context.open_to_revoke(target).await?;
    let OpenStore { store, operator } = &open;
    let access = operator.grant_access(namespace.clone());
    let mut event = event(Kind::Grant, operator);
    event.about(principal);
    event.grant(namespace, None);
    let kept = kept(&event, context);
    let deleted = store.delete_grant(&access, principal.clone(), None, &kept).await;
    if let Ok(Deleted::Done(Some(before))) = &deleted {
        event.grant_before(before);
    }
    let deleted = record(event, deleted, |deleted| match deleted {
        Deleted::Done(_) => Outcome::Deleted,
        Deleted::Absent => Outcome::Absent,
        Deleted::Differs(_) => Outcome::Conflict,
    })?;
    if matches!(deleted, Deleted::Done(_)) {
        service_token::warn_of_tokens(context, &open, (principal, namespace)).await;
    }
    Ok(deleted)
}

async fn show(context: &Context, args: GrantOne) -> Result<(), CommandError> {
    let (principal, namespace) =
        (existing_principal(&args.who.principal, args.who.exact)?, namespace(&args.on.namespace)?);
    let (grant, pin) = match args.at.chosen()? {
        ChosenTarget::Store(target) => {
            let OpenStore { store, operator } = context.open(target).await?;
            let (who, on) = (Some(principal.clone()), Some(namespace.clone()));
            let grant = store.grants(&operator, who, on).await?.pop();
            (grant, Some(store.principal_state(vec![principal.clone()]).await?.pin))
        }
        ChosenTarget::Registry(api) => {
            let target = RemoteTarget::new(principal.clone(), &namespace)?;
            (Box::pin(grant_remote::find(context, api, &target)).await?, None)
        }
    };
    let grant = grant.ok_or_else(|| {
        absent(&principal, &namespace)
            .hint(format!("`{}` lists all grants", args.at.command("grant list")))
    })?;
    let id = match &pin {
        Some(Pin::Unpinned) | None => None,
        Some(Pin::Disabled) => Some("not pinned"),
        Some(Pin::Pinned(id)) => Some(id.as_str()),
    };
    let no_id = match pin {
        Some(_) if principal.has_unique_id() => "pinned by its first token",
        Some(_) => "-",
        None => "not shown by the API",
    };
    let mut json = object(&grant);
    json["unique_id"] = id.into();
    let lines = [
        ("principal", grant.principal.to_string()),
        ("namespace", grant.namespace.to_string()),
        ("permissions", grant.permissions.to_string()),
        ("expires", end(&grant, context.now)),
        ("unique id", id.unwrap_or(no_id).to_owned()),
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
    let target = match args.at.chosen()? {
        ChosenTarget::Store(target) => target,
        ChosenTarget::Registry(api) => {
            let listing =
                grant_remote::list(context, (api, &args), principal.as_ref(), namespace.as_ref());
            return Box::pin(listing).await;
        }
    };
    let OpenStore { store, operator } = context.open(target).await?;
    let grants =
        spinning("reading the grants", store.grants(&operator, principal, namespace)).await?;
    let row = |grant: &Grant| {
        vec![
            grant.principal.to_string(),
            grant.namespace.to_string(),
            grant.permissions.to_string(),
            end(grant, context.now),
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
    let OpenStore { store, operator } =
        context.open_to_change(args.at.store_for("removes a pin")?).await?;
    let mut event = event(Kind::Repin, &operator);
    event.about(&principal);
    let cleared = store.unpin(&operator, principal.clone(), &kept(&event, context)).await;
    if !record(event, cleared, |cleared| if *cleared { Outcome::Cleared } else { Outcome::Absent })?
    {
        return Err(CommandError::refused(format!("`{principal}` has no pinned unique id"))
            .hint("its next token pins its current id"));
    }
    let line = format!("removed the pin of {principal}; its next token pins its current unique id");
    context.output.outcome(line, &json!({ "status": "cleared", "principal": principal }))
}

/// Returns the error of a grant that does not exist.
fn absent(principal: &Principal, namespace: &GrantNamespace) -> CommandError {
    CommandError::refused(format!("there is no grant for `{principal}` on `{namespace}`"))
}

/// Returns the error for a grant that is not in the expected state.
fn changed(principal: &Principal, namespace: &GrantNamespace) -> CommandError {
    CommandError::refused(format!(
        "the grant for `{principal}` on `{namespace}` has changed in the meantime"
    ))
}
