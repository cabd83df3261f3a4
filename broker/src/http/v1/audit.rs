//! `GET /v1/audit`: the changes of the namespaces whose grants the bearer may create.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use stile_protocol::names::Namespace;
use stile_protocol::reply::ErrorCode;

use super::grants::parse_principal;
use crate::app::Broker;
use crate::app::audit_list::{self, AuditFilter, AuditListError, BeforeEvent};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use stile_core::audit::Kind;
use stile_core::clock::parse_rfc3339;

/// The largest page, in events.
const PAGE: usize = 100;

/// The query of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    principal: Option<String>,
    namespace: Option<String>,
    since: Option<String>,
    until: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/audit`.
pub async fn list(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    listed: Result<Query<Listed>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::ListAudit).await?;
    let answer = async {
        let Query(listed) = listed.map_err(|_| {
            invalid(
                "the query has `principal`, `namespace`, `since`, `until`, `cursor` and `limit`, each at most once",
            )
        })?;
        let filter = AuditFilter {
            principal: listed.principal.as_deref().map(parse_principal).transpose()?,
            since: listed.since.as_deref().map(|text| time("since", text)).transpose()?,
            until: listed.until.as_deref().map(|text| time("until", text)).transpose()?,
        };
        let namespace = listed.namespace.as_deref().map(namespace).transpose()?;
        let limit = listed.limit.unwrap_or(PAGE);
        if !(1..=PAGE).contains(&limit) {
            return Err(invalid(format!("`limit` must be a number from 1 to {PAGE}")));
        }
        let from = listed.cursor.as_deref().map(|text| {
            parse_cursor(text).ok_or_else(|| invalid(AuditListError::OtherList.to_string()))
        });
        let from = from.transpose()?;
        let page = audit_list::list(
            &broker, &bearer, namespace.as_ref(), &filter, from, limit, &mut draft,
        );
        let page = page.await.map_err(ApiError::audit_list)?;
        let mut body = json!({ "events": page.events });
        if let Some(next) = &page.next {
            body["next_cursor"] = cursor_of(next).into();
        }
        Ok(Json(body))
    }
    .await;
    conclude(draft, answer)
}

/// Parses a namespace. `*` is none: its events are only for operators.
fn namespace(text: &str) -> Result<Namespace, ApiError> {
    Namespace::parse(text).map_err(|error| invalid(format!("`namespace`: {error}")))
}

fn time(name: &str, text: &str) -> Result<i64, ApiError> {
    parse_rfc3339(text).ok_or_else(|| {
        invalid(format!("`{name}` must be a time of RFC 3339, such as `2027-01-31T00:00:00Z`"))
    })
}

fn cursor_of(next: &BeforeEvent) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {}", next.namespace, next.seq))
}

fn parse_cursor(text: &str) -> Option<BeforeEvent> {
    let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (namespace, seq) = decoded.split_once(' ')?;
    Some(BeforeEvent { namespace: Namespace::parse(namespace).ok()?, seq: seq.parse().ok()? })
}

fn invalid(problem: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() {
        let next = BeforeEvent { namespace: Namespace::parse("acme").unwrap(), seq: u64::MAX };
        assert_eq!(parse_cursor(&cursor_of(&next)), Some(next));
        for text in ["", "*", "acme", "acme x", "acme -1", "acme 1 2", "* 1", "Acme 1"] {
            assert_eq!(parse_cursor(&URL_SAFE_NO_PAD.encode(text)), None, "{text}");
            assert_eq!(parse_cursor(text), None, "{text}");
        }
    }
}
