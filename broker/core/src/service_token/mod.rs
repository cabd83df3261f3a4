//! Service tokens: for clients that can hold a plain token, and have no identity of their own.
//!
//! A service token is the principal `service:NAME`. What it allows is in its scope, and in the grants
//! of that principal: both must allow it. So a grant that someone else makes for the same name widens
//! no token.

mod limits;
mod networks;
mod text;

use serde_json::{Map, Value, json};
use stile_protocol::exchange::{Namespaces, parse_namespaces, parse_permissions};
use stile_protocol::names::{Permission, Permissions};

pub use self::limits::{
    MAX_OF_ISSUER, MAX_ON_NAMESPACE, MAX_SERVICE_TOKENS, RESERVED_FOR_OPERATORS, TooManyTokens,
    check_room, forgotten,
};
pub use self::networks::{ClientNetwork, ClientNetworkError, MAX_NETWORKS};
pub use self::text::{NewSecret, PREFIX, PresentedToken, SecretDigest};

use crate::critical::{self, CRIT};
use crate::grants::{
    Grant, GrantNamespace, PrincipalState, SERVICE_PERMISSIONS, check_grants, never_granted,
};
use crate::principal::{LocalName, Principal, ShownId, UniqueId};
use crate::token::{Claims, ServiceClaims, TokenId};
use crate::trust::{TrustCheck, check_live};

/// The longest life of a service token, in seconds: 400 days, a year and time to replace it.
///
/// The attack: a token that leaked and that nobody remembers works for ever.
pub const MAX_LIFE: i64 = 400 * 24 * 3600;

/// The most namespaces that a token names. One commit writes the grants of all, and its size is bounded.
pub const MAX_NAMESPACES: usize = 16;

/// The field with the revision of the trust that believed the issuer. It is critical: a reader that
/// does not compare it would keep a token whose trust an operator narrowed.
const TRUST_REVISION: &str = "delegate_rev";

/// The known fields of a record, so that its `crit` may list them.
const KNOWN: [&str; 12] = [
    "name",
    "sha256",
    "namespaces",
    "permissions",
    "networks",
    "operator",
    "delegate",
    "delegate_id",
    TRUST_REVISION,
    "created_at",
    "expires_at",
    "replaced_by",
];

/// The reason why a service token cannot have this scope or this end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceTokenError {
    /// The scope has no permission.
    #[error("a service token needs `download`, `upload`, or both")]
    NoPermission,
    /// A service never gets this permission.
    #[error("a service token never has `{0}`, only `download` and `upload`")]
    Permission(Permission),
    /// The scope has no namespace, or too many.
    #[error("a service token needs 1 to {MAX_NAMESPACES} namespaces, or `*` for all")]
    Namespaces,
    /// Too many networks.
    #[error("a service token has at most {MAX_NETWORKS} networks")]
    Networks,
    /// The end is not in the future.
    #[error("the token would end at {}, which is not in the future", crate::clock::rfc3339(*.0))]
    Ended(i64),
    /// The end is too far away.
    #[error("a service token ends after at most 400 days")]
    TooLong,
}

/// What a service token is for, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTokenTerms {
    name: LocalName,
    namespaces: Namespaces,
    permissions: Permissions,
    networks: Vec<ClientNetwork>,
    expires_at: i64,
}

impl ServiceTokenTerms {
    /// Checks what a new token is for.
    ///
    /// # Errors
    ///
    /// [`ServiceTokenError`], with the first rule that they break.
    pub fn new(
        name: LocalName,
        namespaces: Namespaces,
        permissions: Permissions,
        networks: Vec<ClientNetwork>,
        expires_at: i64,
        now: i64,
    ) -> Result<Self, ServiceTokenError> {
        if permissions.is_empty() {
            return Err(ServiceTokenError::NoPermission);
        }
        if let Some(permission) = never_granted(&Principal::service(&name), permissions) {
            return Err(ServiceTokenError::Permission(permission));
        }
        match &namespaces {
            Namespaces::List(list) if !(1..=MAX_NAMESPACES).contains(&list.len()) => {
                return Err(ServiceTokenError::Namespaces);
            }
            Namespaces::List(_) | Namespaces::All => {}
        }
        if networks.len() > MAX_NETWORKS {
            return Err(ServiceTokenError::Networks);
        }
        if expires_at <= now {
            return Err(ServiceTokenError::Ended(expires_at));
        }
        if expires_at > now.saturating_add(MAX_LIFE) {
            return Err(ServiceTokenError::TooLong);
        }
        Ok(Self { name, namespaces, permissions, networks, expires_at })
    }

    /// Returns the principal of the token.
    pub fn principal(&self) -> Principal {
        Principal::service(&self.name)
    }

    /// Returns the namespaces of the token, as grants name them.
    pub fn grant_namespaces(&self) -> Vec<GrantNamespace> {
        grant_namespaces(&self.namespaces)
    }

    /// Returns the permissions of the token.
    pub const fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// Returns the networks of the token. Without one, a client at every address may use it.
    pub fn networks(&self) -> &[ClientNetwork] {
        &self.networks
    }

    /// Returns the end of the token, in Unix seconds.
    pub const fn expires_at(&self) -> i64 {
        self.expires_at
    }
}

/// Who issued a service token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenIssuer {
    /// An operator. The token does not depend on the operator's rights.
    Operator(String),
    /// A holder of `create_grant` on every namespace of the token. The token ends when its issuer
    /// loses one of these rights.
    Delegate {
        /// The principal of the issuer.
        principal: Principal,
        /// Its unique id. A principal that someone deletes and creates again is another one.
        unique_id: UniqueId,
        /// The revision of the trust when it believed the issuer, if the issuer is a trust. A change of
        /// the trust ends the token, as it ends the tokens that the trust gave.
        trust_revision: Option<i64>,
    },
}

/// What the store has of a service token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceToken {
    id: TokenId,
    terms: ServiceTokenTerms,
    digest: SecretDigest,
    issuer: TokenIssuer,
    created_at: i64,
    replaced_by: Option<TokenId>,
    /// Fields that a newer program added. A change keeps them.
    unknown: Map<String, Value>,
}

/// The reason why a client does not get the access of a service token. The answer does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServiceTokenRefusal {
    /// The token has ended.
    #[error("the service token has ended")]
    Ended,
    /// The token has networks, and the client is in none of them, or its address is not known.
    #[error("the client is in none of the networks of the service token")]
    Elsewhere,
    /// The issuer may no longer issue such a token.
    #[error("the issuer of the service token has lost a right that the token depends on")]
    IssuerLost,
}

/// A service token whose secret the client knows. Only [`ServiceToken::verify`] creates one.
#[derive(Debug, Clone, Copy)]
pub struct HeldToken<'a>(&'a ServiceToken);

impl ServiceToken {
    /// Creates the record of a new token.
    pub fn new(
        secret: &NewSecret,
        terms: ServiceTokenTerms,
        issuer: TokenIssuer,
        created_at: i64,
    ) -> Self {
        let (id, digest) = (secret.id.clone(), secret.digest.clone());
        Self { id, terms, digest, issuer, created_at, replaced_by: None, unknown: Map::new() }
    }

    /// Verifies the secret of a client in constant time. `None` if it is another one.
    pub fn verify(&self, presented: &PresentedToken) -> Option<HeldToken<'_>> {
        let same_id = *presented.unverified_id() == self.id;
        (same_id && self.digest.is(presented.digest())).then_some(HeldToken(self))
    }

    /// Returns the public id.
    pub const fn id(&self) -> &TokenId {
        &self.id
    }

    /// Returns the name.
    pub const fn name(&self) -> &LocalName {
        &self.terms.name
    }

    /// Returns what the token is for.
    pub const fn terms(&self) -> &ServiceTokenTerms {
        &self.terms
    }

    /// Returns the namespaces of the token.
    pub const fn namespaces(&self) -> &Namespaces {
        &self.terms.namespaces
    }

    /// Returns who issued it.
    pub const fn issuer(&self) -> &TokenIssuer {
        &self.issuer
    }

    /// Returns the time of its creation, in Unix seconds.
    pub const fn created_at(&self) -> i64 {
        self.created_at
    }

    /// Returns the id of the token that takes its place, if it was rotated.
    pub const fn replaced_by(&self) -> Option<&TokenId> {
        self.replaced_by.as_ref()
    }

    /// Returns the same token as a rotation leaves it: it ends at that time, unless it ends before.
    #[must_use]
    pub fn replaced(&self, by: &TokenId, ends_at: i64) -> Self {
        let mut after = self.clone();
        after.terms.expires_at = ends_at.min(self.terms.expires_at);
        after.replaced_by = Some(by.clone());
        after
    }

    /// Returns what the next token of a rotation is for: the same as this one, until another end.
    ///
    /// # Errors
    ///
    /// [`ServiceTokenError`], if the end is not allowed.
    pub fn next_terms(
        &self,
        expires_at: i64,
        now: i64,
    ) -> Result<ServiceTokenTerms, ServiceTokenError> {
        let ServiceTokenTerms { name, namespaces, permissions, networks, .. } = self.terms.clone();
        ServiceTokenTerms::new(name, namespaces, permissions, networks, expires_at, now)
    }

    /// Returns the same token with an operator as its issuer, so that it depends on no other right.
    #[must_use]
    pub fn adopted(&self, operator: &str) -> Self {
        Self { issuer: TokenIssuer::Operator(operator.to_owned()), ..self.clone() }
    }

    /// Returns the text of the record.
    pub fn to_text(&self) -> String {
        let mut record = self.unknown.clone();
        let networks = self.terms.networks.iter().map(ToString::to_string);
        record.extend([
            ("name".to_owned(), json!(self.terms.name.as_str())),
            ("sha256".to_owned(), json!(self.digest.to_hex())),
            ("namespaces".to_owned(), json!(self.terms.namespaces)),
            ("permissions".to_owned(), json!(self.terms.permissions)),
            ("networks".to_owned(), networks.collect()),
            ("created_at".to_owned(), json!(self.created_at)),
            ("expires_at".to_owned(), json!(self.terms.expires_at)),
        ]);
        match &self.issuer {
            TokenIssuer::Operator(operator) => {
                record.insert("operator".to_owned(), json!(operator));
            }
            TokenIssuer::Delegate { principal, unique_id, trust_revision } => {
                record.insert("delegate".to_owned(), json!(principal));
                record.insert("delegate_id".to_owned(), json!(unique_id.as_str()));
                if let Some(revision) = trust_revision {
                    record.insert(TRUST_REVISION.to_owned(), json!(revision));
                    let crit = record.entry(CRIT).or_insert_with(|| json!([]));
                    if let Some(crit) = crit.as_array_mut() {
                        crit.push(TRUST_REVISION.into());
                    }
                }
            }
        }
        if let Some(by) = &self.replaced_by {
            record.insert("replaced_by".to_owned(), json!(by.as_str()));
        }
        Value::Object(record).to_string()
    }

    /// Reads a record. `None` if this program does not understand it, so that the token allows nothing.
    pub fn read(id: &TokenId, text: &str) -> Option<Self> {
        let mut record: Map<String, Value> = serde_json::from_str(text).ok()?;
        if !critical::understood(record.get(CRIT), &KNOWN) {
            return None;
        }
        let mut take = |name: &str| record.remove(name).filter(|value| !value.is_null());
        let text = |value: Value| value.as_str().map(str::to_owned);
        let name = text(take("name")?)?.parse().ok()?;
        let digest = SecretDigest::parse(&text(take("sha256")?)?)?;
        let namespaces = parse_namespaces("namespaces", take("namespaces")?).ok()?;
        let permissions = parse_permissions("permissions", take("permissions")?).ok()?;
        // A record with another permission is not one that a program wrote.
        if !permissions.iter().all(|permission| SERVICE_PERMISSIONS.contains(permission)) {
            return None;
        }
        let networks: Option<Vec<ClientNetwork>> = take("networks")?
            .as_array()?
            .iter()
            .map(|network| network.as_str()?.parse().ok())
            .collect();
        let (operator, delegate) = (take("operator"), take("delegate"));
        let issuer = match (operator, delegate, take("delegate_id"), take(TRUST_REVISION)) {
            (Some(operator), None, None, None) => TokenIssuer::Operator(text(operator)?),
            // Without the id, a principal that someone creates again would have the tokens of the old one.
            (None, Some(principal), Some(unique_id), revision) => TokenIssuer::Delegate {
                principal: Principal::parse_stored(principal.as_str()?).ok()?,
                unique_id: UniqueId::parse(unique_id.as_str()?)?,
                trust_revision: match revision {
                    Some(revision) => Some(revision.as_i64()?),
                    None => None,
                },
            },
            _ => return None,
        };
        let (created_at, expires_at) =
            (take("created_at")?.as_i64()?, take("expires_at")?.as_i64()?);
        let replaced_by = match take("replaced_by") {
            Some(by) => Some(TokenId::parse(by.as_str()?)?),
            None => None,
        };
        let terms =
            ServiceTokenTerms { name, namespaces, permissions, networks: networks?, expires_at };
        let id = id.clone();
        // The record names this field again if the token still has it.
        if let Some(Value::Array(crit)) = record.get_mut(CRIT) {
            crit.retain(|name| *name != TRUST_REVISION);
            if crit.is_empty() {
                record.remove(CRIT);
            }
        }
        Some(Self { id, terms, digest, issuer, created_at, replaced_by, unknown: record })
    }
}

impl<'a> HeldToken<'a> {
    /// Returns the token.
    pub const fn token(self) -> &'a ServiceToken {
        self.0
    }

    /// Returns the claims of the token, with which its holder is authorised.
    ///
    /// `issuer` is the state of the issuer of a token that a principal delegated. `address` is the
    /// address of the client, if the broker knows it.
    ///
    /// # Errors
    ///
    /// [`ServiceTokenRefusal`], if the token does not count here and now.
    pub fn claims(
        self,
        address: Option<std::net::IpAddr>,
        issuer: Option<&PrincipalState>,
        now: i64,
    ) -> Result<Claims, ServiceTokenRefusal> {
        let terms = &self.0.terms;
        if now >= terms.expires_at {
            return Err(ServiceTokenRefusal::Ended);
        }
        let here = |address| terms.networks.iter().any(|network| network.contains(address));
        if !terms.networks.is_empty() && !address.is_some_and(here) {
            return Err(ServiceTokenRefusal::Elsewhere);
        }
        if !self.0.issuer_may_issue(issuer, now) {
            return Err(ServiceTokenRefusal::IssuerLost);
        }
        Ok(Claims::of_service(ServiceClaims {
            id: self.0.id.clone(),
            principal: terms.principal(),
            namespaces: terms.namespaces.clone(),
            permissions: terms.permissions,
            issued_at: self.0.created_at,
            expires_at: terms.expires_at,
        }))
    }
}

impl ServiceToken {
    /// Returns whether the issuer may issue such a token now. An operator always may.
    fn issuer_may_issue(&self, state: Option<&PrincipalState>, now: i64) -> bool {
        let TokenIssuer::Delegate { principal, unique_id, trust_revision } = &self.issuer else {
            return true;
        };
        // Only an operator issues a token for all namespaces.
        let (Namespaces::List(list), Some(state)) = (&self.terms.namespaces, state) else {
            return false;
        };
        let believed = (Some(unique_id), *trust_revision);
        if check_live(principal, believed, None, state.trust.as_ref()) != TrustCheck::Same {
            return false;
        }
        let needs = self.terms.permissions.with(Permission::CreateGrant);
        let has = |namespace, permission| {
            check_grants(principal, ShownId::Is(unique_id), state, Some(namespace), permission, now)
                .is_ok()
        };
        state.revoked.is_none()
            && list.iter().all(|namespace| needs.iter().all(|right| has(namespace, right)))
    }
}

/// Returns a grant widened by what a token needs: its permissions, until its end at least.
#[must_use]
pub fn widened(grant: &Grant, terms: &ServiceTokenTerms) -> Grant {
    Grant {
        permissions: grant.permissions.union(terms.permissions),
        expires_at: grant.expires_at.map(|end| end.max(terms.expires_at)),
        ..grant.clone()
    }
}

fn grant_namespaces(namespaces: &Namespaces) -> Vec<GrantNamespace> {
    match namespaces {
        Namespaces::All => vec![GrantNamespace::All],
        Namespaces::List(list) => list.iter().cloned().map(GrantNamespace::One).collect(),
    }
}

#[cfg(test)]
mod tests;
