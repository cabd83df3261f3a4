//! The keys of issuers that no operator listed: those of the accounts of an organization in AWS.
//!
//! Each of them has AWS's exact form, so a caller chooses only the id of an account. The id can be
//! made up. So issuers from which no good JWT came share a small number of requests a minute.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stile_core::trust::IssuerUrl;

use super::issuer_client::{IssuerClient, IssuerError};
use super::issuer_keys::IssuerKeys;
use super::key_set::KeySet;

/// The most requests in a minute to issuers from which no good JWT came, of one process.
///
/// Without it, a flood of JWTs with made-up issuers would make the broker a source of a flood.
const UNPROVEN_A_MINUTE: usize = 10;

/// The length of that minute, in seconds.
const MINUTE: i64 = 60;

/// The time for which the broker does not ask an unproven issuer again whose answer is of no use, in
/// seconds.
const REMEMBER_REFUSED: i64 = 600;

/// The time for which the broker does not ask an unproven issuer again that it cannot reach, in seconds.
///
/// Without it, one made-up issuer could spend the requests of all others.
const REMEMBER_UNREACHABLE: i64 = 60;

/// The most issuers that are remembered, of each kind. An organization has at most 10,000 accounts
/// (AWS Organizations user guide, "Quotas"), and each costs little memory.
const MAX_ISSUERS: usize = 10_000;

/// The issuers of the accounts of organizations.
#[derive(Debug)]
pub struct UnlistedIssuers {
    keys: IssuerKeys,
    asked: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    /// The issuers from which a good JWT came.
    proven: HashSet<IssuerUrl>,
    /// Until when the others are not asked again.
    refused: HashMap<IssuerUrl, i64>,
    /// When the broker asked the others, in the last minute.
    times: VecDeque<i64>,
}

impl Asked {
    /// Decides whether the broker may ask an issuer now, and counts the request.
    fn admit(&mut self, issuer: &IssuerUrl, now: i64) -> Result<(), IssuerError> {
        self.check(issuer, now)?;
        if !self.proven.contains(issuer) {
            self.times.push_back(now);
        }
        Ok(())
    }

    /// Decides whether the broker could ask an issuer now.
    fn check(&mut self, issuer: &IssuerUrl, now: i64) -> Result<(), IssuerError> {
        if self.proven.contains(issuer) {
            return Ok(());
        }
        // A clock that was set back makes an old refusal end.
        let refused = self.refused.get(issuer);
        if refused.is_some_and(|until| (now..=now.saturating_add(REMEMBER_REFUSED)).contains(until))
        {
            return Err(IssuerError::JustFailed);
        }
        self.times.retain(|at| (0..MINUTE).contains(&now.saturating_sub(*at)));
        if self.times.len() >= UNPROVEN_A_MINUTE {
            return Err(IssuerError::TooManyUnlisted);
        }
        Ok(())
    }

    /// Remembers for so many seconds that the issuer is of no use. The requests a minute bound how many
    /// issuers that are.
    fn refuse(&mut self, issuer: &IssuerUrl, seconds: i64, now: i64) {
        let lasts = now..=now.saturating_add(REMEMBER_REFUSED);
        self.refused.retain(|_, until| lasts.contains(until));
        if self.refused.len() < MAX_ISSUERS {
            self.refused.insert(issuer.clone(), now.saturating_add(seconds));
        }
    }

    fn prove(&mut self, issuer: IssuerUrl) {
        if self.proven.len() < MAX_ISSUERS {
            self.refused.remove(&issuer);
            self.proven.insert(issuer);
        }
    }
}

impl UnlistedIssuers {
    /// Creates an empty memory.
    pub fn new(client: IssuerClient) -> Self {
        Self { keys: IssuerKeys::new(client, MAX_ISSUERS), asked: Mutex::default() }
    }

    /// Returns the keys of an issuer of AWS, as [`IssuerKeys::with_id`] does. The caller has checked
    /// its form.
    pub async fn with_id(
        &self,
        unverified_issuer: &str,
        key_id: &str,
        now: i64,
    ) -> Result<Option<Arc<KeySet>>, IssuerError> {
        let Ok(issuer) = unverified_issuer.parse::<IssuerUrl>() else { return Ok(None) };
        // A made-up issuer takes no memory while the broker may not ask it.
        if !self.keys.remembers(&issuer) {
            self.asked().check(&issuer, now)?;
        }
        let admit = || self.asked().admit(&issuer, now);
        let found = self.keys.with_id(&issuer, key_id, now, admit).await;
        let seconds = match &found {
            Ok(_) => return found,
            Err(IssuerError::JustFailed | IssuerError::TooManyUnlisted) => return found,
            // An issuer that is down can be up a moment later. One that answered otherwise is none.
            Err(error) if error.is_down() => REMEMBER_UNREACHABLE,
            Err(_) => REMEMBER_REFUSED,
        };
        self.asked().refuse(&issuer, seconds, now);
        found
    }

    /// Remembers that a good JWT came from the issuer: AWS signed it, for an account of the
    /// organization. It never waits for the others again.
    pub fn prove(&self, issuer: &str) {
        if let Ok(issuer) = issuer.parse() {
            self.keys.keep(&issuer);
            self.asked().prove(issuer);
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(n: usize) -> IssuerUrl {
        format!("https://a1d2b0fd-1177-4468-9351-{n:012}.tokens.sts.global.api.aws")
            .parse()
            .unwrap()
    }

    #[test]
    fn made_up_issuers_share_ten_requests_a_minute() {
        let mut asked = Asked::default();
        for n in 0..10 {
            assert!(asked.admit(&issuer(n), 1000).is_ok(), "{n}");
        }
        for now in [1000, 1059] {
            let refused = asked.admit(&issuer(10), now);
            assert!(matches!(refused, Err(IssuerError::TooManyUnlisted)));
        }
        assert!(asked.admit(&issuer(10), 1060).is_ok());
        assert_eq!(asked.times.len(), 1, "the memory of times is small");
    }

    #[test]
    fn a_proven_issuer_waits_for_no_other() {
        let mut asked = Asked::default();
        asked.prove(issuer(77));
        for n in 0..10 {
            asked.admit(&issuer(n), 1000).unwrap();
        }
        assert!(asked.admit(&issuer(11), 1000).is_err());
        assert!(asked.admit(&issuer(77), 1000).is_ok());
    }

    #[test]
    fn an_issuer_without_keys_is_not_asked_again_for_ten_minutes() {
        let mut asked = Asked::default();
        asked.admit(&issuer(1), 1000).unwrap();
        asked.refuse(&issuer(1), REMEMBER_REFUSED, 1000);
        for now in [1000, 1300, 1600] {
            let refused = asked.admit(&issuer(1), now);
            assert!(matches!(refused, Err(IssuerError::JustFailed)), "{now}");
        }
        assert!(asked.admit(&issuer(1), 1601).is_ok());
        asked.refuse(&issuer(2), REMEMBER_REFUSED, 1_000_000);
        assert!(asked.admit(&issuer(2), 1700).is_ok(), "the clock was set back");
        for n in 0..MAX_ISSUERS + 10 {
            asked.refuse(&issuer(n), REMEMBER_REFUSED, 5000);
            asked.prove(issuer(n));
        }
        assert!(asked.refused.len() <= MAX_ISSUERS && asked.proven.len() <= MAX_ISSUERS);
    }

    #[test]
    fn what_ended_is_forgotten_and_a_question_alone_counts_as_no_request() {
        let mut asked = Asked::default();
        asked.refuse(&issuer(1), REMEMBER_UNREACHABLE, 1000);
        asked.refuse(&issuer(2), REMEMBER_REFUSED, 1000);
        assert!(asked.check(&issuer(1), 1060).is_err());
        for _ in 0..20 {
            assert!(asked.check(&issuer(1), 1061).is_ok());
        }
        asked.refuse(&issuer(3), REMEMBER_REFUSED, 1061);
        assert_eq!(asked.refused.len(), 2, "one ended");
        assert!(asked.times.is_empty());
    }

    #[tokio::test]
    async fn an_issuer_that_may_not_be_asked_takes_no_memory() {
        let calls = stile_store::ServiceCalls::default();
        let issuers = UnlistedIssuers::new(IssuerClient::new(&[], calls).unwrap());
        for n in 0..10 {
            issuers.asked().admit(&issuer(n), 1000).unwrap();
        }
        for n in 10..100 {
            let refused = issuers.with_id(issuer(n).as_str(), "k", 1000).await;
            assert!(matches!(refused, Err(IssuerError::TooManyUnlisted)));
            assert!(!issuers.keys.remembers(&issuer(n)), "{n}");
        }
    }

    #[tokio::test]
    async fn a_request_that_is_not_admitted_counts_as_no_failure() {
        let calls = stile_store::ServiceCalls::default();
        let keys = IssuerKeys::new(IssuerClient::new(&[], calls).unwrap(), 10);
        let refused = |at: &std::cell::Cell<usize>| {
            at.set(at.get() + 1);
            Err(IssuerError::TooManyUnlisted)
        };
        let asked = std::cell::Cell::new(0);
        let found = keys.with_id(&issuer(1), "k", 1000, || refused(&asked)).await;
        assert!(matches!(found, Err(IssuerError::TooManyUnlisted)));
        assert_eq!(asked.get(), 1, "nothing was asked, so nothing failed");
        let found = keys.with_id(&issuer(1), "k", 1000, || refused(&asked)).await;
        assert!(matches!(found, Err(IssuerError::TooManyUnlisted)), "and there is no pause");
    }
}
