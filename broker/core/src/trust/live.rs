//! What a trust is now, for a decision about a token that it gave earlier.

use crate::principal::{Principal, UniqueId};

/// What a decision needs to know of a trust at the time of the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTrust {
    /// The id of the trust that has the name now.
    pub id: UniqueId,
    /// The number of its changes, plus one.
    pub revision: i64,
}

/// Whether the trust that believed a caller still does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustCheck {
    /// It is unchanged, or the caller is no caller of a trust.
    Same,
    /// An operator deleted it or changed it, so nothing that it believed before is good any more.
    Changed,
    /// Another trust has its name now.
    Recreated,
}

/// Compares the trust of a caller, as it was when it believed the caller, with the trust that has its
/// name now. `live` is `None` if there is none.
pub fn check_live(
    principal: &Principal,
    unique_id: Option<&UniqueId>,
    revision: Option<i64>,
    live: Option<&LiveTrust>,
) -> TrustCheck {
    match (principal, live) {
        (
            Principal::Role(_)
            | Principal::User(_)
            | Principal::PermissionSet(_)
            | Principal::Account(_)
            | Principal::Service(_),
            _,
        ) => TrustCheck::Same,
        (Principal::Trust(_), None) => TrustCheck::Changed,
        (Principal::Trust(_), Some(live)) if unique_id != Some(&live.id) => TrustCheck::Recreated,
        (Principal::Trust(_), Some(live)) if revision != Some(live.revision) => TrustCheck::Changed,
        (Principal::Trust(_), Some(_)) => TrustCheck::Same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_the_same_trust_in_the_same_revision_only() {
        let ci = Principal::parse_stored("oidc:ci").unwrap();
        let (own, other) = (UniqueId::random_trust().unwrap(), UniqueId::random_trust().unwrap());
        let live = |id: &UniqueId, revision| Some(LiveTrust { id: id.clone(), revision });
        for (id, revision, live, expected) in [
            (Some(&own), Some(2), None, TrustCheck::Changed),
            (Some(&own), Some(2), live(&other, 2), TrustCheck::Recreated),
            (Some(&own), Some(2), live(&own, 3), TrustCheck::Changed),
            (Some(&own), Some(2), live(&own, 1), TrustCheck::Changed),
            (Some(&own), None, live(&own, 1), TrustCheck::Changed),
            (None, Some(2), live(&own, 2), TrustCheck::Recreated),
            (Some(&own), Some(2), live(&own, 2), TrustCheck::Same),
        ] {
            assert_eq!(check_live(&ci, id, revision, live.as_ref()), expected, "{revision:?}");
        }
        let role = Principal::parse_stored("aws:111122223333:role/deploy").unwrap();
        assert_eq!(check_live(&role, None, None, None), TrustCheck::Same);
    }
}
