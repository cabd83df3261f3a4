//! Who may do what where. Pure: what is known of a caller comes in, and a right or a refusal goes out.
//!
//! [`entitle()`] answers the mint (may this caller have a token for that?), [`decide()`] every request after it
//! (may the holder of this token do this, now?).

mod decide;
mod entitle;
mod evidence;

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use stile_protocol::names::{NameError, Namespace, Permission, Permissions};

pub use decide::{
    Access, CreateGrant, DeleteGrant, Download, PackageAccess, PermittedNamespaces, Right, Upload,
    decide, permitted_namespaces,
};
pub use entitle::{Entitlement, entitle};
pub use evidence::{GrantAccess, OperatorAccess};

use crate::principal::{Principal, UniqueId};
use crate::token::{KeyringSummary, TokenId};

/// Most namespaces one principal may hold grants on; past that, grant on `*`.
pub const MAX_GRANTS: usize = 2_000;

/// What a grant is on: one namespace, or all there are and will be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GrantNamespace {
    /// Every namespace, written `*`.
    All,
    /// This one.
    One(Namespace),
}

impl GrantNamespace {
    /// Whether the namespace falls under it. No other patterns exist.
    pub fn covers(&self, namespace: &Namespace) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == namespace,
        }
    }
}

impl fmt::Display for GrantNamespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("*"),
            Self::One(namespace) => namespace.fmt(formatter),
        }
    }
}

impl FromStr for GrantNamespace {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "*" { Ok(Self::All) } else { Namespace::parse(text).map(Self::One) }
    }
}

/// One principal's rights on one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whom it is for.
    pub principal: Principal,
    /// What it is on.
    pub namespace: GrantNamespace,
    /// What it allows; never empty.
    pub permissions: Permissions,
    /// When it ends, Unix seconds; from that second on it allows nothing.
    pub expires_at: Option<i64>,
    /// Who made it, as told by whoever made it.
    pub created_by: String,
    /// When it was made, Unix seconds.
    pub created_at: i64,
}

impl Grant {
    fn allows(&self, permission: Permission, now: i64) -> bool {
        self.permissions.contains(permission) && self.expires_at.is_none_or(|end| now < end)
    }
}

/// Which of AWS's unique ids a role or user must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// None yet: the first mint pins.
    Unpinned,
    /// An operator wants none.
    Disabled,
    /// This one.
    Pinned(UniqueId),
}

impl Pin {
    /// Whether a caller with that id is the role or user that was granted, and not one made anew under its name.
    fn admits(&self, unique_id: Option<&UniqueId>) -> bool {
        match self {
            Self::Unpinned | Self::Disabled => true,
            Self::Pinned(pinned) => unique_id == Some(pinned),
        }
    }
}

/// All that is kept about one caller, read in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalState {
    /// The grants of every principal that reaches the caller.
    pub grants: Vec<Grant>,
    /// The pin of the role or user itself.
    pub pin: Pin,
    /// Which of the caller's principals an operator has revoked, if any.
    pub revoked: Option<Principal>,
    /// The tokens that are revoked one by one.
    pub revoked_tokens: HashSet<TokenId>,
    /// The keyring at the time, so that a dropped key is noticed everywhere.
    pub keyring: KeyringSummary,
}

impl PrincipalState {
    /// Whether a grant counts for a caller with that unique id.
    ///
    /// A role or user made anew under an old name loses the grants of that name; what reaches it through its permission set
    /// or account is not about the name, and stays.
    fn counts(&self, grant: &Grant, unique_id: Option<&UniqueId>) -> bool {
        !grant.principal.is_concrete() || self.pin.admits(unique_id)
    }
}

/// Why a caller may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody granted it.
    #[error("`{}` has no `{permission}` on {}", .principal.display_name(), match .namespace { Some(namespace) => format!("namespace `{namespace}`"), None => "any namespace".to_owned() })]
    NoGrant {
        /// Who asked.
        principal: Principal,
        /// Where; `None` where any namespace would have done.
        namespace: Option<Namespace>,
        /// What for.
        permission: Permission,
    },
    /// The token was not made for it.
    #[error("this token is not for `{permission}` on namespace `{namespace}`")]
    OutOfScope {
        /// Where.
        namespace: Namespace,
        /// What for.
        permission: Permission,
    },
    /// The name is the same, and what AWS calls by it is another.
    #[error("`{}` was deleted in AWS and made anew since it was granted", .principal.display_name())]
    Recreated {
        /// Who asked.
        principal: Principal,
    },
    /// An operator revoked the principal.
    #[error("`{}` is revoked", .principal.display_name())]
    Revoked {
        /// Who is revoked.
        principal: Principal,
    },
}

/// Whether the grants allow it now; `namespace` is `None` where any will do. The bare answer, which lets nobody in by itself.
///
/// A role or user made anew under an old name loses the grants of that name; what reaches it through its permission set
/// or account is not about the name, and stays.
pub fn check_grants(
    principal: &Principal,
    unique_id: Option<&UniqueId>,
    state: &PrincipalState,
    namespace: Option<&Namespace>,
    permission: Permission,
    now: i64,
) -> Result<(), Refusal> {
    let mut lost = false;
    for grant in &state.grants {
        if !grant.allows(permission, now)
            || namespace.is_some_and(|namespace| !grant.namespace.covers(namespace))
        {
            continue;
        }
        if state.counts(grant, unique_id) {
            return Ok(());
        }
        lost = true;
    }
    if lost {
        return Err(Refusal::Recreated { principal: principal.clone() });
    }
    Err(Refusal::NoGrant {
        principal: principal.clone(),
        namespace: namespace.cloned(),
        permission,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn principal(text: &str) -> Principal {
        Principal::parse_stored(text).unwrap()
    }

    pub(crate) fn namespace(text: &str) -> Namespace {
        Namespace::parse(text).unwrap()
    }

    pub(crate) fn grant(
        who: &str,
        on: &str,
        permissions: &[Permission],
        expires_at: Option<i64>,
    ) -> Grant {
        Grant {
            principal: principal(who),
            namespace: on.parse().unwrap(),
            permissions: permissions.iter().copied().collect(),
            expires_at,
            created_by: "test".to_owned(),
            created_at: 0,
        }
    }

    pub(crate) fn state_of(grants: Vec<Grant>) -> PrincipalState {
        PrincipalState {
            grants,
            pin: Pin::Unpinned,
            revoked: None,
            revoked_tokens: HashSet::new(),
            keyring: KeyringSummary::default(),
        }
    }

    const DEPLOY: &str = "aws:111122223333:role/deploy";

    fn outcome(
        state: &PrincipalState,
        on: &str,
        permission: Permission,
        now: i64,
    ) -> Result<(), Refusal> {
        let id = UniqueId::parse("AROAEXAMPLEEXAMPLE222").unwrap();
        check_grants(&principal(DEPLOY), Some(&id), state, Some(&namespace(on)), permission, now)
    }

    #[test]
    fn a_grant_is_exact_about_namespace_permission_and_time() {
        let state = state_of(vec![grant(DEPLOY, "team-a", &[Permission::Download], Some(100))]);
        assert_eq!(outcome(&state, "team-a", Permission::Download, 99), Ok(()));
        for (on, permission, now) in [
            ("team-a", Permission::Download, 100),
            ("team-a", Permission::Upload, 99),
            ("team-ab", Permission::Download, 99),
            ("team", Permission::Download, 99),
        ] {
            assert!(
                matches!(outcome(&state, on, permission, now), Err(Refusal::NoGrant { .. })),
                "{on} {permission} {now}"
            );
        }
    }

    #[test]
    fn grants_of_every_principal_add_up() {
        let state = state_of(vec![
            grant(DEPLOY, "a", &[Permission::Download], None),
            grant("account:aws:111122223333", "a", &[Permission::Upload], None),
            grant("account:aws:111122223333", "*", &[Permission::CreateGrant], None),
        ]);
        for permission in [Permission::Download, Permission::Upload, Permission::CreateGrant] {
            assert_eq!(outcome(&state, "a", permission, 0), Ok(()), "{permission}");
        }
        assert!(outcome(&state, "a", Permission::DeleteGrant, 0).is_err());
    }

    #[test]
    fn a_name_made_anew_keeps_only_what_is_not_about_the_name() {
        let mut state = state_of(vec![
            grant(DEPLOY, "a", &[Permission::Download], None),
            grant("account:aws:111122223333", "b", &[Permission::Download], None),
        ]);
        state.pin = Pin::Pinned(UniqueId::parse("AROAOTHEROTHEROTHER22").unwrap());
        assert!(matches!(
            outcome(&state, "a", Permission::Download, 0),
            Err(Refusal::Recreated { .. })
        ));
        assert_eq!(outcome(&state, "b", Permission::Download, 0), Ok(()));
        assert!(matches!(
            outcome(&state, "c", Permission::Download, 0),
            Err(Refusal::NoGrant { .. })
        ));
        state.pin = Pin::Disabled;
        assert_eq!(outcome(&state, "a", Permission::Download, 0), Ok(()));
    }

    #[test]
    fn a_refusal_names_the_principal_as_its_owner_would_write_it() {
        let refusal = outcome(&state_of(vec![]), "acme", Permission::Download, 0).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "`arn:aws:iam::111122223333:role/deploy` has no `download` on namespace `acme`"
        );
    }
}
