//! The rules of versions: each is published once, and listed in order.

use stile_core::audit::{self, Chain, Kept};
use stile_core::package::{PackageAddress, Version};

use super::model::{Content, StoredArchive, VersionRecord};
use super::mutation::{Mutation, Outcome};
use super::outbox::KeptEvent;
use super::stored_object::StoredObject;
use super::{Records, package_document};
use crate::retry::Retry;
use crate::{Published, StoreError};

/// The most versions of one package, on every kind of store.
///
/// Each publication writes the whole list of versions, and other writers of an embedded store wait
/// meanwhile. Without a limit, one publisher slows down everyone.
pub(super) const MAX_VERSIONS: usize = 10_000;

impl Records {
    /// Adds a version whose archive is stored already, and lists it. `event` keeps the
    /// event of it, if there is a listener.
    pub(crate) async fn add_version(
        &self,
        address: &PackageAddress,
        version: &Version,
        record: VersionRecord,
        event: Option<KeptEvent>,
        kept: &Kept,
    ) -> Result<Published, StoreError> {
        let mut retry = Retry::default();
        loop {
            let (package, quota) = self.package_and_quota(address).await?;
            let mut package = package.unwrap_or_else(|| package_document::empty(address));
            let full = (package.versions.len() >= MAX_VERSIONS).then_some(Published::Full);
            let exceeded = quota.and_then(|quota| quota.exceeded_by(record.bytes));
            if let Some(full) = full.or(exceeded.map(Published::OverQuota)) {
                let published = self.version(address, version).await?;
                let same = |published: VersionRecord| compare(&published, &record.content.sha256());
                return Ok(published.map_or(full, same));
            }
            let before = package.revision;
            package.add(address, version, record.published_at);
            let mut mutations = vec![Mutation::AddVersion {
                address: address.clone(),
                version: version.clone(),
                record: record.clone(),
            }];
            if package.latest() == Some(version) {
                package.set_source(address, record.claimed.as_ref());
                mutations.extend(search_text(address, &record));
            }
            mutations.push(Mutation::PutPackage { address: address.clone(), before, package });
            mutations.extend(quota.map(|quota| Mutation::CountVersion {
                namespace: address.namespace().clone(),
                bytes: record.bytes,
                is_new: true,
                quota,
            }));
            mutations.extend(event.as_ref().and_then(KeptEvent::mutation));
            let (chain, created) = (Chain::from(address.namespace()), audit::Outcome::Created);
            match self.commit_audited(&chain, mutations, kept, created).await? {
                Outcome::Done => {
                    event.iter().for_each(KeptEvent::report_dropped);
                    return Ok(Published::Created);
                }
                Outcome::TooLarge => return Ok(Published::Full),
                // Another writer has published this version in the meantime.
                Outcome::Refused(0) => {
                    let published = self.version(address, version).await?.ok_or_else(|| {
                        StoreError::busy("the version changed during its publication")
                    })?;
                    return Ok(compare(&published, &record.content.sha256()));
                }
                // Another writer has published another version, or is about to. Or the namespace has
                // other limits or more versions than it had.
                Outcome::Refused(_) | Outcome::Conflict => retry.wait().await?,
            }
        }
    }

    /// Makes a published version use the restored archive. Clients get the same bytes as before, so
    /// it is no change for the audit.
    pub(crate) async fn move_archive(
        &self,
        address: &PackageAddress,
        version: &Version,
        archive: StoredArchive,
    ) -> Result<(), StoreError> {
        let moved = Mutation::MoveArchive {
            address: address.clone(),
            version: version.clone(),
            sha256: archive.sha256,
            object_version: archive.object_version,
        };
        match self.commit_with_retries(vec![moved]).await? {
            Outcome::Done => {
                tracing::warn!(package = %address, %version, "restored a lost archive");
                Ok(())
            }
            _ => Err(StoreError::busy("the version changed while the store restored its archive")),
        }
    }

    /// Makes a published version use another object with the same bytes, if it has an object.
    pub(crate) async fn replace_object(
        &self,
        address: &PackageAddress,
        version: &Version,
        after: &StoredObject,
        kept: &Kept,
    ) -> Result<Published, StoreError> {
        let mut retry = Retry::default();
        loop {
            let existing = self.version(address, version).await?.ok_or_else(|| {
                StoreError::busy("the version changed while the store replaced its object")
            })?;
            let outcome = compare(&existing, &after.sha256);
            let Content::Object(before) = existing.content else { return Ok(outcome) };
            if outcome != Published::Same || before == *after {
                return Ok(outcome);
            }
            let replaced = Mutation::ReplaceObject {
                address: address.clone(),
                version: version.clone(),
                before,
                after: after.clone(),
            };
            let (chain, changed) = (Chain::from(address.namespace()), audit::Outcome::Changed);
            match self.commit_audited(&chain, vec![replaced], kept, changed).await? {
                Outcome::Done => return Ok(Published::Replaced),
                // Another writer has changed the version in the meantime.
                _ => retry.wait().await?,
            }
        }
    }
}

/// Returns the change of the text by which a module is found, if this is its latest version. Only
/// modules are found by a text.
pub(super) fn search_text(address: &PackageAddress, latest: &VersionRecord) -> Option<Mutation> {
    let (address, text) = (address.module()?.clone(), latest.search.clone());
    Some(Mutation::PutSearchText { address, text })
}

/// Returns the result of publishing these bytes if the version exists already.
pub(crate) fn compare(existing: &VersionRecord, sha256: &str) -> Published {
    match (existing.content.sha256() == sha256, &existing.life.unpublished) {
        (false, _) => Published::Different,
        (true, None) => Published::Same,
        (true, Some(_)) => Published::Unpublished,
    }
}
