//! Lets only one of several identical proofs in progress reach STS, or the issuer of a JWT. The others
//! wait, and get no token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::sync::Cache;
use tokio::sync::watch;

/// The capacity of the cache of used proofs, with which a replay costs no call.
///
/// A used proof that is not in the cache is still a replay, because the store has a record.
const CAPACITY: usize = 10_000;

type Digest = [u8; 32];

/// The role of a request among the requests with the same proof.
#[derive(Debug)]
pub enum FlightRole {
    /// The first request with this proof. The others wait until the guard is dropped.
    Leader(Leader),
    /// The same proof was already used.
    Replay,
    /// The same proof was in progress, and its request ended without using it.
    Unused,
}

/// The proofs in progress and the used proofs, by the digest of all their fields.
#[derive(Debug, Clone)]
pub struct SingleFlight {
    in_flight: Arc<Mutex<HashMap<Digest, watch::Receiver<()>>>>,
    spent: Arc<Cache<Digest, ()>>,
}

impl Default for SingleFlight {
    fn default() -> Self {
        Self { in_flight: Arc::default(), spent: Arc::new(Cache::new(CAPACITY)) }
    }
}

impl SingleFlight {
    /// Joins the requests with this proof. A follower returns when its leader has succeeded or
    /// failed.
    pub async fn join(&self, digest: Digest) -> FlightRole {
        let mut waiting = {
            let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
            // Check this under the lock. A leader marks its proof as used before it leaves the map,
            // so no copy of the proof can become a leader in between.
            if self.spent.get(&digest).is_some() {
                return FlightRole::Replay;
            }
            match in_flight.get(&digest) {
                Some(receiver) => receiver.clone(),
                None => {
                    let (sender, receiver) = watch::channel(());
                    in_flight.insert(digest, receiver);
                    return FlightRole::Leader(Leader {
                        flight: self.clone(),
                        digest,
                        also: Vec::new(),
                        _ends: sender,
                    });
                }
            }
        };
        // The sender never sends a value. This returns when the leader drops its guard.
        let _ = waiting.changed().await;
        if self.is_spent(&digest) { FlightRole::Replay } else { FlightRole::Unused }
    }

    /// Returns whether a proof with this digest was used. If not, the store may still have a record.
    pub fn is_spent(&self, digest: &Digest) -> bool {
        self.spent.get(digest).is_some()
    }
}

/// The guard of a leader. Dropping it releases the followers.
#[derive(Debug)]
pub struct Leader {
    flight: SingleFlight,
    digest: Digest,
    also: Vec<Digest>,
    _ends: watch::Sender<()>,
}

impl Leader {
    /// Adds what is used together with the proof. It must be verified, because a stranger could name
    /// that of another proof.
    pub fn also(&mut self, verified: impl IntoIterator<Item = Digest>) {
        self.also.extend(verified);
    }

    /// Marks the proof as used.
    pub fn spent(&self) {
        for digest in [&self.digest].into_iter().chain(&self.also) {
            self.flight.spent.insert(*digest, ());
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.flight.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn followers_wait_for_their_leader_and_never_lead() {
        let flight = SingleFlight::default();
        let FlightRole::Leader(leader) = flight.join([1; 32]).await else {
            panic!("the first is the leader")
        };
        let follower = tokio::spawn({
            let flight = flight.clone();
            async move { matches!(flight.join([1; 32]).await, FlightRole::Unused) }
        });
        assert!(
            matches!(flight.join([2; 32]).await, FlightRole::Leader(_)),
            "another proof does not wait"
        );
        tokio::task::yield_now().await;
        assert!(!follower.is_finished());
        drop(leader);
        assert!(follower.await.unwrap());
    }

    #[tokio::test]
    async fn an_unused_proof_can_be_sent_again() {
        let flight = SingleFlight::default();
        drop(flight.join([1; 32]).await);
        let FlightRole::Leader(mut leader) = flight.join([1; 32]).await else {
            panic!("the proof is not used yet")
        };
        leader.also([[7; 32]]);
        let follower = tokio::spawn({
            let flight = flight.clone();
            async move { matches!(flight.join([1; 32]).await, FlightRole::Replay) }
        });
        tokio::task::yield_now().await;
        assert!(!flight.is_spent(&[7; 32]) && !follower.is_finished());
        leader.spent();
        drop(leader);
        assert!(follower.await.unwrap(), "its leader used the proof");
        assert!(matches!(flight.join([1; 32]).await, FlightRole::Replay));
        assert!(flight.is_spent(&[7; 32]) && !flight.is_spent(&[8; 32]));
    }

    #[tokio::test]
    async fn the_cache_of_used_proofs_does_not_grow_beyond_its_capacity() {
        let flight = SingleFlight::default();
        for n in 0..100_000_u32 {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&n.to_be_bytes());
            let FlightRole::Leader(leader) = flight.join(digest).await else {
                panic!("each digest is different")
            };
            leader.spent();
        }
        assert!(flight.in_flight.lock().unwrap().is_empty());
        assert!(flight.spent.len() <= CAPACITY, "{} of {CAPACITY}", flight.spent.len());
    }
}
