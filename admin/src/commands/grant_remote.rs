//! `grant create`, `update`, `delete`, `show` and `list` through the API of a registry.
//!
//! A change first reads the grant, and sends its tag. So two editors never overwrite each other.

use reqwest::StatusCode;
use serde_json::Value;
use stile_core::clock::rfc3339;
use stile_core::grants::{Grant, GrantNamespace, Pin};
use stile_core::principal::Principal;
use stile_protocol::names::Permission::{CreateGrant, DeleteGrant};
use stile_protocol::names::{Permission, Permissions};
use stile_store::{Change, Deleted, ExpiryChange, Updated};

use super::Context;
use super::grant_client::{
    Answer, EntityTag, GrantClient, RIGHTS, RemoteGrant, RemoteTarget, needed,
};
use super::grant_text::{GrantFlags, GrantLine, end, object, with_status};
use super::grant_wanted::Wanted;
use crate::cli::{GrantCreate, GrantList, GrantUpdate};
use crate::error::CommandError;
use crate::expiry::Expiry;
use crate::grant_file::unreadable_name;
use crate::output::notice;
use crate::progress::spinning;
use crate::target::{AnyTarget, ApiTarget, operators_only};

/// The most seconds by which the duration of an identical grant can differ, because two clocks date
/// it. For a short duration, it is a tenth of that.
const MAX_SLACK: i64 = 300;

/// The most notices about grants that the program cannot read.
const MAX_NOTICES: usize = 3;

/// Returns which grant the API is to create, or the refusal of what only an operator sets.
pub(super) fn target_of(
    args: &GrantCreate,
    principal: &Principal,
    namespace: &GrantNamespace,
) -> Result<RemoteTarget, CommandError> {
    if args.unique_id.is_some() || args.no_pin {
        return Err(operators_only("sets the pin of a principal"));
    }
    RemoteTarget::new(principal.clone(), namespace)
}

/// Creates a grant. `end` is its end in Unix seconds.
pub(super) async fn create(
    context: &Context,
    (api, args): (&ApiTarget, &GrantCreate),
    target: &RemoteTarget,
    wanted: &Wanted,
    end: Option<i64>,
) -> Result<(), CommandError> {
    let permissions = wanted.permissions;
    let scope = permissions.with(CreateGrant);
    let client = GrantClient::with(context, api, &target.namespace, scope).await?;
    let sending = Box::pin(client.create(target, permissions, end));
    let (answer, status) = sent(&args.at, target, spinning("creating the grant", sending).await)?;
    match answer {
        Answer::Done(Some(grant)) if status == StatusCode::CREATED => {
            let mut json = with_status("created", &grant);
            without_comparison(&mut json);
            context.output.outcome(format_args!("created {}", GrantLine(&grant)), &json)
        }
        Answer::Done(Some(grant)) => same(context, args, wanted, &grant),
        // The registry compares the time of the end, and this program the duration.
        Answer::Conflict(conflict) => {
            let Some((grant, _)) = Box::pin(client.find(target)).await? else {
                return Err(conflict);
            };
            let (dated, now) = (by_this_clock(&grant, wanted.expiry), context.now);
            if wanted.is(&dated, &Pin::Unpinned, now) {
                same(context, args, wanted, &grant)
            } else if args.skip_expired && wanted.was(&dated, &Pin::Unpinned, now) {
                wanted.skipped(context, &grant)
            } else {
                Err(wanted.differs(args, &dated, &Pin::Unpinned, now))
            }
        }
        Answer::Refused(error) => Err(error),
        Answer::Done(None) | Answer::Absent | Answer::Differs => {
            Err(client.unexpected("another answer"))
        }
    }
}

/// Returns one grant, if it exists.
pub(super) async fn find(
    context: &Context,
    api: &ApiTarget,
    target: &RemoteTarget,
) -> Result<Option<Grant>, CommandError> {
    let client = GrantClient::with_one_of(context, api, &target.namespace, &RIGHTS).await?;
    let found = spinning("reading the grant", Box::pin(client.find(target))).await?;
    Ok(found.map(|(grant, _)| grant))
}

/// Changes a grant that has not changed since the program read it.
pub(super) async fn update(
    context: &Context,
    (api, args): (&ApiTarget, &GrantUpdate),
    target: &RemoteTarget,
    change: Change,
) -> Result<Updated, CommandError> {
    let takes = change.set.is_empty() && change.expires_at == ExpiryChange::Keep;
    let rights = if takes { [DeleteGrant, CreateGrant] } else { RIGHTS };
    let reader = GrantClient::with_one_of(context, api, &target.namespace, &rights).await?;
    let Some((held, tag)) = spinning("reading the grant", Box::pin(reader.find(target))).await?
    else {
        return Ok(Updated::Absent);
    };
    let after = after(&held, change);
    if after.permissions.is_empty() {
        return Ok(Updated::WouldBeEmpty);
    }
    let state = |grant: &Grant| Some((grant.permissions, grant.expires_at));
    let scope = needed(state(&held), state(&after));
    let client = if scope.is_empty() {
        reader
    } else {
        GrantClient::with(context, api, &target.namespace, scope).await?
    };
    let sending = Box::pin(client.update(target, change, &tag, args.force));
    match sent(&args.at, target, spinning("changing the grant", sending).await)? {
        Answer::Done(Some(grant)) => Ok(Updated::Done { before: held, after: grant }),
        // A repeated request finds the change of the first one, whose answer was lost.
        Answer::Differs => match reread(context, api, target, &rights).await? {
            Some((now, _)) if now == after => Ok(Updated::Done { before: held, after: now }),
            Some(_) | None => Err(changed(&args.at, target)),
        },
        Answer::Absent => Err(changed(&args.at, target)),
        Answer::Conflict(error) | Answer::Refused(error) => Err(error),
        Answer::Done(None) => Err(client.unexpected("another answer")),
    }
}

/// Deletes a grant that has not changed since the program read it.
pub(super) async fn delete(
    context: &Context,
    api: &ApiTarget,
    (at, force): (&AnyTarget, bool),
    target: &RemoteTarget,
) -> Result<Deleted, CommandError> {
    let scope = Permissions::NONE.with(DeleteGrant);
    let client = GrantClient::with(context, api, &target.namespace, scope).await?;
    let found = spinning("reading the grant", Box::pin(client.find(target))).await?;
    let Some((held, tag)) = found else { return Ok(Deleted::Absent) };
    let sending = Box::pin(client.delete(target, &tag, force));
    match sent(at, target, spinning("deleting the grant", sending).await)? {
        // The grant was there, so this request or one at the same time deleted it.
        Answer::Done(_) | Answer::Absent => Ok(Deleted::Done(Some(held))),
        Answer::Differs => Err(changed(at, target)),
        Answer::Conflict(error) | Answer::Refused(error) => Err(error),
    }
}

/// Lists the grants that the caller may see.
pub(super) async fn list(
    context: &Context,
    (api, args): (&ApiTarget, &GrantList),
    principal: Option<&Principal>,
    namespace: Option<&GrantNamespace>,
) -> Result<(), CommandError> {
    let client = match namespace {
        Some(GrantNamespace::One(one)) => {
            GrantClient::with_one_of(context, api, one, &RIGHTS).await?
        }
        Some(GrantNamespace::All) | None => GrantClient::for_all(context, api).await?,
    };
    let reading = Box::pin(client.list(principal, namespace));
    let found = spinning("reading the grants", reading).await?;
    let (mut rows, mut json, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
    for grant in found {
        let (grant, by, at) = match grant {
            RemoteGrant::Whole(grant, _) => {
                let (by, at) = (grant.created_by.clone(), rfc3339(grant.created_at));
                (grant, Some(by), Some(at))
            }
            RemoteGrant::Own(grant) => (grant, None, None),
            RemoteGrant::Unreadable(one) => {
                unreadable.push(unreadable_name(&one));
                continue;
            }
        };
        let mut one = object(&grant);
        (one["created_by"], one["created_at"]) = (by.as_deref().into(), at.as_deref().into());
        json.push(one);
        let shown = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        rows.push(vec![
            grant.principal.to_string(),
            grant.namespace.to_string(),
            grant.permissions.to_string(),
            end(&grant, context.now),
            shown(by),
            shown(at),
        ]);
    }
    for name in unreadable.iter().take(MAX_NOTICES) {
        notice(format_args!("this program cannot read the grant of {name}"));
    }
    context.output.rows(
        "grants",
        &["principal", "namespace", "permissions", "expires", "created by", "created at"],
        &rows,
        &Value::from(json),
    )?;
    if unreadable.is_empty() {
        return Ok(());
    }
    let (count, list) = (unreadable.len(), args.at.command("grant list"));
    Err(CommandError::refused(format!("`{list}` cannot read {count} of the grants"))
        .hint("use a newer release of `stile-admin`"))
}

/// Reports an existing grant that is like the wanted one.
fn same(
    context: &Context,
    args: &GrantCreate,
    wanted: &Wanted,
    grant: &Grant,
) -> Result<(), CommandError> {
    let mut json = wanted.unchanged(context, args, grant);
    without_comparison(&mut json);
    context.output.outcome(format_args!("unchanged: {}", GrantLine(grant)), &json)
}

/// Sets the fields about new names to `null`. The API does not compare names.
fn without_comparison(json: &mut Value) {
    for what in ["namespace", "account", "principal"] {
        json[format!("new_{what}")] = Value::Null;
        json[format!("nearest_{what}")] = Value::Null;
    }
}

/// Returns a grant as if this program had dated its creation.
///
/// The registry dates the creation, and this program the end. So a duration differs by the time of the
/// request, and by the difference of the clocks.
fn by_this_clock(held: &Grant, expiry: Expiry) -> Grant {
    let mut dated = held.clone();
    if let (Expiry::After(seconds), Some(end)) = (expiry, held.expires_at) {
        let created_at = end.saturating_sub(seconds);
        let slack = MAX_SLACK.min(seconds / 10);
        if created_at.abs_diff(held.created_at) <= slack.unsigned_abs() {
            dated.created_at = created_at;
        }
    }
    dated
}

async fn reread(
    context: &Context,
    api: &ApiTarget,
    target: &RemoteTarget,
    rights: &[Permission],
) -> Result<Option<(Grant, EntityTag)>, CommandError> {
    let reader = GrantClient::with_one_of(context, api, &target.namespace, rights).await?;
    Box::pin(reader.find(target)).await
}

/// Returns the grant after a change.
fn after(held: &Grant, change: Change) -> Grant {
    let added = held.permissions.union(change.set);
    let permissions = change.clear.iter().fold(added, |rest, cleared| rest.without(cleared));
    let expires_at = match change.expires_at {
        ExpiryChange::Keep => held.expires_at,
        ExpiryChange::Never => None,
        ExpiryChange::At(end) => Some(end),
    };
    Grant { permissions, expires_at, ..held.clone() }
}

/// Sets the hint of a failure of a change: nobody knows whether the registry made it.
fn sent<T>(
    at: &AnyTarget,
    target: &RemoteTarget,
    answer: Result<T, CommandError>,
) -> Result<T, CommandError> {
    answer.map_err(|error| match error.is_refusal() {
        true => error,
        false => error.hint(format!(
            "the registry can have made the change; look with `{}`",
            show_command(at, target)
        )),
    })
}

/// Returns the error of a grant that others changed after the program read it.
fn changed(at: &AnyTarget, target: &RemoteTarget) -> CommandError {
    let RemoteTarget { principal, namespace } = target;
    CommandError::refused(format!(
        "others changed the grant for `{principal}` on `{namespace}` meanwhile, so nothing was changed"
    ))
    .hint(format!("look at it with `{}`, and repeat the command", show_command(at, target)))
}

fn show_command(at: &AnyTarget, target: &RemoteTarget) -> String {
    let namespace = GrantNamespace::One(target.namespace.clone());
    format!("{} {}", at.command("grant show"), GrantFlags(&target.principal, &namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_the_same_by_two_clocks_if_it_differs_by_little() {
        for (seconds, created_at, end, expected) in [
            (60, 1000, Some(1053), 1000),
            (60, 1000, Some(1067), 1000),
            (60, 1000, Some(1054), 994),
            (60, 1000, Some(1066), 1006),
            (86_400, 1000, Some(87_701), 1000),
            (86_400, 1000, Some(87_700), 1300),
            (86_400, 1000, None, 1000),
        ] {
            let held = Grant {
                principal: Principal::parse_stored("aws:111122223333:role/ci").unwrap(),
                namespace: "acme".parse().unwrap(),
                permissions: Permissions::NONE.with(Permission::Download),
                expires_at: end,
                created_by: String::new(),
                created_at,
            };
            let dated = by_this_clock(&held, Expiry::After(seconds));
            assert_eq!(dated.created_at, expected, "{seconds} {end:?}");
            assert_eq!(by_this_clock(&held, Expiry::Never), held);
        }
    }
}
