//! Limits how many records of refused exchanges callers leave: each principal, each account, and all.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use stile_core::grants::PrincipalState;
use stile_core::principal::Principal;

/// The time for which the limits count, in seconds.
const WINDOW: i64 = 3600;

/// The number of records that one principal leaves in a window. Without it, one pipeline that tries
/// again and again would use up the records of the others. A `doctor` of a caller without any grant
/// leaves up to five.
const OF_PRINCIPAL: usize = 12;

/// The number of records that all principals of one AWS account leave in a window. An account can have
/// thousands of roles, so an attacker with one account would get around the limit of a principal.
const OF_ACCOUNT: usize = 60;

/// The number of records in a window of one broker, for each [`Standing`]. An attacker can have several
/// accounts, and each record is a write that the operator pays for.
const OF_BROKER: usize = 120;

/// Whether an operator knows the caller.
///
/// Callers of each standing have a limit of their own. So strangers do not use up the records of
/// callers that have grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The caller has a grant, or is revoked.
    Known,
    /// The registry has nothing about the caller.
    Stranger,
}

impl Standing {
    /// Returns the standing of a caller with this state.
    pub(super) fn of(state: &PrincipalState) -> Self {
        if state.grants.is_empty() && state.revoked.is_none() {
            Self::Stranger
        } else {
            Self::Known
        }
    }
}

/// The records that callers left in the current window of one broker.
#[derive(Debug, Default)]
pub struct RefusedExchangeLimits(Mutex<Window>);

/// A window uses memory for at most twice [`OF_BROKER`] records.
#[derive(Debug, Default)]
struct Window {
    since: i64,
    principals: HashMap<Principal, usize>,
    accounts: HashMap<String, usize>,
    known: usize,
    strangers: usize,
}

impl RefusedExchangeLimits {
    /// Counts a record of the principal. Returns false if it is above a limit.
    pub(super) fn count(&self, principal: &Principal, standing: Standing, now: i64) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back also begins a new window.
        if !(0..WINDOW).contains(&now.saturating_sub(window.since)) {
            *window = Window { since: now, ..Window::default() };
        }
        let Window { principals, accounts, known, strangers, .. } = &mut *window;
        let account = principal.aws().map(|aws| format!("{}:{}", aws.partition(), aws.account()));
        let account = account.unwrap_or_default();
        let of_all = match standing {
            Standing::Known => known,
            Standing::Stranger => strangers,
        };
        let free = principals.get(principal).is_none_or(|count| *count < OF_PRINCIPAL)
            && accounts.get(&account).is_none_or(|count| *count < OF_ACCOUNT)
            && *of_all < OF_BROKER;
        if free {
            *principals.entry(principal.clone()).or_default() += 1;
            *accounts.entry(account).or_default() += 1;
            *of_all += 1;
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(account: usize, role: usize) -> Principal {
        Principal::parse_stored(&format!("aws:{account:012}:role/r{role}")).unwrap()
    }

    #[test]
    fn a_flood_of_refusals_leaves_a_bounded_number_of_records() {
        let limits = RefusedExchangeLimits::default();
        let count = |account, role, standing, now| {
            usize::from(limits.count(&principal(account, role), standing, now))
        };
        let of_one: usize = (0..1000).map(|_| count(1, 1, Standing::Stranger, 0)).sum();
        assert_eq!(of_one, OF_PRINCIPAL);
        let of_account: usize = (0..1000).map(|role| count(1, role, Standing::Stranger, 0)).sum();
        assert_eq!(of_one + of_account, OF_ACCOUNT);
        let of_others: usize =
            (0..10_000).map(|at| count(at % 100 + 2, at, Standing::Stranger, 0)).sum();
        assert_eq!(of_one + of_account + of_others, OF_BROKER);
        assert!(limits.0.lock().unwrap().principals.len() <= OF_BROKER, "the memory is bounded");
        // Strangers do not use up the records of known callers.
        assert_eq!(count(500, 1, Standing::Known, 0), 1);
        assert_eq!(count(1, 1, Standing::Known, 0), 0, "the caller's own limit");
        assert_eq!(count(501, 1, Standing::Stranger, WINDOW - 1), 0);
        assert_eq!(count(501, 1, Standing::Stranger, WINDOW), 1, "the next window");
        assert_eq!(count(501, 1, Standing::Stranger, 10), 1, "a clock that was set back");
    }
}
