//! The rules of a version's life: its record has every step, and its package lists it while it is
//! published.

use stile_core::audit::{self, Chain, Kept};
use stile_core::package::{LifeChange, PackageAddress, Version};
use stile_core::version_event::VersionEvent;

use super::Records;
use super::model::VersionRecord;
use super::mutation::{Mutation, Outcome};
use super::outbox::KeptEvent;
use super::package_document;
use super::packages::{MAX_VERSIONS, search_text};
use crate::retry::Retry;
use crate::{Destination, LifeChanged, StoreError};

impl Records {
    /// Changes the life of a version, and the list of its package, and keeps the event for each
    /// listener, in one commit. `event` makes it.
    pub(crate) async fn change_life(
        &self,
        address: &PackageAddress,
        version: &Version,
        change: &LifeChange,
        (by, kept): (&str, &Kept),
        event: impl Fn(&VersionRecord) -> Result<VersionEvent, StoreError>,
        listeners: &[Destination],
    ) -> Result<LifeChanged, StoreError> {
        let mut retry = Retry::default();
        loop {
            let Some(record) = self.version(address, version).await? else {
                return Ok(LifeChanged::Absent);
            };
            let Some(after) = record.life.after(change.clone(), by, kept.at()) else {
                return Ok(LifeChanged::Unchanged);
            };
            let changed = VersionRecord { life: after.clone(), ..record.clone() };
            let (was_listed, is_listed) = (record.is_listed(), changed.is_listed());
            let mut mutations = vec![Mutation::ChangeLife {
                address: address.clone(),
                version: version.clone(),
                before: record.life.clone(),
                after,
            }];
            // The document of a provider has the warnings of its versions.
            let is_described = address.provider().is_some();
            let keys = self.keys_of(address).await?;
            if was_listed != is_listed || is_described {
                let (package, _) = self.package_and_quota(address).await?;
                let mut package = package.unwrap_or_else(|| package_document::empty(address));
                let before = package.revision;
                let latest_before = package.latest().cloned();
                if is_listed && !was_listed && package.versions.len() >= MAX_VERSIONS {
                    return Ok(LifeChanged::Full);
                }
                if is_listed {
                    package.add(address, version, record.published_at);
                    package.describe(address, version, &changed, &keys.distrusted());
                    package.set_warnings(address);
                } else {
                    package.remove(address, version);
                }
                let latest = package.latest().cloned();
                if latest != latest_before {
                    let latest = self.latest(address, latest, (version, &record)).await?;
                    package.latest_at = latest.as_ref().map_or(0, |latest| latest.published_at);
                    let claimed = latest.as_ref().and_then(|latest| latest.claimed.as_ref());
                    package.set_source(address, claimed);
                    mutations.extend(latest.and_then(|latest| search_text(address, &latest)));
                }
                mutations.push(Mutation::PutPackage { address: address.clone(), before, package });
            }
            if is_described {
                let (namespace, before) = (address.namespace().clone(), keys.revision);
                mutations.push(Mutation::KeepSigningKeys { namespace, before });
            }
            let mut to_send = None;
            if !listeners.is_empty() {
                to_send = Some(self.keep_event(event(&record)?, listeners).await);
            }
            mutations.extend(to_send.as_ref().and_then(KeptEvent::mutation));
            let (chain, changed) = (Chain::from(address.namespace()), audit::Outcome::Changed);
            match self.commit_audited(&chain, mutations, kept, changed).await? {
                Outcome::Done => {
                    to_send.iter().for_each(KeptEvent::report_dropped);
                    return Ok(LifeChanged::Done);
                }
                Outcome::TooLarge => return Ok(LifeChanged::Full),
                // Another writer changed the version or its package at the same time.
                Outcome::Refused(_) | Outcome::Conflict => retry.wait().await?,
            }
        }
    }

    /// Returns the latest version of a package, which may be the one at hand. `None` if no version is
    /// listed.
    async fn latest(
        &self,
        address: &PackageAddress,
        latest: Option<Version>,
        (version, record): (&Version, &VersionRecord),
    ) -> Result<Option<VersionRecord>, StoreError> {
        match latest {
            None => Ok(None),
            Some(latest) if latest == *version => Ok(Some(record.clone())),
            Some(latest) => self.version(address, &latest).await,
        }
    }
}
