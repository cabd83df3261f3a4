//! Shares the concurrent requests to STS among callers, so that strangers cannot keep known callers
//! away.
//!
//! Nobody has authenticated a proof before STS answers. So the shares depend on what a stranger
//! cannot choose: the network of its connection, and whether its access key minted a token lately.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use stile_core::audit::Network;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The number of concurrent requests to STS in one region. So a region that hangs does not block
/// the others.
const IN_FLIGHT_PER_REGION: usize = 64;

/// The requests of them that only known callers may use. So strangers with garbage cannot take all.
const RESERVED: usize = 16;

/// The number of concurrent requests for strangers of one network.
const IN_FLIGHT_PER_NETWORK: usize = 16;

/// The number of concurrent requests for one access key from one network.
///
/// Access key ids are public, so strangers of another network do not count.
const IN_FLIGHT_PER_KEY: usize = 2;

/// The time for which an access key is known after it minted a token.
const KNOWN: Duration = Duration::from_secs(3600);

/// The time for which a network counts as a stranger's after a wrong signature under a known key.
const SUSPECT: Duration = Duration::from_secs(60);

/// The most access keys and networks that one broker remembers.
const REMEMBERED: usize = 4096;

/// The network of a client, as far as the broker can know it.
///
/// Behind a proxy without a trusted hop count, all clients have the proxy's network. So a request has
/// none then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceNetwork(pub Network);

/// The slots of all regions, the known access keys and the suspect networks.
#[derive(Debug)]
pub(super) struct Slots {
    regions: HashMap<&'static str, RegionSlots>,
    known: Cache<String, Instant>,
    suspects: Cache<Network, Instant>,
}

#[derive(Debug)]
struct RegionSlots {
    open: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    networks: Arc<Turns<Network>>,
    keys: Arc<Turns<(String, Option<Network>)>>,
}

/// The right to one request to STS, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _slot: OwnedSemaphorePermit,
    _of_network: Option<Turn<Network>>,
    _of_key: Turn<(String, Option<Network>)>,
}

impl Slots {
    /// Creates the slots of these regions.
    pub(super) fn new(regions: impl IntoIterator<Item = &'static str>) -> Self {
        let region = |name| {
            let slots = RegionSlots {
                open: Arc::new(Semaphore::new(IN_FLIGHT_PER_REGION - RESERVED)),
                reserved: Arc::new(Semaphore::new(RESERVED)),
                networks: Arc::new(Turns::new(IN_FLIGHT_PER_NETWORK)),
                keys: Arc::new(Turns::new(IN_FLIGHT_PER_KEY)),
            };
            (name, slots)
        };
        Self {
            regions: regions.into_iter().map(region).collect(),
            known: Cache::new(REMEMBERED),
            suspects: Cache::new(REMEMBERED),
        }
    }

    /// Waits for a slot in the region. `None` if the region is not enabled.
    ///
    /// Waiting requests get their turn in the order in which they came.
    pub(super) async fn take(
        &self,
        region: &str,
        access_key_id: &str,
        source: Option<SourceNetwork>,
    ) -> Option<Slot> {
        let region = self.regions.get(region)?;
        let network = source.map(|SourceNetwork(network)| network);
        let _of_key = region.keys.take((access_key_id.to_owned(), network)).await;
        let is_known = self.is_known(access_key_id, network);
        let _of_network = match network {
            Some(network) if !is_known => Some(region.networks.take(network).await),
            _ => None,
        };
        let open = Arc::clone(&region.open).acquire_owned();
        let slot = if is_known {
            tokio::select! {
                biased;
                reserved = Arc::clone(&region.reserved).acquire_owned() => reserved,
                open = open => open,
            }
        } else {
            open.await
        };
        // Nobody closes the semaphores.
        slot.ok().map(|_slot| Slot { _slot, _of_network, _of_key })
    }

    /// Remembers an access key that minted a token.
    pub(super) fn minted(&self, access_key_id: &str) {
        self.known.insert(access_key_id.to_owned(), Instant::now() + KNOWN);
    }

    /// Counts a wrong signature. Under a known key, it counts against its network, and not against
    /// the key: its sender may only have read the id.
    pub(super) fn failed(&self, access_key_id: &str, source: Option<SourceNetwork>) {
        if let Some(SourceNetwork(network)) = source
            && self.is_known(access_key_id, None)
        {
            self.suspects.insert(network, Instant::now() + SUSPECT);
        }
    }

    fn is_known(&self, access_key_id: &str, network: Option<Network>) -> bool {
        let now = Instant::now();
        let is_remembered = |until: Option<Instant>| until.is_some_and(|until| now < until);
        let is_suspect = |network: Network| is_remembered(self.suspects.get(&network));
        is_remembered(self.known.get(access_key_id)) && !network.is_some_and(is_suspect)
    }
}

/// Lets each key have a number of turns at once. The others with the same key wait in order.
#[derive(Debug)]
struct Turns<K: Eq + Hash> {
    limit: usize,
    queues: Mutex<HashMap<K, Arc<Semaphore>>>,
}

/// One turn of a key. Dropping it lets the next one begin.
#[derive(Debug)]
struct Turn<K: Eq + Hash> {
    // Dropped first, so that the place sees whether another one still uses the queue.
    _permit: Option<OwnedSemaphorePermit>,
    _place: Place<K>,
}

/// A place in the queue of a key. Dropping the last one removes the queue.
#[derive(Debug)]
struct Place<K: Eq + Hash> {
    turns: Arc<Turns<K>>,
    key: K,
    queue: Arc<Semaphore>,
}

impl<K: Eq + Hash + Clone> Turns<K> {
    fn new(limit: usize) -> Self {
        Self { limit, queues: Mutex::default() }
    }

    async fn take(self: &Arc<Self>, key: K) -> Turn<K> {
        let queue = {
            let mut queues = self.queues();
            let new = || Arc::new(Semaphore::new(self.limit));
            Arc::clone(queues.entry(key.clone()).or_insert_with(new))
        };
        let place = Place { turns: Arc::clone(self), key, queue: Arc::clone(&queue) };
        Turn { _permit: queue.acquire_owned().await.ok(), _place: place }
    }
}

impl<K: Eq + Hash> Turns<K> {
    fn queues(&self) -> MutexGuard<'_, HashMap<K, Arc<Semaphore>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut queues = self.turns.queues();
        // This place and the map.
        if Arc::strong_count(&self.queue) == 2 {
            queues.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: &str = "us-east-1";

    /// A time that only a request that waits reaches.
    const LONG: Duration = Duration::from_secs(10);

    fn slots() -> Slots {
        Slots::new([REGION, "us-west-2"])
    }

    fn from(address: &str) -> Option<SourceNetwork> {
        Some(SourceNetwork(Network::of(address.parse().unwrap())))
    }

    /// Takes a slot, if one is free.
    async fn take(slots: &Slots, key: &str, source: Option<SourceNetwork>) -> Option<Slot> {
        tokio::time::timeout(LONG, slots.take(REGION, key, source)).await.ok().flatten()
    }

    async fn take_all(slots: &Slots, keys: &str, source: Option<SourceNetwork>) -> Vec<Slot> {
        let mut taken = Vec::new();
        while let Some(slot) = take(slots, &format!("{keys}{}", taken.len()), source).await {
            taken.push(slot);
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_leave_slots_for_known_callers_and_for_other_regions() {
        let slots = slots();
        slots.minted("known");
        let strangers = take_all(&slots, "stranger", None).await;
        assert_eq!(strangers.len(), IN_FLIGHT_PER_REGION - RESERVED);
        assert!(take(&slots, "known", None).await.is_some());
        assert!(slots.take("us-west-2", "another", None).await.is_some());
        assert!(slots.take("mars-north-1", "another", None).await.is_none(), "not enabled");
        tokio::time::advance(KNOWN).await;
        assert!(take(&slots, "known", None).await.is_none(), "it minted too long ago");
        drop(strangers);
        assert!(take(&slots, "known", None).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn known_callers_use_every_slot_when_no_stranger_does() {
        let slots = slots();
        let keys: Vec<_> = (0..100).map(|n| format!("known{n}")).collect();
        keys.iter().for_each(|key| slots.minted(key));
        assert_eq!(take_all(&slots, "known", None).await.len(), IN_FLIGHT_PER_REGION);
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_of_one_network_leave_slots_for_other_networks() {
        let slots = slots();
        let flood = take_all(&slots, "stranger", from("192.0.2.1")).await;
        assert_eq!(flood.len(), IN_FLIGHT_PER_NETWORK);
        assert!(take(&slots, "same", from("192.0.2.200")).await.is_none(), "the same network");
        assert!(take(&slots, "other", from("198.51.100.1")).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_access_key_has_two_requests_at_once_in_each_network() {
        let slots = slots();
        for source in [None, from("192.0.2.1"), from("2001:db8::1")] {
            let (_first, second) =
                (take(&slots, "key", source).await, take(&slots, "key", source).await);
            assert!(second.is_some());
            assert!(take(&slots, "key", source).await.is_none(), "{source:?}");
            drop(second);
            assert!(take(&slots, "key", source).await.is_some(), "{source:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_signature_under_a_known_key_counts_against_its_network() {
        let slots = slots();
        slots.minted("known");
        let (theirs, ours) = (from("192.0.2.1"), from("198.51.100.1"));
        slots.failed("known", theirs);
        let _strangers = take_all(&slots, "stranger", None).await;
        assert!(take(&slots, "known", theirs).await.is_none());
        assert!(take(&slots, "known", ours).await.is_some());
        slots.failed("unknown", ours);
        slots.failed("known", None);
        assert!(take(&slots, "known", ours).await.is_some(), "nothing shows that it was ours");
        tokio::time::advance(SUSPECT).await;
        assert!(take(&slots, "known", theirs).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_or_given_up_uses_no_memory() {
        let slots = slots();
        let source = from("192.0.2.1");
        let taken = take_all(&slots, "key", source).await;
        let region = &slots.regions[REGION];
        assert!(!region.keys.queues().is_empty() && !region.networks.queues().is_empty());
        drop(taken);
        assert!(region.keys.queues().is_empty() && region.networks.queues().is_empty());
        assert_eq!(region.open.available_permits(), IN_FLIGHT_PER_REGION - RESERVED);
    }
}
