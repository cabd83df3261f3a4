//! Checks each package: whether its archives exist, and whether its list of versions is as the records
//! of the versions say it.

use std::collections::{BTreeSet, HashSet};

use stile_core::audit::Kept;
use stile_core::grants::OperatorAccess;
use stile_core::package::{PackageAddress, Version};

use super::Store;
use super::leftovers::{cannot_compare, newer_release};
use crate::blobs::{Blobs, archive_key, parse_archive_key};
use crate::records::Records;
use crate::records::model::StoredArchive;
use crate::records::package_state::PackageState;
use crate::{CheckedPackage, PackageFault, PackageFaultKind, Relisted, StoreError};

/// How often a package is read until a fault counts. The reads of one package on AWS are not of one
/// moment, so a commit in between can look like a fault.
const READS: usize = 3;

/// The packages of a store, and the objects in its bucket.
#[derive(Debug)]
pub struct StoredPackages {
    packages: BTreeSet<PackageAddress>,
    /// The keys of the objects in the bucket, each with its version.
    objects: HashSet<(String, String)>,
}

impl StoredPackages {
    /// Returns the packages, in order.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = &PackageAddress> {
        self.packages.iter()
    }
}

impl Store {
    /// Returns all packages, also one of which only an archive in the bucket is left.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Misconfigured`](crate::StoreErrorKind::Misconfigured), if a newer release wrote
    /// the data folder: this program does not know everything in it.
    pub async fn stored_packages(&self, _: &OperatorAccess) -> Result<StoredPackages, StoreError> {
        let mut objects = HashSet::new();
        let mut packages = BTreeSet::new();
        match (&self.blobs, &self.records) {
            (Blobs::Disk(_), Records::Sqlite(_)) => {
                if self.named_files().await?.is_none() {
                    return Err(newer_release());
                }
            }
            (Blobs::S3(s3), _) => {
                for object in s3.all().await? {
                    packages.extend(parse_archive_key(&object.archive).map(|(package, _)| package));
                    objects.extend(object.object_version.map(|version| (object.archive, version)));
                }
            }
            (Blobs::Disk(_), Records::DynamoDb(_)) => return Err(cannot_compare()),
        }
        packages.extend(self.records.packages().await?);
        Ok(StoredPackages { packages, objects })
    }

    /// Checks one of these packages. It changes nothing.
    ///
    /// It reads a package with a fault three times, because publishes can be in progress.
    pub async fn check_package(
        &self,
        _: &OperatorAccess,
        stored: &StoredPackages,
        address: &PackageAddress,
    ) -> Result<CheckedPackage, StoreError> {
        let state = self.records.package_state(address).await?;
        let versions = state.versions.len();
        let mut faults = self.faults(stored, address, &state).await?;
        for _ in 1..READS {
            if faults.is_empty() {
                break;
            }
            let again = self.records.package_state(address).await?;
            let again = self.faults(stored, address, &again).await?;
            faults.retain(|fault| again.contains(fault));
        }
        Ok(CheckedPackage {
            address: address.clone(),
            versions,
            faults: faults.into_iter().collect(),
        })
    }

    /// Makes the list of a package as the records of its versions say it.
    pub async fn relist(
        &self,
        _: &OperatorAccess,
        address: &PackageAddress,
        kept: &Kept,
    ) -> Result<Relisted, StoreError> {
        self.records.relist(address, kept).await
    }

    async fn faults(
        &self,
        stored: &StoredPackages,
        address: &PackageAddress,
        state: &PackageState,
    ) -> Result<BTreeSet<PackageFault>, StoreError> {
        let mut faults = state.faults(address);
        for (text, record) in &state.versions {
            let Some(record) = record else { continue };
            let Ok(version) = Version::parse(text) else { continue };
            for (archive, bytes) in record.archives() {
                if !self.has_archive(stored, address, &version, &archive, bytes).await? {
                    let (version, kind) = (Some(text.clone()), PackageFaultKind::MissingArchive);
                    faults.insert(PackageFault { version, kind });
                }
            }
        }
        Ok(faults)
    }

    async fn has_archive(
        &self,
        stored: &StoredPackages,
        address: &PackageAddress,
        version: &Version,
        archive: &StoredArchive,
        bytes: u64,
    ) -> Result<bool, StoreError> {
        if let Blobs::S3(_) = &self.blobs {
            let Some(object_version) = archive.object_version.clone() else { return Ok(false) };
            let key = archive_key(address, version, &archive.sha256, archive.format);
            if stored.objects.contains(&(key, object_version)) {
                return Ok(true);
            }
        }
        // An object can be newer than the list of the objects.
        self.blobs.exists(address, version, archive, bytes).await
    }
}
