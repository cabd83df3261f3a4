//! The event of the audit log: who asked for what, and how that was decided. One event a decision.
//!
//! No token, key, signature or signed URL is ever in an event. [`Event::write`] is the one way out: a line of the tracing
//! target `audit`. `docs/operations.md` lists the fields.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use stile_protocol::names::{Namespace, Permission};
use stile_protocol::reply::ErrorCode;

use crate::clock::rfc3339;
use crate::grants::{GrantNamespace, OperatorAccess};
use crate::identity::{Identity, Issuer};
use crate::package::{PackageAddress, Version};
use crate::principal::Principal;
use crate::token::{Claims, TokenId};

/// The version of the fields, as the field `v`. It changes when a field changes its name or its meaning, and not when one
/// is added.
pub const VERSION: u64 = 1;

macro_rules! names {
    ($(#[$outer:meta])* $type:ident { $($(#[$doc:meta])* $name:ident = $text:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$doc])* $name,)+
        }

        impl $type {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name in the log.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

names! {
    /// What was asked for: the field `event`.
    Kind {
        /// A token.
        Exchange = "exchange",
        /// What the broker knows of the bearer.
        Whoami = "whoami",
        /// The modules that the bearer may read.
        List = "list",
        /// The versions of a package.
        Versions = "versions",
        /// The signed URL of a version.
        Download = "download",
        /// An archive, by its signed URL.
        Fetch = "fetch",
        /// Publishing a version, or completing an upload session.
        Publish = "publish",
        /// Beginning an upload session.
        Upload = "upload",
        /// Whether a request to another registry may pass: API Gateway asks.
        Authorize = "authorize",
        /// Creating, changing or deleting a grant.
        Grant = "grant",
        /// Forgetting the unique id of a role or user.
        Repin = "repin",
        /// Revoking a token or a principal.
        Revoke = "revoke",
        /// Lifting the revocation of a principal.
        Lift = "lift",
        /// Dropping the keys that tokens are sealed under.
        Key = "key",
    }
}

names! {
    /// How it was decided: the field `decision`.
    Outcome {
        /// The caller got it.
        Allowed = "allowed",
        /// A token was minted.
        Minted = "minted",
        /// It is there from now on.
        Created = "created",
        /// It was there already, and is the same.
        Unchanged = "unchanged",
        /// Another was there already; nothing changed.
        Conflict = "conflict",
        /// There is no place for one more; nothing changed.
        Full = "full",
        /// An upload session was begun.
        Begun = "begun",
        /// The archive is small enough for one request, so no upload session was begun.
        Direct = "direct",
        /// It was changed.
        Changed = "changed",
        /// It was deleted.
        Deleted = "deleted",
        /// There is none; nothing changed.
        Absent = "absent",
        /// It was revoked.
        Revoked = "revoked",
        /// The revocation was lifted.
        Lifted = "lifted",
        /// The unique id was forgotten.
        Cleared = "cleared",
        /// The keys were dropped.
        Dropped = "dropped",
        /// The answer is no, and the field `code` says why.
        Refused = "refused",
        /// Stile could not decide or act, and the field `code` says why.
        Failed = "failed",
        /// The caller hung up before anything was decided.
        Abandoned = "abandoned",
    }
}

impl Outcome {
    /// What a request came to that was answered with that code.
    pub const fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NotFound => Self::Absent,
            ErrorCode::Throttled
            | ErrorCode::StsUnavailable
            | ErrorCode::StoreUnavailable
            | ErrorCode::KeyUnavailable
            | ErrorCode::StsBadResponse
            | ErrorCode::StsInconsistent
            | ErrorCode::StsTimeout
            | ErrorCode::Internal => Self::Failed,
            _ => Self::Refused,
        }
    }
}

/// The network that a request comes from: the first 24 bits of an IPv4 address, the first 64 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// The network of an address.
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

/// What several refusals have in common that may stand as one line: nobody is known to have made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Anonymous {
    /// What was asked for.
    pub kind: Kind,
    /// Why it was refused; `None` where the caller hung up.
    pub code: Option<ErrorCode>,
    /// Where the request came from, if that is known.
    pub network: Option<Network>,
}

/// One decision. Every field but the kind may be unknown.
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
    package: Option<String>,
    operator: Option<String>,
    about: Option<Principal>,
    network: Option<Network>,
    count: Option<u64>,
}

impl Event {
    /// An event about which nothing but its kind is known.
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
            package: None,
            operator: None,
            about: None,
            network: None,
            count: None,
        }
    }

    /// Where the request came from. It is written for a caller of whom nothing else is known.
    pub const fn network(&mut self, network: Option<Network>) {
        self.network = network;
    }

    /// Who is to vouch for the caller.
    pub const fn issuer(&mut self, issuer: Issuer) {
        self.by = Some(issuer);
    }

    /// The caller, by an issuer's word.
    pub fn identity(&mut self, identity: &Identity) {
        self.by = Some(identity.issuer());
        self.principal = Some(identity.principal().clone());
        self.session = identity.session().map(str::to_owned);
        self.unique_id = identity.unique_id().map(|id| id.as_str().to_owned());
        self.subject = Some(identity.subject().to_owned());
    }

    /// The caller, by a token that opened.
    pub fn bearer(&mut self, claims: &Claims) {
        self.principal = Some(claims.principal().clone());
        self.unique_id = claims.unique_id().map(|id| id.as_str().to_owned());
        self.token(claims.id());
    }

    /// The token that was minted.
    pub fn minted(&mut self, claims: &Claims) {
        self.token(claims.id());
        self.namespaces = Some(claims.namespaces().to_string());
        self.permissions = Some(claims.permissions().to_string());
        self.expires_at = Some(claims.expires_at());
        self.outcome(Outcome::Minted);
    }

    /// The right that was asked for.
    pub fn right(&mut self, namespace: &Namespace, permission: Permission) {
        self.namespace = Some(namespace.as_str().to_owned());
        self.permission = Some(permission);
    }

    /// The package that was asked for, or one version of it.
    pub fn package(&mut self, address: &PackageAddress, version: Option<&Version>) {
        self.package = Some(match version {
            Some(version) => format!("{address} {version}"),
            None => address.to_string(),
        });
    }

    /// What was asked for, where that is no package of this registry.
    pub fn resource(&mut self, text: String) {
        self.package = Some(text);
    }

    /// The operator who works on the store itself.
    pub fn operator(&mut self, access: &OperatorAccess) {
        self.operator = Some(access.operator().to_owned());
    }

    /// The principal that a change is about.
    pub fn about(&mut self, principal: &Principal) {
        self.about = Some(principal.clone());
    }

    /// The grant that a change is about.
    pub fn grant(&mut self, namespace: &GrantNamespace, permissions: Option<String>) {
        self.namespace = Some(namespace.to_string());
        self.permissions = permissions;
    }

    /// The token that a change is about.
    pub fn token(&mut self, id: &TokenId) {
        self.token_id = Some(id.as_str().to_owned());
    }

    /// How it was decided. The first outcome stays.
    pub fn outcome(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }

    /// It was answered with that code, unless another outcome is known.
    pub fn refused(&mut self, code: ErrorCode) {
        if self.outcome.is_none() {
            self.outcome = Some(Outcome::of(code));
            self.code = Some(code);
        }
    }

    /// What it has in common with other refusals, if nobody is known to have asked. Only such an event may be folded.
    pub fn anonymous(&self) -> Option<Anonymous> {
        let refused = self.code.is_some() || self.outcome.is_none();
        let nobody = self.principal.is_none() && self.operator.is_none();
        let Self { kind, code, network, .. } = *self;
        (refused && nobody).then_some(Anonymous { kind, code, network })
    }

    /// As many events of that kind as one line.
    pub fn folded(of: Anonymous, count: u64) -> Self {
        let Anonymous { kind, code, network } = of;
        let (outcome, count) = (code.map(Outcome::of), Some(count));
        Self { outcome, code, network, count, ..Self::new(kind) }
    }

    /// Writes the line.
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
            expires_at = self.expires_at.map(rfc3339),
            package = self.package.as_deref(),
            operator = self.operator.as_deref(),
            about = self.about.as_ref().map(Principal::as_str),
            network = network.map(tracing::field::display),
            count = self.count,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_part_of_an_address() {
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
    fn only_a_refusal_of_nobody_known_may_be_folded() {
        let refused = || {
            let mut event = Event::new(Kind::Download);
            event.refused(ErrorCode::Unauthorized);
            event
        };
        assert!(refused().anonymous().is_some());
        assert!(Event::new(Kind::Exchange).anonymous().is_some(), "a caller who hung up");
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
    fn names_are_apart() {
        let kinds: std::collections::BTreeSet<_> =
            Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        let outcomes: std::collections::BTreeSet<_> =
            Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
        assert_eq!((kinds.len(), outcomes.len()), (Kind::ALL.len(), Outcome::ALL.len()));
    }
}
