//! How many of the server's connections each address holds, so that no one of them takes them all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The connections that are open, by the network they come from; an address that has none takes no room.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    most: usize,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Shares {
    /// Shares of so many connections at most.
    pub(super) fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// One more connection for that address, until it is dropped; none where it has its share.
    pub(super) fn take(&self, address: IpAddr) -> Option<Share> {
        let network = network(address);
        let mut held = self.held();
        let count = held.entry(network).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(held);
        Some(Share { shares: self.clone(), network })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's part of what its address may have.
#[derive(Debug)]
pub(super) struct Share {
    shares: Shares,
    network: IpAddr,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.held();
        if let Some(count) = held.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.network);
            }
        }
    }
}

/// The address itself, and of IPv6 its first 64 bits: whoever has one there has all of them (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
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
        let shares = Shares::new(2);
        let take = |text: &str| shares.take(text.parse().unwrap());
        for (one, same, other) in
            [("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"), ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1")]
        {
            let (first, second) = (take(one), take(same));
            assert!(first.is_some() && second.is_some());
            assert!(take(one).is_none() && take(same).is_none(), "{one}");
            assert!(take(other).is_some(), "{other} is somebody else");
            drop(first);
            assert!(take(one).is_some(), "{one}");
        }
        assert!(shares.held().is_empty(), "who is gone is forgotten");
    }
}
