//! Grants and authorisation decisions. These functions are pure: they take the caller's state and
//! return a right or a [`Refusal`].
//!
//! [`entitle()`] authorises a mint. [`decide()`] authorises each request with a token. [`delegate()`]
//! authorises a bearer's change of the grants of others.

#[cfg(test)]
#[path = "tests/aws_callers.rs"]
mod aws_callers;
mod decide;
mod delegated;
mod ending;
mod entitle;
mod evidence;
mod explain;
mod signing_keys;
mod tag;

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use stile_protocol::names::{NameError, Namespace, Permission, Permissions};
use stile_protocol::reply::ErrorCode;

pub use decide::{
    Access, CreateGrant, DeleteGrant, Download, PackageAccess, PermittedNamespaces, Right, Upload,
    decide, permitted_namespaces,
};
pub use delegated::{
    DelegatedAccess, DelegatedExplanation, DelegatedGrant, DelegationRefusal, ExplainAccess,
    ExplainFacts, GivenBy, ShownGrant, VisibleGrants, delegate, explain_access, grants_in_scope,
    visible_grants,
};
pub use ending::{EndingGrant, ending_access, ending_grants};
pub use entitle::{Entitlement, entitle};
pub use evidence::{GrantAccess, OperatorAccess};
pub use explain::{
    AccessQuestion, AskedNamespace, AskedToken, Condition, Difference, Explanation, NearestGrant,
    Verdict, nearest_spelling, principals_of,
};
pub use signing_keys::{ChangesSigningKeys, ListsSigningKeys, OperatorKeyAccess};
pub use tag::GrantTag;

use crate::principal::{Principal, ShownId, UniqueId};
use crate::token::{Claims, KeyringSummary, TokenId};
use crate::trust::{LiveTrust, TrustCheck, check_live};

/// Maximum number of grants of one principal. Beyond it, an operator must grant on `*`.
///
/// Every request reads all grants of a caller, so the limit bounds the size of that read.
pub const MAX_GRANTS: usize = 2_000;

/// The permissions that a grant of a service can have.
///
/// The attack: a plain token in a file of CI gives rights to others, and these outlive it.
pub const SERVICE_PERMISSIONS: Permissions =
    Permissions::NONE.with(Permission::Download).with(Permission::Upload);

/// Returns the first of the permissions that a grant of this principal never has.
pub fn never_granted(principal: &Principal, permissions: Permissions) -> Option<Permission> {
    let is_service = matches!(principal, Principal::Service(_));
    permissions.iter().find(|permission| is_service && !SERVICE_PERMISSIONS.contains(*permission))
}

/// The namespace of a grant: one namespace, or all namespaces, including future ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GrantNamespace {
    /// Every namespace, written `*`.
    All,
    /// One namespace.
    One(Namespace),
}

impl GrantNamespace {
    /// Returns whether a grant on this covers the namespace. No other patterns exist.
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

/// The permissions of one principal on one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The principal that has the permissions.
    pub principal: Principal,
    /// The namespace to which the permissions apply.
    pub namespace: GrantNamespace,
    /// The permissions. Never empty.
    pub permissions: Permissions,
    /// End of the grant in Unix seconds. From that second on, the grant allows nothing.
    pub expires_at: Option<i64>,
    /// Name of the creator, as the creator's program reported it. For records only.
    pub created_by: String,
    /// Time of creation in Unix seconds.
    pub created_at: i64,
}

impl Grant {
    /// Returns until when its principal can create grants on its namespace, in Unix seconds, if it can
    /// now. A grant without an end gives until [`i64::MAX`].
    pub fn gives_until(&self, now: i64) -> Option<i64> {
        let gives = self.allows(Permission::CreateGrant, now);
        gives.then(|| self.expires_at.unwrap_or(i64::MAX))
    }

    fn allows(&self, permission: Permission, now: i64) -> bool {
        self.permissions.contains(permission) && self.expires_at.is_none_or(|end| now < end)
    }
}

/// The AWS unique id that a role or user must have.
///
/// It prevents a role that someone deletes and creates again from inheriting the grants of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// No id is pinned yet. The first mint pins one.
    Unpinned,
    /// An operator disabled pinning.
    Disabled,
    /// The role or user must have this id.
    Pinned(UniqueId),
}

impl Pin {
    /// Returns whether a caller with this id is the role or user that an operator granted.
    fn admits(&self, shown: ShownId<'_>) -> bool {
        match (self, shown) {
            (Self::Unpinned | Self::Disabled, _) | (Self::Pinned(_), ShownId::Waived) => true,
            (Self::Pinned(pinned), ShownId::Is(id)) => id == pinned,
            (Self::Pinned(_), ShownId::Absent) => false,
        }
    }
}

/// The stored state of one caller, which the store reads in one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalState {
    /// The grants of all the caller's principals.
    pub grants: Vec<Grant>,
    /// The pin of the caller's own role or user.
    pub pin: Pin,
    /// The trust that has the name of the caller now, if the caller is `oidc:` and there is one.
    pub trust: Option<LiveTrust>,
    /// One of the caller's principals that an operator revoked, if any.
    pub revoked: Option<Principal>,
    /// The tokens that an operator revoked by their id.
    pub revoked_tokens: HashSet<TokenId>,
    /// The keyring at the time of the read, so that every process notices a deleted key.
    pub keyring: KeyringSummary,
    /// The revisions of the records of this state.
    pub revisions: StateRevisions,
}

/// The revisions of the records that a state was read from.
///
/// A change that depends on the state has the condition that these records have not changed. Only the
/// store compares them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateRevisions {
    /// The revision of the grants of each of the caller's principals.
    pub grants: Vec<(Principal, i64)>,
    /// The revision of all revocations.
    pub revocations: i64,
}

impl PrincipalState {
    /// Returns whether a grant applies to a caller with this unique id.
    ///
    /// The pin protects grants to a role, user or trust by name. Grants to its permission set or account
    /// are independent of the name, so they apply in any case. Of a trust, the live one must have the id
    /// as well, because an operator can disable pins.
    fn counts(&self, grant: &Grant, shown: ShownId<'_>) -> bool {
        let is_live = match grant.principal {
            Principal::Trust(_) => {
                self.trust.as_ref().is_some_and(|trust| shown == ShownId::Is(&trust.id))
            }
            _ => true,
        };
        is_live && (!grant.principal.has_unique_id() || self.pin.admits(shown))
    }

    /// Compares the trust that gave a token with the live one. For a holder that no trust believed,
    /// there is nothing to compare.
    pub fn check_trust(&self, claims: &Claims) -> TrustCheck {
        let (id, revision) = (claims.unique_id(), claims.trust_revision());
        check_live(claims.principal(), (id, revision), claims.trust(), self.trust.as_ref())
    }
}

/// The reason for a negative authorisation decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No grant allows it.
    #[error("`{}` has no `{permission}` on {}", .principal.display_name(), match .namespace { Some(namespace) => format!("namespace `{namespace}`"), None => "any namespace".to_owned() })]
    NoGrant {
        /// The caller.
        principal: Principal,
        /// The namespace. `None`, if a grant on any namespace would be enough.
        namespace: Option<Namespace>,
        /// The permission.
        permission: Permission,
    },
    /// The token's scope does not cover it.
    #[error("this token of `{}` is not for `{permission}` on namespace `{namespace}`", .principal.display_name())]
    OutOfScope {
        /// The holder of the token.
        principal: Principal,
        /// The namespace.
        namespace: Namespace,
        /// The permission.
        permission: Permission,
    },
    /// The role, user or trust has another unique id than the pinned one.
    #[error(
        "`{}` was deleted and recreated{} after it was granted",
        .principal.display_name(), if .principal.aws().is_some() { " in AWS" } else { "" }
    )]
    Recreated {
        /// The caller.
        principal: Principal,
    },
    /// A unique id is pinned, and a JWT of AWS shows none.
    #[error(
        "a unique id is pinned for `{}`, and its JWT of AWS shows none, so it could be a recreated one",
        .principal.display_name()
    )]
    NoUniqueId {
        /// The caller.
        principal: Principal,
    },
    /// An operator changed or deleted the trust after the broker read it.
    #[error("the trust of `{}` changed a moment ago, or is gone", .principal.display_name())]
    TrustChanged {
        /// The caller.
        principal: Principal,
    },
    /// An operator revoked the principal.
    #[error("{}", revoked(.caller, .principal))]
    Revoked {
        /// The caller.
        caller: Principal,
        /// The revoked principal: the caller, its permission set or its account.
        principal: Principal,
    },
}

impl Refusal {
    /// Returns the code of the answer.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NoGrant { .. } => ErrorCode::NoGrant,
            Self::OutOfScope { .. } => ErrorCode::OutOfScope,
            Self::Recreated { .. } | Self::NoUniqueId { .. } => ErrorCode::PrincipalRecreated,
            Self::TrustChanged { .. } => ErrorCode::InvalidCredentials,
            Self::Revoked { .. } => ErrorCode::PrincipalRevoked,
        }
    }
}

fn revoked(caller: &Principal, principal: &Principal) -> String {
    let (name, revoked) = (caller.display_name(), principal.display_name());
    if caller == principal {
        format!("`{name}` is revoked")
    } else {
        format!("`{name}` has no access, because `{revoked}` is revoked")
    }
}

/// Checks whether a current grant allows the permission. `namespace` is `None`, if any is enough.
///
/// This is only one part of a decision: it gives no right, and it does not check revocation or a
/// token. Use [`decide()`] or [`entitle()`] to authorise.
///
/// # Errors
///
/// [`Refusal::Recreated`] or [`Refusal::NoUniqueId`], if only the pin prevents access, or else [`Refusal::NoGrant`].
pub fn check_grants(
    principal: &Principal,
    shown: ShownId<'_>,
    state: &PrincipalState,
    namespace: Option<&Namespace>,
    permission: Permission,
    now: i64,
) -> Result<(), Refusal> {
    allowing_grant(principal, shown, state, namespace, permission, now).map(drop)
}

/// Returns the current grant that allows the permission, as [`check_grants`] checks it. It is the first
/// of several.
fn allowing_grant<'a>(
    principal: &Principal,
    shown: ShownId<'_>,
    state: &'a PrincipalState,
    namespace: Option<&Namespace>,
    permission: Permission,
    now: i64,
) -> Result<&'a Grant, Refusal> {
    let mut lost = false;
    for grant in &state.grants {
        if !grant.allows(permission, now)
            || namespace.is_some_and(|namespace| !grant.namespace.covers(namespace))
        {
            continue;
        }
        if state.counts(grant, shown) {
            return Ok(grant);
        }
        lost = true;
    }
    if lost && shown == ShownId::Absent {
        return Err(Refusal::NoUniqueId { principal: principal.clone() });
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
            trust: None,
            revoked: None,
            revoked_tokens: HashSet::new(),
            keyring: KeyringSummary::default(),
            revisions: StateRevisions::default(),
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
        check_grants(
            &principal(DEPLOY),
            ShownId::Is(&id),
            state,
            Some(&namespace(on)),
            permission,
            now,
        )
    }

    #[test]
    fn a_grant_allows_exactly_its_namespace_permission_and_time() {
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
    fn a_caller_has_the_grants_of_all_its_principals() {
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
    fn a_recreated_role_keeps_only_the_grants_of_its_account() {
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
    fn no_grant_of_a_service_gives_rights_to_others() {
        let (service, role) = (principal("service:renovate"), principal(DEPLOY));
        let all: Permissions = Permission::ALL.into_iter().collect();
        assert_eq!(never_granted(&role, all), None);
        assert_eq!(never_granted(&service, SERVICE_PERMISSIONS), None);
        for right in [Permission::CreateGrant, Permission::DeleteGrant] {
            let refused = never_granted(&service, SERVICE_PERMISSIONS.with(right));
            assert_eq!(refused, Some(right));
        }
    }

    #[test]
    fn a_refusal_names_a_role_by_its_arn() {
        let refusal = outcome(&state_of(vec![]), "acme", Permission::Download, 0).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "`arn:aws:iam::111122223333:role/deploy` has no `download` on namespace `acme`"
        );
    }
}
