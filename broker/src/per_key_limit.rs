//! How many of something each holds, so that no one of them takes it all: connections by address, uploads by principal.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is held, by whom; who holds nothing takes no room.
#[derive(Debug)]
pub struct PerKeyLimit<K> {
    most: usize,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Eq + Hash + Clone> PerKeyLimit<K> {
    /// PerKeyLimit of so many at most.
    pub fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// One more for that holder, until it is dropped; none where it has its share.
    pub fn take(&self, holder: K) -> Option<PerKeyPermit<K>> {
        let mut held = held(&self.held);
        let count = held.entry(holder.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(held);
        Some(PerKeyPermit { held: Arc::clone(&self.held), holder })
    }
}

/// A part of what its holder may have.
#[derive(Debug)]
pub struct PerKeyPermit<K: Eq + Hash> {
    held: Arc<Mutex<HashMap<K, usize>>>,
    holder: K,
}

impl<K: Eq + Hash> Drop for PerKeyPermit<K> {
    fn drop(&mut self) {
        let mut held = held(&self.held);
        if let Some(count) = held.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.holder);
            }
        }
    }
}

fn held<K>(held: &Mutex<HashMap<K, usize>>) -> MutexGuard<'_, HashMap<K, usize>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who holds a connection: the address itself, and of IPv6 its first 64 bits, since whoever has one there has all of them
/// (RFC 6177).
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_has_its_share_gets_no_more_until_it_gives_back() {
        let shares = PerKeyLimit::new(2);
        let take = |text: &str| shares.take(network(text.parse().unwrap()));
        for (one, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"),
        ] {
            let (first, second) = (take(one), take(same));
            assert!(first.is_some() && second.is_some());
            assert!(take(one).is_none() && take(same).is_none(), "{one}");
            assert!(take(other).is_some(), "{other} is somebody else");
            drop(first);
            assert!(take(one).is_some(), "{one}");
        }
        assert!(held(&shares.held).is_empty(), "who is gone is forgotten");
    }
}
