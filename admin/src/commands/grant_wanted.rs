//! What `grant create` wants, compared with an existing grant.

use serde_json::{Value, json};
use stile_core::clock::rfc3339;
use stile_core::grants::{Grant, GrantNamespace, Pin};
use stile_core::principal::Principal;
use stile_protocol::names::Permissions;

use super::Context;
use super::grant_text::{GrantFlags, GrantLine, permission_flags, with_status};
use super::known_names::NewNames;
use crate::cli::GrantCreate;
use crate::error::CommandError;
use crate::expiry::Expiry;
use crate::output::notice;
use crate::target::quoted;

/// The part of a requested grant in which an existing one can differ.
pub(super) struct Wanted {
    pub(super) permissions: Permissions,
    pub(super) expiry: Expiry,
    /// `None`, if the operator did not ask for a pin, so that any is right.
    pub(super) pin: Option<Pin>,
}

impl Wanted {
    /// Returns whether the existing grant is the requested one. An expired grant is not.
    pub(super) fn is(&self, held: &Grant, held_pin: &Pin, now: i64) -> bool {
        held.permissions == self.permissions
            && self.has_end_of(held, now)
            && self.pin.as_ref().is_none_or(|pin| pin == held_pin)
    }

    /// Returns whether the existing grant was the requested one until it ended.
    pub(super) fn was(&self, held: &Grant, held_pin: &Pin, now: i64) -> bool {
        held.permissions == self.permissions
            && self.expiry.created(held.created_at, held.expires_at)
            && held.expires_at.is_some_and(|end| end <= now)
            && self.pin.as_ref().is_none_or(|pin| pin == held_pin)
    }

    /// Creates nothing, because the requested grant has ended. Another grant that has not ended is an
    /// error: the list of commands does not say that it exists.
    pub(super) fn skip(
        &self,
        context: &Context,
        args: &GrantCreate,
        (principal, namespace): (&Principal, &GrantNamespace),
        held: Option<&Grant>,
    ) -> Result<(), CommandError> {
        let is_live = |grant: &&Grant| grant.expires_at.is_none_or(|end| context.now < end);
        if let Some(live) = held.filter(is_live) {
            return Err(CommandError::refused(format!(
                "the grant already exists and has not ended: {}",
                GrantLine(live)
            ))
            .hint(format!(
                "delete it with `{} {}`, or remove the command for a grant that has ended",
                args.at.command("grant delete"),
                GrantFlags(principal, namespace)
            )));
        }
        let end = self.expiry.end(context.now).unwrap_or(context.now);
        skipped(context, principal, namespace, self.permissions, end)
    }

    /// Reports that the requested grant exists and has ended, so that nothing was created.
    pub(super) fn skipped(&self, context: &Context, held: &Grant) -> Result<(), CommandError> {
        let end = held.expires_at.unwrap_or(context.now);
        skipped(context, &held.principal, &held.namespace, self.permissions, end)
    }

    /// Returns the JSON of an existing grant that is the requested one. Prints a notice if its
    /// duration counts from another time.
    pub(super) fn unchanged(&self, context: &Context, args: &GrantCreate, held: &Grant) -> Value {
        if let Some(end) = held.expires_at.filter(|end| self.expiry.end(context.now) != Some(*end))
        {
            notice(format_args!(
                "the duration counts from the creation of the grant, so it ends at {}; \
                 hint: `{}` counts from now",
                rfc3339(end),
                self.update(args, held, true)
            ));
        }
        with_status("unchanged", held)
    }

    fn has_end_of(&self, held: &Grant, now: i64) -> bool {
        self.expiry.created(held.created_at, held.expires_at)
            && held.expires_at.is_none_or(|end| now < end)
    }

    /// Returns the error for a different grant. Its hint has the command that changes that grant.
    pub(super) fn differs(
        &self,
        args: &GrantCreate,
        held: &Grant,
        held_pin: &Pin,
        now: i64,
    ) -> CommandError {
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
        let mut flags = permission_flags(self.permissions.minus(held.permissions));
        if end {
            flags.push_str(&format!(
                " --expires {}",
                quoted(args.expires.as_deref().unwrap_or("never"))
            ));
        }
        if flags.is_empty() {
            let surplus = held.permissions.minus(self.permissions);
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

/// Returns the error of a principal with another pin than the wanted one.
pub(super) fn pinned_otherwise(args: &GrantCreate, principal: &Principal) -> CommandError {
    let problem = format!(
        "`{}` already has a different pin, which applies to all its grants",
        principal.display_name()
    );
    CommandError::refused(problem).hint(format!(
        "remove that pin first with `{} {} {}`",
        args.at.command("grant repin"),
        principal.flag(),
        principal.display_name()
    ))
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
