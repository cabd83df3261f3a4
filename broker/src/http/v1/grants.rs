//! The routes of grants: a bearer lists, creates, changes and deletes grants within its own rights.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use stile_protocol::names::{NameError, Permission, Permissions};
use stile_protocol::reply::ErrorCode;
use stile_protocol::strict_json::{FieldError, StrictObject, string_list};

use crate::app::grants::Target;
use crate::app::{Broker, grants};
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use crate::http::json_body::{read_json, read_json_body, read_no_body};
use crate::http::run_detached::run_detached;
use stile_core::audit::Kind;
use stile_core::clock::{parse_rfc3339, rfc3339};
use stile_core::grants::{Grant, GrantNamespace, GrantTag, ShownGrant};
use stile_core::principal::{Principal, parse_typed};
use stile_store::{AfterGrant, Change, ChangeTerms, ExpiryChange};

/// The largest page, in grants.
const PAGE: usize = 100;

/// The query of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    principal: Option<String>,
    namespace: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// The query of a deletion.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deleted {
    principal: String,
    namespace: String,
    #[serde(default)]
    force: bool,
}

/// The query of a change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forced {
    #[serde(default)]
    force: bool,
}

/// A grant, with its entity tag as a header.
type Tagged = (StatusCode, [(HeaderName, String); 1], Json<Value>);

/// `GET /v1/grants`.
pub async fn list(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    listed: Result<Query<Listed>, QueryRejection>,
) -> Result<Response, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::ListGrants).await?;
    let answer = async {
        let Query(Listed { principal, namespace, cursor, limit }) = listed.map_err(|_| {
            invalid(
                "the query has `principal`, `namespace`, `cursor` and `limit`, each at most once",
            )
        })?;
        let principal = principal.as_deref().map(parse_principal).transpose()?;
        let namespace = namespace.as_deref().map(parse_namespace).transpose()?;
        let after =
            cursor.map(|cursor| parse_cursor(&cursor, principal.as_ref(), namespace.as_ref()));
        let after = after.map(|after| {
            after
                .ok_or_else(|| invalid("`cursor` must be the `next_cursor` of a page of this list"))
        });
        let limit = limit.unwrap_or(PAGE);
        if !(1..=PAGE).contains(&limit) {
            return Err(invalid(format!("`limit` must be a number from 1 to {PAGE}")));
        }
        let one = principal.is_some() && namespace.is_some();
        let after = after.transpose()?;
        let page =
            grants::list(&broker, &bearer, principal, namespace, after, limit, &mut draft).await;
        let page = page.map_err(ApiError::grants)?;
        let mut body = json!({ "grants": page.grants.iter().map(shown).collect::<Vec<_>>() });
        if let Some(next) = &page.next {
            body["next_cursor"] = cursor_of(next).into();
        }
        let tag = page.grants.first().filter(|_| one).and_then(|first| match first {
            ShownGrant::Whole(grant) => Some(GrantTag::of(grant)),
            ShownGrant::Own(_) => None,
        });
        Ok(match tag {
            Some(tag) => ([(header::ETAG, tag.to_string())], Json(body)).into_response(),
            None => Json(body).into_response(),
        })
    }
    .await;
    conclude(draft, answer)
}

/// `POST /v1/grants`.
pub async fn create(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    request: Request,
) -> Result<Tagged, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Grant).await?;
    let (target, permissions, expires_at) = match read_new(request).await {
        Ok(new) => new,
        Err(error) => return conclude(draft, Err(error)),
    };
    // The work continues when the client disconnects, so that every change has an audit event.
    run_detached(async move {
        let created =
            grants::create(&broker, &bearer, &target, permissions, expires_at, &mut draft).await;
        let answer = created.map_err(ApiError::grants).map(|(grant, is_new)| {
            tagged(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &grant)
        });
        conclude(draft, answer)
    })
    .await
}

/// `PATCH /v1/grants`.
pub async fn update(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    headers: HeaderMap,
    forced: Result<Query<Forced>, QueryRejection>,
    request: Request,
) -> Result<Tagged, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Grant).await?;
    let wanted = async {
        let Query(Forced { force }) = forced
            .map_err(|_| invalid("the query has only `force`, which is `true` or `false`"))?;
        let terms = ChangeTerms { expected: if_match(&headers)?, force };
        let (target, change) = read_change(request).await?;
        Ok((target, change, terms))
    };
    let (target, change, terms) = match wanted.await {
        Ok(wanted) => wanted,
        Err(error) => return conclude(draft, Err(error)),
    };
    run_detached(async move {
        let updated = grants::update(&broker, &bearer, &target, change, &terms, &mut draft).await;
        let answer = updated.map_err(ApiError::grants);
        conclude(draft, answer.map(|grant| tagged(StatusCode::OK, &grant)))
    })
    .await
}

/// `DELETE /v1/grants`.
pub async fn delete(
    State(broker): State<Arc<Broker>>,
    credential: Credential,
    headers: HeaderMap,
    deleted: Result<Query<Deleted>, QueryRejection>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Grant).await?;
    let wanted = async {
        let Query(Deleted { principal, namespace, force }) = deleted.map_err(|_| {
            invalid("the query has `principal` and `namespace`, and `force`, which is `true` or `false`")
        })?;
        let target = Target {
            principal: parse_principal(&principal)?,
            namespace: parse_namespace(&namespace)?,
        };
        let terms = ChangeTerms { expected: if_match(&headers)?, force };
        read_no_body(request).await?;
        Ok((target, terms))
    };
    let (target, terms) = match wanted.await {
        Ok(wanted) => wanted,
        Err(error) => return conclude(draft, Err(error)),
    };
    run_detached(async move {
        let deleted = grants::delete(&broker, &bearer, &target, &terms, &mut draft).await;
        conclude(draft, deleted.map_err(ApiError::grants).map(|()| StatusCode::NO_CONTENT))
    })
    .await
}

/// Reads the body of a new grant.
async fn read_new(request: Request) -> Result<(Target, Permissions, Option<i64>), ApiError> {
    let mut body = StrictObject::parse(&read_json(request).await?).map_err(field)?;
    let target = target(&mut body)?;
    let listed = body.take("permissions").map_err(field)?;
    let permissions = permissions("permissions", listed)?;
    if permissions.is_empty() {
        return Err(invalid("a grant needs at least one permission"));
    }
    let expires_at = match expiry(&mut body)? {
        ExpiryChange::Keep | ExpiryChange::Never => None,
        ExpiryChange::At(end) => Some(end),
    };
    body.finish().map_err(field)?;
    Ok((target, permissions, expires_at))
}

/// Reads the body of a change.
async fn read_change(request: Request) -> Result<(Target, Change), ApiError> {
    let mut body = StrictObject::parse(&read_json_body(request).await?).map_err(field)?;
    let target = target(&mut body)?;
    let mut listed = |name: &str| match body.take_optional(name) {
        Some(value) => permissions(name, value),
        None => Ok(Permissions::NONE),
    };
    let (set, clear) = (listed("set")?, listed("clear")?);
    let expires_at = expiry(&mut body)?;
    body.finish().map_err(field)?;
    if let Some(both) = set.iter().find(|permission| clear.contains(*permission)) {
        return Err(invalid(format!("`{both}` is both in `set` and in `clear`")));
    }
    if set.is_empty() && clear.is_empty() && expires_at == ExpiryChange::Keep {
        return Err(invalid("the change is empty").hint("give `set`, `clear` or `expires_at`"));
    }
    Ok((target, Change { set, clear, expires_at }))
}

fn target(body: &mut StrictObject) -> Result<Target, ApiError> {
    let principal = parse_principal(&body.string("principal").map_err(field)?)?;
    let namespace = parse_namespace(&body.string("namespace").map_err(field)?)?;
    Ok(Target { principal, namespace })
}

fn permissions(name: &str, value: Value) -> Result<Permissions, ApiError> {
    let names = string_list(name, value).map_err(field)?;
    let parsed: Result<Permissions, NameError> =
        names.iter().map(|name| name.parse::<Permission>()).collect();
    parsed.map_err(|error| invalid(format!("`{name}`: {error}")))
}

/// Takes the end of a grant: a time, `null` for none, or nothing to keep it.
fn expiry(body: &mut StrictObject) -> Result<ExpiryChange, ApiError> {
    let end = match body.take_optional("expires_at") {
        None => return Ok(ExpiryChange::Keep),
        Some(Value::Null) => return Ok(ExpiryChange::Never),
        Some(value) => value.as_str().and_then(parse_rfc3339),
    };
    end.map(ExpiryChange::At).ok_or_else(|| {
        invalid(
            "`expires_at` must be a time of RFC 3339, such as `2027-01-31T00:00:00Z`, or `null`",
        )
    })
}

/// Parses a principal as `stile-admin` does, except that nothing replaces a reserved role by its
/// permission set: a request names exactly one of the two.
pub(super) fn parse_principal(text: &str) -> Result<Principal, ApiError> {
    let rejected = |problem: String, hint: String| invalid(problem).hint(hint);
    let typed = parse_typed(text, false)
        .map_err(|error| rejected(format!("`principal`: {error}"), error.hint().to_owned()))?;
    let exact = parse_typed(text, true)
        .map_err(|error| rejected(format!("`principal`: {error}"), error.hint().to_owned()))?;
    if typed.principal != exact.principal {
        return Err(rejected(
            format!(
                "`principal`: `{}` is a role of IAM Identity Center, and its name changes when the permission set is provisioned again",
                exact.principal.display_name()
            ),
            format!("give `{}`, or `{}` for exactly this role", typed.principal, exact.principal),
        ));
    }
    Ok(exact.principal)
}

pub(super) fn parse_namespace(text: &str) -> Result<GrantNamespace, ApiError> {
    text.parse().map_err(|error: NameError| invalid(error.to_string()))
}

/// Returns the state of the grant that the client expects.
fn if_match(headers: &HeaderMap) -> Result<Option<GrantTag>, ApiError> {
    let mut all = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let tag = value.to_str().ok().and_then(GrantTag::parse).filter(|_| all.next().is_none());
    tag.map(Some).ok_or_else(|| {
        invalid("`If-Match` must be the `etag` of one grant, with its quotes")
            .hint("`GET /v1/grants` with `principal` and `namespace` answers it")
    })
}

fn tagged(status: StatusCode, grant: &Grant) -> Tagged {
    (status, [(header::ETAG, GrantTag::of(grant).to_string())], Json(object(grant)))
}

pub(super) fn object(grant: &Grant) -> Value {
    let mut object = own_object(grant);
    object["created_by"] = grant.created_by.as_str().into();
    object["created_at"] = rfc3339(grant.created_at).into();
    object["etag"] = GrantTag::of(grant).as_str().into();
    object
}

/// Returns a grant as the bearer may see it.
fn shown(shown: &ShownGrant) -> Value {
    match shown {
        ShownGrant::Whole(grant) => object(grant),
        ShownGrant::Own(grant) => own_object(grant),
    }
}

/// Returns a grant without its origin and its tag, which also depends on the rest.
fn own_object(grant: &Grant) -> Value {
    let mut object = json!({
        "principal": grant.principal,
        "namespace": grant.namespace.to_string(),
        "permissions": grant.permissions,
    });
    if let Some(end) = grant.expires_at {
        object["expires_at"] = rfc3339(end).into();
    }
    object
}

fn cursor_of(after: &AfterGrant) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {}", after.principal, after.namespace))
}

/// Parses the cursor of a list of these grants. A cursor of another list is not one.
fn parse_cursor(
    text: &str,
    principal: Option<&Principal>,
    namespace: Option<&GrantNamespace>,
) -> Option<AfterGrant> {
    let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (of, on) = decoded.split_once(' ')?;
    let after =
        AfterGrant { principal: Principal::parse_stored(of).ok()?, namespace: on.parse().ok()? };
    let same = principal.is_none_or(|principal| *principal == after.principal)
        && namespace.is_none_or(|namespace| *namespace == after.namespace);
    same.then_some(after)
}

fn field(error: FieldError) -> ApiError {
    invalid(error.problem)
}

pub(super) fn invalid(problem: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, problem)
}
