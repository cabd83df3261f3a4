//! `grant explain --request-id`: what a refused exchange asked for, and what the grants say today.

use serde_json::{Value, json};
use stile_core::clock::rfc3339;
use stile_core::grants::{AccessQuestion, AskedToken, GrantNamespace, Verdict};
use stile_core::principal::UniqueId;
use stile_core::refused_exchange::RefusedExchange;
use stile_protocol::exchange::Namespaces;
use stile_protocol::request_id::RequestId;
use terraform_credentials_stile::message::one_line;

use super::explained::{Asked, Explained};
use super::{Facts, exit_code};
use crate::cli::GrantExplain;
use crate::commands::{CommandResult, Context, OpenStore};
use crate::error::CommandError;

/// What an unknown id can mean.
const UNKNOWN: &str = "it can be the id of a request that is no exchange, of one that AWS or the broker \
refused before the grants counted, of one of more than 7 days ago, or of one above the limit of records; \
the log has every request, with its id in the field `span.id`; the sentence of the error has the caller, \
the namespace and the permission for";

fn unknown(args: &GrantExplain) -> String {
    let command = args.at.command("grant explain");
    format!("{UNKNOWN} `{command} --role-arn ARN --namespace NS --permission P`")
}

/// Prints a refused exchange, and whether the broker would refuse it today.
pub(super) async fn run(context: &Context, args: &GrantExplain, id: &RequestId) -> CommandResult {
    let target = args.at.store_for("explains a request")?;
    let OpenStore { store, operator } = context.open(target).await?;
    let refused = store.refused_exchange(&operator, id, context.now).await?;
    drop(store);
    let refused = refused.ok_or_else(|| {
        CommandError::refused(format!("the store has no refused exchange with the id `{id}`"))
            .hint(unknown(args))
    })?;
    let facts = Facts::read(context, args, &refused.principal).await?;
    let explained: Vec<Explained> = asked(&refused)
        .into_iter()
        .map(|asked| {
            let question = AccessQuestion {
                caller: &asked.caller,
                unique_id: refused.unique_id.as_ref(),
                namespace: asked.namespace(),
                permission: asked.permission,
                token: AskedToken::default(),
                now: context.now,
            };
            let explanation = question.explain(&facts.state, &facts.grants, &facts.revoked);
            Explained::new(&question, &asked, explanation)
        })
        .collect();
    let verdict = overall(&explained);
    context.output.outcome(
        lines(&refused, &explained, verdict, args),
        &json_of(&refused, &explained, verdict, args),
    )?;
    Ok(exit_code(verdict))
}

/// Returns everything that the exchange asked for: each permission on each namespace.
fn asked(refused: &RefusedExchange) -> Vec<Asked> {
    let namespaces: Vec<Option<GrantNamespace>> = match &refused.namespaces {
        Namespaces::All => vec![None],
        Namespaces::List(list) => list.iter().cloned().map(GrantNamespace::One).map(Some).collect(),
    };
    let of = |namespace: Option<GrantNamespace>| {
        refused.permissions.iter().map(move |permission| Asked {
            caller: refused.principal.clone(),
            namespace: namespace.clone(),
            permission,
        })
    };
    namespaces.into_iter().flat_map(of).collect()
}

/// Returns the verdict on the whole exchange: the broker mints only if it allows everything.
fn overall(explained: &[Explained]) -> Verdict {
    let any = |verdict| explained.iter().any(|one| one.verdict == verdict);
    if any(Verdict::No) {
        Verdict::No
    } else if any(Verdict::YesIf) {
        Verdict::YesIf
    } else {
        Verdict::Yes
    }
}

fn lines(
    refused: &RefusedExchange,
    explained: &[Explained],
    verdict: Verdict,
    args: &GrantExplain,
) -> String {
    let none = || "-".to_owned();
    let text = |text: &Option<String>| text.as_deref().map_or_else(none, one_line);
    let facts = [
        ("request", refused.request_id.to_string()),
        ("refused at", rfc3339(refused.at)),
        ("caller", refused.principal.display_name()),
        ("unique id", refused.unique_id.as_ref().map_or_else(none, |id| id.as_str().to_owned())),
        ("session", text(&refused.session)),
        ("region", text(&refused.region)),
        ("asked for", format!("{} on {}", refused.permissions, namespaces(&refused.namespaces))),
        ("refused as", format!("{}: {}", one_line(&refused.code), one_line(&refused.message))),
        (
            "today",
            match verdict {
                Verdict::Yes => "the broker would accept it",
                Verdict::YesIf => "the broker would accept it under a condition",
                Verdict::No => "the broker would refuse it again",
            }
            .to_owned(),
        ),
    ];
    let mut lines: Vec<String> =
        facts.into_iter().map(|(name, value)| format!("{name:<12} {value}")).collect();
    lines.extend(explained.iter().map(|one| format!("\n{}", one.lines(&args.at))));
    lines.join("\n")
}

fn namespaces(namespaces: &Namespaces) -> String {
    match namespaces {
        Namespaces::All => "all namespaces that it has".to_owned(),
        Namespaces::List(_) => namespaces.to_string(),
    }
}

fn json_of(
    refused: &RefusedExchange,
    explained: &[Explained],
    verdict: Verdict,
    args: &GrantExplain,
) -> Value {
    let first = explained.iter().find(|one| one.verdict != Verdict::Yes);
    json!({
        "request_id": refused.request_id.as_str(),
        "refused_at": rfc3339(refused.at),
        "principal": refused.principal,
        "unique_id": refused.unique_id.as_ref().map(UniqueId::as_str),
        "session": refused.session,
        "by": refused.by,
        "region": refused.region,
        "namespaces": refused.namespaces,
        "permissions": refused.permissions,
        "code": refused.code,
        "message": refused.message,
        "allowed_today": verdict.allowed(),
        "difference": first.and_then(|one| one.difference.clone()),
        "explanations": explained.iter().map(|one| one.json(&args.at)).collect::<Vec<_>>(),
    })
}
