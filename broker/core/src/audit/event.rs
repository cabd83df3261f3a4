//! Audit events: one event for each decision, with the caller, the request and the outcome.
//!
//! An event never contains a token, key, signature or signed URL. [`Event::write`] writes an event as a
//! line of the tracing target `audit`. `docs/operations.md` lists the fields.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};
use stile_protocol::names::{Namespace, Permission, Permissions};
use stile_protocol::region::Region;
use stile_protocol::reply::ErrorCode;

use crate::clock::rfc3339;
use crate::grants::{Grant, GrantNamespace, OperatorAccess};
use crate::identity::{Identity, Issuer};
use crate::package::source::{ModuleSource, ObjectAddress};
use crate::package::{PackageAddress, Version};
use crate::principal::{LocalName, Principal};
use crate::service_token::{ServiceToken, ServiceTokenTerms};
use crate::token::{Claims, TokenId};
use crate::trust::{Trust, TrustStamp, TrustTerms};
use crate::webhook::WebhookName;

use super::names::{Kind, Outcome};

/// The version of the fields, in the field `v`.
///
/// It increases when a field changes its name or meaning, but not for a new field.
pub const VERSION: u64 = 1;

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

/// The programs that an event names of a `User-Agent`. A client chooses the header, so it is bounded.
const CLIENT_PRODUCTS: usize = 4;

/// Maximum length of the name or the version of a program in a `User-Agent`, in bytes. A token is
/// longer, so a client cannot write one into the log by mistake.
const CLIENT_WORD: usize = 32;

/// Calls the macro `$then` with each field of an event and its value, in the order of the log line.
///
/// So the log line and the kept event have the same fields with the same names.
macro_rules! with_fields {
    ($event:ident, $network:ident, $then:ident) => {
        $then! {
            v = VERSION,
            event = $event.kind.as_str(),
            decision = $event.outcome.unwrap_or(Outcome::Abandoned).as_str(),
            code = $event.code.map(ErrorCode::as_str),
            by = $event.by.map(Issuer::as_str),
            principal = $event.principal.as_ref().map(Principal::as_str),
            session = $event.session.as_deref(),
            unique_id = $event.unique_id.as_deref(),
            subject = $event.subject.as_deref(),
            region = $event.region,
            believed_by = $event.believed_by.as_ref().map(Principal::as_str),
            workload = $event.workload.as_deref(),
            token_id = $event.token_id.as_deref(),
            client = $event.client.as_deref(),
            namespace = $event.namespace.as_deref(),
            permission = $event.permission.map(Permission::as_str),
            grant_of = $event.grant_of.as_ref().map(Principal::as_str),
            grant_on = $event.grant_on.as_deref(),
            namespaces = $event.namespaces.as_deref(),
            permissions = $event.permissions.as_deref(),
            expires_at = $event.expires_at.map(end),
            requested = $event.requested.as_deref(),
            permissions_before = $event.permissions_before.as_deref(),
            expires_at_before = $event.expires_at_before.map(end),
            forced = $event.forced,
            package = $event.package.as_deref(),
            source = $event.source.as_deref(),
            operator = $event.operator.as_deref(),
            about = $event.about.as_ref().map(Principal::as_str),
            webhook = $event.webhook.as_deref(),
            trust = $event.trust.as_deref(),
            trust_before = $event.trust_before.as_deref(),
            network = $network,
            count = $event.count,
        }
    };
}

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
    region: Option<&'static str>,
    believed_by: Option<Principal>,
    workload: Option<String>,
    request_id: Option<String>,
    client: Option<String>,
    grant_of: Option<Principal>,
    grant_on: Option<String>,
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
    trust: Option<String>,
    trust_before: Option<String>,
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
            region: None,
            believed_by: None,
            workload: None,
            request_id: None,
            client: None,
            grant_of: None,
            grant_on: None,
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
            trust: None,
            trust_before: None,
            network: None,
            count: None,
        }
    }

    /// Sets the network of the client. The log contains it only for unknown callers.
    pub const fn network(&mut self, network: Option<Network>) {
        self.network = network;
    }

    /// Sets the id of the request. A log line has it from the span of the request, and only a kept
    /// event has it as a field.
    pub fn request_id(&mut self, id: String) {
        self.request_id = Some(id);
    }

    /// Sets the programs that the `User-Agent` of the request names, for example `Terraform/1.9.5`.
    ///
    /// The client chooses the header. The event has only short names and versions of it.
    pub fn client(&mut self, user_agent: &str) {
        self.client = products(user_agent);
    }

    /// Sets the region whose STS identified the caller.
    pub const fn region(&mut self, region: &'static Region) {
        self.region = Some(region.name);
    }

    /// Sets the grant that allowed the request: whose it is, and on what.
    pub fn allowed_by(&mut self, grant: &Grant) {
        self.grant_of = Some(grant.principal.clone());
        self.grant_on = Some(grant.namespace.to_string());
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
        self.believed_by = identity.trust().map(TrustStamp::principal);
        if let Some(caller) = identity.aws() {
            self.region = caller.region().map(|region| region.name);
            self.workload = caller.workload().map(str::to_owned);
        }
    }

    /// Sets the caller from a valid token.
    pub fn bearer(&mut self, claims: &Claims) {
        self.principal = Some(claims.principal().clone());
        self.unique_id = claims.unique_id().map(|id| id.as_str().to_owned());
        self.believed_by = claims.trust().map(TrustStamp::principal);
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

    /// Sets what the grant is after the change, and what it was before.
    pub fn grant_changed(&mut self, before: &Grant, after: &Grant) {
        self.grant_before(before);
        self.grant(&after.namespace, Some(after.permissions.to_string()));
        self.grant_end(after.expires_at);
    }

    /// Sets what the request changes, as text.
    pub fn requested(&mut self, text: String) {
        self.requested = Some(text);
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

    /// Sets the trust that the change affects, and what it believes after the change.
    pub fn trust(&mut self, name: &LocalName, terms: &TrustTerms) {
        self.about(&Principal::trust(name));
        self.trust = Some(terms.to_string());
    }

    /// Sets what the trust believed before the change.
    pub fn trust_before(&mut self, trust: &Trust) {
        self.about(&trust.principal());
        self.trust_before = Some(trust.terms().to_string());
    }

    /// Sets what the trust believes after the change, and what it believed before.
    pub fn trust_changed(&mut self, before: &Trust, after: &Trust) {
        self.trust_before(before);
        self.trust(&after.name, &after.terms());
    }

    /// Sets the token that the change affects.
    pub fn token(&mut self, id: &TokenId) {
        self.token_id = Some(id.as_str().to_owned());
    }

    /// Sets the service token that the change affects: its id, its principal, and what it is for.
    pub fn service_token(&mut self, token: &ServiceToken) {
        self.token(token.id());
        self.about(&token.terms().principal());
        self.service_terms(token.terms());
    }

    /// Sets what a service token is for, or would be for.
    pub fn service_terms(&mut self, terms: &ServiceTokenTerms) {
        self.about(&terms.principal());
        let namespaces =
            terms.grant_namespaces().iter().map(ToString::to_string).collect::<Vec<_>>();
        self.namespaces = Some(namespaces.join(","));
        self.permissions = Some(terms.permissions().to_string());
        self.expires_at = Some(terms.expires_at());
    }

    /// Sets the caller from a service token whose secret it knows.
    pub fn service_bearer(&mut self, token: &ServiceToken) {
        self.principal = Some(token.terms().principal());
        self.token(token.id());
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
        let network = network.map(tracing::field::display);
        macro_rules! line {
            ($($name:ident = $value:expr,)+) => {
                tracing::info!(target: "audit", $($name = $value,)+)
            };
        }
        with_fields!(self, network, line);
    }

    /// Returns the fields of a kept event with this outcome: those of the log line, and the id of the
    /// request. A kept event is a change, so its caller is known, and it has no network.
    pub(super) fn kept_fields(&self, outcome: Outcome) -> Map<String, Value> {
        let event = Self { outcome: Some(outcome), code: None, ..self.clone() };
        let network: Option<String> = None;
        let mut fields = Map::new();
        macro_rules! object {
            ($($name:ident = $value:expr,)+) => {
                $(fields.insert(stringify!($name).to_owned(), json!($value));)+
            };
        }
        with_fields!(event, network, object);
        fields.insert("request_id".to_owned(), json!(event.request_id));
        fields.retain(|_, value| !value.is_null());
        fields
    }
}

/// Returns the programs of a `User-Agent`, each as its name and version. Comments and all other words
/// are left out.
fn products(user_agent: &str) -> Option<String> {
    let is_word = |text: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
        (1..=CLIENT_WORD).contains(&text.len()) && text.bytes().all(is_plain)
    };
    let is_product = |word: &&str| {
        word.split_once('/').is_some_and(|(name, version)| is_word(name) && is_word(version))
    };
    let products: Vec<&str> =
        user_agent.split_ascii_whitespace().filter(is_product).take(CLIENT_PRODUCTS).collect();
    (!products.is_empty()).then(|| products.join(" "))
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
    fn an_event_names_only_short_programs_of_a_user_agent() {
        for (sent, expected) in [
            ("", None),
            ("curl", None),
            ("/1.0 curl/", None),
            ("a/b/c", None),
            ("curl/8.5.0\u{1b}[2J", None),
            ("é/1", None),
            ("Terraform/1.9.5 (+https://www.terraform.io)", Some("Terraform/1.9.5")),
            ("a/1 b/2 c/3 d/4 e/5", Some("a/1 b/2 c/3 d/4")),
        ] {
            assert_eq!(products(sent).as_deref(), expected, "{sent:?}");
        }
        assert_eq!(products(&format!("t/{}", "v4.local.".repeat(4))), None);
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
}
