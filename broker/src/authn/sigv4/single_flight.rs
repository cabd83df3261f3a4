//! Lets one of several identical proofs in flight through; the others wait for its end and are replays.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::sync::Cache;
use tokio::sync::watch;

/// How many proofs that were used up are remembered, so that a replay here costs no call.
///
/// Forgetting one is safe: the store's record refuses it as well.
const REMEMBERED: usize = 10_000;

type Digest = [u8; 32];

/// Whose turn it is.
#[derive(Debug)]
pub enum FlightRole {
    /// The first with this proof; the others wait until the guard is dropped.
    Leader(Leader),
    /// The same proof was in flight or used already.
    Replay,
}

/// Who is asking about which proof, keyed by a digest of every field of it.
#[derive(Debug, Clone)]
pub struct SingleFlight {
    in_flight: Arc<Mutex<HashMap<Digest, watch::Receiver<()>>>>,
    spent: Arc<Cache<Digest, ()>>,
}

impl Default for SingleFlight {
    fn default() -> Self {
        Self { in_flight: Arc::default(), spent: Arc::new(Cache::new(REMEMBERED)) }
    }
}

impl SingleFlight {
    /// Takes a turn; a follower returns when its leader has ended, however it ended.
    pub async fn join(&self, digest: Digest) -> FlightRole {
        let mut waiting = {
            let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
            // Under the lock: a leader marks its proof before it leaves the map, so no copy slips in between.
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
                        _ends: sender,
                    });
                }
            }
        };
        // The sender never sends: this returns when the leader's guard is gone.
        let _ = waiting.changed().await;
        FlightRole::Replay
    }
}

/// The leader's guard.
#[derive(Debug)]
pub struct Leader {
    flight: SingleFlight,
    digest: Digest,
    _ends: watch::Sender<()>,
}

impl Leader {
    /// Remembers that the proof is used up.
    pub fn spent(&self) {
        self.flight.spent.insert(self.digest, ());
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
            panic!("the first leads")
        };
        let follower = tokio::spawn({
            let flight = flight.clone();
            async move { matches!(flight.join([1; 32]).await, FlightRole::Replay) }
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
    async fn a_proof_that_was_not_used_up_may_be_sent_again() {
        let flight = SingleFlight::default();
        drop(flight.join([1; 32]).await);
        let FlightRole::Leader(leader) = flight.join([1; 32]).await else {
            panic!("not used up yet")
        };
        leader.spent();
        drop(leader);
        assert!(matches!(flight.join([1; 32]).await, FlightRole::Replay));
    }

    #[tokio::test]
    async fn what_is_remembered_of_proofs_does_not_grow() {
        let flight = SingleFlight::default();
        for n in 0..100_000_u32 {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&n.to_be_bytes());
            let FlightRole::Leader(leader) = flight.join(digest).await else {
                panic!("each is another")
            };
            leader.spent();
        }
        assert!(flight.in_flight.lock().unwrap().is_empty());
        assert!(flight.spent.len() <= REMEMBERED, "{} of {REMEMBERED}", flight.spent.len());
    }
}
