//! Remembers the keys of issuers, and decides when to ask an issuer again.
//!
//! A flood of JWTs with made-up key ids costs at most one refresh a minute for each issuer.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

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
/// They hold permits that signed requests need, too. Without it, garbage for an issuer that hangs
/// would keep callers of AWS from signing in.
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
}

impl Default for Issuer {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            turn: SharedFailureMutex::default(),
            waiting: Semaphore::new(WAITING),
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

    /// Returns whether the answer of [`Self::with_id`] needs no request to the issuer.
    pub fn knows(&self, issuer: &IssuerUrl, key_id: &str, now: i64) -> bool {
        let known = self.entry(issuer).known();
        known.is_some_and(|known| known.is_fresh(now) && known.keys.has(key_id))
    }

    /// Returns the keys of an issuer, if they have that id. `None`, if the issuer has no such key.
    ///
    /// # Errors
    ///
    /// [`IssuerError`], if the issuer does not answer, and no key with that id is remembered.
    pub async fn with_id(
        &self,
        issuer: &IssuerUrl,
        key_id: &str,
        now: i64,
    ) -> Result<Option<Arc<KeySet>>, IssuerError> {
        let entry = self.entry(issuer);
        let known = entry.known().filter(|known| known.serves(now) && known.keys.has(key_id));
        if let Some(known) = known {
            if known.is_fresh(now) {
                return Ok(Some(known.keys));
            }
            // Another request asks the issuer, or it is down: the old keys serve.
            let Some(turn) = entry.turn.try_lock() else { return Ok(Some(known.keys)) };
            return match self.refresh(issuer, &entry, turn, now).await {
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
        let keys = self.refresh(issuer, &entry, turn, now).await?;
        Ok(Some(keys).filter(|keys| keys.has(key_id)))
    }

    /// Asks the issuer, unless it did not answer a moment ago.
    async fn refresh(
        &self,
        issuer: &IssuerUrl,
        entry: &Issuer,
        mut turn: SharedFailureGuard<'_, Option<Attempt>>,
        now: i64,
    ) -> Result<Arc<KeySet>, IssuerError> {
        // With keys, the next attempt can wait as long as for an unknown key id.
        let serves = entry.known().is_some_and(|known| known.serves(now));
        let pause = if serves { REFRESH_EVERY } else { AFTER_FAILURE };
        if turn.is_some_and(|last| last.failed && last.is_within(pause, now)) {
            return Err(IssuerError::JustFailed);
        }
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
        let mut issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        // Trusts come and go. The keys of the others are read again when they are needed.
        if issuers.len() > self.capacity && !issuers.contains_key(issuer) {
            issuers.clear();
        }
        Arc::clone(issuers.entry(issuer.clone()).or_default())
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
