//! Authorises mints: decides whether a caller gets a token for the requested scope.

use stile_protocol::exchange::{Namespaces, RequestDocument};
use stile_protocol::names::Permissions;

use super::{Pin, PrincipalState, Refusal, check_grants};
use crate::identity::Identity;
use crate::principal::{Principal, UniqueId};
use crate::token::{Claims, NewClaims};
use crate::trust::{TrustCheck, check_live};

/// Proof that [`entitle`] allowed a token of this scope to this caller. Only [`entitle`] creates one.
#[derive(Debug)]
pub struct Entitlement {
    caller: Identity,
    namespaces: Namespaces,
    permissions: Permissions,
    ttl: i64,
    pins: bool,
}

impl Entitlement {
    /// Returns the caller.
    pub const fn caller(&self) -> &Identity {
        &self.caller
    }

    /// Returns the namespaces of the token.
    pub const fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Returns the permissions of the token.
    pub const fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// Returns the requested lifetime in seconds.
    pub const fn ttl(&self) -> i64 {
        self.ttl
    }

    /// Creates the claims of a token. It expires after the requested lifetime, but at most after
    /// `max_ttl` seconds.
    ///
    /// # Errors
    ///
    /// If the system provides no random bytes for the token id.
    pub fn claims(&self, max_ttl: i64, now: i64) -> Result<Claims, getrandom::Error> {
        Claims::new(&NewClaims {
            principal: self.caller.principal(),
            unique_id: self.caller.unique_id(),
            trust_revision: self.caller.trust_revision(),
            trust: self.caller.trust(),
            via: &self.caller.via(),
            namespaces: &self.namespaces,
            permissions: self.permissions,
            issued_at: now,
            expires_at: now.saturating_add(self.ttl.min(max_ttl)),
        })
    }

    /// Returns the unique id that this mint must pin, if any: the caller has a grant by name, and no
    /// id is pinned yet.
    pub fn new_pin(&self) -> Option<(Principal, UniqueId)> {
        let id = self.caller.unique_id().filter(|_| self.pins)?;
        Some((self.caller.principal().clone(), id.clone()))
    }
}

/// Authorises one mint against the caller's current grants.
///
/// For a list of namespaces, the caller must have each permission on each namespace. For `"all"`, the
/// caller must have each permission on at least one namespace.
///
/// # Errors
///
/// [`Refusal`], with the reason.
pub fn entitle(
    caller: Identity,
    document: &RequestDocument,
    state: &PrincipalState,
    now: i64,
) -> Result<Entitlement, Refusal> {
    if let Some(principal) = &state.revoked {
        let (caller, principal) = (caller.principal().clone(), principal.clone());
        return Err(Refusal::Revoked { caller, principal });
    }
    let live = state.trust.as_ref();
    let own = (caller.unique_id(), caller.trust_revision());
    match check_live(caller.principal(), own, caller.trust(), live) {
        TrustCheck::Same => {}
        TrustCheck::Changed => {
            return Err(Refusal::TrustChanged { principal: caller.principal().clone() });
        }
        TrustCheck::Recreated => {
            return Err(Refusal::Recreated { principal: caller.principal().clone() });
        }
    }
    let check = |namespace| {
        document.permissions.iter().try_for_each(|permission| {
            check_grants(caller.principal(), caller.shown_id(), state, namespace, permission, now)
        })
    };
    match &document.namespaces {
        Namespaces::All => check(None)?,
        Namespaces::List(list) => list.iter().try_for_each(|namespace| check(Some(namespace)))?,
    }
    let pins = state.pin == Pin::Unpinned
        && state.grants.iter().any(|grant| grant.principal.has_unique_id());
    Ok(Entitlement {
        namespaces: document.namespaces.clone(),
        permissions: document.permissions,
        ttl: document.ttl,
        caller,
        pins,
    })
}
