//! `token`: revokes a token, a principal or everything, lifts what was revoked of a principal, and lists.

use std::process::ExitCode;

use serde_json::json;
use stile_core::clock::rfc3339;
use stile_core::grants::OperatorAccess;
use stile_core::token::TokenId;
use stile_store::Store;

use super::{CommandResult, Context, existing_principal};
use crate::cli::{TokenLift, TokenRevoke, TokenVerb};
use crate::error::CommandError;
use crate::output::notice;
use crate::target::StoreTarget;

/// How often the keys are dropped anew when a broker adds one in the same moment.
const MAX_ATTEMPTS: usize = 10;

/// What is out does not know that it is dead: said wherever a token may have been kept.
const CACHED_TOKEN_NOTICE: &str = "a credentials helper hands out the token that it kept until that ends; \
                    hint: `terraform-credentials-stile forget HOST` drops it at once, on the machine of whoever had it";

/// Runs one verb.
pub(crate) async fn run(context: &Context, verb: TokenVerb) -> CommandResult {
    match verb {
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
        let new = args
            .store
            .open()
            .await?
            .revoke_principal(&context.operator(), principal.clone(), context.now)
            .await?;
        let line = if new {
            format!("revoked {principal}")
        } else {
            format!("unchanged: {principal} was revoked already")
        };
        let status = if new { "revoked" } else { "unchanged" };
        notice(CACHED_TOKEN_NOTICE);
        return context.output.outcome(line, &json!({ "status": status, "principal": principal }));
    }
    if !args.yes {
        return Err(CommandError::refused("`--all` revokes every token there is, everybody's")
            .hint("repeat with `--yes` if that is meant"));
    }
    let dropped = drop_keys(&context.operator(), &args.store.open().await?).await?;
    let line = if dropped == 0 {
        "nothing to revoke: there are no keys, so no token is good"
    } else {
        notice(CACHED_TOKEN_NOTICE);
        "revoked every token"
    };
    context.output.outcome(line, &json!({ "status": if dropped == 0 { "unchanged" } else { "revoked" }, "dropped_keys": dropped }))
}

async fn revoke_token(
    context: &Context,
    target: &StoreTarget,
    text: &str,
) -> Result<(), CommandError> {
    // What was typed is not shown: it may well be the token itself.
    let id = TokenId::parse(text).ok_or_else(|| {
        CommandError::refused("that is not a token's id")
            .hint("type the `token_id` of the audit log, 22 characters, and not the token itself")
    })?;
    target.open().await?.revoke_token(&context.operator(), id.clone(), context.now).await?;
    notice(CACHED_TOKEN_NOTICE);
    context.output.outcome(
        format!("revoked token {}", id.as_str()),
        &json!({ "status": "revoked", "jti": id.as_str() }),
    )
}

/// Drops every key, and says how many there were.
async fn drop_keys(operator: &OperatorAccess, store: &Store) -> Result<usize, CommandError> {
    for _ in 0..MAX_ATTEMPTS {
        if let Some(count) = store.drop_keys(operator).await? {
            return Ok(count);
        }
    }
    Err(CommandError::failed("the keyring changes all the time, and the keys were not dropped")
        .hint("run it again"))
}

async fn lift(context: &Context, args: &TokenLift) -> Result<(), CommandError> {
    let principal = existing_principal(&args.principal, args.exact)?;
    if !args.store.open().await?.lift(&context.operator(), principal.clone()).await? {
        return Err(CommandError::refused(format!("`{principal}` is not revoked"))
            .hint(format!("`{}` shows what is", args.store.command("token list"))));
    }
    context.output.outcome(
        format!("lifted {principal}"),
        &json!({ "status": "lifted", "principal": principal }),
    )
}

async fn list(context: &Context, target: &StoreTarget) -> Result<(), CommandError> {
    let revocations = target.open().await?.revocations(&context.operator()).await?;
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
    let (rows, json): (Vec<_>, Vec<_>) = principals.chain(tokens).unzip();
    context.output.rows("revocations", &["revoked", "id", "when"], &rows, &json.into())
}
