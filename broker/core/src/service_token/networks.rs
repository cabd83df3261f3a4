//! The networks from which a service token may be used.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// The most networks of a token.
pub const MAX_NETWORKS: usize = 16;

/// The reason why a text is not a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a network is an address and a length, such as `203.0.113.0/24` or `2001:db8::/32`, with no \
     bit after the length"
)]
pub struct ClientNetworkError;

/// A network of clients, in CIDR notation (RFC 4632).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientNetwork(IpNet);

impl ClientNetwork {
    /// Returns whether an address is in the network. An IPv4 address in an IPv6 one counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for ClientNetwork {
    type Err = ClientNetworkError;

    fn from_str(text: &str) -> Result<Self, ClientNetworkError> {
        let network: IpNet = text.parse().map_err(|_| ClientNetworkError)?;
        // A typing error in the length would otherwise name a larger network than its writer meant.
        if network.trunc() == network { Ok(Self(network)) } else { Err(ClientNetworkError) }
    }
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_written_with_its_length_and_without_other_bits() {
        for text in ["", "10.0.0.1", "10.0.0.1/8", "10.0.0.0/33", "x/8", "10.0.0.0/", "10/8"] {
            assert_eq!(text.parse::<ClientNetwork>(), Err(ClientNetworkError), "{text}");
        }
        let network: ClientNetwork = "203.0.113.0/24".parse().unwrap();
        assert_eq!(network.to_string(), "203.0.113.0/24");
        for (address, within) in [
            ("203.0.113.0", true),
            ("203.0.113.255", true),
            ("::ffff:203.0.113.9", true),
            ("203.0.112.255", false),
            ("203.0.114.0", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(network.contains(address.parse().unwrap()), within, "{address}");
        }
        let network: ClientNetwork = "2001:db8::/32".parse().unwrap();
        assert!(network.contains("2001:db8::1".parse().unwrap()));
        assert!(!network.contains("2001:db9::1".parse().unwrap()));
        assert!(!network.contains("203.0.113.9".parse().unwrap()));
    }
}
