//! `GET /v1/grants/explain`: explains an access to a bearer who gives grants on the namespace.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use stile_protocol::names::{NameError, Permission, Permissions};

use super::grants::{invalid, object, parse_namespace};
use crate::app::grants::Target;
use crate::app::{Broker, grants};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use stile_core::audit::Kind;
use stile_core::grants::{DelegatedExplanation, Difference, GivenBy, GrantNamespace};
use stile_core::principal::parse_typed;

/// The query of an explanation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    principal: String,
    namespace: String,
    permission: String,
}

/// `GET /v1/grants/explain`.
pub async fn access(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::ExplainGrant).await?;
    let answer = async {
        let Query(Asked { principal, namespace, permission }) = asked.map_err(|_| {
            invalid("the query has `principal`, `namespace` and `permission`, each once")
        })?;
        // The caller is the role itself, even if a permission set could replace it.
        let typed = parse_typed(&principal, true).map_err(|error| {
            invalid(format!("`principal`: {error}")).hint(error.hint().to_owned())
        })?;
        let namespace = parse_namespace(&namespace)?;
        let permission: Permission = permission
            .parse()
            .map_err(|error: NameError| invalid(format!("`permission`: {error}")))?;
        let notices: Vec<String> = typed.path_notice().map(str::to_owned).into_iter().collect();
        let target = Target { principal: typed.principal, namespace };
        let explained = grants::explain(&broker, &bearer, &target, permission, &mut draft).await;
        let explained = explained.map_err(ApiError::grants)?;
        let mut shown = shown(&target, permission, &explained);
        shown["notices"] = notices.into();
        Ok(Json(shown))
    }
    .await;
    conclude(draft, answer)
}

fn shown(target: &Target, permission: Permission, explained: &DelegatedExplanation) -> Value {
    let DelegatedExplanation { verdict, difference, sentence, given_by, condition, nearest } =
        explained;
    let differs = |difference: &Difference| json!({ "difference": difference.code(), "sentence": difference.to_string() });
    let differences = nearest.iter().flat_map(|nearest| &nearest.differences).map(differs);
    json!({
        "allowed": verdict.allowed(),
        "decision": verdict.as_str(),
        "principal": target.principal,
        "namespace": target.namespace.to_string(),
        "permission": permission.as_str(),
        "sentence": sentence,
        "difference": difference,
        "grants": given_by.iter().map(|given| given_object(given, permission)).collect::<Vec<_>>(),
        "condition": condition.as_ref().map(ToString::to_string),
        "nearest": nearest.as_ref().map(|nearest| object(&nearest.grant)),
        "differences": differences.collect::<Vec<_>>(),
    })
}

fn given_object(given: &GivenBy, permission: Permission) -> Value {
    match given {
        GivenBy::Grant(grant) => object(grant),
        GivenBy::AllNamespaces(principal) => json!({
            "principal": principal,
            "namespace": GrantNamespace::All.to_string(),
            "permissions": Permissions::NONE.with(permission),
        }),
    }
}
