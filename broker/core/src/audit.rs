//! Audit events: one event for each decision, with the caller, the request and the outcome.
//!
//! An event never contains a token, key, signature or signed URL. [`Event::write`] writes an event as a
//! line of the tracing target `audit`. `docs/operations.md` lists the fields.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use stile_protocol::names::{Namespace, Permission, Permissions};
use stile_protocol::reply::ErrorCode;

use crate::clock::rfc3339;
use crate::grants::{Grant, GrantNamespace, OperatorAccess};
use crate::identity::{Identity, Issuer};
use crate::package::source::{ModuleSource, ObjectAddress};
use crate::package::{PackageAddress, Version};
use crate::principal::Principal;
use crate::token::{Claims, TokenId};
use crate::webhook::WebhookName;

/// The version of the fields, in the field `v`.
///
/// It increases when a field changes its name or meaning, but not for a new field.
pub const VERSION: u64 = 1;

macro_rules! names {
    ($(#[$outer:meta])* $type:ident { $($(#[$doc:meta])* $name:ident = $text:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$doc])* $name,)+
        }

        impl $type {
            /// All values.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Returns the name in the log.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

names! {
    /// The kind of request: the field `event`.
    Kind {
        /// Exchanging a proof for a token.
        Exchange = "exchange",
        /// Showing the identity of the bearer.
        Whoami = "whoami",
        /// Listing the modules that the bearer may read.
        List = "list",
        /// Searching the modules that the bearer may read.
        Search = "search",
        /// Listing the versions of a package.
        Versions = "versions",
        /// Getting the signed URL of a version.
        Download = "download",
        /// Fetching an archive by its signed URL.
        Fetch = "fetch",
        /// Publishing a version, or completing an upload session.
        Publish = "publish",
        /// Beginning an upload session.
        Upload = "upload",
        /// Showing a version.
        Show = "show",
        /// Showing who downloads a module.
        Usage = "usage",
        /// Deprecating a version.
        Deprecate = "deprecate",
        /// Taking a deprecation back.
        Undeprecate = "undeprecate",
        /// Unpublishing a version.
        Unpublish = "unpublish",
        /// Restoring an unpublished version.
        Restore = "restore",
        /// Authorising a request to another registry, for API Gateway.
        Authorize = "authorize",
        /// Creating, changing or deleting a grant.
        Grant = "grant",
        /// Listing the grants that the bearer may see.
        ListGrants = "list_grants",
        /// Removing the pinned unique id of a role or user.
        Repin = "repin",
        /// Revoking a token or a principal.
        Revoke = "revoke",
        /// Lifting the revocation of a principal.
        Lift = "lift",
        /// Deleting the keys that seal tokens.
        Key = "key",
        /// Creating a namespace, or setting its limits.
        Namespace = "namespace",
        /// Adding or removing a webhook.
        Webhook = "webhook",
        /// Creating, migrating or restoring a store, or deleting its leftovers.
        Store = "store",
        /// Copying a store into a backup.
        Backup = "backup",
    }
}

names! {
    /// The outcome of a decision: the field `decision`.
    Outcome {
        /// The request was allowed.
        Allowed = "allowed",
        /// A token was minted.
        Minted = "minted",
        /// The object was created.
        Created = "created",
        /// The same object already exists.
        Unchanged = "unchanged",
        /// A different object already exists, so nothing changed.
        Conflict = "conflict",
        /// A limit is reached, so nothing changed.
        Full = "full",
        /// An upload session started.
        Begun = "begun",
        /// No upload session started, because the archive fits into one request.
        Direct = "direct",
        /// The object was changed.
        Changed = "changed",
        /// The object was deleted.
        Deleted = "deleted",
        /// The object does not exist, so nothing changed.
        Absent = "absent",
        /// The token or principal was revoked.
        Revoked = "revoked",
        /// The revocation was lifted.
        Lifted = "lifted",
        /// The pinned unique id was removed.
        Cleared = "cleared",
        /// The keys were deleted.
        Dropped = "dropped",
        /// The request was refused. The field `code` has the reason.
        Refused = "refused",
        /// The decision or the action failed. The field `code` has the reason.
        Failed = "failed",
        /// The caller closed the connection before the decision.
        Abandoned = "abandoned",
    }
}

impl Outcome {
    /// Returns the outcome of a request whose response has this code.
    pub const fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NotFound => Self::Absent,
            ErrorCode::Throttled
            | ErrorCode::StsUnavailable
            | ErrorCode::StoreUnavailable
            | ErrorCode::KeyUnavailable
            | ErrorCode::InsufficientStorage
            | ErrorCode::StsBadResponse
            | ErrorCode::StsInconsistent
            | ErrorCode::StsTimeout
            | ErrorCode::Internal => Self::Failed,
            _ => Self::Refused,
        }
    }
}

/// The network of a client: the first 24 bits of an IPv4 address, or the first 64 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// Returns the network of an address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self(Ipv4Addr::new(a, b, c, 0).into())
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.0, if self.0.is_ipv4() { 24 } else { 64 })
    }
}

/// The common part of several refusals of unknown callers, which the log may fold into one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Anonymous {
    /// The kind of request.
    pub kind: Kind,
    /// The reason of the refusal. `None`, if the caller closed the connection.
    pub code: Option<ErrorCode>,
    /// The network of the client, if known.
    pub network: Option<Network>,
}

/// The end of a grant that has none, in Unix seconds.
const NEVER: i64 = i64::MAX;

/// One decision. Every field except the kind may be unknown.
#[derive(Debug, Clone)]
pub struct Event {
    kind: Kind,
    outcome: Option<Outcome>,
    code: Option<ErrorCode>,
    by: Option<Issuer>,
    principal: Option<Principal>,
    session: Option<String>,
    unique_id: Option<String>,
    subject: Option<String>,
    token_id: Option<String>,
    namespace: Option<String>,
    permission: Option<Permission>,
    namespaces: Option<String>,
    permissions: Option<String>,
    expires_at: Option<i64>,
    requested: Option<String>,
    permissions_before: Option<String>,
    expires_at_before: Option<i64>,
    forced: Option<bool>,
    package: Option<String>,
    source: Option<String>,
    operator: Option<String>,
    about: Option<Principal>,
    webhook: Option<String>,
    network: Option<Network>,
    count: Option<u64>,
}

impl Event {
    /// Creates an event of which only the kind is known.
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            outcome: None,
            code: None,
            by: None,
            principal: None,
            session: None,
            unique_id: None,
            subject: None,
            token_id: None,
            namespace: None,
            permission: None,
            namespaces: None,
            permissions: None,
            expires_at: None,
            requested: None,
            permissions_before: None,
            expires_at_before: None,
            forced: None,
            package: None,
            source: None,
            operator: None,
            about: None,
            webhook: None,
            network: None,
            count: None,
        }
    }

    /// Sets the network of the client. The log contains it only for unknown callers.
    pub const fn network(&mut self, network: Option<Network>) {
        self.network = network;
    }

    /// Sets the issuer that authenticates the caller.
    pub const fn issuer(&mut self, issuer: Issuer) {
        self.by = Some(issuer);
    }

    /// Sets the caller from its identity.
    pub fn identity(&mut self, identity: &Identity) {
        self.by = Some(identity.issuer());
        self.principal = Some(identity.principal().clone());
        self.session = identity.session().map(str::to_owned);
        self.unique_id = identity.unique_id().map(|id| id.as_str().to_owned());
        self.subject = Some(identity.subject().to_owned());
    }

    /// Sets the caller from a valid token.
    pub fn bearer(&mut self, claims: &Claims) {
        self.principal = Some(claims.principal().clone());
        self.unique_id = claims.unique_id().map(|id| id.as_str().to_owned());
        self.token(claims.id());
    }

    /// Sets the minted token, and the outcome.
    pub fn minted(&mut self, claims: &Claims) {
        self.token(claims.id());
        self.namespaces = Some(claims.namespaces().to_string());
        self.permissions = Some(claims.permissions().to_string());
        self.expires_at = Some(claims.expires_at());
        self.outcome(Outcome::Minted);
    }

    /// Sets the requested right.
    pub fn right(&mut self, namespace: &Namespace, permission: Permission) {
        self.namespace = Some(namespace.as_str().to_owned());
        self.permission = Some(permission);
    }

    /// Sets the requested package, or a version of it.
    pub fn package(&mut self, address: &PackageAddress, version: Option<&Version>) {
        self.package = Some(match version {
            Some(version) => format!("{address} {version}"),
            None => address.to_string(),
        });
    }

    /// Sets the requested resource, if it is not a package of this registry.
    pub fn resource(&mut self, text: String) {
        self.package = Some(text);
    }

    /// Sets the source of the version.
    pub fn source(&mut self, source: &ModuleSource) {
        self.source = Some(source.as_str().to_owned());
    }

    /// Sets the object of another bucket that the version has.
    pub fn object(&mut self, object: &ObjectAddress) {
        self.source = Some(object.as_str().to_owned());
    }

    /// Removes the source or the object, because the version has another content.
    pub fn without_source(&mut self) {
        self.source = None;
    }

    /// Sets the operator who changes the store directly.
    pub fn operator(&mut self, access: &OperatorAccess) {
        self.operator = Some(access.operator().to_owned());
    }

    /// Sets the principal that the change affects.
    pub fn about(&mut self, principal: &Principal) {
        self.about = Some(principal.clone());
    }

    /// Sets the grant that the change affects.
    pub fn grant(&mut self, namespace: &GrantNamespace, permissions: Option<String>) {
        self.namespace = Some(namespace.to_string());
        self.permissions = permissions;
    }

    /// Sets the end that the grant has or would have.
    pub fn grant_end(&mut self, expires_at: Option<i64>) {
        self.expires_at = Some(expires_at.unwrap_or(NEVER));
    }

    /// Sets the permissions that the request adds to the grant and removes from it.
    pub fn grant_change(&mut self, set: Permissions, clear: Permissions) {
        let added = set.iter().map(|permission| format!("+{permission}"));
        let removed = clear.iter().map(|permission| format!("-{permission}"));
        self.requested = Some(added.chain(removed).collect::<Vec<_>>().join(" "));
    }

    /// Sets what the grant was before the change.
    pub fn grant_before(&mut self, grant: &Grant) {
        self.permissions_before = Some(grant.permissions.to_string());
        self.expires_at_before = Some(grant.expires_at.unwrap_or(NEVER));
    }

    /// Sets whether the change may take away the last `create_grant` on the namespace.
    pub const fn forced(&mut self, forced: bool) {
        self.forced = Some(forced);
    }

    /// Sets the namespace that the change affects.
    pub fn namespace(&mut self, namespace: &Namespace) {
        self.namespace = Some(namespace.as_str().to_owned());
    }

    /// Sets the webhook that the change affects.
    pub fn webhook(&mut self, name: &WebhookName) {
        self.webhook = Some(name.as_str().to_owned());
    }

    /// Sets the token that the change affects.
    pub fn token(&mut self, id: &TokenId) {
        self.token_id = Some(id.as_str().to_owned());
    }

    /// Sets the outcome, unless the event already has one.
    pub fn outcome(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }

    /// Sets the code of the error response, unless the event already has an outcome.
    pub fn refused(&mut self, code: ErrorCode) {
        if self.outcome.is_none() {
            self.outcome = Some(Outcome::of(code));
            self.code = Some(code);
        }
    }

    /// Returns what was decided: the kind, the outcome, and the code of a refusal or failure.
    pub fn decided(&self) -> (Kind, Outcome, Option<ErrorCode>) {
        (self.kind, self.outcome.unwrap_or(Outcome::Abandoned), self.code)
    }

    /// Returns the common part of the event, if it is a refusal of an unknown caller.
    ///
    /// The log may fold only such events. It never folds decisions about known callers.
    pub fn anonymous(&self) -> Option<Anonymous> {
        let refused = self.code.is_some() || self.outcome.is_none();
        let nobody = self.principal.is_none() && self.operator.is_none();
        let Self { kind, code, network, .. } = *self;
        (refused && nobody).then_some(Anonymous { kind, code, network })
    }

    /// Creates one event for `count` folded events.
    pub fn folded(of: Anonymous, count: u64) -> Self {
        let Anonymous { kind, code, network } = of;
        let (outcome, count) = (code.map(Outcome::of), Some(count));
        Self { outcome, code, network, count, ..Self::new(kind) }
    }

    /// Writes the event to the log.
    pub fn write(&self) {
        let network = self.network.filter(|_| self.anonymous().is_some());
        tracing::info!(
            target: "audit",
            v = VERSION,
            event = self.kind.as_str(),
            decision = self.outcome.unwrap_or(Outcome::Abandoned).as_str(),
            code = self.code.map(ErrorCode::as_str),
            by = self.by.map(Issuer::as_str),
            principal = self.principal.as_ref().map(Principal::as_str),
            session = self.session.as_deref(),
            unique_id = self.unique_id.as_deref(),
            subject = self.subject.as_deref(),
            token_id = self.token_id.as_deref(),
            namespace = self.namespace.as_deref(),
            permission = self.permission.map(Permission::as_str),
            namespaces = self.namespaces.as_deref(),
            permissions = self.permissions.as_deref(),
            expires_at = self.expires_at.map(end),
            requested = self.requested.as_deref(),
            permissions_before = self.permissions_before.as_deref(),
            expires_at_before = self.expires_at_before.map(end),
            forced = self.forced,
            package = self.package.as_deref(),
            source = self.source.as_deref(),
            operator = self.operator.as_deref(),
            about = self.about.as_ref().map(Principal::as_str),
            webhook = self.webhook.as_deref(),
            network = network.map(tracing::field::display),
            count = self.count,
        );
    }
}

/// Returns the text of an end in Unix seconds.
fn end(unix: i64) -> String {
    if unix == NEVER { "never".to_owned() } else { rfc3339(unix) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_prefix_of_an_address() {
        for (address, expected) in [
            ("192.0.2.17", "192.0.2.0/24"),
            ("::ffff:192.0.2.17", "192.0.2.0/24"),
            ("2001:db8:0:1:ffff::2", "2001:db8:0:1::/64"),
            ("::1", "::/64"),
        ] {
            assert_eq!(Network::of(address.parse().unwrap()).to_string(), expected);
        }
    }

    #[test]
    fn the_first_outcome_of_an_event_stays() {
        let mut event = Event::new(Kind::Publish);
        event.outcome(Outcome::Conflict);
        event.refused(ErrorCode::Conflict);
        event.outcome(Outcome::Allowed);
        assert_eq!((event.outcome, event.code), (Some(Outcome::Conflict), None));
        let mut event = Event::new(Kind::Publish);
        event.refused(ErrorCode::NoGrant);
        event.outcome(Outcome::Allowed);
        assert_eq!((event.outcome, event.code), (Some(Outcome::Refused), Some(ErrorCode::NoGrant)));
    }

    #[test]
    fn only_a_refusal_of_an_unknown_caller_may_be_folded() {
        let refused = || {
            let mut event = Event::new(Kind::Download);
            event.refused(ErrorCode::Unauthorized);
            event
        };
        assert!(refused().anonymous().is_some());
        assert!(
            Event::new(Kind::Exchange).anonymous().is_some(),
            "the caller closed the connection"
        );
        let mut known = refused();
        known.principal = Some(Principal::parse_stored("aws:111122223333:role/deploy").unwrap());
        assert!(known.anonymous().is_none());
        let mut operator = refused();
        operator.operator(&OperatorAccess::for_store_writer("alice"));
        assert!(operator.anonymous().is_none());
        let mut allowed = Event::new(Kind::Fetch);
        allowed.outcome(Outcome::Allowed);
        assert!(allowed.anonymous().is_none());
    }

    #[test]
    fn names_are_unique() {
        let kinds: std::collections::BTreeSet<_> =
            Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        let outcomes: std::collections::BTreeSet<_> =
            Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
        assert_eq!((kinds.len(), outcomes.len()), (Kind::ALL.len(), Outcome::ALL.len()));
    }
}
