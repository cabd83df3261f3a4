//! `grant create`: creates a grant, and compares it with an existing one.

use stile_core::audit::{Kind, Outcome};
use stile_core::grants::{GrantNamespace, MAX_GRANTS, Pin};
use stile_core::principal::{AwsPrincipal, Principal, parse_typed};
use stile_store::{Created, NewGrant};

use super::grant_backend::OF_AWS;
use super::grant_text::{
    GrantLine, concrete, expiry, expiry_with_past, grantable, namespace, unique_id, with_status,
};
use super::grant_wanted::{Wanted, pinned_otherwise};
use super::known_names::NewNames;
use super::{Context, OpenStore, event, grant_remote, kept, record};
use crate::cli::GrantCreate;
use crate::error::CommandError;
use crate::expiry::Expiry;
use crate::output::notice;
use crate::target::{ChosenTarget, StoreTarget};

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
    grantable(&principal, permissions)?;
    let parse = if args.skip_expired { expiry_with_past } else { expiry };
    let expiry = parse(args.expires.as_deref(), context.now)?.unwrap_or(Expiry::Never);
    let wanted = Wanted { permissions, expiry, pin: pin(&principal, args)? };
    let end = expiry.end(context.now);
    let is_past = end.is_some_and(|end| end <= context.now);
    match args.at.chosen()? {
        ChosenTarget::Store(target) => {
            any_account(&principal, args.any_account)?;
            if !args.yes {
                confirmed(&principal, typed.needs_confirmation, &namespace)?;
            }
            typed.notices.iter().for_each(notice);
            if is_past {
                let OpenStore { store, operator } = context.open(target).await?;
                let (who, on) = (Some(principal.clone()), Some(namespace.clone()));
                let held = store.grants(&operator, who, on).await?.pop();
                return wanted.skip(context, args, (&principal, &namespace), held.as_ref());
            }
            let new = NewGrant { principal, permissions, expires_at: end, pin: wanted.pin.clone() };
            create_in_store(context, (target, args), namespace, new, &wanted).await
        }
        ChosenTarget::Registry(api) => {
            let target = grant_remote::target_of(args, &principal, &namespace)?;
            typed.notices.iter().for_each(notice);
            if is_past {
                let held = Box::pin(grant_remote::find(context, api, &target)).await?;
                return wanted.skip(context, args, (&principal, &namespace), held.as_ref());
            }
            Box::pin(grant_remote::create(context, (api, args), &target, &wanted, end)).await
        }
    }
}

/// Creates a grant in the store, with its audit event.
async fn create_in_store(
    context: &Context,
    (target, args): (&StoreTarget, &GrantCreate),
    namespace: GrantNamespace,
    new: NewGrant,
    wanted: &Wanted,
) -> Result<(), CommandError> {
    let (principal, permissions) = (new.principal.clone(), new.permissions);
    let OpenStore { store, operator } = context.open_to_change(target).await?;
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
        Created::Exists { .. }
        | Created::DiffersByCase(_)
        | Created::PinnedOtherwise(_)
        | Created::NoTrust
        | Created::TrustOfAws => Outcome::Conflict,
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
            let mut json = wanted.unchanged(context, args, &grant);
            NewNames::default().add_to(&mut json);
            context.output.outcome(format_args!("unchanged: {}", GrantLine(&grant)), &json)
        }
        Created::Exists { grant, pin }
            if args.skip_expired && wanted.was(&grant, &pin, context.now) =>
        {
            wanted.skipped(context, &grant)
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
        Created::NoTrust => {
            let name = principal.name().unwrap_or_default();
            let create = target.command("trust create");
            Err(CommandError::refused(format!("there is no trust `{name}`")).hint(format!(
                "create it first with `{create} {name} --issuer URL --claim NAME=VALUE`"
            )))
        }
        Created::TrustOfAws => Err(CommandError::refused(OF_AWS).hint(
            "grant to the ARN of a role or user, or to an account, an organization or a tag",
        )),
        Created::TooMany => Err(CommandError::refused(format!(
            "`{principal}` has the maximum of {MAX_GRANTS} grants"
        ))
        .hint("create a grant on `*`, which means all namespaces")),
    }
}

/// Refuses a tag that counts in every account, unless the operator confirmed exactly that.
///
/// # Errors
///
/// A refusal, with the flag.
pub(super) fn any_account(principal: &Principal, confirmed: bool) -> Result<(), CommandError> {
    match principal {
        Principal::AwsGroup(group) if group.is_any_account() && !confirmed => {
            let problem = format!(
                "`{principal}` applies in every account that a trust believes, and the administrators \
                 of each of them can set the tag"
            );
            Err(CommandError::refused(problem).hint(format!(
                "name an account or an organizational unit, as in \
                 `account:111122223333/{principal}`, or add `--any-account` to confirm"
            )))
        }
        _ => Ok(()),
    }
}

fn confirmed(
    principal: &Principal,
    whole_account: bool,
    namespace: &GrantNamespace,
) -> Result<(), CommandError> {
    let hint = "add `--yes` to confirm";
    if let Principal::AwsGroup(group) = principal {
        let problem = format!("`{principal}` means {}", group.whom());
        return Err(CommandError::refused(problem).hint(hint));
    }
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
    if matches!(principal, Principal::Trust(_)) {
        return Err(CommandError::usage("the grants of a trust are always pinned to its id")
            .hint("leave out `--no-pin` and `--unique-id`"));
    }
    Ok(Some(pin))
}
