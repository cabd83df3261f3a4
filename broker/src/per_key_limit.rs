//! Limits how many permits each key holds: connections for each network, uploads for each principal
//! and namespace.
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

/// Limits the connections from each IPv4 address, each IPv6 /64 and each IPv6 /48.
///
/// A client with one address of an IPv6 /64 usually has all of them, and one site often has a whole
/// /48 (RFC 6177).
#[derive(Debug)]
pub struct PerNetworkLimit {
    networks: PerKeyLimit<IpAddr>,
    sites: PerKeyLimit<Ipv6Addr>,
}

/// One permit of a network. Dropping it returns the permit.
#[derive(Debug)]
pub struct PerNetworkPermit {
    _network: PerKeyPermit<IpAddr>,
    _site: Option<PerKeyPermit<Ipv6Addr>>,
}

impl PerNetworkLimit {
    /// Creates a limit for one IPv4 address or IPv6 /64, and a limit for one IPv6 /48.
    pub fn new(of_network: usize, of_site: usize) -> Self {
        Self { networks: PerKeyLimit::new(of_network), sites: PerKeyLimit::new(of_site) }
    }

    /// Takes a permit for a client at this address. `None` if its network or site is at its limit.
    pub fn take(&self, address: IpAddr) -> Option<PerNetworkPermit> {
        let (network, site) = match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                let network = Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0);
                (network.into(), Some(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)))
            }
            v4 => (v4, None),
        };
        let _network = self.networks.take(network)?;
        let _site = match site {
            Some(site) => Some(self.sites.take(site)?),
            None => None,
        };
        Some(PerNetworkPermit { _network, _site })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_at_its_limit_gets_no_permit_until_it_returns_one() {
        let limit = PerNetworkLimit::new(2, 100);
        let take = |text: &str| limit.take(text.parse().unwrap());
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
        assert!(held(&limit.networks.held).is_empty(), "a key without permits uses no memory");
        assert!(held(&limit.sites.held).is_empty());
    }

    #[test]
    fn a_site_with_many_ipv6_networks_is_limited_and_ipv4_addresses_share_no_site() {
        let limit = PerNetworkLimit::new(2, 3);
        let take = |text: String| limit.take(text.parse().unwrap());
        let permits: Vec<_> = (0..5).filter_map(|n| take(format!("2001:db8:7:{n:x}::1"))).collect();
        assert_eq!(permits.len(), 3);
        assert!(take("2001:db8:7:ffff::1".to_owned()).is_none());
        assert!(take("2001:db8:8::1".to_owned()).is_some(), "the next site");
        let addresses: Vec<_> = (0..5).filter_map(|n| take(format!("192.0.2.{n}"))).collect();
        assert_eq!(addresses.len(), 5);
        drop(permits);
        assert!(take("2001:db8:7:ffff::1".to_owned()).is_some());
    }
}
