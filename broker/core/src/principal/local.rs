//! Names that a registry gives: of its trusts and of its services.

use std::fmt;
use std::str::FromStr;

/// The most characters of a name.
const MAX_LEN: usize = 64;

/// The reason why a text is not the name of a trust or a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has 1 to 64 lower-case letters, digits and hyphens, begins with a letter, and does not \
     end with a hyphen"
)]
pub struct LocalNameError;

/// The name of a trust or a service, which an operator chose.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalName(String);

impl LocalName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LocalName {
    type Err = LocalNameError;

    fn from_str(text: &str) -> Result<Self, LocalNameError> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let is_name = text.len() <= MAX_LEN
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.bytes().all(allowed);
        if is_name { Ok(Self(text.to_owned())) } else { Err(LocalNameError) }
    }
}

impl fmt::Display for LocalName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A principal that only this registry knows, as one canonical text: the kind, a colon and the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LocalPrincipal {
    text: String,
    name_at: usize,
}

impl LocalPrincipal {
    pub(super) fn new(before: &str, name: &LocalName) -> Self {
        Self { text: format!("{before}{name}"), name_at: before.len() }
    }

    /// Returns the name without the kind.
    pub fn name(&self) -> &str {
        &self.text[self.name_at..]
    }

    /// Returns the canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Principal;

    #[test]
    fn only_plain_lower_case_names_are_names() {
        let long = "a".repeat(65);
        for text in ["", "A", "1a", "-a", "a-", "a_b", "a b", "a:b", "a/b", "*", "\u{e9}", &long] {
            assert_eq!(text.parse::<LocalName>(), Err(LocalNameError), "{text:?}");
        }
    }

    #[test]
    fn a_trust_and_a_service_of_one_name_are_two_principals() {
        let name: LocalName = "release-ci".parse().unwrap();
        let (trust, service) = (Principal::trust(&name), Principal::service(&name));
        assert_eq!((trust.as_str(), service.as_str()), ("oidc:release-ci", "service:release-ci"));
        for (principal, has_id) in [(trust, true), (service, false)] {
            assert_eq!(Principal::parse_stored(principal.as_str()).as_ref(), Ok(&principal));
            assert_eq!(principal.name(), Some("release-ci"));
            assert_eq!(principal.display_name(), principal.to_string());
            assert!(principal.is_caller() && principal.aws().is_none());
            assert!(principal.aliases().is_empty());
            assert_eq!(principal.has_unique_id(), has_id);
        }
    }
}
