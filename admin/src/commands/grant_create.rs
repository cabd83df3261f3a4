//! `grant create`: creates a grant, and compares it with an existing one.

use serde_json::json;
use stile_core::audit::{Kind, Outcome};
use stile_core::clock::rfc3339;
use stile_core::grants::{Grant, GrantNamespace, MAX_GRANTS, Pin};
use stile_core::principal::{AwsPrincipal, Principal, parse_typed};
use stile_protocol::names::Permissions;
use stile_store::{Created, NewGrant};

use super::grant_text::{
    GrantFlags, GrantLine, concrete, expiry, expiry_with_past, namespace, permission_flags,
    unique_id, with_status,
};
use super::known_names::NewNames;
use super::{Context, OpenStore, event, kept, record};
use crate::cli::GrantCreate;
use crate::error::CommandError;
use crate::expiry::Expiry;
use crate::output::notice;
use crate::target::quoted;

/// Creates a grant. An identical grant does not change, and a different one is an error.
pub(super) async fn create(context: &Context, args: &GrantCreate) -> Result<(), CommandError> {
    let typed = parse_typed(&args.who.principal, args.who.exact)?;
    let (principal, namespace) = (typed.principal, namespace(&args.on.namespace)?);
    let permissions = args.permissions();
    if permissions.is_empty() {
        return Err(CommandError::usage("a grant needs at least one permission").hint(
            "add one or more of `--download`, `--upload`, `--create-grant`, `--delete-grant`",
        ));
    }
    let parse = if args.skip_expired { expiry_with_past } else { expiry };
    let expiry = parse(args.expires.as_deref(), context.now)?.unwrap_or(Expiry::Never);
    let wanted = Wanted { permissions, expiry, pin: pin(&principal, args)? };
    if !args.yes {
        confirmed(&principal, typed.needs_confirmation, &namespace)?;
    }
    typed.notices.iter().for_each(notice);
    if let Some(end) = expiry.end(context.now).filter(|end| *end <= context.now) {
        return skip(context, args, principal, namespace, permissions, end).await;
    }
    let new = NewGrant {
        principal: principal.clone(),
        permissions,
        expires_at: expiry.end(context.now),
        pin: wanted.pin.clone(),
    };
    let OpenStore { store, operator } =
        context.open_to_change(args.at.store_for("does this")?).await?;
    let access = operator.grant_access(namespace);
    let mut event = event(Kind::Grant, &operator);
    event.about(&principal);
    event.grant(access.namespace(), Some(permissions.to_string()));
    event.grant_end(new.expires_at);
    let created = store.create_grant(&access, new, &kept(&event, context)).await;
    match record(event, created, |created| match created {
        Created::Done { .. } => Outcome::Created,
        Created::Exists { grant, pin }
            if wanted.is(grant, pin, context.now)
                || args.skip_expired && wanted.was(grant, pin, context.now) =>
        {
            Outcome::Unchanged
        }
        Created::Exists { .. } | Created::DiffersByCase(_) | Created::PinnedOtherwise(_) => {
            Outcome::Conflict
        }
        Created::TooMany => Outcome::Full,
    })? {
        Created::Done { grant, new_namespace } => {
            let names = NewNames::find(&operator, &store, &grant, new_namespace).await;
            names.notices(&grant).iter().for_each(notice);
            let mut json = with_status("created", &grant);
            names.add_to(&mut json);
            context.output.outcome(format_args!("created {}", GrantLine(&grant)), &json)
        }
        Created::Exists { grant, pin } if wanted.is(&grant, &pin, context.now) => {
            if let Some(end) = grant.expires_at.filter(|end| expiry.end(context.now) != Some(*end))
            {
                notice(format_args!(
                    "the duration counts from the creation of the grant, so it ends at {}; \
                     hint: `{}` counts from now",
                    rfc3339(end),
                    wanted.update(args, &grant, true)
                ));
            }
            let mut json = with_status("unchanged", &grant);
            NewNames::default().add_to(&mut json);
            context.output.outcome(format_args!("unchanged: {}", GrantLine(&grant)), &json)
        }
        Created::Exists { grant, pin }
            if args.skip_expired && wanted.was(&grant, &pin, context.now) =>
        {
            let end = grant.expires_at.unwrap_or(context.now);
            skipped(context, &grant.principal, &grant.namespace, permissions, end)
        }
        Created::Exists { grant, pin } => Err(wanted.differs(args, &grant, &pin, context.now)),
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
        Created::PinnedOtherwise(_) => Err(pinned_otherwise(args, &principal)),
        Created::TooMany => Err(CommandError::refused(format!(
            "`{principal}` has the maximum of {MAX_GRANTS} grants"
        ))
        .hint("create a grant on `*`, which means all namespaces")),
    }
}

/// Creates nothing, because the requested grant has ended. Another grant that has not ended is an
/// error: the list of commands does not say that it exists.
async fn skip(
    context: &Context,
    args: &GrantCreate,
    principal: Principal,
    namespace: GrantNamespace,
    permissions: Permissions,
    end: i64,
) -> Result<(), CommandError> {
    let OpenStore { store, operator } = context.open(args.at.store_for("does this")?).await?;
    let held = store.grants(&operator, Some(principal.clone()), Some(namespace.clone())).await?;
    let is_live = |grant: &&Grant| grant.expires_at.is_none_or(|end| context.now < end);
    if let Some(live) = held.iter().find(is_live) {
        return Err(CommandError::refused(format!(
            "the grant already exists and has not ended: {}",
            GrantLine(live)
        ))
        .hint(format!(
            "delete it with `{} {}`, or remove the command for a grant that has ended",
            args.at.command("grant delete"),
            GrantFlags(&principal, &namespace)
        )));
    }
    skipped(context, &principal, &namespace, permissions, end)
}

/// Reports a grant that has ended, so that nothing was created.
fn skipped(
    context: &Context,
    principal: &Principal,
    namespace: &GrantNamespace,
    permissions: Permissions,
    end: i64,
) -> Result<(), CommandError> {
    notice(format_args!(
        "the grant ended at {}, so nothing was created; hint: remove the command, or give a new end",
        rfc3339(end)
    ));
    let mut json = json!({
        "status": "expired", "principal": principal, "namespace": namespace.to_string(),
        "permissions": permissions, "expires_at": rfc3339(end), "created_by": null, "created_at": null,
    });
    NewNames::default().add_to(&mut json);
    let line = format!("skipped {principal} on {namespace}: {permissions} until {}", rfc3339(end));
    context.output.outcome(line, &json)
}

fn pinned_otherwise(args: &GrantCreate, principal: &Principal) -> CommandError {
    let problem = format!(
        "`{}` already has a different pin, which applies to all its grants",
        principal.display_name()
    );
    CommandError::refused(problem).hint(format!(
        "remove that pin first with `{} --role-arn {}`",
        args.at.command("grant repin"),
        principal.display_name()
    ))
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

/// The part of a requested grant in which an existing one can differ.
struct Wanted {
    permissions: Permissions,
    expiry: Expiry,
    /// `None`, if the operator did not ask for a pin, so that any is right.
    pin: Option<Pin>,
}

impl Wanted {
    /// Returns whether the existing grant is the requested one. An expired grant is not.
    fn is(&self, held: &Grant, held_pin: &Pin, now: i64) -> bool {
        held.permissions == self.permissions
            && self.has_end_of(held, now)
            && self.pin.as_ref().is_none_or(|pin| pin == held_pin)
    }

    /// Returns whether the existing grant was the requested one until it ended.
    fn was(&self, held: &Grant, held_pin: &Pin, now: i64) -> bool {
        held.permissions == self.permissions
            && self.expiry.created(held.created_at, held.expires_at)
            && held.expires_at.is_some_and(|end| end <= now)
            && self.pin.as_ref().is_none_or(|pin| pin == held_pin)
    }

    fn has_end_of(&self, held: &Grant, now: i64) -> bool {
        self.expiry.created(held.created_at, held.expires_at)
            && held.expires_at.is_none_or(|end| now < end)
    }

    /// Returns the error for a different grant. Its hint has the command that changes that grant.
    fn differs(&self, args: &GrantCreate, held: &Grant, held_pin: &Pin, now: i64) -> CommandError {
        let same_end = self.has_end_of(held, now);
        let exists = |more: &str| {
            CommandError::refused(format!("the grant already exists{more}: {}", GrantLine(held)))
        };
        if held.permissions != self.permissions || !same_end {
            return exists("")
                .hint(format!("change it with `{}`", self.update(args, held, !same_end)));
        }
        if *held_pin != Pin::Unpinned {
            return pinned_otherwise(args, &held.principal);
        }
        exists(" without the pin").hint(format!(
            "delete it with `{} {}`, and create it again",
            args.at.command("grant delete"),
            GrantFlags(&held.principal, &held.namespace)
        ))
    }

    /// Returns the command that makes the existing grant like the requested one.
    ///
    /// It removes permissions only if nothing is missing: an operator who adds one must not lose
    /// another by a pasted command.
    fn update(&self, args: &GrantCreate, held: &Grant, end: bool) -> String {
        let less = |all: Permissions, some: Permissions| {
            some.iter().fold(all, |rest, permission| rest.without(permission))
        };
        let mut flags = permission_flags(less(self.permissions, held.permissions));
        if end {
            flags.push_str(&format!(
                " --expires {}",
                quoted(args.expires.as_deref().unwrap_or("never"))
            ));
        }
        if flags.is_empty() {
            let surplus = less(held.permissions, self.permissions);
            flags = surplus
                .iter()
                .map(|permission| {
                    format!("{}=false", permission_flags(Permissions::NONE.with(permission)))
                })
                .collect();
        }
        format!(
            "{} {}{flags}",
            args.at.command("grant update"),
            GrantFlags(&held.principal, &held.namespace)
        )
    }
}

#[cfg(test)]
mod tests {
    use stile_core::principal::UniqueId;
    use stile_protocol::names::Permission;

    use super::*;

    const NOW: i64 = 1000;

    fn held(expires_at: Option<i64>) -> Grant {
        Grant {
            principal: Principal::parse_stored("aws:111122223333:role/deploy").unwrap(),
            namespace: "acme".parse().unwrap(),
            permissions: Permissions::NONE.with(Permission::Download),
            expires_at,
            created_by: "x".to_owned(),
            created_at: NOW - 60,
        }
    }

    fn wanted(permissions: &[Permission], expiry: Expiry, pin: Option<Pin>) -> Wanted {
        Wanted { permissions: permissions.iter().copied().collect(), expiry, pin }
    }

    #[test]
    fn a_grant_that_differs_in_permissions_end_or_pin_is_another() {
        let (download, upload) = (Permission::Download, Permission::Upload);
        let pinned = |text: &str| Pin::Pinned(UniqueId::parse(text).unwrap());
        let (one, other) = (pinned("AROAEXAMPLEEXAMPLE222"), pinned("AROAOTHEROTHEROTHER22"));
        for (permissions, expiry, pin, end, held_pin) in [
            (&[upload][..], Expiry::Never, None, None, Pin::Unpinned),
            (&[download, upload], Expiry::Never, None, None, Pin::Unpinned),
            (&[download], Expiry::At(NOW + 5), None, None, Pin::Unpinned),
            (&[download], Expiry::Never, None, Some(NOW + 5), Pin::Unpinned),
            (&[download], Expiry::At(NOW + 5), None, Some(NOW + 6), Pin::Unpinned),
            (&[download], Expiry::After(5), None, Some(NOW + 5), Pin::Unpinned),
            // It was the same grant, but it has expired.
            (&[download], Expiry::After(60), None, Some(NOW), Pin::Unpinned),
            (&[download], Expiry::Never, Some(Pin::Disabled), None, Pin::Unpinned),
            (&[download], Expiry::Never, Some(Pin::Disabled), None, one.clone()),
            (&[download], Expiry::Never, Some(one.clone()), None, other),
            (&[download], Expiry::Never, Some(one), None, Pin::Disabled),
        ] {
            let wanted = wanted(permissions, expiry, pin);
            assert!(!wanted.is(&held(end), &held_pin, NOW), "{expiry:?} {held_pin:?}");
        }
    }

    #[test]
    fn a_grant_that_ended_was_the_requested_one_only_if_nothing_else_differs() {
        let (download, upload) = (Permission::Download, Permission::Upload);
        for (permission, expiry, pin, end, expected) in [
            (download, Expiry::Never, None, None, false),
            (upload, Expiry::After(60), None, Some(NOW), false),
            (download, Expiry::After(59), None, Some(NOW), false),
            (download, Expiry::After(61), None, Some(NOW + 1), false),
            (download, Expiry::After(60), Some(Pin::Disabled), Some(NOW), false),
            (download, Expiry::After(60), None, Some(NOW), true),
            (download, Expiry::At(NOW), None, Some(NOW), true),
            (download, Expiry::After(60), Some(Pin::Unpinned), Some(NOW), true),
        ] {
            let wanted = wanted(&[permission], expiry, pin);
            let was = wanted.was(&held(end), &Pin::Unpinned, NOW);
            assert_eq!(was, expected, "{permission} {expiry:?} {end:?}");
        }
    }

    #[test]
    fn a_grant_is_identical_whatever_pin_it_has_if_the_operator_asked_for_none() {
        let one = Pin::Pinned(UniqueId::parse("AROAEXAMPLEEXAMPLE222").unwrap());
        for (expiry, pin, end, held_pin) in [
            (Expiry::Never, None, None, Pin::Unpinned),
            (Expiry::Never, None, None, one.clone()),
            (Expiry::Never, None, None, Pin::Disabled),
            (Expiry::Never, Some(Pin::Disabled), None, Pin::Disabled),
            (Expiry::Never, Some(one.clone()), None, one),
            (Expiry::At(NOW + 5), None, Some(NOW + 5), Pin::Unpinned),
            (Expiry::After(65), None, Some(NOW + 5), Pin::Unpinned),
        ] {
            let wanted = wanted(&[Permission::Download], expiry, pin);
            assert!(wanted.is(&held(end), &held_pin, NOW), "{expiry:?} {held_pin:?}");
        }
    }
}
