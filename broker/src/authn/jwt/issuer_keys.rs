//! Remembers the keys of issuers, and decides when to ask an issuer again.
//!
//! A flood of JWTs with made-up key ids costs at most one refresh a minute for each issuer.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use stile_core::trust::{IssuerUrl, MAX_TRUSTS};

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

/// The keys of all issuers that a trust names.
#[derive(Debug)]
pub struct IssuerKeys {
    client: IssuerClient,
    issuers: Mutex<HashMap<IssuerUrl, Arc<Issuer>>>,
}

/// What is known of one issuer.
#[derive(Debug, Default)]
struct Issuer {
    known: Mutex<Option<Known>>,
    /// The holder asks the issuer.
    turn: SharedFailureMutex<Option<Attempt>>,
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
    /// Creates an empty memory.
    pub fn new(client: IssuerClient) -> Self {
        Self { client, issuers: Mutex::default() }
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
                Err(_) => Ok(Some(known.keys)),
            };
        }
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
        if turn.is_some_and(|last| last.failed && last.is_within(AFTER_FAILURE, now)) {
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
        if issuers.len() > MAX_TRUSTS && !issuers.contains_key(issuer) {
            issuers.clear();
        }
        Arc::clone(issuers.entry(issuer.clone()).or_default())
    }
}

impl Issuer {
    fn known(&self) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, known: Known) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }
}
