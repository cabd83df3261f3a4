//! What is counted of downloads: which principal fetched which version on which day.

use crate::grants::{Download, PackageAccess};
use crate::package::{PackageAddress, Version};

/// The seconds of a day.
const DAY: i64 = 24 * 3600;

/// The principal of downloads that are counted together, because too many are in memory.
///
/// No principal has this text.
pub const OTHER: &str = "other";

/// The downloads that are counted together: of one version, by one principal, on one day.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DownloadKey {
    address: PackageAddress,
    version: Version,
    principal: String,
    day: i64,
}

impl DownloadKey {
    /// Returns the key of a download at `now`, which the access allowed.
    pub fn of(access: &PackageAccess<Download>, version: &Version, now: i64) -> Self {
        Self {
            address: access.address().clone(),
            version: version.clone(),
            principal: access.principal().to_string(),
            day: day(now),
        }
    }

    /// Returns the key of downloads that the store has counted.
    pub fn stored(address: &PackageAddress, version: &Version, principal: &str, day: i64) -> Self {
        let (address, version) = (address.clone(), version.clone());
        Self { address, version, principal: principal.to_owned(), day }
    }

    /// Returns the same key without the principal.
    #[must_use]
    pub fn of_others(mut self) -> Self {
        OTHER.clone_into(&mut self.principal);
        self
    }

    /// Returns whether the key is without a principal.
    pub fn is_of_others(&self) -> bool {
        self.principal == OTHER
    }

    /// Returns the address of the package.
    pub const fn address(&self) -> &PackageAddress {
        &self.address
    }

    /// Returns the version.
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// Returns the principal, or [`OTHER`].
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// Returns the day, as the number of days since 1970-01-01 in UTC.
    pub const fn day(&self) -> i64 {
        self.day
    }
}

/// The latest download of a deprecated version by one principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeprecatedDownload {
    /// The address of the package.
    pub address: PackageAddress,
    /// The version, which was deprecated then.
    pub version: Version,
    /// The day, as the number of days since 1970-01-01 in UTC.
    pub day: i64,
}

/// Returns the day of a time in Unix seconds, as the number of days since 1970-01-01 in UTC.
pub const fn day(now: i64) -> i64 {
    now.div_euclid(DAY)
}

/// Returns the first second of a day, in Unix seconds.
pub const fn start_of(day: i64) -> i64 {
    day.saturating_mul(DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        for (now, expected) in [(-1, -1), (0, 0), (86_399, 0), (86_400, 1), (1_795_169_472, 20_777)]
        {
            assert_eq!(day(now), expected, "{now}");
        }
        assert_eq!(start_of(20_777), 1_795_132_800);
        assert!(start_of(day(i64::MIN)) < 0 && start_of(day(i64::MAX)) > 0);
    }
}
