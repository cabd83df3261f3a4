//! The unique id of a role, a user or a trust. A later one of the same name has another id.

/// The start of the unique id of a trust. AWS gives no id that begins so.
const TRUST: &str = "OIDC";

/// The digits of RFC 4648, base 32.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A unique id: that of AWS, such as `AROAEXAMPLEEXAMPLE222` (IAM user guide, "IAM identifiers"), or
/// that of a trust, which begins with `OIDC`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UniqueId(String);

impl UniqueId {
    /// Creates a random id for a new trust, with 160 random bits.
    ///
    /// # Errors
    ///
    /// If the system provides no random bytes.
    pub fn random_trust() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        let digit = |byte: u8| char::from(BASE32[usize::from(byte % 32)]);
        Ok(Self(TRUST.chars().chain(bytes.into_iter().map(digit)).collect()))
    }

    /// Parses the id of a role (`AROA…`), a user (`AIDA…`) or a trust (`OIDC…`).
    pub fn parse(text: &str) -> Option<Self> {
        let known = ["AROA", "AIDA", TRUST].iter().any(|kind| text.starts_with(kind));
        let plain = (16..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        (known && plain).then(|| Self(text.to_owned()))
    }

    /// Returns whether it is the id of a trust.
    pub fn is_of_trust(&self) -> bool {
        self.0.starts_with(TRUST)
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the authentication of a caller showed of its unique id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownId<'a> {
    /// This is its id.
    Is(&'a UniqueId),
    /// It showed none, as no JWT of AWS does. So a pinned role could be a recreated one.
    Absent,
    /// It showed none, and an operator gave up the pins of such callers.
    Waived,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_roles_and_users_are_valid() {
        for text in [
            "",
            "AROA",
            "AKIAEXAMPLEEXAMPLE22",
            "ASIAEXAMPLEEXAMPLE22",
            "aroaexampleexample222",
            "AROAEXAMPLE:EXAMPLE22",
            "AGPAEXAMPLEEXAMPLE22",
            "111122223333",
        ] {
            assert_eq!(UniqueId::parse(text), None, "{text}");
        }
        let trust = UniqueId::random_trust().unwrap();
        assert_eq!(UniqueId::parse(trust.as_str()).as_ref(), Some(&trust));
        assert_ne!(UniqueId::random_trust().unwrap(), trust);
        assert_eq!(
            UniqueId::parse("AIDAEXAMPLEEXAMPLE222").unwrap().as_str(),
            "AIDAEXAMPLEEXAMPLE222"
        );
    }
}
