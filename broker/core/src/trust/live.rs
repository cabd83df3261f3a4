//! What a trust is now, for a decision about a token that it gave earlier.

use super::TrustStamp;
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
///
/// A caller whose principal is the trust has its unique id and revision, and a caller of AWS has a
/// stamp. Its principal is no trust, so nothing but this check ends its access: another trust of the
/// name counts as a changed one.
pub fn check_live(
    principal: &Principal,
    (unique_id, revision): (Option<&UniqueId>, Option<i64>),
    stamp: Option<&TrustStamp>,
    live: Option<&LiveTrust>,
) -> TrustCheck {
    if let Some(stamp) = stamp {
        let is_same = |live: &LiveTrust| (&live.id, live.revision) == (&stamp.id, stamp.revision);
        return if live.is_some_and(is_same) { TrustCheck::Same } else { TrustCheck::Changed };
    }
    match (principal, live) {
        (
            Principal::Role(_)
            | Principal::User(_)
            | Principal::PermissionSet(_)
            | Principal::Account(_)
            | Principal::Service(_)
            | Principal::AwsGroup(_),
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
            assert_eq!(
                check_live(&ci, (id, revision), None, live.as_ref()),
                expected,
                "{revision:?}"
            );
        }
        let role = Principal::parse_stored("aws:111122223333:role/deploy").unwrap();
        assert_eq!(check_live(&role, (None, None), None, None), TrustCheck::Same);
        let stamp = TrustStamp {
            name: "aws".parse().unwrap(),
            id: own.clone(),
            revision: 2,
            without_pin: false,
        };
        for (live, expected) in [
            (None, TrustCheck::Changed),
            (live(&other, 2), TrustCheck::Changed),
            (live(&own, 3), TrustCheck::Changed),
            (live(&own, 2), TrustCheck::Same),
        ] {
            let checked = check_live(&role, (None, None), Some(&stamp), live.as_ref());
            assert_eq!(checked, expected, "a caller of AWS");
        }
    }
}
