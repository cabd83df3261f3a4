//! The platform of a provider's file: an operating system and an architecture, by Go's names.

use std::fmt;
use std::str::FromStr;

/// An operating system and an architecture, for example `linux_amd64`.
///
/// The names are those of Go's `GOOS` and `GOARCH`, because clients compare with these.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    os: String,
    arch: String,
}

/// The error for a text that is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// The text has another form.
    #[error("platform `{0}` must have the form `OS_ARCH`, for example `linux_amd64`")]
    Malformed(String),
    /// No client asks for this name, because Go has another one.
    #[error("platform `{found}` must have the name `{go}` of Go in place of `{name}`")]
    NotGo {
        /// The platform.
        found: String,
        /// The wrong part.
        name: &'static str,
        /// What Go says.
        go: &'static str,
    },
}

/// Names of other systems, and what Go says in their place.
const NOT_GO: [(&str, &str); 14] = [
    ("macos", "darwin"),
    ("macosx", "darwin"),
    ("osx", "darwin"),
    ("mac", "darwin"),
    ("win", "windows"),
    ("win32", "windows"),
    ("win64", "windows"),
    ("x64", "amd64"),
    ("x86", "386"),
    ("i386", "386"),
    ("i686", "386"),
    ("aarch64", "arm64"),
    ("armv6", "arm"),
    ("armv7", "arm"),
];

/// The longest name of an operating system or architecture. Go's longest have 9 characters.
const LONGEST: usize = 16;

impl Platform {
    /// Parses an operating system and an architecture.
    ///
    /// # Errors
    ///
    /// [`PlatformError`], if a part is not of `a-z` and `0-9`, or Go has another name for it.
    pub fn new(os: &str, arch: &str) -> Result<Self, PlatformError> {
        let found =
            || format!("{os}_{arch}").chars().filter(|c| !c.is_control()).take(80).collect();
        let is_name = |text: &str| {
            (1..=LONGEST).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        if !is_name(os) || !is_name(arch) {
            return Err(PlatformError::Malformed(found()));
        }
        match NOT_GO.into_iter().find(|(name, _)| [os, arch].contains(name)) {
            Some((name, go)) => Err(PlatformError::NotGo { found: found(), name, go }),
            None => Ok(Self { os: os.to_owned(), arch: arch.to_owned() }),
        }
    }

    /// Returns the operating system.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// Returns the architecture.
    pub fn arch(&self) -> &str {
        &self.arch
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let (os, arch) = text.split_once('_').unwrap_or((text, ""));
        Self::new(os, arch)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}_{}", self.os, self.arch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_the_names_of_go_and_no_others() {
        for text in ["", "linux", "linux_", "_amd64", "Linux_amd64", "linux_x86_64", "linux-amd64"]
        {
            let error = text.parse::<Platform>().unwrap_err();
            assert!(matches!(error, PlatformError::Malformed(_)), "{text}: {error}");
        }
        let error = "macos_arm64".parse::<Platform>().unwrap_err().to_string();
        assert_eq!(
            error,
            "platform `macos_arm64` must have the name `darwin` of Go in place of `macos`"
        );
        assert!("linux_aarch64".parse::<Platform>().is_err());
        for text in ["linux_amd64", "darwin_arm64", "windows_386", "freebsd_arm", "linux_loong64"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
    }
}
