//! The registry's host as Terraform spells it: lower case, punycode, the port kept unless it is 443.

use std::fmt;

use idna::AsciiDenyList;

/// A registry host in its one spelling: the audience of proofs and tokens.
///
/// A proof made for one audience is useless at another, so both sides must spell it alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Audience(String);

/// Why a text is no registry host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AudienceError {
    /// Not a host name, or a port that is none.
    #[error("`{0}` is not a host name with an optional port")]
    Malformed(String),
    /// Terraform refuses registry hosts without a dot.
    #[error("`{0}` has no dot, and Terraform refuses such registry hosts")]
    NoDot(String),
}

impl Audience {
    /// Reads a host as a person types it, Unicode or punycode, in any case.
    pub fn parse(typed: &str) -> Result<Self, AudienceError> {
        let malformed = || AudienceError::Malformed(typed.chars().take(260).collect());
        let (host, port) = match typed.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port).ok_or_else(malformed)?)),
            None => (typed, None),
        };
        let ascii = idna::domain_to_ascii_cow(host.as_bytes(), AsciiDenyList::STD3)
            .map_err(|_| malformed())?;
        let labels_fit = ascii.split('.').all(|label| {
            (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
        });
        if !labels_fit || ascii.len() > 253 {
            return Err(malformed());
        }
        if !ascii.contains('.') {
            return Err(AudienceError::NoDot(ascii.into_owned()));
        }
        Ok(Self(match port {
            None | Some(443) => ascii.into_owned(),
            Some(port) => format!("{ascii}:{port}"),
        }))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host without its port.
    pub fn host(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// The port, where it is not 443.
    pub fn port(&self) -> Option<u16> {
        self.0.split_once(':').and_then(|(_, port)| port.parse().ok())
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let plain =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_host_is_refused() {
        for typed in [
            "",
            ".",
            "a..b",
            ".example.com",
            "example.com.",
            "https://example.com",
            "example.com/",
            "exa mple.com",
            "user@example.com",
            "example.com:",
            "example.com:0",
            "example.com:080",
            "example.com:65536",
            "example.com:+1",
            "example.com:1:2",
            "[::1]:8443",
            "-a.example.com",
            "a-.example.com",
            "under_score.example.com",
            "example.com\n",
            "example.com\r\nx-a: b",
            "a%2eb.com",
        ] {
            assert!(
                matches!(Audience::parse(typed), Err(AudienceError::Malformed(_))),
                "{typed:?}"
            );
        }
        assert!(Audience::parse(&format!("{}.com", "a".repeat(64))).is_err());
        assert_eq!(
            Audience::parse("localhost:8443"),
            Err(AudienceError::NoDot("localhost".to_owned()))
        );
    }

    #[test]
    fn every_spelling_of_a_host_becomes_one() {
        for (typed, expected) in [
            ("registry.example.com", "registry.example.com"),
            ("Registry.Example.COM:443", "registry.example.com"),
            ("registry.example.com:8443", "registry.example.com:8443"),
            ("café.fr", "xn--caf-dma.fr"),
            ("XN--CAF-DMA.fr", "xn--caf-dma.fr"),
            ("127.0.0.1:8443", "127.0.0.1:8443"),
        ] {
            let audience = Audience::parse(typed).unwrap();
            assert_eq!(audience.as_str(), expected, "{typed:?}");
            assert_eq!(Audience::parse(audience.as_str()).unwrap(), audience, "idempotent");
        }
    }

    #[test]
    fn host_and_port_come_apart() {
        let audience = Audience::parse("127.0.0.1:8443").unwrap();
        assert_eq!((audience.host(), audience.port()), ("127.0.0.1", Some(8443)));
        assert_eq!(Audience::parse("a.example:443").unwrap().port(), None);
    }
}
