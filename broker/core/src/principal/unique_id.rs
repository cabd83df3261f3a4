//! The AWS unique id of a role or user. A later role of the same name has another id.

/// A unique id, such as `AROAEXAMPLEEXAMPLE222` (IAM user guide, "IAM identifiers").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UniqueId(String);

impl UniqueId {
    /// Parses the id of a role (`AROA…`) or a user (`AIDA…`).
    pub fn parse(text: &str) -> Option<Self> {
        let known = text.starts_with("AROA") || text.starts_with("AIDA");
        let plain = (16..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        (known && plain).then(|| Self(text.to_owned()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
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
        assert_eq!(
            UniqueId::parse("AIDAEXAMPLEEXAMPLE222").unwrap().as_str(),
            "AIDAEXAMPLEEXAMPLE222"
        );
    }
}
