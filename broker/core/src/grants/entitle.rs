//! May this caller have a token for what its request document asks?

use stile_protocol::exchange::{Namespaces, RequestDocument};
use stile_protocol::names::Permissions;

use super::{Pin, PrincipalState, Refusal, check_grants};
use crate::identity::Identity;
use crate::principal::{Principal, UniqueId};
use crate::token::{Claims, NewClaims};

/// A caller, and what a token of it may say. Made only by [`entitle`].
#[derive(Debug)]
pub struct Entitlement {
    caller: Identity,
    namespaces: Namespaces,
    permissions: Permissions,
    ttl: i64,
    pins: bool,
}

impl Entitlement {
    /// Who it is.
    pub const fn caller(&self) -> &Identity {
        &self.caller
    }

    /// The namespaces the token will name.
    pub const fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// The permissions the token will have.
    pub const fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// The life asked for, in seconds.
    pub const fn ttl(&self) -> i64 {
        self.ttl
    }

    /// The claims of a token for this. It expires after the life that was asked for, or `max_ttl` seconds if that is
    /// less.
    pub fn claims(&self, max_ttl: i64, now: i64) -> Result<Claims, getrandom::Error> {
        Claims::new(&NewClaims {
            principal: self.caller.principal(),
            unique_id: self.caller.unique_id(),
            namespaces: &self.namespaces,
            permissions: self.permissions,
            issued_at: now,
            expires_at: now.saturating_add(self.ttl.min(max_ttl)),
        })
    }

    /// What this mint pins: the unique id of a role or user that was granted something by name and has no pin yet.
    pub fn new_pin(&self) -> Option<(Principal, UniqueId)> {
        let id = self.caller.unique_id().filter(|_| self.pins)?;
        Some((self.caller.principal().clone(), id.clone()))
    }
}

/// Decides a mint: every pair of a list must be held; of `"all"`, each permission on at least one namespace.
pub fn entitle(
    caller: Identity,
    document: &RequestDocument,
    state: &PrincipalState,
    now: i64,
) -> Result<Entitlement, Refusal> {
    if let Some(principal) = &state.revoked {
        return Err(Refusal::Revoked { principal: principal.clone() });
    }
    let check = |namespace| {
        document.permissions.iter().try_for_each(|permission| {
            check_grants(caller.principal(), caller.unique_id(), state, namespace, permission, now)
        })
    };
    match &document.namespaces {
        Namespaces::All => check(None)?,
        Namespaces::List(list) => list.iter().try_for_each(|namespace| check(Some(namespace)))?,
    }
    let pins = state.pin == Pin::Unpinned
        && state.grants.iter().any(|grant| grant.principal.is_concrete());
    Ok(Entitlement {
        namespaces: document.namespaces.clone(),
        permissions: document.permissions,
        ttl: document.ttl,
        caller,
        pins,
    })
}
