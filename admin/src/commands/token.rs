//! `token`: issues service tokens, revokes a token, a principal or all tokens, and lists both.

use std::process::ExitCode;

use serde_json::json;
use stile_core::audit::{Kind, Outcome};
use stile_core::clock::rfc3339;
use stile_core::token::TokenId;
use stile_protocol::reply::ErrorCode;

use super::service_token;
use super::{CommandResult, Context, OpenStore, event, existing_principal, kept, record};
use crate::cli::{TokenLift, TokenRevoke, TokenVerb};
use crate::error::CommandError;
use crate::output::notice;
use crate::progress::spinning;
use crate::target::StoreTarget;

/// Maximum number of attempts to delete all keys, if a broker adds a key at the same time.
const MAX_ATTEMPTS: usize = 10;

/// The notice after each revocation: helpers learn about it later.
const CACHED_TOKEN_NOTICE: &str = "credentials helpers replace a revoked token within a minute, but those of earlier releases \
                    return it until it expires; hint: run `terraform-credentials-stile forget HOST` on machines with such a helper";

/// Runs one subcommand.
pub(crate) async fn run(context: &Context, verb: TokenVerb) -> CommandResult {
    match verb {
        TokenVerb::Issue(args) => service_token::issue(context, &args).await?,
        TokenVerb::Rotate(args) => service_token::rotate(context, &args).await?,
        TokenVerb::Adopt(args) => service_token::adopt(context, &args).await?,
        TokenVerb::Revoke(args) => revoke(context, &args).await?,
        TokenVerb::Lift(args) => lift(context, &args).await?,
        TokenVerb::List(target) => list(context, &target).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn revoke(context: &Context, args: &TokenRevoke) -> Result<(), CommandError> {
    if let Some(text) = &args.token {
        return revoke_token(context, &args.store, text).await;
    }
    if let Some(text) = &args.principal {
        let principal = existing_principal(text, args.exact)?;
        let OpenStore { store, operator } = context.open_to_revoke(&args.store).await?;
        let mut event = event(Kind::Revoke, &operator);
        event.about(&principal);
        let kept = kept(&event, context);
        let new = store.revoke_principal(&operator, principal.clone(), &kept).await;
        let new =
            record(event, new, |new| if *new { Outcome::Revoked } else { Outcome::Unchanged })?;
        let line = if new {
            format!("revoked {principal}")
        } else {
            format!("unchanged: {principal} is already revoked")
        };
        let status = if new { "revoked" } else { "unchanged" };
        notice(CACHED_TOKEN_NOTICE);
        return context.output.outcome(line, &json!({ "status": status, "principal": principal }));
    }
    if !args.yes {
        return Err(CommandError::refused("`--all` revokes the tokens of all principals")
            .hint("add `--yes` to confirm"));
    }
    let open = context.open_to_revoke(&args.store).await?;
    let deleted = drop_keys(context, &open).await?;
    let services = service_token::revoke_all(context, &open).await?;
    let line = if deleted == 0 && services == 0 {
        "unchanged: there are no keys, so no token is valid"
    } else {
        notice(CACHED_TOKEN_NOTICE);
        "revoked all tokens"
    };
    context.output.outcome(line, &json!({ "status": if deleted == 0 && services == 0 { "unchanged" } else { "revoked" }, "dropped_keys": deleted, "service_tokens": services }))
}

async fn revoke_token(
    context: &Context,
    target: &StoreTarget,
    text: &str,
) -> Result<(), CommandError> {
    // The error does not contain the input, because it may be the token itself (secret leak).
    let id = TokenId::parse(text).ok_or_else(|| {
        CommandError::usage("the argument is not a token id")
            .hint("use the `token_id` of the audit log (22 characters), not the token itself")
    })?;
    let open = context.open_to_revoke(target).await?;
    if service_token::revoke(context, &open, &id).await? {
        return context.output.outcome(
            format!("revoked the service token {}", id.as_str()),
            &json!({ "status": "revoked", "service_token": id.as_str() }),
        );
    }
    let OpenStore { store, operator } = open;
    let mut event = event(Kind::Revoke, &operator);
    event.token(&id);
    let revoked = store.revoke_token(&operator, id.clone(), &kept(&event, context)).await;
    record(event, revoked, |()| Outcome::Revoked)?;
    notice(CACHED_TOKEN_NOTICE);
    context.output.outcome(
        format!("revoked token {}", id.as_str()),
        &json!({ "status": "revoked", "jti": id.as_str() }),
    )
}

/// Deletes all keys, and returns their number.
async fn drop_keys(
    context: &Context,
    OpenStore { store, operator }: &OpenStore,
) -> Result<usize, CommandError> {
    let (mut event, mut dropped) = (event(Kind::Key, operator), Ok(None));
    let kept = kept(&event, context);
    for _ in 0..MAX_ATTEMPTS {
        dropped = store.drop_keys(operator, &kept).await;
        if !matches!(dropped, Ok(None)) {
            break;
        }
    }
    if matches!(dropped, Ok(None)) {
        event.refused(ErrorCode::Conflict);
    }
    let outcome = |count: &Option<usize>| match count {
        Some(0) => Outcome::Unchanged,
        _ => Outcome::Dropped,
    };
    if let Some(count) = record(event, dropped, outcome)? {
        return Ok(count);
    }
    Err(CommandError::failed(
        "could not delete the keys, because the keyring changed during each attempt",
    )
    .hint("run the command again"))
}

async fn lift(context: &Context, args: &TokenLift) -> Result<(), CommandError> {
    let principal = existing_principal(&args.principal, args.exact)?;
    let OpenStore { store, operator } = context.open_to_change(&args.store).await?;
    let mut event = event(Kind::Lift, &operator);
    event.about(&principal);
    let lifted = store.lift(&operator, principal.clone(), &kept(&event, context)).await;
    if !record(event, lifted, |lifted| if *lifted { Outcome::Lifted } else { Outcome::Absent })? {
        return Err(CommandError::refused(format!("`{principal}` is not revoked"))
            .hint(format!("`{}` lists all revocations", args.store.command("token list"))));
    }
    context.output.outcome(
        format!("lifted {principal}"),
        &json!({ "status": "lifted", "principal": principal }),
    )
}

async fn list(context: &Context, target: &StoreTarget) -> Result<(), CommandError> {
    let OpenStore { store, operator } = context.open(target).await?;
    let revocations = spinning("reading the revocations", store.revocations(&operator)).await?;
    let principals = revocations.principals.iter().map(|revoked| {
        let since = rfc3339(revoked.revoked_at);
        let json = json!({ "kind": "principal", "id": revoked.principal, "revoked_at": since });
        (
            vec!["principal".to_owned(), revoked.principal.to_string(), format!("since {since}")],
            json,
        )
    });
    let tokens = revocations.tokens.iter().map(|revoked| {
        let until = rfc3339(revoked.keep_until);
        let json = json!({ "kind": "token", "id": revoked.id.as_str(), "remembered_until": until });
        (
            vec![
                "token".to_owned(),
                revoked.id.as_str().to_owned(),
                format!("remembered until {until}"),
            ],
            json,
        )
    });
    let listed = spinning("reading the service tokens", store.service_tokens(&operator)).await?;
    let services = listed.tokens.iter().map(|stored| service_token::row(stored, context.now));
    let unreadable = listed.unreadable.iter().map(service_token::unreadable_row);
    let services = services.chain(unreadable);
    let (rows, json): (Vec<_>, Vec<_>) = services.chain(principals).chain(tokens).unzip();
    let columns = &["token or revocation", "id", "what"];
    context.output.rows("service tokens and revocations", columns, &rows, &json.into())
}
