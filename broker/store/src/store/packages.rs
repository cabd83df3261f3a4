//! Reads and publishes packages, including uploads that go directly to the bucket.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use stile_core::audit::Kept;
use stile_core::grants::{Download, PackageAccess, PermittedNamespaces, Upload as UploadRight};
use stile_core::package::{
    AnnouncedArchive, ArchiveUpload, Life, LifeChange, ModuleSummary, NewVersion, PackageAddress,
    PackageKind, ProviderSummary, UploadId, VerifiedArchive, Version,
};
use stile_core::search::SearchEntry;
use stile_core::usage::DownloadKey;
use stile_core::version_event::{Consists, Happening};
use stile_protocol::names::Namespace;

use super::Store;
use super::outbox::{Reported, consists};
use crate::blobs::{FetchedObject, SpaceAllocation};
use crate::records::model::{
    AnnouncedUpload, Content, PackagesPage, StoredArchive, UploadRecord, VersionRecord,
};
use crate::records::{COUNTS_PER_COMMIT, UploadAdded, compare};
use crate::{
    AfterDownload, BegunUpload, Destination, DownloadTotal, FetchedUpload, LifeChanged, Located,
    Location, PendingUpload, Published, PublishedObject, StoreError, VersionDetails,
};

impl Store {
    /// Returns the versions document of a package. `None` if no version is published.
    pub async fn versions_document(
        &self,
        access: &PackageAccess<Download>,
    ) -> Result<Option<Bytes>, StoreError> {
        self.records.package_document(access.address()).await
    }

    /// Returns where a client can fetch one version until `ttl` seconds from now, or that it is
    /// unpublished. `None` if the version does not exist.
    pub async fn location(
        &self,
        access: &PackageAccess<Download>,
        version: &Version,
        now: i64,
        ttl: i64,
    ) -> Result<Option<Located>, StoreError> {
        let address = access.address();
        // The record of the namespace is read in the same call, if the version needs it.
        let (found, allowed) = self.version_and_list(address, version).await?;
        let Some(published) = found else { return Ok(None) };
        if let Some(step) = published.life.unpublished {
            return Ok(Some(Located::Unpublished(step)));
        }
        let is_deprecated = published.life.deprecated.is_some();
        let location = match published.content {
            Content::Archive(archive) => {
                self.blobs.location(address, version, archive, now, ttl).await?
            }
            Content::Source(source) => {
                let allowed = self.list_for(access, version, allowed).await?;
                match allowed.permit(&source) {
                    Ok(()) => Location::Source(source),
                    Err(refusal) => return Ok(Some(Located::SourceRefused { source, refusal })),
                }
            }
            Content::Object(object) => {
                let allowed = self.list_for(access, version, allowed).await?;
                match self.object_location(&allowed, object, now, ttl).await? {
                    Ok(location) => location,
                    Err(refused) => return Ok(Some(refused)),
                }
            }
            Content::Provider(_) => return Err(no_archive(address)),
        };
        Ok(Some(Located::At { location, is_deprecated }))
    }

    /// Returns everything that the store records of one version. `None` if it does not exist.
    pub async fn version_details(
        &self,
        access: &PackageAccess<Download>,
        version: &Version,
    ) -> Result<Option<VersionDetails>, StoreError> {
        let record = self.records.version(access.address(), version).await?;
        Ok(record.map(|record| {
            let (mut sha256, mut format, mut bytes) = (None, None, record.bytes);
            let (mut source, mut object) = (None, None);
            match record.content {
                Content::Archive(archive) => {
                    (sha256, format) = (Some(archive.sha256), Some(archive.format));
                }
                Content::Provider(release) => sha256 = Some(release.sha256()),
                Content::Source(found) => source = Some(found),
                Content::Object(found) => {
                    (sha256, format) = (Some(found.sha256), Some(found.format));
                    bytes = found.bytes;
                    let version = found.state.version().map(str::to_owned);
                    object = Some(PublishedObject { address: found.address, version });
                }
            }
            VersionDetails {
                sha256,
                format,
                bytes,
                source,
                object,
                published_by: record.published_by,
                token_id: record.token_id,
                published_at: record.published_at,
                claimed: record.claimed,
                life: record.life,
            }
        }))
    }

    /// Changes the life of a version. In the same commit, it keeps an event for each listener.
    pub async fn change_life(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        change: &LifeChange,
        listeners: &[Destination],
        kept: &Kept,
    ) -> Result<LifeChanged, StoreError> {
        let by = access.principal().to_string();
        let reason = change.explanation().map(|explanation| explanation.reason.as_str());
        let happening = Happening::from(change);
        let reported = Reported { happening, access, version, reason, at: kept.at() };
        let event = |record: &VersionRecord| self.event(&reported, consists(&record.content));
        let (address, step) = (access.address(), (by.as_str(), kept));
        self.records.change_life(address, version, change, step, event, listeners).await
    }

    /// Returns at most `limit` modules of the permitted namespaces, in order of address, from
    /// `offset` on.
    pub async fn modules(
        &self,
        reach: &PermittedNamespaces,
        namespace: Option<&Namespace>,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<ModuleSummary>, StoreError> {
        let page = PackagesPage { reach, namespace, offset, limit };
        let found = self.records.summaries(PackageKind::Module, &page).await?;
        let module = |address: PackageAddress| address.module().cloned();
        Ok(found.into_iter().filter_map(|summary| summary.with_address(module)).collect())
    }

    /// Returns at most `limit` providers of the permitted namespaces, in order of address, from
    /// `offset` on.
    pub async fn providers(
        &self,
        reach: &PermittedNamespaces,
        namespace: Option<&Namespace>,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<ProviderSummary>, StoreError> {
        let page = PackagesPage { reach, namespace, offset, limit };
        let found = self.records.summaries(PackageKind::Provider, &page).await?;
        let provider = |address: PackageAddress| address.provider().cloned();
        Ok(found.into_iter().filter_map(|summary| summary.with_address(provider)).collect())
    }

    /// Returns the namespaces that have modules.
    ///
    /// The names are for a cache that all callers share. Show a caller only those that it may read.
    pub async fn namespaces_with_modules(&self) -> Result<BTreeSet<Namespace>, StoreError> {
        let modules = self.modules(&PermittedNamespaces::All, None, 0, usize::MAX).await?;
        Ok(modules.into_iter().map(|module| module.address.namespace).collect())
    }

    /// Returns the modules of a namespace that the reach permits, each with the text of its latest
    /// version. None if it does not permit the namespace.
    pub async fn search_entries(
        &self,
        reach: &PermittedNamespaces,
        namespace: &Namespace,
    ) -> Result<Vec<SearchEntry>, StoreError> {
        if !reach.permits(namespace) {
            return Ok(Vec::new());
        }
        self.records.search_entries(namespace).await
    }

    /// Adds at most [`COUNTS_PER_COMMIT`] counts of downloads, and records
    /// which of them are of deprecated versions, at most one of each principal. Each key comes from
    /// the access that allowed the downloads.
    pub async fn count_downloads(
        &self,
        counts: Vec<(DownloadKey, u64)>,
        deprecated: Vec<DownloadKey>,
        now: i64,
    ) -> Result<(), StoreError> {
        self.records.count_downloads(counts, deprecated, now).await
    }

    /// Returns at most `limit` totals of the downloads of a package since a day, as they were
    /// counted, from the one after `after` on.
    pub async fn downloads(
        &self,
        access: &PackageAccess<UploadRight>,
        since: i64,
        after: &AfterDownload,
        limit: usize,
    ) -> Result<Vec<DownloadTotal>, StoreError> {
        self.records.downloads(access.address(), since, after, limit).await
    }

    /// Records for those who downloaded a version since a day, at most `limit` of them, that it is
    /// deprecated or unpublished now.
    pub async fn record_deprecated(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        since: i64,
        limit: usize,
        now: i64,
    ) -> Result<(), StoreError> {
        let address = access.address();
        let totals = self.records.who_downloaded(address, version, since, limit).await?;
        for some in totals.chunks(COUNTS_PER_COMMIT) {
            let deprecated = some.iter().map(|total| {
                DownloadKey::stored(address, version, &total.principal, total.last_day)
            });
            self.records.count_downloads(Vec::new(), deprecated.collect(), now).await?;
        }
        Ok(())
    }

    /// Publishes a verified archive. In the commit that adds the version, it keeps an event for each
    /// listener.
    pub async fn publish(
        &self,
        access: &PackageAccess<UploadRight>,
        new: &NewVersion,
        archive: VerifiedArchive,
        listeners: &[Destination],
        kept: &Kept,
    ) -> Result<Published, StoreError> {
        let (address, version, bytes) = (access.address(), &new.version, archive.bytes());
        let now = kept.at();
        // Look up the version first, so that an existing version costs no transfer of the archive.
        // The transaction checks again.
        let (existing, quota) = self.records.version_and_quota(address, version).await?;
        if let Some(existing) = existing {
            let outcome = compare(&existing, archive.sha256());
            let Content::Archive(published) = existing.content else { return Ok(outcome) };
            let same = outcome == Published::Same && published.format == archive.format();
            // If the archive was lost, the same bytes restore it.
            if same && !self.blobs.exists(address, version, &published, bytes).await? {
                let guarded = self.guard_publish(address, version, archive.sha256(), bytes, now);
                let Some(_guard) = guarded.await? else { return Ok(Published::InProgress) };
                self.restore(address, version, &published, archive).await?;
            }
            return Ok(outcome);
        }
        // Otherwise, a refused archive would stay in the bucket.
        if let Some(exceeded) = quota.and_then(|quota| quota.exceeded_by(bytes)) {
            return Ok(Published::OverQuota(exceeded));
        }
        let guarded = self.guard_publish(address, version, archive.sha256(), bytes, now);
        let Some(guard) = guarded.await? else { return Ok(Published::InProgress) };
        let published = self.put_and_list(access, new, archive, listeners, kept).await;
        guard.end_after(&published).await;
        published
    }

    /// Stores the archive of a published version again, whose own one was lost.
    async fn restore(
        &self,
        address: &PackageAddress,
        version: &Version,
        published: &StoredArchive,
        archive: VerifiedArchive,
    ) -> Result<(), StoreError> {
        let restored = self.blobs.put(address, version, archive).await?;
        if restored == *published {
            return Ok(());
        }
        self.records.move_archive(address, version, restored).await
    }

    /// Stores the archive of a new version, and then adds the version.
    async fn put_and_list(
        &self,
        access: &PackageAccess<UploadRight>,
        new: &NewVersion,
        archive: VerifiedArchive,
        listeners: &[Destination],
        kept: &Kept,
    ) -> Result<Published, StoreError> {
        let (address, version, bytes) = (access.address(), &new.version, archive.bytes());
        let now = kept.at();
        let happening = Happening::Published;
        let reported = Reported { happening, access, version, reason: None, at: now };
        let consists = Consists::Archive(archive.sha256());
        let event = self.keep_event(&reported, consists, listeners).await?;
        let record = VersionRecord {
            content: Content::Archive(self.blobs.put(address, version, archive).await?),
            bytes,
            published_by: access.principal().to_string(),
            published_at: now,
            token_id: Some(access.access().token_id().as_str().to_owned()),
            claimed: new.claimed.clone(),
            life: Life::default(),
            search: new.search.clone(),
        };
        self.records.add_version(address, version, record, event, kept).await
    }

    /// Returns the result of publishing these bytes if that would change nothing:
    /// [`Published::Same`], [`Published::Different`] or [`Published::Unpublished`].
    ///
    /// Returns `None` if the version does not exist, or if its archive was lost and the bytes would
    /// restore it.
    pub async fn published(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        announced: &AnnouncedArchive,
    ) -> Result<Option<Published>, StoreError> {
        let address = access.address();
        let Some(existing) = self.records.version(address, version).await? else {
            return Ok(None);
        };
        let outcome = compare(&existing, &announced.sha256);
        let Content::Archive(archive) = existing.content else { return Ok(Some(outcome)) };
        let lost = outcome == Published::Same
            && !self.blobs.exists(address, version, &archive, announced.bytes).await?;
        Ok((!lost).then_some(outcome))
    }

    /// Begins an upload that goes directly to the bucket, if the store has a bucket.
    pub async fn begin_upload(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        announced: &AnnouncedArchive,
        now: i64,
    ) -> Result<BegunUpload, StoreError> {
        let id = UploadId::random().map_err(|error| {
            StoreError::unavailable("cannot generate a random id for the upload", error)
        })?;
        let begun = self.blobs.begin_upload(&id, announced, now).await?;
        if !matches!(begun, BegunUpload::Session(_)) {
            return Ok(begun);
        }
        let (principal, address) = (access.principal(), access.address());
        let announced = AnnouncedUpload::Archive(announced.clone());
        let added = self.records.add_upload(id, principal, address, version, announced, now);
        Ok(match added.await? {
            UploadAdded::Done => begun,
            UploadAdded::OverQuota(exceeded) => BegunUpload::OverQuota(exceeded),
            UploadAdded::TooManyOpen => BegunUpload::TooManyOpen,
        })
    }

    /// Returns an upload that this principal began for this version and that has not ended. `None`
    /// for every other id.
    pub async fn pending_upload(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        id: &UploadId,
        now: i64,
    ) -> Result<Option<PendingUpload>, StoreError> {
        let (principal, address) = (access.principal(), access.address());
        let found = self.records.pending_upload(principal, address, version, id, now).await?;
        Ok(found.and_then(|UploadRecord { id, announced, .. }| match announced {
            AnnouncedUpload::Archive(announced) => {
                Some(PendingUpload { id, announced, object_version: None })
            }
            AnnouncedUpload::Release(_) => None,
        }))
    }

    /// Fetches the uploaded object into a file that must still be verified.
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

    /// Deletes what an upload left. If a deletion fails, the bucket and the record store delete it
    /// later.
    pub async fn end_upload(&self, access: &PackageAccess<UploadRight>, pending: PendingUpload) {
        if let Some(object_version) = &pending.object_version {
            self.blobs.delete_upload(&pending.id, object_version).await;
        }
        self.records.end_upload(pending.id, access.address().namespace()).await;
    }

    /// Allocates disk space for an archive that arrives. `announced` is its length, if the client
    /// sent it.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Full`](crate::StoreErrorKind::Full), if the upload would leave less free
    /// space than the reserve.
    pub fn allocate_space(
        &self,
        announced: Option<u64>,
        now: i64,
    ) -> Result<SpaceAllocation, StoreError> {
        self.blobs.allocate(announced, now)
    }

    /// Checks that the disk has free space for a small archive. A store on AWS always has.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Full`](crate::StoreErrorKind::Full), if the broker refuses to publish.
    pub fn check_space(&self) -> Result<(), StoreError> {
        self.blobs.check_space()
    }

    /// Returns the folder for uploads that are not verified yet.
    pub fn incoming(&self) -> PathBuf {
        self.blobs.incoming()
    }
}

/// Creates the error for a request that has an archive, about a package of another kind.
fn no_archive(address: &PackageAddress) -> StoreError {
    StoreError::corrupt(format!("a version of `{address}` has no archive of its own"))
}
