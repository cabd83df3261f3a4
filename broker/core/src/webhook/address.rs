//! Decides whether an address is public: a webhook may only go to one.
//!
//! The lists are those of IANA: the special-purpose address registries of IPv4 (RFC 6890 and later)
//! and of IPv6, and the multicast ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The IPv4 ranges that are not public, as address and length of the prefix.
const NOT_PUBLIC_V4: [(Ipv4Addr, u32); 16] = [
    // This network.
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Shared by the customers of a carrier (CGNAT).
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local, and the metadata of a cloud's machines.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    // Protocol assignments.
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // Documentation.
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    // Relays from IPv6, which are deprecated.
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Benchmarks.
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    // Documentation.
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    // Reserved, and broadcast.
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    // AS112, which answers for private addresses.
    (Ipv4Addr::new(192, 175, 48, 0), 24),
];

/// The IPv6 ranges within `2000::/3` that are not public. Outside of it, nothing is.
const NOT_PUBLIC_V6: [(Ipv6Addr, u32); 5] = [
    // Protocol assignments, among them Teredo, which contains an IPv4 address.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation.
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4, which contains an IPv4 address.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    // AS112.
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48),
    // Documentation.
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// The prefix of NAT64, of 96 bits.
const NAT64: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// Returns whether the address is one of a host on the public internet.
///
/// An address of NAT64 (RFC 6052) is as public as the IPv4 address in it: a network without IPv4
/// reaches hosts so. No other IPv4 address in the form of an IPv6 address is public.
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|(range, length)| {
            let mask = u32::MAX << (32 - length);
            address.to_bits() & mask == range.to_bits()
        }),
        IpAddr::V6(address) if address.to_bits() >> 32 == NAT64.to_bits() >> 32 => {
            let [.., a, b, c, d] = address.octets();
            is_global(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(address) => {
            let [first, ..] = address.segments();
            let is_unicast = first & 0xe000 == 0x2000;
            is_unicast
                && !NOT_PUBLIC_V6.iter().any(|(range, length)| {
                    let mask = u128::MAX << (128 - length);
                    address.to_bits() & mask == range.to_bits()
                })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_address_that_is_not_public_is_refused() {
        for (kind, addresses) in [
            ("unspecified", &["0.0.0.0", "0.1.2.3", "::"][..]),
            ("loopback", &["127.0.0.1", "127.255.255.254", "::1"]),
            (
                "private",
                &[
                    "10.0.0.1",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.1.1",
                    "fc00::1",
                    "fd00:ec2::254",
                ],
            ),
            ("site-local", &["fec0::1"]),
            ("link-local", &["169.254.169.254", "169.254.0.1", "fe80::1"]),
            ("CGNAT", &["100.64.0.1", "100.127.255.255"]),
            ("multicast", &["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"]),
            ("broadcast", &["255.255.255.255"]),
            ("reserved", &["240.0.0.1", "192.0.0.8", "198.18.0.1", "198.19.255.255"]),
            (
                "documentation",
                &["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
            ),
            ("relay", &["192.88.99.1", "192.175.48.1", "2620:4f:8000::1"]),
            ("IPv4-mapped", &["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:93.184.216.34"]),
            ("IPv4-compatible", &["::127.0.0.1", "::93.184.216.34"]),
            (
                "IPv4-translated",
                &[
                    "64:ff9b::7f00:1",
                    "64:ff9b::a9fe:a9fe",
                    "64:ff9b:1::5db8:d822",
                    "::ffff:0:7f00:1",
                ],
            ),
            ("6to4 and Teredo", &["2002:7f00:1::1", "2001:0:7f00:1::1"]),
            ("discard and segment routing", &["100::1", "5f00::1"]),
        ] {
            for address in addresses {
                assert!(!is_global(address.parse().unwrap()), "{kind}: {address}");
            }
        }
    }

    #[test]
    fn a_public_address_is_allowed_also_next_to_a_range_that_is_not() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "93.184.216.34",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "3ffe::1",
            "64:ff9b::5db8:d822",
        ] {
            assert!(is_global(address.parse().unwrap()), "{address}");
        }
    }
}
