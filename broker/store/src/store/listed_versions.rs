//! Remembers which versions have a source or an object, so that their next download costs one read.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use stile_core::package::{PackageAddress, Version};

/// The most versions that [`ListedVersions`] remembers.
const REMEMBERED: usize = 10_000;

/// The versions that this process found to have a source or an object, which the record of the
/// namespace must allow.
///
/// Their next download reads both records in one call. What a version has never changes, so nothing
/// here becomes wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct ListedVersions(Arc<Mutex<HashSet<(PackageAddress, Version)>>>);

impl ListedVersions {
    /// Returns whether the version is remembered.
    pub(super) fn contains(&self, address: &PackageAddress, version: &Version) -> bool {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.contains(&(address.clone(), version.clone()))
    }

    /// Remembers a version.
    pub(super) fn remember(&self, address: &PackageAddress, version: &Version) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= REMEMBERED {
            found.clear();
        }
        found.insert((address.clone(), version.clone()));
    }
}
