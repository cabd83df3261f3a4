//! Packages as the broker reads and publishes them, and uploads past the broker.

use std::path::PathBuf;

use bytes::Bytes;
use stile_core::grants::{Download, PackageAccess, PermittedNamespaces, Upload as UploadRight};
use stile_core::package::{
    AnnouncedArchive, ArchiveUpload, ModuleSummary, UploadId, VerifiedArchive, Version,
};
use stile_protocol::names::Namespace;

use super::Store;
use crate::blobs::FetchedObject;
use crate::records::compare;
use crate::records::model::VersionRecord;
use crate::{BegunUpload, FetchedUpload, Location, PendingUpload, Published, StoreError};

impl Store {
    /// The ready-made document of a package's versions; `None` where nothing is published.
    pub async fn versions_document(
        &self,
        access: &PackageAccess<Download>,
    ) -> Result<Option<Bytes>, StoreError> {
        self.records.package_document(access.address()).await
    }

    /// Where a client fetches one published version until `ttl` seconds from now; `None` where there is no such version.
    pub async fn location(
        &self,
        access: &PackageAccess<Download>,
        version: &Version,
        now: i64,
        ttl: i64,
    ) -> Result<Option<Location>, StoreError> {
        let address = access.address();
        let Some(archive) = self.records.version(address, version).await? else { return Ok(None) };
        self.blobs.location(address, version, archive, now, ttl).await.map(Some)
    }

    /// The modules within reach, in order of address, from `offset` on; at most `limit`.
    pub async fn modules(
        &self,
        reach: &PermittedNamespaces,
        namespace: Option<&Namespace>,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<ModuleSummary>, StoreError> {
        self.records.modules(reach, namespace, offset, limit).await
    }

    /// Publishes an archive that was checked.
    pub async fn publish(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        archive: VerifiedArchive,
        now: i64,
    ) -> Result<Published, StoreError> {
        let (address, bytes) = (access.address(), archive.bytes());
        // Checked first, so that a version that is taken costs no archive; decided again in the transaction.
        if let Some(published) = self.records.version(address, version).await? {
            let outcome = compare(&published, archive.sha256());
            let same = outcome == Published::Same && published.format == archive.format();
            // An archive that was lost comes back when the same bytes are sent again.
            if same && !self.blobs.is_there(address, version, &published, bytes).await? {
                let put_back = self.blobs.keep(address, version, archive).await?;
                if put_back != published {
                    self.records.move_archive(address, version, put_back).await?;
                }
            }
            return Ok(outcome);
        }
        let record = VersionRecord {
            archive: self.blobs.keep(address, version, archive).await?,
            bytes,
            published_by: access.principal().to_string(),
            published_at: now,
        };
        self.records.add_version(address, version, record).await
    }

    /// What publishing these bytes would come to without a change: [`Published::Same`] or [`Published::Different`]; `None`
    /// where there is no such version, or its archive was lost and can be put back.
    pub async fn published(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        announced: &AnnouncedArchive,
    ) -> Result<Option<Published>, StoreError> {
        let address = access.address();
        let Some(archive) = self.records.version(address, version).await? else { return Ok(None) };
        let outcome = compare(&archive, &announced.sha256);
        let lost = outcome == Published::Same
            && !self.blobs.is_there(address, version, &archive, announced.bytes).await?;
        Ok((!lost).then_some(outcome))
    }

    /// Begins an upload that does not come through the broker, where archives can come another way.
    pub async fn begin_upload(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        announced: &AnnouncedArchive,
        now: i64,
    ) -> Result<BegunUpload, StoreError> {
        let id = UploadId::random().map_err(|error| {
            StoreError::unavailable("there is no randomness to name an upload with", error)
        })?;
        let begun = self.blobs.begin_upload(&id, announced, now).await?;
        if let BegunUpload::Session(_) = begun {
            let (principal, address) = (access.principal(), access.address());
            self.records.add_upload(id, principal, address, version, announced, now).await?;
        }
        Ok(begun)
    }

    /// An upload that this principal began for this version and that has not ended; `None` for every other id.
    pub async fn pending_upload(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        id: &UploadId,
        now: i64,
    ) -> Result<Option<PendingUpload>, StoreError> {
        self.records.pending_upload(access.principal(), access.address(), version, id, now).await
    }

    /// Fetches what was put there into a file that is still to be checked.
    pub async fn fetch_upload(
        &self,
        pending: &mut PendingUpload,
        into: &mut ArchiveUpload,
    ) -> Result<FetchedUpload, StoreError> {
        let fetched = self.blobs.fetch_upload(&pending.id, &pending.announced, into).await?;
        Ok(match fetched {
            FetchedObject::All { object_version } => {
                pending.object_version = object_version;
                FetchedUpload::All
            }
            FetchedObject::Nothing => FetchedUpload::Nothing,
        })
    }

    /// Clears away what an upload left; what cannot be cleared away now is later, by the bucket and by the records.
    pub async fn end_upload(&self, pending: PendingUpload) {
        if let Some(object_version) = &pending.object_version {
            self.blobs.delete_upload(&pending.id, object_version).await;
        }
        self.records.end_upload(pending.id).await;
    }

    /// The folder in which an upload grows until it is checked.
    pub fn incoming(&self) -> PathBuf {
        self.blobs.incoming()
    }
}
