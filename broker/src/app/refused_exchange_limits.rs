//! Limits how many records of refused exchanges callers leave: for each scope of a principal, each
//! principal, each account, and all.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use stile_core::grants::PrincipalState;
use stile_core::principal::Principal;
use stile_core::refused_exchange::RefusedExchange;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permissions;

/// The time for which the limits count, in seconds.
const WINDOW: i64 = 3600;

/// The number of records that one principal leaves in a window. Without it, one pipeline that tries
/// again and again would use up the records of the others.
const OF_PRINCIPAL: usize = 12;

/// The number of records that one principal leaves in a window for the same permissions and
/// namespaces. Programs request a token only to find out what their caller may do: `doctor` up to five
/// times, and each `stile-admin grant list --registry-host` up to three times. Without this limit, a few
/// of them would use up the records of the principal before a request that matters.
const OF_SCOPE: usize = 3;

/// The number of records that all known principals of one AWS account leave in a window. An account
/// can have thousands of roles, so one account with a wrong pipeline would use up the records of the
/// others.
const OF_KNOWN_ACCOUNT: usize = 60;

/// The number of records that all strangers of one AWS account leave in a window. An attacker creates
/// roles without end. With this limit, it needs ten accounts to use up the records of all strangers.
const OF_STRANGE_ACCOUNT: usize = 12;

/// The number of records in a window of one broker, for each [`Standing`]. An attacker can have several
/// accounts, and each record is a write that the operator pays for.
const OF_BROKER: usize = 120;

/// Whether an operator knows the caller.
///
/// Each limit counts the callers of a standing apart. So strangers never use up the records of callers
/// that have grants, not even in one account. Strangers can use up those of other strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    /// The caller has a grant, or is revoked.
    Known,
    /// The registry has nothing about the caller.
    Stranger,
}

impl Standing {
    const fn of_account(self) -> usize {
        match self {
            Self::Known => OF_KNOWN_ACCOUNT,
            Self::Stranger => OF_STRANGE_ACCOUNT,
        }
    }

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

/// What a limit counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Counted {
    Scope(Standing, Principal, Namespaces, Permissions),
    Principal(Standing, Principal),
    /// Partition and account.
    Account(Standing, String),
    Broker(Standing),
}

impl Counted {
    const fn limit(&self) -> usize {
        match self {
            Self::Scope(..) => OF_SCOPE,
            Self::Principal(..) => OF_PRINCIPAL,
            Self::Account(standing, _) => standing.of_account(),
            Self::Broker(_) => OF_BROKER,
        }
    }
}

/// A window uses memory for at most twice [`OF_BROKER`] records.
#[derive(Debug, Default)]
struct Window {
    since: i64,
    counts: HashMap<Counted, usize>,
}

/// A counted record, which [`RefusedExchangeLimits::give_back`] takes if the store does not keep it.
#[derive(Debug)]
pub(super) struct CountedRecord {
    since: i64,
    counted: [Counted; 4],
}

impl RefusedExchangeLimits {
    /// Counts a record. Returns `None` if it is above a limit.
    pub(super) fn count(
        &self,
        refused: &RefusedExchange,
        standing: Standing,
        now: i64,
    ) -> Option<CountedRecord> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back also begins a new window.
        if !(0..WINDOW).contains(&now.saturating_sub(window.since)) {
            *window = Window { since: now, ..Window::default() };
        }
        let RefusedExchange { principal, namespaces, permissions, .. } = refused;
        let account = principal.aws().map(|aws| format!("{}:{}", aws.partition(), aws.account()));
        let counted = [
            Counted::Scope(standing, principal.clone(), namespaces.clone(), *permissions),
            Counted::Principal(standing, principal.clone()),
            Counted::Account(standing, account.unwrap_or_default()),
            Counted::Broker(standing),
        ];
        let free = |one: &Counted| window.counts.get(one).is_none_or(|count| *count < one.limit());
        if !counted.iter().all(free) {
            return None;
        }
        for one in &counted {
            *window.counts.entry(one.clone()).or_default() += 1;
        }
        Some(CountedRecord { since: window.since, counted })
    }

    /// Gives the count of a record back that the store did not keep.
    ///
    /// Otherwise an hour in which the store fails would use up the records of the time after it.
    pub(super) fn give_back(&self, record: CountedRecord) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The count of an earlier window is no longer there.
        if window.since != record.since {
            return;
        }
        for one in record.counted {
            if let Entry::Occupied(mut count) = window.counts.entry(one) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use stile_protocol::names::{Namespace, Permission};
    use stile_protocol::request_id::RequestId;

    use super::*;

    /// A refused exchange of a role. It asks for `download` on one namespace.
    fn refused(account: usize, role: usize, on: usize) -> RefusedExchange {
        let principal = format!("aws:{account:012}:role/r{role}");
        RefusedExchange {
            request_id: RequestId::parse("0123456789abcdef").unwrap(),
            at: 0,
            principal: Principal::parse_stored(&principal).unwrap(),
            unique_id: None,
            session: None,
            by: "proof".to_owned(),
            region: None,
            namespaces: Namespaces::List(vec![Namespace::parse(&format!("n{on}")).unwrap()]),
            permissions: Permissions::NONE.with(Permission::Download),
            code: "no_grant".to_owned(),
            message: String::new(),
        }
    }

    fn kept(
        limits: &RefusedExchangeLimits,
        standing: Standing,
        all: impl Iterator<Item = (usize, usize, usize)>,
    ) -> usize {
        all.filter(|(account, role, on)| {
            limits.count(&refused(*account, *role, *on), standing, 0).is_some()
        })
        .count()
    }

    #[test]
    fn a_flood_of_refusals_leaves_a_bounded_number_of_records() {
        let limits = RefusedExchangeLimits::default();
        let of = |all: &mut dyn Iterator<Item = (usize, usize, usize)>| {
            kept(&limits, Standing::Stranger, all)
        };
        let of_scope = of(&mut (0..1000).map(|_| (1, 1, 0)));
        assert_eq!(of_scope, OF_SCOPE, "probes leave records of other scopes");
        let of_one = of_scope + of(&mut (0..1000).map(|on| (1, 1, on)));
        assert_eq!(of_one, OF_PRINCIPAL);
        let of_account = of_one + of(&mut (0..1000).map(|role| (1, role, 0)));
        assert_eq!(of_account, OF_STRANGE_ACCOUNT);
        // Nine accounts of an attacker leave records of an honest caller, whose name has a mistake.
        let of_nine = of_account + of(&mut (0..8000).map(|at| (at % 8 + 2, at, 0)));
        assert_eq!(of_nine, 9 * OF_STRANGE_ACCOUNT);
        assert_eq!(of(&mut std::iter::once((500, 1, 0))), 1);
        let of_all = of_nine + 1 + of(&mut (0..10_000).map(|at| (at % 100 + 10, at, 0)));
        assert_eq!(of_all, OF_BROKER);
        assert!(limits.0.lock().unwrap().counts.len() <= 4 * OF_BROKER, "the memory is bounded");
        let strange = |now| limits.count(&refused(501, 1, 0), Standing::Stranger, now).is_some();
        assert!(!strange(WINDOW - 1));
        assert!(strange(WINDOW), "the next window");
        assert!(strange(10), "a clock that was set back");
    }

    #[test]
    fn strangers_leave_the_records_of_known_callers_also_in_one_account() {
        let limits = RefusedExchangeLimits::default();
        kept(&limits, Standing::Stranger, (0..10_000).map(|at| (at % 50, at, 0)));
        let known = kept(&limits, Standing::Known, (0..1000).map(|role| (1, role, 0)));
        assert_eq!(known, OF_KNOWN_ACCOUNT);
        let others = kept(&limits, Standing::Known, (0..1000).map(|role| (2, role, 0)));
        assert_eq!(known + others, OF_BROKER);
    }

    #[test]
    fn a_record_that_the_store_does_not_keep_is_not_counted() {
        let limits = RefusedExchangeLimits::default();
        let count = |now| limits.count(&refused(1, 1, 0), Standing::Known, now);
        for _ in 0..1000 {
            limits.give_back(count(0).unwrap());
        }
        assert!(limits.0.lock().unwrap().counts.is_empty());
        // A late answer of the store takes nothing from the next window.
        let late = count(0).unwrap();
        let after: Vec<_> = (0..OF_SCOPE).map(|_| count(WINDOW).unwrap()).collect();
        limits.give_back(late);
        assert!(count(WINDOW).is_none(), "{after:?}");
    }
}
