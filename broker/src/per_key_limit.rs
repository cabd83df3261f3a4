//! Limits how many permits each key holds: connections for each address, uploads for each
//! principal.
//!
//! So one client cannot take them all.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A counter of permits for each key. A key without permits uses no memory.
#[derive(Debug)]
pub struct PerKeyLimit<K> {
    limit: usize,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Eq + Hash + Clone> PerKeyLimit<K> {
    /// Creates a limit of this many permits for each key.
    pub fn new(limit: usize) -> Self {
        Self { limit, held: Arc::default() }
    }

    /// Takes a permit for the key, until it is dropped. `None` if the key is at its limit.
    pub fn take(&self, key: K) -> Option<PerKeyPermit<K>> {
        let mut held = held(&self.held);
        let count = held.entry(key.clone()).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        drop(held);
        Some(PerKeyPermit { held: Arc::clone(&self.held), key })
    }
}

/// One permit of a key. Dropping it returns the permit.
#[derive(Debug)]
pub struct PerKeyPermit<K: Eq + Hash> {
    held: Arc<Mutex<HashMap<K, usize>>>,
    key: K,
}

impl<K: Eq + Hash> Drop for PerKeyPermit<K> {
    fn drop(&mut self) {
        let mut held = held(&self.held);
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

fn held<K>(held: &Mutex<HashMap<K, usize>>) -> MutexGuard<'_, HashMap<K, usize>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the key for a connection: the IPv4 address, or the first 64 bits of an IPv6 address.
///
/// A client with one address of an IPv6 /64 usually has all of them (RFC 6177).
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
    fn an_address_at_its_limit_gets_no_permit_until_it_returns_one() {
        let limit = PerKeyLimit::new(2);
        let take = |text: &str| limit.take(network(text.parse().unwrap()));
        for (one, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"),
        ] {
            let (first, second) = (take(one), take(same));
            assert!(first.is_some() && second.is_some());
            assert!(take(one).is_none() && take(same).is_none(), "{one}");
            assert!(take(other).is_some(), "{other} has another key");
            drop(first);
            assert!(take(one).is_some(), "{one}");
        }
        assert!(held(&limit.held).is_empty(), "a key without permits uses no memory");
    }
}
