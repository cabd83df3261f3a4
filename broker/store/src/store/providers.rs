//! Reads and publishes providers: the signing keys of namespaces, upload sessions of many files, and
//! the places of the files.

use std::collections::{BTreeMap, BTreeSet};

use stile_core::audit::Kept;
use stile_core::grants::{
    ChangesSigningKeys, Download, ListsSigningKeys, PackageAccess, Upload as UploadRight,
};
use stile_core::package::provider::{
    AnnouncedRelease, KeyAdded, KeyId, NamespaceKeys, Platform, Release, ReleaseFile, SigningKey,
};
use stile_core::package::{
    ArchiveUpload, PackageAddress, ProviderText, SignedProviderText, SignedUrl, UploadId,
    VerifiedProviderFile, Version,
};
use stile_core::version_event::{Consists, Happening};

use super::Store;
use super::outbox::Reported;
use crate::blobs::{Blobs, FetchedObject};
use crate::records::model::{AnnouncedUpload, StoredArchive, UploadRecord};
use crate::records::provider_files::Turn;
use crate::records::provider_releases::{NewRelease, ReleaseChange, change_of, release_of};
use crate::records::waiting_file::{WaitingFile, WaitingKey};
use crate::records::{COMPLETE_WITHIN, UploadAdded};
use crate::{
    BegunProviderUpload, Destination, FetchedUpload, KeyRetired, Location, PendingFile,
    PendingProviderUpload, ProviderCompletion, ProviderLocations, ProviderManifest,
    ProviderSession, ProviderVersion, QuotaExceeded, SessionFile, SessionFileState, StoreError,
    TakenTurn, VerificationTurn,
};

impl Store {
    /// Returns the signing keys of a namespace.
    pub async fn signing_keys(
        &self,
        access: &impl ListsSigningKeys,
    ) -> Result<NamespaceKeys, StoreError> {
        Ok(self.records.signing_keys(access.namespace()).await?.keys)
    }

    /// Adds a signing key to a namespace.
    pub async fn add_signing_key(
        &self,
        access: &impl ChangesSigningKeys,
        key: &SigningKey,
        kept: &Kept,
    ) -> Result<KeyAdded, StoreError> {
        let by = (access.actor(), kept);
        self.records.add_signing_key(access.namespace(), key, (&by.0, kept)).await
    }

    /// Retires a signing key of a namespace. From a compromised key's commit on, clients do not get
    /// what it signed. It is safe to repeat: that also writes the warnings that an earlier call did not.
    pub async fn retire_signing_key(
        &self,
        access: &impl ChangesSigningKeys,
        id: &KeyId,
        compromised: bool,
        kept: &Kept,
    ) -> Result<KeyRetired, StoreError> {
        let by = access.actor();
        self.records.retire_signing_key(access.namespace(), id, compromised, (&by, kept)).await
    }

    /// Returns a version of a provider, and the signing keys of its namespace, in one read. `None` if
    /// the version does not exist.
    pub async fn provider_release(
        &self,
        access: &PackageAccess<Download>,
        version: &Version,
    ) -> Result<Option<ProviderVersion>, StoreError> {
        let (found, keys) = self.records.version_and_keys(access.address(), version).await?;
        let Some(record) = found else { return Ok(None) };
        Ok(Some(ProviderVersion {
            release: release_of(&record)?.clone(),
            keys: keys.keys,
            life: record.life,
            published_by: record.published_by,
            token_id: record.token_id,
            published_at: record.published_at,
            claimed: record.claimed,
        }))
    }

    /// Returns where a client can fetch the files of one platform until `ttl` seconds from now.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Corrupt`](crate::StoreErrorKind::Corrupt), if the release has no file for the
    /// platform.
    pub async fn provider_locations(
        &self,
        access: &PackageAccess<Download>,
        version: &Version,
        release: &Release,
        platform: &Platform,
        now: i64,
        ttl: i64,
    ) -> Result<ProviderLocations, StoreError> {
        let address = access.address();
        let absent = || StoreError::corrupt(format!("`{address}` {version} has no `{platform}`"));
        let file = release.files.get(platform).ok_or_else(absent)?;
        let provider = address.provider().ok_or_else(absent)?;
        match &self.blobs {
            Blobs::S3(s3) => s3.provider_locations(address, version, release, file, now, ttl).await,
            Blobs::Disk(_) => {
                let archive = StoredArchive::of(file);
                let expires_at = now.saturating_add(ttl);
                let text = |text| {
                    Location::ProviderText(SignedProviderText {
                        address: provider.clone(),
                        version: version.clone(),
                        text,
                        digest: release.sums.digest(),
                        expires_at,
                    })
                };
                Ok(ProviderLocations {
                    zip: Location::Local(SignedUrl {
                        sha256: archive.sha256,
                        format: archive.format,
                        expires_at,
                    }),
                    sums: text(ProviderText::Sums),
                    signature: text(ProviderText::Signature),
                })
            }
        }
    }

    /// Returns the content that a signed URL names. `None` if the version does not exist, or has another
    /// signed list by now.
    ///
    /// The signature of the URL is the right to read it.
    pub async fn provider_text(
        &self,
        url: &SignedProviderText,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let address = PackageAddress::Provider(url.address.clone());
        let Some(record) = self.records.version(&address, &url.version).await? else {
            return Ok(None);
        };
        let sums = &release_of(&record)?.sums;
        if sums.digest() != url.digest {
            return Ok(None);
        }
        Ok(Some(match url.text {
            ProviderText::Sums => sums.text.clone().into_bytes(),
            ProviderText::Signature => sums.signature.clone(),
        }))
    }

    /// Returns the key of the published version, if exactly this signed list is published and clients get
    /// it: also if the key was retired since and signs nothing new.
    pub async fn published_by_key(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        announced: &AnnouncedRelease,
    ) -> Result<Option<KeyId>, StoreError> {
        let (existing, keys) = self.records.version_and_keys(access.address(), version).await?;
        let Some(published) = existing.as_ref().map(release_of).transpose()? else {
            return Ok(None);
        };
        let sums = &published.sums;
        let is_same = sums.text == announced.sums.text()
            && sums.signature == announced.unverified_signature
            && keys.keys.for_download(&sums.key_id).is_some();
        Ok(is_same.then(|| sums.key_id.clone()))
    }

    /// Returns the announced files of a published version that are not at their place, if the list is the
    /// published one. The publisher can bring them back.
    async fn lost(
        &self,
        address: &PackageAddress,
        version: &Version,
        (published, manifest): (Option<&Release>, &ProviderManifest),
    ) -> Result<Vec<ReleaseFile>, StoreError> {
        let mut lost = Vec::new();
        let same = published.filter(|published| published.sums.text == manifest.sums.text());
        let files = same.iter().flat_map(|published| &published.files);
        for (_, file) in files.filter(|(platform, _)| manifest.bytes.contains_key(platform)) {
            let archive = StoredArchive::of(file);
            if !self.blobs.exists(address, version, &archive, file.bytes).await? {
                lost.push(file.clone());
            }
        }
        Ok(lost)
    }

    /// Begins to upload the files of a version that the registry does not have yet, or has lost.
    pub async fn begin_provider_upload(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        manifest: &ProviderManifest,
        now: i64,
    ) -> Result<BegunProviderUpload, StoreError> {
        let address = access.address();
        let (existing, keys) = self.records.version_and_keys(address, version).await?;
        let published = existing.as_ref().map(release_of).transpose()?;
        let change = published.map(|published| change_of(published, manifest, &keys.keys, now));
        let lost = match &change {
            Some(ReleaseChange::Same | ReleaseChange::Grows) => {
                self.lost(address, version, (published, manifest)).await?
            }
            _ => Vec::new(),
        };
        match change {
            Some(ReleaseChange::Same) if lost.is_empty() => return Ok(BegunProviderUpload::Same),
            Some(ReleaseChange::Stale(platforms)) => {
                return Ok(BegunProviderUpload::Stale(platforms));
            }
            Some(ReleaseChange::Different(platform)) => {
                return Ok(BegunProviderUpload::Different(platform));
            }
            Some(ReleaseChange::NotReplaced(reason)) => {
                return Ok(BegunProviderUpload::NotReplaced(reason));
            }
            Some(ReleaseChange::Same | ReleaseChange::Grows) | None => {}
        }
        let id = UploadId::random().map_err(|error| {
            StoreError::unavailable("cannot generate a random id for the upload", error)
        })?;
        let waiting = self.waiting_keys(address, version, &lost, now).await?;
        let known = (published, &waiting, lost);
        let mut pending = pending(access, version, id, manifest.clone(), known);
        let missing: Vec<&PendingFile> =
            pending.files.iter().filter(|file| !file.is_verified).collect();
        let unannounced: Vec<Platform> = missing
            .iter()
            .filter(|file| file.bytes == 0)
            .map(|file| file.platform.clone())
            .collect();
        if !unannounced.is_empty() {
            return Ok(BegunProviderUpload::Unannounced(unannounced));
        }
        let mut files = Vec::new();
        for file in &pending.files {
            let state = match (file.is_verified, &self.blobs) {
                (true, _) => SessionFileState::Verified,
                (false, Blobs::Disk(_)) => SessionFileState::Missing { put: None },
                (false, Blobs::S3(s3)) => {
                    let put = Some(s3.provider_put(&pending.id, file, now).await?);
                    SessionFileState::Missing { put }
                }
            };
            files.push(SessionFile {
                name: file.name.clone(),
                platform: file.platform.clone(),
                sha256: file.sha256.clone(),
                state,
            });
        }
        // The quota counts only what is new or lost.
        let new = |platform: &Platform| {
            let file = published.and_then(|published| published.files.get(platform));
            file.is_none_or(|file| pending.lost.contains(file))
        };
        pending.manifest.bytes.retain(|platform, _| new(platform));
        let PendingProviderUpload { id, manifest, .. } = pending;
        let announced = AnnouncedUpload::Release(Box::new(manifest));
        let principal = access.principal();
        let added =
            self.records.add_upload(id.clone(), principal, address, version, announced, now);
        Ok(match added.await? {
            UploadAdded::Done => BegunProviderUpload::Session(ProviderSession {
                id,
                expires_at: now.saturating_add(COMPLETE_WITHIN),
                files,
            }),
            UploadAdded::OverQuota(exceeded) => BegunProviderUpload::OverQuota(exceeded),
            UploadAdded::TooManyOpen => BegunProviderUpload::TooManyOpen,
        })
    }

    /// Returns a session that this principal began for this version and that has not ended. `None`
    /// for every other id.
    pub async fn provider_upload(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        id: &UploadId,
        now: i64,
    ) -> Result<Option<PendingProviderUpload>, StoreError> {
        let (principal, address) = (access.principal(), access.address());
        let found = self.records.pending_upload(principal, address, version, id, now).await?;
        let Some(UploadRecord { id, announced: AnnouncedUpload::Release(manifest), .. }) = found
        else {
            return Ok(None);
        };
        let existing = self.records.version(address, version).await?;
        let published = existing.as_ref().map(release_of).transpose()?;
        let lost = self.lost(address, version, (published, &manifest)).await?;
        let waiting = self.waiting_keys(address, version, &lost, now).await?;
        Ok(Some(pending(access, version, id, *manifest, (published, &waiting, lost))))
    }

    /// Takes the turn to verify a file of a session, unless another request has it. `is_received` says
    /// whether the file came with the request, so that the reason why an earlier one was refused is old.
    ///
    /// A turn that nobody ends, ends after two minutes.
    pub async fn begin_verification(
        &self,
        pending: &PendingProviderUpload,
        name: &str,
        is_received: bool,
        now: i64,
    ) -> Result<VerificationTurn, StoreError> {
        let file = file_of(pending, name)?;
        if file.is_verified {
            return Ok(VerificationTurn::Verified);
        }
        let (address, version, key) = (&pending.address, &pending.version, key_of(file));
        let upload = (!is_received).then(|| pending.id.as_str());
        Ok(
            match self
                .records
                .take_turn(
                    address,
                    version,
                    &key,
                    (upload, |file: &ReleaseFile| {
                        self.is_there(file) && !pending.lost.contains(file)
                    }),
                    now,
                )
                .await?
            {
                Turn::Taken(taken) => VerificationTurn::Taken(TakenTurn {
                    address: address.clone(),
                    version: version.clone(),
                    platform: key.platform,
                    sha256: key.sha256,
                    upload: pending.id.as_str().to_owned(),
                    revision: taken.revision.0,
                    keep_until: taken.keep_until,
                }),
                Turn::Verified => VerificationTurn::Verified,
                Turn::InProgress => VerificationTurn::InProgress,
                Turn::Refused(problem) => VerificationTurn::Refused(problem),
            },
        )
    }

    /// Ends a turn. If that fails, the turn ends by itself. `problem` is why the bytes were refused, if the
    /// client does not wait for the answer any more: the next request of its session gets it.
    pub async fn end_verification(&self, turn: TakenTurn, problem: Option<String>) {
        if let Err(error) = self.records.give_turn_back(turn, problem).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot end the turn to verify a file; it ends by itself in two minutes"
            );
        }
    }

    /// Fetches a file that was put into the bucket, into a file that must still be verified.
    pub async fn fetch_provider_file(
        &self,
        pending: &PendingProviderUpload,
        name: &str,
        into: &mut ArchiveUpload,
    ) -> Result<FetchedUpload, StoreError> {
        let file = file_of(pending, name)?;
        let Blobs::S3(s3) = &self.blobs else { return Ok(FetchedUpload::Nothing) };
        Ok(match s3.fetch_provider_file(&pending.id, file, into).await? {
            FetchedObject::All { .. } => FetchedUpload::All,
            FetchedObject::Nothing => FetchedUpload::Nothing,
        })
    }

    /// Stores a verified file at its place, where it waits for a day for the completion of this session
    /// or a later one. Returns the limit of the namespace that it would exceed, and then stores nothing.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Misconfigured`](crate::StoreErrorKind::Misconfigured), if it is not the file
    /// that the session has under this name.
    pub async fn put_provider_file(
        &self,
        pending: &PendingProviderUpload,
        name: &str,
        verified: VerifiedProviderFile,
        now: i64,
    ) -> Result<Option<QuotaExceeded>, StoreError> {
        let file = file_of(pending, name)?;
        if *verified.platform() != file.platform || verified.sha256() != file.sha256 {
            return Err(StoreError::misconfigured("the verified file is not the announced one"));
        }
        let (address, version, key) = (&pending.address, &pending.version, key_of(file));
        let exceeded = self.records.waiting_exceeds(address, version, (&key, file.bytes), now);
        if let Some(exceeded) = exceeded.await? {
            return Ok(Some(exceeded));
        }
        // Until the record names the file, no sweep may delete it.
        let _lock = match &self.blobs {
            Blobs::Disk(disk) => Some(disk.lock_for_publish().await?),
            Blobs::S3(_) => None,
        };
        let stored = self.blobs.put_provider_file(address, version, verified).await?;
        self.records.put_verified(address, version, &key, &stored, now).await?;
        Ok(None)
    }

    /// Completes a session: joins the files that are verified, and the signed list, to a version. It
    /// reads no file. In the same commit, it keeps an event for each listener.
    pub async fn complete_provider_upload(
        &self,
        access: &PackageAccess<UploadRight>,
        pending: PendingProviderUpload,
        listeners: &[Destination],
        kept: &Kept,
    ) -> Result<ProviderCompletion, StoreError> {
        let (address, version, now) = (access.address(), &pending.version, kept.at());
        if *address != pending.address {
            return Err(StoreError::misconfigured("the session is for another provider"));
        }
        let _lock = match &self.blobs {
            Blobs::Disk(disk) => Some(disk.lock_for_publish().await?),
            Blobs::S3(_) => None,
        };
        let mut verified: BTreeMap<Platform, ReleaseFile> = BTreeMap::new();
        for (key, waiting) in self.records.waiting_files(address, version).await? {
            let Some(file) = waiting.verified(now) else { continue };
            if self.is_there(file)
                && !pending.lost.contains(file)
                && pending.manifest.sums.files().get(&key.platform) == Some(&key.sha256)
            {
                verified.insert(key.platform, file.clone());
            }
        }
        let put_sums = async {
            match &self.blobs {
                Blobs::S3(s3) => {
                    s3.put_sums(address, version, &pending.manifest.signed_sums()).await
                }
                Blobs::Disk(_) => Ok(()),
            }
        };
        let sha256 = pending.sha256();
        let happening = Happening::Published;
        let reported = Reported { happening, access, version, reason: None, at: now };
        let event = self.keep_event(&reported, Consists::Archive(&sha256), listeners).await?;
        let new = NewRelease {
            address,
            version,
            manifest: &pending.manifest,
            verified: &verified,
            lost: &pending.lost,
            published_by: access.principal().to_string(),
            token_id: access.access().token_id().as_str().to_owned(),
        };
        let completion = self.records.put_release(&new, put_sums, event, kept).await?;
        if matches!(completion, ProviderCompletion::Published(_)) {
            self.end_provider_upload(access, pending).await;
        }
        Ok(completion)
    }

    /// Returns the files that wait for a version and are at their place, with their keys.
    async fn waiting_keys(
        &self,
        address: &PackageAddress,
        version: &Version,
        lost: &[ReleaseFile],
        now: i64,
    ) -> Result<BTreeSet<WaitingKey>, StoreError> {
        let found = self.records.waiting_files(address, version).await?;
        let is_there = |file: &ReleaseFile| self.is_there(file) && !lost.contains(file);
        let waits = |file: &WaitingFile| file.verified(now).is_some_and(is_there);
        Ok(found.into_iter().filter(|(_, file)| waits(file)).map(|(key, _)| key).collect())
    }

    /// Returns whether a file that waits is at its place. A restored backup has the records of such
    /// files, and not the files.
    fn is_there(&self, file: &ReleaseFile) -> bool {
        let archive = StoredArchive::of(file);
        match &self.blobs {
            Blobs::Disk(disk) => disk.exists(&archive.sha256, archive.format, file.bytes),
            // A file counts as verified only if nobody deletes its object.
            Blobs::S3(_) => true,
        }
    }

    /// Deletes the record of a session that has ended. The bucket deletes what was put there after a
    /// day.
    async fn end_provider_upload(
        &self,
        access: &PackageAccess<UploadRight>,
        pending: PendingProviderUpload,
    ) {
        self.records.end_upload(pending.id, access.address().namespace()).await;
    }
}

fn file_of<'a>(
    pending: &'a PendingProviderUpload,
    name: &str,
) -> Result<&'a PendingFile, StoreError> {
    pending
        .file(name)
        .ok_or_else(|| StoreError::misconfigured("the session has no file with this name"))
}

fn key_of(file: &PendingFile) -> WaitingKey {
    WaitingKey { platform: file.platform.clone(), sha256: file.sha256.clone() }
}

/// Returns a session with what the registry has of its files.
fn pending(
    access: &PackageAccess<UploadRight>,
    version: &Version,
    id: UploadId,
    manifest: ProviderManifest,
    (published, waiting, lost): (Option<&Release>, &BTreeSet<WaitingKey>, Vec<ReleaseFile>),
) -> PendingProviderUpload {
    let mut pending = PendingProviderUpload {
        id,
        address: access.address().clone(),
        version: version.clone(),
        manifest,
        files: Vec::new(),
        lost,
    };
    let files = pending.manifest.sums.files().iter().map(|(platform, sha256)| {
        let file = published.and_then(|published| published.files.get(platform));
        let is_published = file.is_some_and(|file| !pending.lost.contains(file));
        let key = WaitingKey { platform: platform.clone(), sha256: sha256.clone() };
        PendingFile {
            name: pending.name_of(platform),
            platform: platform.clone(),
            sha256: sha256.clone(),
            bytes: pending.manifest.bytes.get(platform).copied().unwrap_or_default(),
            is_verified: is_published || waiting.contains(&key),
        }
    });
    pending.files = files.collect();
    pending
}
