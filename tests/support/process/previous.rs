//! Finds the programs of the previous release, which `tests/previous-release` builds from the
//! history.

use std::path::PathBuf;

use crate::process::programs::{program, target};

/// The previous release: its version and its commit. The folder of its fixtures has this name.
pub const PREVIOUS: &str = "0.1.0-cd7453c";

/// The release of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The current sources.
    Current,
    /// [`PREVIOUS`].
    Previous,
}

impl Release {
    /// Returns the path of a program of this release. The program must exist.
    pub fn program(self, name: &str) -> PathBuf {
        match self {
            Self::Current => program(name),
            Self::Previous => folder().join(name),
        }
    }
}

/// Returns whether `tests/previous-release` has built the programs of the previous release.
pub fn is_built() -> bool {
    let commit = std::fs::read_to_string(folder().join("commit"));
    commit.is_ok_and(|commit| PREVIOUS.ends_with(&commit[..7.min(commit.len())]))
}

fn folder() -> PathBuf {
    target().join("previous-release/bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_builds_the_release_of_this_name() {
        let script = include_str!("../../previous-release");
        let commit = script.lines().find_map(|line| line.strip_prefix("commit=")).unwrap();
        assert_eq!(commit.len(), 40);
        assert!(PREVIOUS.ends_with(&commit[..7]), "{commit}");
    }
}
