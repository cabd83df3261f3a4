//! Remembers the keys of issuers, and decides when to ask an issuer again.
//!
//! A flood of JWTs with made-up key ids costs at most one refresh a minute for each issuer.

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stile_core::trust::IssuerUrl;
use tokio::sync::Semaphore;

use super::issuer_client::{IssuerClient, IssuerError};
use super::key_set::KeySet;
use crate::shared_failure_mutex::{SharedFailureGuard, SharedFailureMutex};

/// The shortest time between two refreshes because of an unknown key id, in seconds.
///
/// Without it, each JWT with a made-up key id would cost a request to the issuer.
const REFRESH_EVERY: i64 = 60;

/// The time for which the broker does not ask an issuer again that did not answer, in seconds.
const AFTER_FAILURE: i64 = 10;

/// The time for which keys serve after they should have been refreshed, because the issuer is down.
/// In seconds.
///
/// A key that the issuer took back works for this long, if an attacker keeps the broker from the
/// issuer.
const SERVE_STALE: i64 = 24 * 3600;

/// The number of exchanges that wait for one issuer.
///
/// They hold permits that JWTs of other issuers need. Without it, garbage for one issuer that hangs
/// would keep the callers of all others from signing in.
const WAITING: usize = 256;

/// The keys of all issuers that a trust names.
#[derive(Debug)]
pub struct IssuerKeys {
    client: IssuerClient,
    issuers: Mutex<HashMap<IssuerUrl, Arc<Issuer>>>,
    capacity: usize,
}

/// What is known of one issuer.
#[derive(Debug)]
struct Issuer {
    known: Mutex<Option<Known>>,
    /// The holder asks the issuer.
    turn: SharedFailureMutex<Option<Attempt>>,
    /// The permits of those who wait for the turn.
    waiting: Semaphore,
    /// Whether the issuer proved itself, so that it goes after all others.
    proven: AtomicBool,
}

impl Default for Issuer {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            turn: SharedFailureMutex::default(),
            waiting: Semaphore::new(WAITING),
            proven: AtomicBool::new(false),
        }
    }
}

/// The keys of an issuer.
#[derive(Debug, Clone)]
struct Known {
    keys: Arc<KeySet>,
    fetched_at: i64,
    lifetime: i64,
}

/// The last time that the broker asked an issuer.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    at: i64,
    failed: bool,
}

impl Known {
    /// Returns whether the keys are good. A clock that was set back makes them stale.
    fn is_fresh(&self, now: i64) -> bool {
        (0..self.lifetime).contains(&now.saturating_sub(self.fetched_at))
    }

    /// Returns whether the keys serve while the issuer is down.
    fn serves(&self, now: i64) -> bool {
        let age = now.saturating_sub(self.fetched_at);
        (0..self.lifetime.saturating_add(SERVE_STALE)).contains(&age)
    }
}

impl Attempt {
    /// Returns whether it was so short ago that there must not be another one.
    fn is_within(self, seconds: i64, now: i64) -> bool {
        (0..seconds).contains(&now.saturating_sub(self.at))
    }
}

impl IssuerKeys {
    /// Creates an empty memory for about that many issuers.
    pub fn new(client: IssuerClient, capacity: usize) -> Self {
        Self { client, issuers: Mutex::default(), capacity }
    }

    /// Returns whether there is a memory of the issuer. It makes none.
    pub fn remembers(&self, issuer: &IssuerUrl) -> bool {
        self.issuers().contains_key(issuer)
    }

    /// Keeps the memory of an issuer for longer than that of others.
    pub fn keep(&self, issuer: &IssuerUrl) {
        if let Some(entry) = self.issuers().get(issuer) {
            entry.proven.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the keys of an issuer, if they have that id. `None`, if the issuer has no such key.
    ///
    /// It calls `admit` before it asks the issuer, and not for an answer from memory, or from the
    /// request of another caller.
    ///
    /// # Errors
    ///
    /// [`IssuerError`], if the issuer does not answer, and no key with that id is remembered.
    pub async fn with_id(
        &self,
        issuer: &IssuerUrl,
        key_id: &str,
        now: i64,
        admit: impl Fn() -> Result<(), IssuerError>,
    ) -> Result<Option<Arc<KeySet>>, IssuerError> {
        let entry = self.entry(issuer);
        let known = entry.known().filter(|known| known.serves(now) && known.keys.has(key_id));
        if let Some(known) = known {
            if known.is_fresh(now) {
                return Ok(Some(known.keys));
            }
            // Another request asks the issuer, or it is down: the old keys serve.
            let Some(turn) = entry.turn.try_lock() else { return Ok(Some(known.keys)) };
            return match self.refresh(issuer, &entry, turn, now, admit).await {
                Ok(keys) => Ok(Some(keys).filter(|keys| keys.has(key_id))),
                Err(error) if error.is_down() => Ok(Some(known.keys)),
                // The issuer answers, and has no such keys any more. It may have withdrawn them.
                Err(error) => {
                    entry.forget();
                    Err(error)
                }
            };
        }
        let _waits = entry.waiting.try_acquire().map_err(|_| IssuerError::JustFailed)?;
        let turn = entry.turn.lock().await;
        if turn.failed_while_waiting() {
            return Err(IssuerError::JustFailed);
        }
        // Another request may have asked the issuer in the meantime.
        if let Some(known) = entry.known().filter(|known| known.is_fresh(now)) {
            if known.keys.has(key_id) {
                return Ok(Some(known.keys));
            }
            let asked = turn.filter(|attempt| !attempt.failed);
            if asked.is_some_and(|attempt| attempt.is_within(REFRESH_EVERY, now)) {
                return Ok(None);
            }
        }
        let keys = self.refresh(issuer, &entry, turn, now, admit).await?;
        Ok(Some(keys).filter(|keys| keys.has(key_id)))
    }

    /// Asks the issuer, unless it did not answer a moment ago.
    async fn refresh(
        &self,
        issuer: &IssuerUrl,
        entry: &Issuer,
        mut turn: SharedFailureGuard<'_, Option<Attempt>>,
        now: i64,
        admit: impl Fn() -> Result<(), IssuerError>,
    ) -> Result<Arc<KeySet>, IssuerError> {
        // With keys, the next attempt can wait as long as for an unknown key id.
        let serves = entry.known().is_some_and(|known| known.serves(now));
        let pause = if serves { REFRESH_EVERY } else { AFTER_FAILURE };
        if turn.is_some_and(|last| last.failed && last.is_within(pause, now)) {
            return Err(IssuerError::JustFailed);
        }
        admit()?;
        // A request that its client gives up counts as failed.
        *turn = Some(Attempt { at: now, failed: true });
        match self.client.keys(issuer).await {
            Ok(fetched) => {
                let keys = Arc::new(fetched.keys);
                let lifetime = fetched.lifetime;
                entry.remember(Known { keys: Arc::clone(&keys), fetched_at: now, lifetime });
                *turn = Some(Attempt { at: now, failed: false });
                Ok(keys)
            }
            Err(error) => {
                turn.record_failure();
                tracing::warn!(
                    issuer = issuer.as_str(),
                    error = &error as &dyn Error,
                    "the broker cannot read the keys of an issuer of JWTs"
                );
                Err(error)
            }
        }
    }

    fn entry(&self, issuer: &IssuerUrl) -> Arc<Issuer> {
        let mut issuers = self.issuers();
        if let Some(entry) = issuers.get(issuer) {
            return Arc::clone(entry);
        }
        if issuers.len() >= self.capacity {
            evict(&mut issuers);
        }
        Arc::clone(issuers.entry(issuer.clone()).or_default())
    }

    fn issuers(&self) -> MutexGuard<'_, HashMap<IssuerUrl, Arc<Issuer>>> {
        self.issuers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets one issuer that no request uses. Those that proved nothing go first, and of them those
/// without keys, then the one whose keys are the oldest.
///
/// It never forgets all. Otherwise made-up issuers would take away the keys that serve while an issuer
/// is down.
fn evict(issuers: &mut HashMap<IssuerUrl, Arc<Issuer>>) {
    let idle = issuers.iter().filter(|(_, entry)| Arc::strong_count(entry) == 1);
    let last = idle.min_by_key(|(_, entry)| {
        (entry.proven.load(Ordering::Relaxed), entry.known().map(|known| known.fetched_at))
    });
    if let Some(last) = last.map(|(issuer, _)| issuer.clone()) {
        issuers.remove(&last);
    }
}

impl Issuer {
    fn known(&self) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn remember(&self, known: Known) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(name: &str) -> IssuerUrl {
        format!("https://{name}.example").parse().unwrap()
    }

    #[test]
    fn an_issuer_that_proved_itself_is_forgotten_after_all_others_and_one_in_use_never() {
        let mut issuers = HashMap::new();
        for (name, proven, fetched_at) in [
            ("in-use", false, None),
            ("made-up", false, None),
            ("old", false, Some(1000)),
            ("new", false, Some(2000)),
            ("proven-and-down", true, None),
            ("proven", true, Some(500)),
        ] {
            let entry = Issuer::default();
            entry.proven.store(proven, Ordering::Relaxed);
            if let Some(fetched_at) = fetched_at {
                let keys = Arc::new(KeySet::default());
                entry.remember(Known { keys, fetched_at, lifetime: 300 });
            }
            issuers.insert(issuer(name), Arc::new(entry));
        }
        let _used = Arc::clone(&issuers[&issuer("in-use")]);
        for name in ["made-up", "old", "new", "proven-and-down", "proven"] {
            assert!(issuers.contains_key(&issuer(name)), "{name}");
            evict(&mut issuers);
            assert!(!issuers.contains_key(&issuer(name)), "{name}");
        }
        evict(&mut issuers);
        assert_eq!(issuers.len(), 1);
    }
}
