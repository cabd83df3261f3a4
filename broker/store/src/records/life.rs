//! The rules of a version's life: its record has every step, and its package lists it while it is
//! published.

use stile_core::package::{LifeChange, PackageAddress, Version};

use super::Records;
use super::model::{PackageRecord, VersionRecord};
use super::mutation::{Mutation, Outcome};
use super::package_document;
use crate::retry::Retry;
use crate::{LifeChanged, StoreError};

impl Records {
    /// Changes the life of a version, and the list of its package, in one commit. `event` returns
    /// the mutation that keeps the event, if there is a listener.
    pub(crate) async fn change_life(
        &self,
        address: &PackageAddress,
        version: &Version,
        change: &LifeChange,
        by: &str,
        now: i64,
        event: impl Fn(&VersionRecord) -> Result<Option<Mutation>, StoreError>,
    ) -> Result<LifeChanged, StoreError> {
        let mut retry = Retry::default();
        loop {
            let Some(record) = self.version(address, version).await? else {
                return Ok(LifeChanged::Absent);
            };
            let Some(after) = record.life.after(change.clone(), by, now) else {
                return Ok(LifeChanged::Unchanged);
            };
            let (was_listed, is_listed) =
                (record.life.unpublished.is_none(), after.unpublished.is_none());
            let mut mutations = vec![Mutation::ChangeLife {
                address: address.clone(),
                version: version.clone(),
                before: record.life.clone(),
                after,
            }];
            if was_listed != is_listed {
                let (package, _) = self.package_and_quota(address).await?;
                let mut package = package.unwrap_or_else(|| package_document::empty(address));
                let before = package.revision;
                if is_listed {
                    package.add(address, version, record.published_at);
                } else {
                    let latest_at = self.latest_at_without(address, &package, &record, version);
                    package.remove(address, version, latest_at.await?);
                }
                mutations.push(Mutation::PutPackage { address: address.clone(), before, package });
            }
            mutations.extend(event(&record)?);
            match self.commit(mutations).await? {
                Outcome::Done => return Ok(LifeChanged::Done),
                Outcome::TooLarge => return Ok(LifeChanged::Full),
                // Another writer changed the version or its package at the same time.
                Outcome::Refused(_) | Outcome::Conflict => retry.wait().await?,
            }
        }
    }

    /// Returns when the version was published that is the latest without this one. 0 if none is left.
    async fn latest_at_without(
        &self,
        address: &PackageAddress,
        package: &PackageRecord,
        removed: &VersionRecord,
        version: &Version,
    ) -> Result<i64, StoreError> {
        if package.latest() != Some(version) {
            return Ok(package.latest_at);
        }
        let Some(next) = package.latest_without(version) else { return Ok(0) };
        let next = self.version(address, next).await?;
        Ok(next.map_or(removed.published_at, |next| next.published_at))
    }
}
