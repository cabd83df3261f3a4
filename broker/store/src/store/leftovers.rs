//! Finds and deletes what lost races and killed processes left: archives that no version names, and
//! temporary files.
//!
//! A broker deletes only archives on a disk. A lock keeps its sweep away from a publish that is in
//! progress in any process. A broker has no right to delete an archive in a bucket.

use std::collections::HashSet;

use stile_core::grants::OperatorAccess;
use stile_core::package::{Format, PackageAddress, Version, sweep_uploads};

use super::Store;
use crate::blobs::{Blobs, Disk, S3, archive_key, file_name, parse_archive_key, sums_keys};
use crate::blocking::blocking;
use crate::files::{ABANDONED, SUPERFLUOUS};
use crate::records::model::{Content, OBJECT_FORMAT, StoredArchive, VersionRecord};
use crate::records::waiting_file::WaitingState;
use crate::records::{DynamoDb, Records};
use crate::{Leftover, Repaired, StoreError, Swept};

impl Store {
    /// Deletes the temporary files that killed processes left a day ago or earlier, and the archives
    /// on a disk that are 30 days old and that no version names.
    ///
    /// It deletes no archive while a publish is in progress; the next sweep does. It also deletes none
    /// if the database can be the wrong one, and raises an alarm.
    pub async fn sweep(&self, now: i64) -> Result<Swept, StoreError> {
        let (blobs, keys) = (self.blobs.clone(), self.keys.clone());
        let audit_key = self.head_signer.key.clone();
        let temporary = blocking(move || {
            let uploads = match &blobs {
                Blobs::Disk(disk) => disk.sweep_temporary(now),
                Blobs::S3(_) => sweep_uploads(&blobs.incoming(), ABANDONED, now),
            };
            Ok(uploads + keys.sweep(now) + audit_key.sweep(now))
        });
        let temporary = temporary.await?;
        let archives = match &self.blobs {
            Blobs::Disk(disk) => {
                let waited = self.sweep_waiting(disk, now.saturating_sub(SUPERFLUOUS)).await?;
                waited
                    + match self.sweep_archives(disk, now.saturating_sub(SUPERFLUOUS)).await? {
                        Sweep::Done(repaired) => repaired.deleted.len(),
                        Sweep::Busy => 0,
                        Sweep::OfOthers { named, old } => {
                            tracing::error!(
                                alarm = "unnamed_archives",
                                named,
                                unnamed = old,
                                "the database does not name most of the old archives, so the broker deletes none; it can be the wrong database; `stile-admin store check` lists them"
                            );
                            0
                        }
                    }
            }
            Blobs::S3(_) => 0,
        };
        Ok(Swept { archives, temporary })
    }

    /// Deletes the files of providers that stopped to wait for a version until then, if no version has
    /// them. Returns their number.
    ///
    /// The records name them until now. So they are never among the files of unknown origin, of which
    /// too many stop the sweep.
    async fn sweep_waiting(&self, disk: &Disk, until: i64) -> Result<usize, StoreError> {
        let Records::Sqlite(sqlite) = &self.records else { return Ok(0) };
        if !sqlite.has_ended_waiting(until).await? || self.named_files().await?.is_none() {
            return Ok(0);
        }
        let Some(lock) = disk.lock_for_sweep().await? else { return Ok(0) };
        let forgotten = sqlite.forget_waiting(until).await?;
        let Some(named) = self.named_files().await? else { return Ok(0) };
        let zip = Format::Zip.extension();
        let unnamed = forgotten.into_iter().filter(|it| !named.contains(&file_name(it, zip)));
        disk.delete_waited(lock, unnamed.collect(), until).await
    }

    /// Deletes the archives on a disk that were written until then and that no version names.
    pub(super) async fn sweep_archives(
        &self,
        disk: &Disk,
        written_until: i64,
    ) -> Result<Sweep, StoreError> {
        let nothing = || Ok(Sweep::Done(Repaired::default()));
        // Without the lock first, because usually there is nothing to delete.
        let Some(named) = self.named_files().await? else { return nothing() };
        let unnamed = disk.unnamed(named.clone()).await?;
        let old = unnamed.iter().filter(|leftover| leftover.written_at <= written_until).count();
        if old == 0 && !disk.has_unnamed_metadata(named, written_until).await? {
            return nothing();
        }
        let Some(lock) = disk.lock_for_sweep().await? else { return Ok(Sweep::Busy) };
        // Publishes that ended before the lock have their records by now.
        let Some(named) = self.named_files().await? else { return nothing() };
        // Of an object in another bucket, only the metadata is here.
        let has_archive = |name: &&String| !name.ends_with(OBJECT_FORMAT);
        let archives = named.iter().filter(has_archive).count();
        let expected = if old == 0 { named.len() } else { archives };
        if !is_of_these_archives(expected, old) {
            return Ok(Sweep::OfOthers { named: expected, old });
        }
        disk.delete_unnamed(lock, named, written_until).await.map(Sweep::Done)
    }

    /// Returns the archives that no version names. It changes nothing.
    ///
    /// An archive of the last minutes can belong to a publish that is in progress.
    pub async fn leftovers(&self, _: &OperatorAccess) -> Result<Vec<Leftover>, StoreError> {
        match (&self.blobs, &self.records) {
            (Blobs::Disk(disk), _) => match self.named_files().await? {
                Some(named) => disk.unnamed(named).await,
                None => Err(newer_release()),
            },
            (Blobs::S3(s3), Records::DynamoDb(dynamodb)) => {
                Ok(unnamed_objects(s3, dynamodb).await?.unnamed)
            }
            (Blobs::S3(_), Records::Sqlite(_)) => Err(cannot_compare()),
        }
    }

    /// Returns the names of the files that versions name. `None` if this program cannot know all of
    /// them.
    pub(super) async fn named_files(&self) -> Result<Option<HashSet<String>>, StoreError> {
        let Records::Sqlite(sqlite) = &self.records else { return Ok(None) };
        let named = sqlite.named_archives().await?;
        let file_names = |named: Vec<(String, String)>| {
            named.iter().map(|(sha256, extension)| file_name(sha256, extension)).collect()
        };
        Ok(named.map(file_names))
    }
}

/// The most archives that a sweep deletes, if the database does not name ten times as many.
const FEW: usize = 16;

/// Returns whether a database that names so many archives, but not these old ones, can be the
/// database of this folder.
///
/// Lost races and kills leave single files. A new database, the one of another folder, or an old
/// backup leaves many, and to delete them would lose versions.
pub(super) const fn is_of_these_archives(named: usize, old: usize) -> bool {
    named > 0 && (old <= FEW || old <= named / 10)
}

pub(super) fn newer_release() -> StoreError {
    StoreError::misconfigured("a newer release wrote this store; hint: use its `stile-admin`")
}

pub(super) fn cannot_compare() -> StoreError {
    StoreError::misconfigured("this program cannot compare a bucket with a database")
}

/// The result of looking for archives to delete.
#[derive(Debug)]
pub(super) enum Sweep {
    /// The old ones are deleted.
    Done(Repaired),
    /// A publish is in progress, so none is deleted.
    Busy,
    /// The records can be those of other archives, so none is deleted.
    OfOthers { named: usize, old: usize },
}

/// The objects of a bucket, compared with the versions of all packages.
#[derive(Debug, Default)]
pub(super) struct Objects {
    /// The number of object versions that versions name.
    pub(super) named: usize,
    /// The object versions that no version names.
    pub(super) unnamed: Vec<Leftover>,
}

pub(super) async fn unnamed_objects(s3: &S3, dynamodb: &DynamoDb) -> Result<Objects, StoreError> {
    // The objects of a package come one after another, so that each package is read once.
    let (mut package, mut named) = (None, NamedObjects::default());
    let mut objects = Objects::default();
    for object in s3.all().await? {
        if let Some((address, version)) = parse_archive_key(&object.archive)
            && package.as_ref() != Some(&(address.clone(), version.clone()))
        {
            let is_other = package.as_ref().is_none_or(|(before, _)| *before != address);
            if is_other {
                named = NamedObjects::of(dynamodb, &address).await?;
            }
            named.add_waiting(dynamodb, &address, &version).await?;
            package = Some((address, version));
        }
        if named.contains(&object) {
            objects.named += 1;
        } else {
            objects.unnamed.push(object);
        }
    }
    Ok(objects)
}

/// The objects that the versions of a package name.
#[derive(Debug, Default)]
pub(super) struct NamedObjects {
    /// The keys of archives, each with the versions of the object.
    archives: HashSet<(String, Option<String>)>,
    /// The keys of signed lists, of which clients get the newest version of the object.
    sums: HashSet<String>,
}

impl NamedObjects {
    /// Reads what a package names, and for a provider also the files that wait for a version.
    pub(super) async fn of(
        dynamodb: &DynamoDb,
        address: &PackageAddress,
    ) -> Result<Self, StoreError> {
        let mut named = Self::default();
        for (version, record) in dynamodb.versions(address).await? {
            named.add_version(address, &version, Some(&record));
        }
        Ok(named)
    }

    /// Adds what a version names, if it exists.
    pub(super) fn add_version(
        &mut self,
        address: &PackageAddress,
        version: &Version,
        record: Option<&VersionRecord>,
    ) {
        let Some(record) = record else { return };
        for (archive, _) in record.archives() {
            self.add(address, version, &archive);
        }
        if let Content::Provider(release) = &record.content {
            self.sums.extend(sums_keys(address, version, &release.sums));
        }
    }

    /// Adds the files that wait for a version.
    pub(super) async fn add_waiting(
        &mut self,
        dynamodb: &DynamoDb,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<(), StoreError> {
        if address.provider().is_some() {
            for (_, waiting) in dynamodb.waiting_files(address, version).await? {
                if let WaitingState::Verified(file) = &waiting.state {
                    self.add(address, version, &StoredArchive::of(file));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, address: &PackageAddress, version: &Version, archive: &StoredArchive) {
        let key = archive_key(address, version, &archive.sha256, archive.format);
        self.archives.insert((key, archive.object_version.clone()));
    }

    /// Returns whether the package names this version of an object.
    pub(super) fn contains(&self, object: &Leftover) -> bool {
        self.archives.contains(&(object.archive.clone(), object.object_version.clone()))
            || self.sums.contains(&object.archive)
    }
}
