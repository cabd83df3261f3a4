//! Selects the regions for which proofs may be signed.

use stile_protocol::region::{Partition, REGIONS, Region};

use super::ConfigError;

/// Returns the enabled regions: the named ones, or every commercial region.
pub(super) fn enabled(named: &[String], fips: bool) -> Result<Vec<&'static Region>, ConfigError> {
    if named.is_empty() {
        return Ok(REGIONS
            .iter()
            .filter(|region| region.partition == Partition::Aws && region.host(fips).is_some())
            .collect());
    }
    named
        .iter()
        .map(|name| {
            let region = Region::named(name).ok_or_else(|| ConfigError::Region(name.clone()))?;
            if region.host(fips).is_none() {
                Err(ConfigError::NoFips(region.name))
            } else {
                Ok(region)
            }
        })
        .collect()
}
