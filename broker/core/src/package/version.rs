//! A module's version: canonical semantic versioning without build metadata, ordered as clients order it.

use std::fmt;

/// A version such as `1.10.0` or `2.0.0-rc.1`, in the one spelling clients ask for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(semver::Version);

/// Why a text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not semantic versioning, or not its canonical spelling.
    #[error("version `{0}` must be like `1.2.3` or `1.2.3-rc.1`")]
    Malformed(String),
    /// Gateways read `+` as a space, and clients take versions that differ by it alone for equal.
    #[error("version `{0}` must have no build metadata, the part from `+` on")]
    Build(String),
}

/// Above any version in use, and within what clients can read.
const LARGEST_NUMBER: u64 = 999_999_999;

impl Version {
    /// Reads the canonical spelling alone: no leading `v`, no missing parts.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let shown =
            || text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
        let version = semver::Version::parse(text).map_err(|_| VersionError::Malformed(shown()))?;
        if !version.build.is_empty() {
            return Err(VersionError::Build(shown()));
        }
        let fits = text.len() <= 64
            && [version.major, version.minor, version.patch]
                .into_iter()
                .all(|number| number <= LARGEST_NUMBER);
        if !fits || version.to_string() != text {
            return Err(VersionError::Malformed(shown()));
        }
        Ok(Self(version))
    }

    /// Whether it is one that clients take only when asked for exactly.
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
    fn only_the_canonical_spelling_is_a_version() {
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
    fn versions_are_ordered_by_number_and_not_by_letter() {
        let mut versions = ["1.10.0", "1.2.0", "1.9.0", "1.10.0-rc.1", "0.9.9"]
            .map(|text| Version::parse(text).unwrap());
        versions.sort();
        assert_eq!(
            versions.map(|version| version.to_string()),
            ["0.9.9", "1.2.0", "1.9.0", "1.10.0-rc.1", "1.10.0"]
        );
    }
}
