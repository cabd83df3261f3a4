//! Package versions: canonical Semantic Versioning without build metadata, in the order of clients.

use std::fmt;

/// A version, such as `1.10.0` or `2.0.0-rc.1` (Semantic Versioning 2.0.0).
///
/// Each version has one text, so two clients cannot mean different packages by one version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(semver::Version);

/// The error for a text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// The text is not a semantic version in canonical form.
    #[error("version `{0}` must have the form `1.2.3` or `1.2.3-rc.1`")]
    Malformed(String),
    /// The version has build metadata. Gateways decode `+` as a space, and clients ignore build
    /// metadata in comparisons.
    #[error("version `{0}` must not have build metadata (the part after `+`)")]
    Build(String),
}

/// Maximum of each number in a version. Real versions stay below it, and clients can parse it.
const MAX_NUMBER: u64 = 999_999_999;

impl Version {
    /// Parses the canonical form: no leading `v`, no missing parts, at most 64 characters.
    ///
    /// # Errors
    ///
    /// [`VersionError`], if the text has another form or contains build metadata.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let printable =
            || text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
        let version =
            semver::Version::parse(text).map_err(|_| VersionError::Malformed(printable()))?;
        if !version.build.is_empty() {
            return Err(VersionError::Build(printable()));
        }
        let fits = text.len() <= 64
            && [version.major, version.minor, version.patch]
                .into_iter()
                .all(|number| number <= MAX_NUMBER);
        if !fits || version.to_string() != text {
            return Err(VersionError::Malformed(printable()));
        }
        Ok(Self(version))
    }

    /// Returns whether it is a pre-release. Clients use one only if a constraint names it exactly.
    pub fn is_prerelease(&self) -> bool {
        !self.0.pre.is_empty()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_versions_are_valid() {
        for text in [
            "",
            "1",
            "1.0",
            "v1.0.0",
            "1.0.0.0",
            "01.0.0",
            "1.0.0-",
            "1.0.0-01",
            " 1.0.0",
            "1.0.0 ",
            "1.0.0/..",
            "..",
            "1.0.1000000000",
            "bogus",
        ] {
            assert!(matches!(Version::parse(text), Err(VersionError::Malformed(_))), "{text:?}");
        }
        assert!(Version::parse(&format!("1.0.0-{}", "a".repeat(60))).is_err());
        assert!(matches!(Version::parse("1.0.0+b1"), Err(VersionError::Build(_))));
        assert_eq!(Version::parse("1.0.0-rc.1").unwrap().to_string(), "1.0.0-rc.1");
    }

    #[test]
    fn versions_are_ordered_numerically() {
        let mut versions = ["1.10.0", "1.2.0", "1.9.0", "1.10.0-rc.1", "0.9.9"]
            .map(|text| Version::parse(text).unwrap());
        versions.sort();
        assert_eq!(
            versions.map(|version| version.to_string()),
            ["0.9.9", "1.2.0", "1.9.0", "1.10.0-rc.1", "1.10.0"]
        );
    }
}
