//! The explanation of a registry, by its API.

use serde::Deserialize;
use stile_core::grants::{Grant, Verdict};
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Permission, Permissions};
use terraform_credentials_stile::message::one_line;

use super::explained::{Asked, Explained, ShownCondition, ShownDifference};
use crate::api::Api;
use crate::commands::Context;
use crate::commands::grant_client::{GrantObject, RemoteGrant};
use crate::error::CommandError;
use crate::progress::spinning;
use crate::target::ApiTarget;

/// The path of the route.
const PATH: &str = "/v1/grants/explain";

/// The answer of the route. It may have more fields.
#[derive(Debug, Deserialize)]
struct Answer {
    decision: String,
    sentence: String,
    difference: Option<String>,
    grants: Vec<GrantObject>,
    condition: Option<String>,
    nearest: Option<GrantObject>,
    differences: Vec<AnsweredDifference>,
}

#[derive(Debug, Deserialize)]
struct AnsweredDifference {
    difference: String,
    sentence: String,
}

/// Asks the registry, with a token that is only for `create_grant`.
///
/// The token is for all namespaces: a holder on `*` sees more than one on a single namespace.
pub(super) async fn explain(
    context: &Context,
    target: &ApiTarget,
    asked: Asked,
) -> Result<Explained, CommandError> {
    let right = Permissions::NONE.with(Permission::CreateGrant);
    let api = Api::of_scope(target, Namespaces::All, right, context.now)?;
    let namespace = asked.namespace.as_ref().map(ToString::to_string).unwrap_or_default();
    let query = [
        ("principal", asked.caller.to_string()),
        ("namespace", namespace),
        ("permission", asked.permission.as_str().to_owned()),
    ];
    let answer: Answer =
        spinning("waiting for the registry", Box::pin(api.read_query(PATH, &query))).await?;
    let verdict = [Verdict::Yes, Verdict::YesIf, Verdict::No]
        .into_iter()
        .find(|verdict| verdict.as_str() == answer.decision)
        .ok_or_else(|| {
            CommandError::failed("the registry sent a decision that this program does not know")
                .hint("use a newer release of `stile-admin`")
        })?;
    let differs = |one: AnsweredDifference| ShownDifference {
        code: one_line(&one.difference),
        sentence: one_line(&one.sentence),
    };
    Ok(Explained {
        asked,
        verdict,
        difference: answer.difference.as_deref().map(one_line),
        sentence: one_line(&answer.sentence),
        granted: answer.grants.into_iter().filter_map(readable).collect(),
        condition: answer.condition.as_deref().map(|sentence| ShownCondition {
            sentence: one_line(sentence),
            unique_id: None,
            none_of: Vec::new(),
        }),
        revoked: None,
        nearest: answer.nearest.and_then(readable),
        differences: answer.differences.into_iter().map(differs).collect(),
    })
}

fn readable(grant: GrantObject) -> Option<Grant> {
    match grant.read() {
        RemoteGrant::Whole(grant, _) | RemoteGrant::Own(grant) => Some(grant),
        RemoteGrant::Unreadable(_) => None,
    }
}
