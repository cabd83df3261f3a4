//! Calls the routes of grants of a broker: lists, creates, changes and deletes grants within the
//! rights of the caller.
//!
//! Each call has a token for one namespace, with only the permissions that it needs. A change has the
//! tag of the grant that the program has read, so it overwrites no change of others.

use reqwest::header::{HeaderMap, HeaderValue, IF_MATCH};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use stile_core::clock::{parse_rfc3339, rfc3339};
use stile_core::grants::{Grant, GrantNamespace};
use stile_core::principal::Principal;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::{CreateGrant, DeleteGrant};
use stile_protocol::names::{Namespace, Permission, Permissions};
use stile_store::{Change, ExpiryChange, UnreadableGrant};
use terraform_credentials_stile::message::one_line;

use super::Context;
use crate::api::{Api, ApiResponse};
use crate::error::CommandError;
use crate::progress::spinning;
use crate::target::{ApiTarget, operators_only};

/// The path of the routes.
const PATH: &str = "/v1/grants";

/// The most pages of one list. It prevents a hostile server from sending pages for ever.
const MAX_PAGES: usize = 10_000;

/// The rights with which a caller sees the grants of others, and changes them.
pub(super) const RIGHTS: [Permission; 2] = [CreateGrant, DeleteGrant];

/// The words of the spinner while the registry works.
const WAITING: &str = "waiting for the registry";

/// A grant as the registry shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RemoteGrant {
    /// The whole grant, and its tag.
    Whole(Grant, EntityTag),
    /// The caller's own grant, without its origin: the creator is empty. The caller has no right to
    /// change it, so there is no tag.
    Own(Grant),
    /// A grant that this program cannot read.
    Unreadable(UnreadableGrant),
}

/// The tag of a grant's state: a strong one (RFC 9110, section 8.8.3). Only the registry knows what
/// is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntityTag(HeaderValue);

impl EntityTag {
    fn parse(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('"')?.strip_suffix('"')?;
        let is_tag = !inner.contains(['"', ',', ' ']);
        HeaderValue::from_str(text).ok().filter(|_| is_tag).map(Self)
    }
}

/// The grant of one principal on one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteTarget {
    /// The principal.
    pub(super) principal: Principal,
    /// The namespace.
    pub(super) namespace: Namespace,
}

/// The answer to a change.
#[derive(Debug)]
pub(super) enum Answer {
    /// The grant is as the change says. A deletion has none.
    Done(Option<Grant>),
    /// There is no such grant.
    Absent,
    /// The grant is not in the state of the tag. Nothing changed.
    Differs,
    /// Another grant is in the way, or nobody would give grants. Nothing changed.
    Conflict(CommandError),
    /// The caller may not do it, or the registry does not accept it. Nothing changed.
    Refused(CommandError),
}

/// A client for the grants on one namespace, or for a list of all.
#[derive(Debug)]
pub(super) struct GrantClient {
    api: Api,
    url: Url,
    caller: String,
    permissions: Permissions,
}

/// One page of a list.
#[derive(Deserialize)]
struct Page {
    grants: Vec<GrantObject>,
    next_cursor: Option<String>,
}

/// A grant in an answer.
#[derive(Debug, Deserialize)]
pub(super) struct GrantObject {
    principal: String,
    namespace: String,
    permissions: Vec<String>,
    expires_at: Option<String>,
    created_by: Option<String>,
    created_at: Option<String>,
    etag: Option<String>,
}

impl GrantClient {
    /// Creates a client with a token for exactly these permissions on one namespace.
    ///
    /// # Errors
    ///
    /// A refusal, if the caller lacks one of them.
    pub(super) async fn with(
        context: &Context,
        target: &ApiTarget,
        namespace: &Namespace,
        permissions: Permissions,
    ) -> Result<Self, CommandError> {
        let namespaces = Namespaces::List(vec![namespace.clone()]);
        Self::of_scope(context, target, namespaces, permissions).await
    }

    /// Creates a client with a token for the first of these rights on one namespace that the caller
    /// has.
    ///
    /// # Errors
    ///
    /// The refusal of the first right, if the caller has none of them.
    pub(super) async fn with_one_of(
        context: &Context,
        target: &ApiTarget,
        namespace: &Namespace,
        rights: &[Permission],
    ) -> Result<Self, CommandError> {
        let namespaces = Namespaces::List(vec![namespace.clone()]);
        let scopes = rights.iter().map(|right| Permissions::NONE.with(*right));
        Self::first_of(context, target, namespaces, scopes).await
    }

    /// Creates a client for a list of the grants on all namespaces, with as many of the rights as the
    /// caller has anywhere. Without one, the list has only the caller's own grants.
    ///
    /// The registry says only for one scope whether the caller has it. So a caller with one of the
    /// rights has one refused exchange, and a reader two.
    pub(super) async fn for_all(
        context: &Context,
        target: &ApiTarget,
    ) -> Result<Self, CommandError> {
        let order = [CreateGrant, DeleteGrant, Permission::Download, Permission::Upload];
        let scopes = order.map(|permission| Permissions::NONE.with(permission));
        let first = Self::first_of(context, target, Namespaces::All, scopes).await?;
        if first.permissions != Permissions::NONE.with(CreateGrant) {
            return Ok(first);
        }
        let both = first.permissions.with(DeleteGrant);
        match Self::of_scope(context, target, Namespaces::All, both).await {
            Err(error) if error.is_no_grant() => Ok(first),
            answered => answered,
        }
    }

    async fn first_of(
        context: &Context,
        target: &ApiTarget,
        namespaces: Namespaces,
        scopes: impl IntoIterator<Item = Permissions>,
    ) -> Result<Self, CommandError> {
        let mut first = None;
        for permissions in scopes {
            match Self::of_scope(context, target, namespaces.clone(), permissions).await {
                Err(error) if error.is_no_grant() => first = first.or(Some(error)),
                answered => return answered,
            }
        }
        Err(first.unwrap_or_else(|| CommandError::failed("no permission was asked for")))
    }

    async fn of_scope(
        context: &Context,
        target: &ApiTarget,
        namespaces: Namespaces,
        permissions: Permissions,
    ) -> Result<Self, CommandError> {
        let api = Api::of_scope(target, namespaces, permissions, context.now)?;
        let url = api.at(PATH)?;
        let caller = spinning(WAITING, Box::pin(api.authenticate())).await?;
        Ok(Self { api, url, caller, permissions })
    }

    /// Returns the permissions of the token.
    pub(super) const fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// Returns the principal of the token, in canonical form.
    pub(super) fn caller(&self) -> &str {
        &self.caller
    }

    /// Returns all grants that the caller may see, of this principal and on this namespace.
    pub(super) async fn list(
        &self,
        principal: Option<&Principal>,
        namespace: Option<&GrantNamespace>,
    ) -> Result<Vec<RemoteGrant>, CommandError> {
        let mut grants = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let query: Vec<(&str, String)> = [
                ("principal", principal.map(ToString::to_string)),
                ("namespace", namespace.map(ToString::to_string)),
                ("cursor", cursor.clone()),
            ]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
            let page: Page = Box::pin(self.api.read_query(PATH, &query)).await?;
            for grant in page.grants {
                let is_other = principal.is_some_and(|of| of.as_str() != grant.principal)
                    || namespace.is_some_and(|on| on.to_string() != grant.namespace);
                if is_other {
                    return Err(self.unexpected("a grant that is not of this list"));
                }
                grants.push(grant.read());
            }
            match page.next_cursor {
                None => return Ok(grants),
                next if next == cursor => return Err(self.unexpected("the same page again")),
                next => cursor = next,
            }
        }
        Err(self.unexpected("too many pages"))
    }

    /// Returns one grant with its tag, if it exists.
    pub(super) async fn find(
        &self,
        target: &RemoteTarget,
    ) -> Result<Option<(Grant, EntityTag)>, CommandError> {
        let namespace = GrantNamespace::One(target.namespace.clone());
        match self.list(Some(&target.principal), Some(&namespace)).await?.pop() {
            None => Ok(None),
            Some(RemoteGrant::Whole(grant, tag)) => Ok(Some((grant, tag))),
            Some(RemoteGrant::Own(_)) => Err(self.unexpected("a grant without its `etag`")),
            Some(RemoteGrant::Unreadable(_)) => Err(CommandError::refused(format!(
                "this program cannot read the grant for `{}` on `{}`",
                target.principal, target.namespace
            ))
            .hint("use a newer release of `stile-admin`")),
        }
    }

    /// Creates a grant, if there is none. An identical one stays as it is.
    pub(super) async fn create(
        &self,
        target: &RemoteTarget,
        permissions: Permissions,
        expires_at: Option<i64>,
    ) -> Result<(Answer, StatusCode), CommandError> {
        let mut body = target.json();
        body["permissions"] = json!(permissions);
        if let Some(end) = expires_at {
            body["expires_at"] = rfc3339(end).into();
        }
        let answer = self.send(&Method::POST, &self.url, None, Some(&body)).await?;
        Ok((self.read(&answer)?, answer.status))
    }

    /// Changes a grant that is in the state of the tag.
    pub(super) async fn update(
        &self,
        target: &RemoteTarget,
        change: Change,
        tag: &EntityTag,
        force: bool,
    ) -> Result<Answer, CommandError> {
        let mut body = target.json();
        for (name, permissions) in [("set", change.set), ("clear", change.clear)] {
            if !permissions.is_empty() {
                body[name] = json!(permissions);
            }
        }
        match change.expires_at {
            ExpiryChange::Keep => {}
            ExpiryChange::Never => body["expires_at"] = Value::Null,
            ExpiryChange::At(end) => body["expires_at"] = rfc3339(end).into(),
        }
        let url = forced(self.url.clone(), force);
        self.read(&self.send(&Method::PATCH, &url, Some(tag), Some(&body)).await?)
    }

    /// Deletes a grant that is in the state of the tag.
    ///
    /// [`Answer::Absent`] is only for a grant that the registry then does not list either: a proxy
    /// that does not know the method can also answer 404.
    pub(super) async fn delete(
        &self,
        target: &RemoteTarget,
        tag: &EntityTag,
        force: bool,
    ) -> Result<Answer, CommandError> {
        let mut url = forced(self.url.clone(), force);
        let RemoteTarget { principal, namespace } = target;
        url.query_pairs_mut()
            .append_pair("principal", principal.as_str())
            .append_pair("namespace", namespace.as_str());
        let answer = self.read(&self.send(&Method::DELETE, &url, Some(tag), None).await?)?;
        match answer {
            Answer::Absent if self.find(target).await?.is_some() => {
                Err(self.unexpected("`404` for a grant that exists"))
            }
            answer => Ok(answer),
        }
    }

    async fn send(
        &self,
        method: &Method,
        url: &Url,
        tag: Option<&EntityTag>,
        body: Option<&Value>,
    ) -> Result<ApiResponse, CommandError> {
        let mut headers = HeaderMap::new();
        if let Some(EntityTag(tag)) = tag {
            headers.insert(IF_MATCH, tag.clone());
        }
        self.api.send_json(method, url, &headers, body).await
    }

    /// Reads the answer to a change. A registry that is down is an error, and nothing else is.
    fn read(&self, answer: &ApiResponse) -> Result<Answer, CommandError> {
        match answer.check() {
            Ok(()) if answer.status == StatusCode::NO_CONTENT => Ok(Answer::Done(None)),
            Ok(()) => match answer.read::<GrantObject>()?.read() {
                RemoteGrant::Whole(grant, _) => Ok(Answer::Done(Some(grant))),
                RemoteGrant::Own(_) | RemoteGrant::Unreadable(_) => {
                    Err(self.unexpected("a grant that this program cannot read"))
                }
            },
            Err(error) if !error.is_refusal() => Err(error),
            Err(error) => Ok(match answer.status {
                StatusCode::NOT_FOUND => Answer::Absent,
                StatusCode::PRECONDITION_FAILED => Answer::Differs,
                StatusCode::CONFLICT => Answer::Conflict(error),
                _ => Answer::Refused(error),
            }),
        }
    }

    /// Returns the error of an answer that the routes of grants do not have.
    pub(super) fn unexpected(&self, what: &str) -> CommandError {
        CommandError::failed(format!("`{}` sent {what}", self.url))
            .hint("check that `url` in the helper's `config.toml` is a Stile registry")
    }
}

fn forced(mut url: Url, force: bool) -> Url {
    if force {
        url.query_pairs_mut().append_pair("force", "true");
    }
    url
}

impl GrantObject {
    /// Reads the grant.
    pub(super) fn read(self) -> RemoteGrant {
        let Some(mut grant) = self.grant() else {
            let Self { principal, namespace, .. } = self;
            return RemoteGrant::Unreadable(UnreadableGrant { principal, namespace });
        };
        let Self { created_by, created_at, etag, .. } = self;
        let origin = created_by.zip(created_at.as_deref().and_then(parse_rfc3339));
        match origin.zip(etag.as_deref().and_then(EntityTag::parse)) {
            Some(((by, at), tag)) => {
                (grant.created_by, grant.created_at) = (one_line(&by), at);
                RemoteGrant::Whole(grant, tag)
            }
            None => RemoteGrant::Own(grant),
        }
    }

    /// Returns the grant without its origin, if this program knows everything in it.
    fn grant(&self) -> Option<Grant> {
        let permissions: Permissions = self
            .permissions
            .iter()
            .map(|permission| permission.parse::<Permission>())
            .collect::<Result<_, _>>()
            .ok()?;
        let expires_at = match &self.expires_at {
            Some(end) => Some(parse_rfc3339(end)?),
            None => None,
        };
        Some(Grant {
            principal: Principal::parse_stored(&self.principal).ok()?,
            namespace: self.namespace.parse().ok()?,
            permissions,
            expires_at,
            created_by: String::new(),
            created_at: 0,
        })
    }
}

impl RemoteTarget {
    /// Returns the grant that a bearer may change, or the refusal of one that only an operator may.
    pub(super) fn new(
        principal: Principal,
        namespace: &GrantNamespace,
    ) -> Result<Self, CommandError> {
        if matches!(principal, Principal::Account(_)) {
            return Err(operators_only("changes grants of a whole account"));
        }
        if matches!(principal, Principal::AwsGroup(_)) {
            return Err(operators_only("changes grants of a group of AWS callers"));
        }
        match namespace {
            GrantNamespace::One(namespace) => Ok(Self { principal, namespace: namespace.clone() }),
            GrantNamespace::All => Err(operators_only("changes grants on all namespaces (`*`)")),
        }
    }

    fn json(&self) -> Value {
        json!({ "principal": self.principal, "namespace": self.namespace.as_str() })
    }
}

/// Returns the permissions that a change needs, as the registry decides: to give something, the right
/// to create grants and everything that the grant then has; to take something, the right to delete.
///
/// Each state has permissions and an end. `None` is an absent grant.
pub(super) fn needed(
    before: Option<(Permissions, Option<i64>)>,
    after: Option<(Permissions, Option<i64>)>,
) -> Permissions {
    let end = |end: Option<i64>| end.unwrap_or(i64::MAX);
    let (old, old_end) = before.map_or((Permissions::NONE, i64::MIN), |(p, at)| (p, end(at)));
    let (new, new_end) = after.map_or((Permissions::NONE, i64::MIN), |(p, at)| (p, end(at)));
    let mut needed = Permissions::NONE;
    if new_end > old_end || old.union(new) != old {
        needed = needed.with(CreateGrant).union(new);
    }
    if new_end < old_end || old.union(new) != new {
        needed = needed.with(DeleteGrant);
    }
    needed
}

#[cfg(test)]
mod tests {
    use stile_protocol::names::Permission::{Download, Upload};

    use super::*;

    fn object(json: Value) -> RemoteGrant {
        serde_json::from_value::<GrantObject>(json).unwrap().read()
    }

    fn whole() -> Value {
        json!({
            "principal": "aws:111122223333:role/ci", "namespace": "acme",
            "permissions": ["download"], "created_by": "aws:111122223333:role/lead",
            "created_at": "2026-11-20T10:11:12Z", "etag": "\"251ad0a3f781465aa73151f1d232e7e8\"",
        })
    }

    #[test]
    fn a_grant_with_something_unknown_is_unreadable_and_never_another_grant() {
        for (field, value) in [
            ("principal", json!("later:ci")),
            ("principal", json!("arn:aws:iam::111122223333:role/ci")),
            ("namespace", json!("ACME")),
            ("permissions", json!(["download", "approve"])),
            ("expires_at", json!("tomorrow")),
        ] {
            let mut json = whole();
            json[field] = value;
            let RemoteGrant::Unreadable(read) = object(json.clone()) else { panic!("{json}") };
            assert_eq!((read.principal.as_str(), read.namespace.as_str()), {
                (json["principal"].as_str().unwrap(), json["namespace"].as_str().unwrap())
            });
        }
    }

    #[test]
    fn a_grant_without_its_origin_or_with_a_weak_tag_cannot_be_changed() {
        for (field, value) in [
            ("etag", json!(null)),
            ("etag", json!("\"a\", \"b\"")),
            ("etag", json!("W/\"251ad0a3f781465aa73151f1d232e7e8\"")),
            ("created_by", json!(null)),
            ("created_at", json!("7")),
        ] {
            let mut json = whole();
            json[field] = value;
            assert!(matches!(object(json.clone()), RemoteGrant::Own(_)), "{json}");
        }
        let mut json = whole();
        json["a_field_of_a_later_release"] = json!(1);
        let RemoteGrant::Whole(grant, tag) = object(json) else { panic!("it is whole") };
        assert_eq!(grant.created_by, "aws:111122223333:role/lead");
        assert_eq!(tag.0, "\"251ad0a3f781465aa73151f1d232e7e8\"");
    }

    #[test]
    fn what_only_an_operator_changes_is_refused_with_the_way_to_do_it() {
        let read = |text: &str| Principal::parse_stored(text).unwrap();
        for (who, on) in [("account:aws:111122223333", "acme"), ("aws:111122223333:role/ci", "*")] {
            let error = RemoteTarget::new(read(who), &on.parse().unwrap()).unwrap_err();
            assert!(error.is_refusal(), "{error}");
            assert!(error.to_string().contains("with `--data DIR` or `--table NAME`"), "{error}");
        }
    }

    #[test]
    fn a_change_needs_a_right_to_give_and_all_that_it_gives_or_a_right_to_take() {
        let state = |list: &[Permission], end| Some((list.iter().copied().collect(), end));
        for (before, after, expected) in [
            (None, state(&[Upload], None), "create_grant,upload"),
            (None, state(&[Upload], Some(5)), "create_grant,upload"),
            (state(&[Upload], None), None, "delete_grant"),
            (state(&[Upload], Some(5)), None, "delete_grant"),
            (
                state(&[Download], None),
                state(&[Download, Upload], None),
                "create_grant,download,upload",
            ),
            (state(&[Download, Upload], None), state(&[Download], None), "delete_grant"),
            (
                state(&[Upload], None),
                state(&[Download], None),
                "create_grant,delete_grant,download",
            ),
            (state(&[Upload], Some(5)), state(&[Upload], Some(6)), "create_grant,upload"),
            (state(&[Upload], Some(5)), state(&[Upload], None), "create_grant,upload"),
            (state(&[Upload], None), state(&[Upload], Some(5)), "delete_grant"),
            (
                state(&[Download], None),
                state(&[Upload, Download], Some(5)),
                "create_grant,delete_grant,download,upload",
            ),
            (state(&[Upload], Some(5)), state(&[Upload], Some(5)), ""),
        ] {
            assert_eq!(needed(before, after).to_string(), expected, "{before:?} {after:?}");
        }
    }
}
