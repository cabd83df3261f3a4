//! `trust delete`: deletes a trust, and before it the grants that name it, if the operator says so.

use serde_json::json;
use stile_core::audit::{Kind, Outcome};
use stile_core::grants::GrantNamespace;
use stile_core::principal::{LocalName, Principal};
use stile_store::{Deleted, TrustDeleted};
use terraform_credentials_stile::message::one_line;

use super::{Context, OpenStore, event, kept, record};
use crate::cli::TrustDelete;
use crate::error::CommandError;
use crate::progress::spinning;
use crate::target::StoreTarget;

/// How often the command begins again when others give grants to the trust meanwhile.
const ROUNDS: usize = 10;

/// The most namespaces that a refusal names.
const NAMED: usize = 5;

/// Deletes a trust.
///
/// It deletes each grant in a commit of its own, with its event, and the trust and its pin in the last
/// one. So a repeated command goes on where an earlier one was stopped, and no grant outlives its trust.
pub(super) async fn delete(context: &Context, args: TrustDelete) -> Result<(), CommandError> {
    let name = name_of(&args.name)?;
    let open = context.open_to_revoke(&args.store).await?;
    let mut grants = 0;
    for _ in 0..ROUNDS {
        let mut event = event(Kind::Trust, &open.operator);
        event.about(&Principal::trust(&name));
        let kept = kept(&event, context);
        let deleted = open.store.delete_trust(&open.operator, &name, &kept).await;
        if let Ok(TrustDeleted::Done(Some(trust))) = &deleted {
            event.trust_before(trust);
        }
        if let Ok(TrustDeleted::HasGrants(namespaces)) = &deleted
            && args.with_grants
        {
            grants += spinning(
                "deleting the grants of the trust",
                delete_grants(context, &open, &name, namespaces),
            )
            .await?;
            continue;
        }
        return match record(event, deleted, |deleted| match deleted {
            TrustDeleted::Done(_) => Outcome::Deleted,
            TrustDeleted::Absent => Outcome::Absent,
            TrustDeleted::HasGrants(_) => Outcome::Conflict,
        })? {
            TrustDeleted::Done(_) => done(context, &name, grants),
            TrustDeleted::Absent if grants > 0 => done(context, &name, grants),
            TrustDeleted::Absent => Err(absent(&name, &args.store)),
            TrustDeleted::HasGrants(namespaces) => Err(has_grants(&args, &name, &namespaces)),
        };
    }
    Err(CommandError::failed(format!("others give grants to `oidc:{name}` at the same time"))
        .hint("repeat the command"))
}

/// Parses the name of a trust.
pub(super) fn name_of(text: &str) -> Result<LocalName, CommandError> {
    text.parse().map_err(|error| {
        CommandError::usage(format!("`{}` is not a trust's name: {error}", one_line(text)))
    })
}

/// Returns the error for a trust that does not exist.
pub(super) fn absent(name: &LocalName, store: &StoreTarget) -> CommandError {
    CommandError::refused(format!("there is no trust `{name}`"))
        .hint(format!("`{}` lists all trusts", store.command("trust list")))
}

fn done(context: &Context, name: &LocalName, grants: usize) -> Result<(), CommandError> {
    let also = match grants {
        0 => String::new(),
        1 => " and its grant".to_owned(),
        grants => format!(" and its {grants} grants"),
    };
    context.output.outcome(
        format_args!("deleted the trust `{name}`{also}"),
        &json!({ "status": "deleted", "trust": name.as_str(), "grants": grants }),
    )
}

/// Deletes the grants of a trust on these namespaces, each with its audit event. Returns their number.
async fn delete_grants(
    context: &Context,
    OpenStore { store, operator }: &OpenStore,
    name: &LocalName,
    namespaces: &[String],
) -> Result<usize, CommandError> {
    let principal = Principal::trust(name);
    let mut number = 0;
    for namespace in namespaces {
        let namespace: GrantNamespace = namespace.parse().map_err(|_| {
            CommandError::failed(format!("cannot read a grant of `{principal}` in the store"))
                .hint("run the newest release, or restore the store from a backup")
        })?;
        let access = operator.grant_access(namespace.clone());
        let mut event = event(Kind::Grant, operator);
        event.about(&principal);
        event.grant(&namespace, None);
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
        number += usize::from(matches!(deleted, Deleted::Done(_)));
    }
    Ok(number)
}

fn has_grants(args: &TrustDelete, name: &LocalName, namespaces: &[String]) -> CommandError {
    let mut named: Vec<String> =
        namespaces.iter().take(NAMED).map(|namespace| format!("`{namespace}`")).collect();
    if let Some(more) = namespaces.len().checked_sub(NAMED).filter(|more| *more > 0) {
        named.push(format!("{more} more"));
    }
    CommandError::refused(format!(
        "`oidc:{name}` has grants on {}, so nothing was deleted",
        named.join(", ")
    ))
    .hint(format!(
        "`{} {name} --with-grants` deletes them, too",
        args.store.command("trust delete")
    ))
}
