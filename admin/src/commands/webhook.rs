//! `webhook`: adds, lists and removes the receivers of events.

use std::process::ExitCode;

use serde_json::{Value, json};
use stile_core::audit::{Kind, Outcome};
use stile_core::clock::rfc3339;
use stile_core::webhook::{MAX_WEBHOOKS, WebhookName, WebhookUrl};
use stile_store::{WebhookAdded, WebhookSummary};

use super::{CommandResult, Context, OpenStore, event, kept, record};
use crate::cli::{WebhookAdd, WebhookRemove, WebhookVerb};
use crate::error::CommandError;
use crate::progress::spinning;
use crate::target::StoreTarget;

/// Runs one subcommand.
pub(crate) async fn run(context: &Context, verb: WebhookVerb) -> CommandResult {
    match verb {
        WebhookVerb::Add(args) => add(context, args).await?,
        WebhookVerb::List(store) => list(context, store).await?,
        WebhookVerb::Remove(args) => remove(context, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(context: &Context, args: WebhookAdd) -> Result<(), CommandError> {
    let name = parse_name(&args.name)?;
    // The URL may contain a secret, so the error does not repeat it.
    let url = WebhookUrl::parse(&args.url).map_err(|error| {
        CommandError::usage(format!("the URL is not one for a webhook: {error}"))
    })?;
    let OpenStore { store, operator } = context.open_to_change(&args.store).await?;
    let mut event = event(Kind::Webhook, &operator);
    event.webhook(&name);
    let kept = kept(&event, context);
    let added = store.add_webhook(&operator, name.clone(), url, &kept).await;
    match record(event, added, |added| match added {
        WebhookAdded::Done(_) => Outcome::Created,
        WebhookAdded::Exists => Outcome::Conflict,
        WebhookAdded::TooMany => Outcome::Full,
    })? {
        WebhookAdded::Done(webhook) => {
            let secret = webhook.secret.expose();
            context.output.outcome(
                format_args!(
                    "added the webhook `{name}`\n\nIts secret, which no command shows again:\n{}",
                    secret.as_str()
                ),
                &json!({
                    "status": "created", "webhook": name.as_str(), "url": webhook.url.as_str(),
                    "secret": secret.as_str(),
                }),
            )
        }
        WebhookAdded::Exists => Err(CommandError::refused(format!(
            "there is a webhook `{name}` already"
        ))
        .hint(format!("remove it first with `{} {name}`", args.store.command("webhook remove")))),
        WebhookAdded::TooMany => Err(CommandError::refused(format!(
            "the registry has {MAX_WEBHOOKS} webhooks, and cannot have more"
        ))),
    }
}

async fn list(context: &Context, target: StoreTarget) -> Result<(), CommandError> {
    let OpenStore { store, operator } = context.open(&target).await?;
    let webhooks = spinning("reading the webhooks", store.webhooks(&operator)).await?;
    let unreadable = store.unreadable_webhooks(&operator).await?;
    let row = |WebhookSummary { webhook, failing_since, gone_at }: &WebhookSummary| {
        let status = match (gone_at, failing_since) {
            (Some(at), _) => format!("gone since {}", rfc3339(*at)),
            (None, Some(at)) => format!("failing since {}", rfc3339(*at)),
            (None, None) => "active".to_owned(),
        };
        let url = webhook.url.to_string();
        let (created_by, created_at) = (webhook.created_by.clone(), rfc3339(webhook.created_at));
        vec![webhook.name.to_string(), url, status, created_by, created_at]
    };
    let unreadable_row = |name: &Option<WebhookName>| {
        let name = name.as_ref().map_or_else(String::new, ToString::to_string);
        vec![name, String::new(), "unreadable".to_owned(), String::new(), String::new()]
    };
    let unreadable_object = |name: &Option<WebhookName>| json!({ "webhook": name.as_ref().map(WebhookName::as_str), "unreadable": true });
    let rows = webhooks.iter().map(row).chain(unreadable.iter().map(unreadable_row));
    let objects = webhooks.iter().map(object).chain(unreadable.iter().map(unreadable_object));
    context.output.rows(
        "webhooks",
        &["webhook", "url", "status", "created by", "created at"],
        &rows.collect::<Vec<_>>(),
        &objects.collect::<Vec<_>>().into(),
    )
}

async fn remove(context: &Context, args: WebhookRemove) -> Result<(), CommandError> {
    let name = parse_name(&args.name)?;
    let OpenStore { store, operator } = context.open_to_change(&args.store).await?;
    let mut event = event(Kind::Webhook, &operator);
    event.webhook(&name);
    let removed = store.remove_webhook(&operator, &name, &kept(&event, context)).await;
    let outcome = |removed: &bool| if *removed { Outcome::Deleted } else { Outcome::Absent };
    if record(event, removed, outcome)? {
        return context.output.outcome(
            format_args!("removed the webhook `{name}`"),
            &json!({ "status": "removed", "webhook": name.as_str() }),
        );
    }
    Err(CommandError::refused(format!("there is no webhook `{name}`"))
        .hint(format!("`{}` lists all webhooks", args.store.command("webhook list"))))
}

fn parse_name(text: &str) -> Result<WebhookName, CommandError> {
    text.parse()
        .map_err(|error| CommandError::usage(format!("`{text}` is not a webhook's name: {error}")))
}

/// Returns a webhook without its secret.
fn object(WebhookSummary { webhook, failing_since, gone_at }: &WebhookSummary) -> Value {
    json!({
        "webhook": webhook.name.as_str(), "url": webhook.url.as_str(),
        "created_by": webhook.created_by, "created_at": rfc3339(webhook.created_at),
        "failing_since": failing_since.map(rfc3339), "gone_since": gone_at.map(rfc3339),
    })
}
