//! The registry's host as Terraform writes it: lower case, punycode, with a port other than 443.

use std::fmt;

use idna::AsciiDenyList;

/// A registry host in canonical form: the audience of proofs and tokens.
///
/// A proof is valid for one audience only, so helper and broker must use the same form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Audience(String);

/// Why a text is not a registry host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AudienceError {
    /// The host name or the port is invalid.
    #[error("`{0}` is not a host name with an optional port")]
    Malformed(String),
    /// Terraform rejects registry hosts without a dot.
    #[error("`{0}` has no dot, and Terraform accepts only registry hosts with a dot")]
    NoDot(String),
}

impl Audience {
    /// Parses a host in Unicode or punycode, in upper or lower case.
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

    /// Returns the canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the host without its port.
    pub fn host(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// Returns the port, unless it is 443.
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
    fn a_text_that_is_not_a_host_is_rejected() {
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
    fn every_spelling_of_a_host_has_the_same_canonical_form() {
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
    fn host_and_port_are_returned_separately() {
        let audience = Audience::parse("127.0.0.1:8443").unwrap();
        assert_eq!((audience.host(), audience.port()), ("127.0.0.1", Some(8443)));
        assert_eq!(Audience::parse("a.example:443").unwrap().port(), None);
    }
}
