//! Publishes and finds versions with an object of another bucket. Both check that the namespace
//! allows it.

use aws_config::SdkConfig;
use stile_core::audit::Kept;
use stile_core::grants::{Download, PackageAccess, Upload as UploadRight};
use stile_core::package::source::{AllowedSources, ObjectAddress, SourceRefusal};
use stile_core::package::{Life, NewVersion, PackageAddress, VerifiedArchive, Version};
use stile_core::version_event::{Consists, Happening};

use super::Store;
use super::outbox::Reported;
use crate::blobs::{Blobs, OpenedObject, ReadObject, RecordedObject, SourceBuckets};
use crate::records::compare;
use crate::records::model::{Content, VersionRecord};
use crate::records::stored_object::{ObjectState, StoredObject};
use crate::{
    AwsDeadlines, Destination, Located, Location, ObjectRefusal, PermittedObject, Published,
    SourcePublished, StoreError,
};

impl Store {
    /// Returns the same store, which reads objects of other buckets with this configuration of the SDK.
    #[must_use]
    pub fn reading_objects_with(self, sdk: &SdkConfig, deadlines: AwsDeadlines) -> Self {
        Self { source_buckets: SourceBuckets::with(sdk, deadlines, &self.calls), ..self }
    }

    /// Decides whether a version in the namespace may have this object.
    ///
    /// The bucket of the registry itself has the archives of all namespaces, so it is never allowed.
    pub async fn permit_object(
        &self,
        access: &PackageAccess<UploadRight>,
        object: &ObjectAddress,
    ) -> Result<Result<PermittedObject, SourceRefusal>, StoreError> {
        let allowed = self.records.allowed_sources(access.address().namespace()).await?;
        let region = self.region_of(&allowed, object);
        Ok(region.map(|region| PermittedObject { address: object.clone(), region }))
    }

    /// Returns the region of an object's bucket, if the list allows the object.
    fn region_of(
        &self,
        allowed: &AllowedSources,
        object: &ObjectAddress,
    ) -> Result<&'static str, SourceRefusal> {
        match &self.blobs {
            Blobs::S3(own) if own.is_named(object.bucket()) => Err(SourceRefusal::NotAllowed),
            Blobs::S3(_) | Blobs::Disk(_) => allowed.permit_object(object),
        }
    }

    /// Begins to read the newest version of an object.
    pub async fn open_object(
        &self,
        object: &PermittedObject,
        now: i64,
    ) -> Result<Result<OpenedObject, ObjectRefusal>, StoreError> {
        self.source_buckets.open(object, now).await
    }

    /// Returns the object that the version has, if its bytes have this SHA-256. `None` for a new
    /// version.
    ///
    /// The inner error is the result of publishing an object with this SHA-256, if no object can change
    /// anything: the version exists with other content or as an archive, or the namespace is full.
    pub async fn recorded_object(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        sha256: &str,
    ) -> Result<Result<Option<RecordedObject>, Published>, StoreError> {
        let (existing, quota) = self.records.version_and_quota(access.address(), version).await?;
        let Some(existing) = existing else {
            let exceeded = quota.and_then(|quota| quota.exceeded_by(0));
            return Ok(exceeded.map_or(Ok(None), |exceeded| Err(Published::OverQuota(exceeded))));
        };
        let outcome = compare(&existing, sha256);
        Ok(match existing.content {
            Content::Object(object) if outcome == Published::Same => {
                Ok(Some(RecordedObject(object)))
            }
            _ => Err(outcome),
        })
    }

    /// Publishes a version with an object, if the namespace still allows it. The archive has the
    /// bytes of the object, and the store keeps only its metadata. In the commit that adds the
    /// version, it keeps an event for each listener.
    ///
    /// A version that has another object with the same bytes gets this one. So a publisher can repair a
    /// version whose object was deleted, or was written again.
    pub async fn publish_object(
        &self,
        access: &PackageAccess<UploadRight>,
        new: &NewVersion,
        archive: VerifiedArchive,
        object: ReadObject,
        listeners: &[Destination],
        kept: &Kept,
    ) -> Result<SourcePublished, StoreError> {
        let (address, version) = (access.address(), &new.version);
        // An operator can have changed the list while the object arrived.
        if let Err(refusal) = self.permit_object(access, &object.address).await? {
            return Ok(SourcePublished::Refused(refusal));
        }
        let ReadObject { address: at, bytes, state } = object;
        if archive.bytes() != bytes {
            return Err(StoreError::unavailable(
                format!("cannot read object `{at}`"),
                "S3 sent another number of bytes than it announced",
            ));
        }
        // A sweep must not delete the metadata before the record names it.
        let guarded = self.guard_publish(address, version, archive.sha256(), bytes, kept.at());
        let Some(guard) = guarded.await? else {
            return Ok(SourcePublished::Answered(Published::InProgress));
        };
        let object = StoredObject {
            address: at,
            sha256: archive.sha256().to_owned(),
            format: archive.format(),
            bytes,
            state,
        };
        let published = self.list_object(access, new, &archive, object, listeners, kept).await;
        guard.end_after(&published).await;
        published.map(SourcePublished::Answered)
    }

    /// Stores the metadata of an object, and adds the version or replaces its object.
    async fn list_object(
        &self,
        access: &PackageAccess<UploadRight>,
        new: &NewVersion,
        archive: &VerifiedArchive,
        object: StoredObject,
        listeners: &[Destination],
        kept: &Kept,
    ) -> Result<Published, StoreError> {
        let (address, version, now) = (access.address(), &new.version, kept.at());
        if let Some(json) = archive.metadata() {
            self.blobs.put_metadata(archive.sha256(), json).await?;
        }
        let happening = Happening::Published;
        let reported = Reported { happening, access, version, reason: None, at: now };
        let event =
            self.keep_event(&reported, Consists::Archive(archive.sha256()), listeners).await?;
        let record = VersionRecord {
            content: Content::Object(object.clone()),
            // The registry keeps no copy, so the version counts as no bytes.
            bytes: 0,
            published_by: access.principal().to_string(),
            published_at: now,
            token_id: Some(access.access().token_id().as_str().to_owned()),
            claimed: new.claimed.clone(),
            life: Life::default(),
            search: new.search.clone(),
        };
        let mut outcome = self.records.add_version(address, version, record, event, kept).await?;
        if outcome == Published::Same {
            outcome = self.records.replace_object(address, version, &object, kept).await?;
        }
        Ok(outcome)
    }

    /// Returns the signed URL of an object, or why nobody gets the version.
    pub(super) async fn object_location(
        &self,
        allowed: &AllowedSources,
        object: StoredObject,
        now: i64,
        ttl: i64,
    ) -> Result<Result<Location, Located>, StoreError> {
        let region = match self.region_of(allowed, &object.address) {
            Ok(region) => region,
            Err(refusal) => {
                return Ok(Err(Located::ObjectRefused { object: object.address, refusal }));
            }
        };
        if let ObjectState::Entity(etag) = &object.state
            && let Some(change) = self.source_buckets.change(region, &object, etag, now).await?
        {
            return Ok(Err(Located::ObjectChanged { object: object.address, change }));
        }
        let url = self.source_buckets.presigned(region, &object, now, ttl).await?;
        Ok(Ok(Location::Object { object: object.address, url }))
    }

    /// Returns a version, and the list of its namespace if an earlier read has shown that the version
    /// needs it.
    pub(super) async fn version_and_list(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<(Option<VersionRecord>, Option<AllowedSources>), StoreError> {
        if !self.listed_versions.contains(address, version) {
            return Ok((self.records.version(address, version).await?, None));
        }
        let (found, allowed) = self.records.version_and_sources(address, version).await?;
        Ok((found, Some(allowed)))
    }

    /// Returns the list of the namespace, unless it was read with the version.
    pub(super) async fn list_for(
        &self,
        access: &PackageAccess<Download>,
        version: &Version,
        read: Option<AllowedSources>,
    ) -> Result<AllowedSources, StoreError> {
        if let Some(read) = read {
            return Ok(read);
        }
        self.listed_versions.remember(access.address(), version);
        self.records.allowed_sources(access.address().namespace()).await
    }
}
