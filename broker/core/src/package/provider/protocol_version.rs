//! The version of the plugin protocol that a provider speaks.

use std::fmt;
use std::str::FromStr;

/// A version of Terraform's plugin protocol, for example `5.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProtocolVersion {
    major: u16,
    minor: u16,
}

/// The error for a text that is not a protocol version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("protocol version `{0}` must have the form `MAJOR.MINOR`, for example `5.0`")]
pub struct ProtocolVersionError(String);

impl FromStr for ProtocolVersion {
    type Err = ProtocolVersionError;

    fn from_str(text: &str) -> Result<Self, ProtocolVersionError> {
        let parse = || {
            let (major, minor) = text.split_once('.')?;
            let version = Self { major: major.parse().ok()?, minor: minor.parse().ok()? };
            // The only spelling of these numbers, without a sign or leading zeros.
            (version.major > 0 && version.to_string() == text).then_some(version)
        };
        let printable = || text.chars().filter(|c| !c.is_control()).take(40).collect();
        parse().ok_or_else(|| ProtocolVersionError(printable()))
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_version_has_two_numbers_in_their_only_spelling() {
        for text in ["", "x", "5", "5.", ".0", "5.0.0", "05.0", "5.00", "+5.0", "0.1", "5.99999"] {
            assert!(text.parse::<ProtocolVersion>().is_err(), "{text}");
        }
        let versions = ["6.0", "5.10", "5.2"].map(|text| text.parse::<ProtocolVersion>().unwrap());
        assert_eq!(versions.map(|version| version.to_string()), ["6.0", "5.10", "5.2"]);
        assert!(versions.is_sorted_by(|a, b| a > b));
    }
}
