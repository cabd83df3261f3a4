//! Tells the address of a client: from its connection, or from a proxy's `X-Forwarded-For`.

use std::net::{IpAddr, SocketAddr};

/// The header to which each proxy appends the address of its own client.
///
/// See <https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/X-Forwarded-For>.
pub const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of a client, which the client itself cannot choose.
///
/// The attack: a stolen service token works from everywhere, because its thief names an address in a
/// header. A request has this only where the broker knows the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Where the broker finds the address of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientSource {
    /// The other end of the connection is the client.
    Connection,
    /// The client connects to the first of this many proxies, and the broker trusts all of them.
    Forwarded {
        /// The number of proxies, at least 1.
        hops: u8,
    },
    /// All connections come from a proxy that names no client.
    Unknown,
}

impl ClientSource {
    /// Returns the address of the client of a request, if the broker can know it.
    ///
    /// `forwarded_for` are the lines of [`FORWARDED_FOR`]. A client can write any header, so only the
    /// entries of trusted proxies count. They are the last ones.
    pub fn address<'a>(
        self,
        forwarded_for: impl Iterator<Item = &'a [u8]>,
        peer: IpAddr,
    ) -> Option<IpAddr> {
        match self {
            Self::Connection => Some(peer),
            Self::Unknown => None,
            Self::Forwarded { hops } => {
                let lines: Result<Vec<&str>, _> = forwarded_for.map(std::str::from_utf8).collect();
                let entries = lines.ok()?.join(",");
                let entry = entries.rsplit(',').nth(usize::from(hops).checked_sub(1)?)?.trim();
                // Some proxies add the port.
                entry.parse().ok().or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(source: ClientSource, lines: &[&str]) -> Option<String> {
        let peer = "10.0.0.1".parse().unwrap();
        let lines = lines.iter().map(|line| line.as_bytes());
        source.address(lines, peer).map(|address| address.to_string())
    }

    #[test]
    fn what_a_client_writes_into_the_header_does_not_count() {
        for lines in [&[][..], &["192.0.2.9"], &["192.0.2.9, 198.51.100.7"]] {
            assert_eq!(address(ClientSource::Connection, lines).as_deref(), Some("10.0.0.1"));
            assert_eq!(address(ClientSource::Unknown, lines), None);
        }
        let (one, two) = (ClientSource::Forwarded { hops: 1 }, ClientSource::Forwarded { hops: 2 });
        for (lines, of_one, of_two) in [
            (&["198.51.100.7"][..], Some("198.51.100.7"), None),
            (&["192.0.2.9, 198.51.100.7"], Some("198.51.100.7"), Some("192.0.2.9")),
            (&["192.0.2.9", "198.51.100.7"], Some("198.51.100.7"), Some("192.0.2.9")),
            (&["x, 2001:db8::1 ,198.51.100.7:4711"], Some("198.51.100.7"), Some("2001:db8::1")),
            (&["[2001:db8::1]:443,unknown"], None, Some("2001:db8::1")),
            (&[""], None, None),
            (&[], None, None),
        ] {
            assert_eq!(address(one, lines).as_deref(), of_one, "{lines:?}");
            assert_eq!(address(two, lines).as_deref(), of_two, "{lines:?}");
        }
    }
}
