//! The rules of versions: each is published once, and listed in order.

use stile_core::package::{PackageAddress, Version};

use super::model::{StoredArchive, VersionRecord};
use super::mutation::{Mutation, Outcome};
use super::{Records, package_document};
use crate::retry::Retry;
use crate::{Published, StoreError};

impl Records {
    /// Adds a version whose archive is in its place, and lists it.
    pub(crate) async fn add_version(
        &self,
        address: &PackageAddress,
        version: &Version,
        record: VersionRecord,
    ) -> Result<Published, StoreError> {
        let mut retry = Retry::default();
        loop {
            let mut package =
                self.package(address).await?.unwrap_or_else(|| package_document::empty(address));
            let before = package.revision;
            package.add(address, version, record.published_at);
            let mutations = vec![
                Mutation::AddVersion {
                    address: address.clone(),
                    version: version.clone(),
                    record: record.clone(),
                },
                Mutation::PutPackage { address: address.clone(), before, package },
            ];
            match self.commit(mutations).await? {
                Outcome::Done => return Ok(Published::Created),
                Outcome::TooLarge => return Ok(Published::Full),
                // Somebody published this version meanwhile.
                Outcome::Refused(0) => {
                    let archive = self.version(address, version).await?.ok_or_else(|| {
                        StoreError::busy("a version changed while it was published")
                    })?;
                    return Ok(compare(&archive, &record.archive.sha256));
                }
                // Somebody published another one, or was about to.
                Outcome::Refused(_) | Outcome::Conflict => retry.again().await?,
            }
        }
    }

    /// Has a published version lead to an archive that was put back.
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
        match self.settle(vec![moved]).await? {
            Outcome::Done => {
                tracing::warn!(package = %address, %version, "an archive that was lost is there again");
                Ok(())
            }
            _ => Err(StoreError::busy("a version changed while its archive was put back")),
        }
    }
}

/// What publishing these bytes comes to where a version is published already.
pub(crate) fn compare(archive: &StoredArchive, sha256: &str) -> Published {
    if archive.sha256 == sha256 { Published::Same } else { Published::Different }
}
