//! Archives as files named by digest. A file is written under a temporary name, synced and renamed,
//! and never changes afterwards.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stile_core::package::{Format, VerifiedArchive, VerifiedProviderFile};
use tempfile::NamedTempFile;

use super::disk_space::{DISK_RESERVE, DiskSpace};
use super::metadata_files;
use crate::blocking::blocking;
use crate::files;
use crate::{EmbeddedDeadlines, Leftover, Repaired, StoreError};

/// The file of the lock that all publishers share. Only a sweep of archives takes it alone.
const LOCK: &str = "archives.lock";

/// The folder with the metadata of archives.
const METADATA: &str = "metadata";

/// Prefix of the name of a file that the health check writes.
const PROBE_PREFIX: &str = ".tmp";

/// Number of bytes that the health check writes to each folder.
const PROBE_BYTES: usize = 64 * 1024;

/// Archives in a folder on this machine.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: Arc<PathBuf>,
    space: Arc<DiskSpace>,
    /// How long a publisher waits for a sweep.
    deadline: Duration,
}

/// The lock of a publisher. Until it is dropped, no sweep deletes an archive.
#[derive(Debug)]
pub(crate) struct PublishLock {
    _file: File,
}

/// The lock of a sweep. While it exists, no publisher is between its archive and its record.
#[derive(Debug)]
pub(crate) struct SweepLock {
    _file: File,
}

impl Disk {
    /// Creates the missing folders, readable only by their owner.
    pub(crate) fn init(folder: &Path) -> Result<(), StoreError> {
        let failed = |error: io::Error| {
            StoreError::unavailable(format!("cannot create `{}`", folder.display()), error)
        };
        for path in [folder.to_path_buf(), folder.join("archives"), folder.join("incoming")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        }
        Ok(())
    }

    /// Opens the archives in an existing folder.
    pub(crate) fn open(folder: &Path, deadlines: EmbeddedDeadlines) -> Self {
        let space = Arc::new(DiskSpace::new(folder, DISK_RESERVE));
        Self { folder: Arc::new(folder.to_path_buf()), space, deadline: deadlines.writer }
    }

    /// Returns the same archives with another reserve of free space, in bytes.
    pub(crate) fn with_reserve(self, reserve: u64) -> Self {
        Self { space: Arc::new(DiskSpace::new(&self.folder, reserve)), ..self }
    }

    /// Returns the free space for uploads.
    pub(crate) const fn space(&self) -> &Arc<DiskSpace> {
        &self.space
    }

    /// Returns the folder for uploads that are not verified yet. It is on the same file system as
    /// the archives.
    pub(crate) fn incoming(&self) -> PathBuf {
        self.folder.join("incoming")
    }

    fn archives(&self) -> PathBuf {
        self.folder.join("archives")
    }

    /// Returns the path of an archive's file.
    pub fn archive(&self, sha256: &str, format: Format) -> PathBuf {
        self.folder.join(archive_path(sha256, format))
    }

    /// Moves a verified archive to its path. When this returns, the file is on disk under its name.
    pub(crate) async fn put(&self, archive: VerifiedArchive) -> Result<(), StoreError> {
        let place = self.archive(archive.sha256(), archive.format());
        blocking(move || put(archive.into_file(), &place)).await
    }

    /// Moves the verified file of a provider to its path, as [`Disk::put`] does.
    pub(crate) async fn put_provider_file(
        &self,
        file: VerifiedProviderFile,
    ) -> Result<(), StoreError> {
        let place = self.archive(file.sha256(), Format::Zip);
        blocking(move || put(file.into_file(), &place)).await
    }

    fn metadata_folder(&self) -> PathBuf {
        self.folder.join(METADATA)
    }

    /// Writes the metadata of an archive, or replaces it.
    pub(crate) async fn put_metadata(
        &self,
        sha256: String,
        json: Vec<u8>,
    ) -> Result<(), StoreError> {
        let (folder, incoming) = (self.metadata_folder(), self.incoming());
        blocking(move || metadata_files::put(&folder, &sha256, &json, &incoming)).await
    }

    /// Reads the metadata of an archive. `None` if there is none.
    pub(crate) async fn metadata(&self, sha256: String) -> Result<Option<Vec<u8>>, StoreError> {
        let folder = self.metadata_folder();
        blocking(move || metadata_files::read(&folder, &sha256)).await
    }

    /// Returns whether there is metadata written until then whose archive is not in the set.
    pub(crate) async fn has_unnamed_metadata(
        &self,
        named: HashSet<String>,
        written_until: i64,
    ) -> Result<bool, StoreError> {
        let folder = self.metadata_folder();
        blocking(move || {
            let old = metadata_files::old_and_unnamed(&folder, &named, written_until)?;
            Ok(!old.is_empty())
        })
        .await
    }

    /// Returns whether an archive of this size exists.
    pub(crate) fn exists(&self, sha256: &str, format: Format, bytes: u64) -> bool {
        fs::metadata(self.archive(sha256, format)).is_ok_and(|file| file.len() == bytes)
    }

    /// Returns the name of the folder, for messages.
    pub(crate) fn name(&self) -> String {
        format!("data folder {}", self.folder.display())
    }

    /// Checks that files can be written to the folders of uploads and of archives.
    pub(crate) async fn health_check(&self) -> Result<(), StoreError> {
        let folders = [self.incoming(), self.archives()];
        blocking(move || {
            folders.iter().try_for_each(|folder| {
                let written = tempfile::Builder::new()
                    .prefix(PROBE_PREFIX)
                    .tempfile_in(folder)
                    .and_then(|mut file| file.write_all(&[0; PROBE_BYTES]));
                written.map_err(|error| {
                    StoreError::unavailable(
                        format!("cannot write to `{}`", folder.display()),
                        error,
                    )
                })
            })
        })
        .await
    }

    /// Takes the lock of a publisher. Publishers share it, in this process and in others.
    ///
    /// A publisher holds it from before it stores its archive until the record names the archive.
    pub(crate) async fn lock_for_publish(&self) -> Result<PublishLock, StoreError> {
        let (path, deadline) = (self.folder.join(LOCK), self.deadline);
        blocking(move || {
            let file = open_lock(&path)?;
            match files::lock_in_time(|| file.try_lock_shared(), deadline) {
                Ok(true) => Ok(PublishLock { _file: file }),
                Ok(false) => Err(StoreError::busy(format!(
                    "a sweep of the archives holds the lock `{}`",
                    path.display()
                ))),
                Err(error) => Err(cannot_lock(&path, error)),
            }
        })
        .await
    }

    /// Takes the lock of a sweep. Returns `None` if a publisher has its lock.
    pub(crate) async fn lock_for_sweep(&self) -> Result<Option<SweepLock>, StoreError> {
        let path = self.folder.join(LOCK);
        blocking(move || {
            let file = open_lock(&path)?;
            match file.try_lock() {
                Ok(()) => Ok(Some(SweepLock { _file: file })),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(error)) => Err(cannot_lock(&path, error)),
            }
        })
        .await
    }

    /// Returns the archives whose file name is not in the set, in order.
    pub(crate) async fn unnamed(
        &self,
        named: HashSet<String>,
    ) -> Result<Vec<Leftover>, StoreError> {
        let archives = self.archives();
        blocking(move || unnamed(&archives, &named)).await
    }

    /// Deletes the archives written until then whose file name is not in the set, and the metadata
    /// without an archive in the set. Returns what it deleted, and the archives that it could not.
    ///
    /// The set must be read after the lock was taken.
    pub(crate) async fn delete_unnamed(
        &self,
        lock: SweepLock,
        named: HashSet<String>,
        written_until: i64,
    ) -> Result<Repaired, StoreError> {
        let folder = Arc::clone(&self.folder);
        blocking(move || {
            let mut repaired = Repaired::default();
            for leftover in unnamed(&folder.join("archives"), &named)? {
                let path = folder.join(&leftover.archive);
                // A process of an earlier release, which takes no lock, may have written it again.
                let is_old = fs::symlink_metadata(&path)
                    .is_ok_and(|metadata| metadata.mtime() <= written_until);
                if !is_old {
                    continue;
                }
                match fs::remove_file(&path) {
                    Ok(()) => {
                        tracing::info!(archive = %path.display(), "deleted an archive that no version names");
                        repaired.deleted.push(leftover);
                    }
                    Err(error) => repaired.kept.push((leftover, error.to_string())),
                }
            }
            let metadata = folder.join(METADATA);
            for path in metadata_files::old_and_unnamed(&metadata, &named, written_until)? {
                if fs::remove_file(&path).is_ok() {
                    tracing::info!(metadata = %path.display(), "deleted metadata of an archive that no version names");
                }
            }
            drop(lock);
            Ok(repaired)
        })
        .await
    }

    /// Deletes the zip archives with these digests that were written until then. Returns their number.
    pub(crate) async fn delete_waited(
        &self,
        lock: SweepLock,
        digests: BTreeSet<String>,
        written_until: i64,
    ) -> Result<usize, StoreError> {
        let folder = Arc::clone(&self.folder);
        blocking(move || {
            let paths = digests.iter().map(|sha256| folder.join(archive_path(sha256, Format::Zip)));
            let deleted = paths.filter(|path| {
                let is_old =
                    fs::symlink_metadata(path).is_ok_and(|file| file.mtime() <= written_until);
                is_old && fs::remove_file(path).is_ok()
            });
            let deleted = deleted.count();
            drop(lock);
            Ok(deleted)
        })
        .await
    }

    /// Deletes the temporary files that killed processes left. Returns their number.
    pub(crate) fn sweep_temporary(&self, now: i64) -> usize {
        files::delete_abandoned(&self.incoming(), "", now)
            + files::delete_abandoned(&self.archives(), PROBE_PREFIX, now)
    }
}

/// Returns the path of an archive's file in a data folder.
pub(crate) fn archive_path(sha256: &str, format: Format) -> PathBuf {
    let subfolder = sha256.get(..2).unwrap_or_default();
    Path::new("archives").join(subfolder).join(file_name(sha256, format.extension()))
}

/// Returns the path of the metadata of an archive in a data folder.
pub(crate) fn metadata_path(sha256: &str) -> PathBuf {
    metadata_files::place(Path::new(METADATA), sha256)
}

/// Returns the name of an archive's file.
pub(crate) fn file_name(sha256: &str, extension: &str) -> String {
    format!("{sha256}.{extension}")
}

fn open_lock(path: &Path) -> Result<File, StoreError> {
    files::open_lock(path).map_err(|error| cannot_lock(path, error))
}

fn cannot_lock(path: &Path, error: io::Error) -> StoreError {
    StoreError::unavailable(format!("cannot lock `{}`", path.display()), error)
}

/// Returns the archives in the folder whose file name is not in the set, in order.
fn unnamed(archives: &Path, named: &HashSet<String>) -> Result<Vec<Leftover>, StoreError> {
    let failed = |error: io::Error| {
        StoreError::unavailable(format!("cannot read `{}`", archives.display()), error)
    };
    let mut found = Vec::new();
    for subfolder in fs::read_dir(archives).map_err(failed)? {
        let subfolder = subfolder.map_err(failed)?;
        if !subfolder.file_type().map_err(failed)?.is_dir() {
            continue;
        }
        for entry in fs::read_dir(subfolder.path()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (folder, name) = (subfolder.file_name(), entry.file_name());
            let (Some(folder), Some(name)) = (folder.to_str(), name.to_str()) else { continue };
            if !is_archive(folder, name) || named.contains(name) {
                continue;
            }
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => found.push(Leftover {
                    archive: format!("archives/{folder}/{name}"),
                    object_version: None,
                    bytes: metadata.len(),
                    written_at: metadata.mtime(),
                }),
                Ok(_) => {}
                // Another sweep has deleted it in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    found.sort_by(|one, other| one.archive.cmp(&other.archive));
    Ok(found)
}

/// Returns whether this program gives such a name to an archive in that folder.
fn is_archive(folder: &str, name: &str) -> bool {
    name.split_once('.').is_some_and(|(sha256, extension)| {
        sha256.len() == 64
            && sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && sha256.starts_with(folder)
            && folder.len() == 2
            && Format::from_extension(extension).is_some()
    })
}

fn put(file: NamedTempFile, place: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| {
        StoreError::unavailable(format!("cannot write `{}`", place.display()), error)
    };
    let subfolder = place.parent().unwrap_or(place);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(subfolder).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(place).map_err(|error| failed(error.error))?;
    files::sync_folder(subfolder).map_err(failed)?;
    files::sync_folder(subfolder.parent().unwrap_or(subfolder)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_with_the_name_of_an_archive_can_be_a_leftover() {
        let sha256 = "ab".repeat(32);
        for (folder, name, expected) in [
            ("ab", format!("{sha256}.zip"), true),
            ("ab", format!("{sha256}.tar.gz"), true),
            ("cd", format!("{sha256}.zip"), false),
            ("a", format!("{sha256}.zip"), false),
            ("ab", format!("{sha256}.tar"), false),
            ("ab", sha256.clone(), false),
            ("ab", format!("{}.zip", sha256.to_ascii_uppercase()), false),
            ("ab", "abc.zip".to_owned(), false),
        ] {
            assert_eq!(is_archive(folder, &name), expected, "{folder}/{name}");
        }
    }

    #[tokio::test]
    async fn publishers_share_their_lock_and_a_sweep_has_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let deadlines = EmbeddedDeadlines::within(Duration::ZERO);
        let disks = [(); 2].map(|()| Disk::open(folder.path(), deadlines));
        let first = disks[0].lock_for_publish().await.unwrap();
        let second = disks[1].lock_for_publish().await.unwrap();
        assert!(disks[1].lock_for_sweep().await.unwrap().is_none(), "two publish");
        drop(first);
        assert!(disks[0].lock_for_sweep().await.unwrap().is_none(), "one publishes");
        drop(second);
        let sweep = disks[0].lock_for_sweep().await.unwrap().unwrap();
        assert!(disks[1].lock_for_sweep().await.unwrap().is_none(), "another sweep");
        let refused = disks[1].lock_for_publish().await.unwrap_err();
        assert_eq!(refused.kind(), crate::StoreErrorKind::Busy);
        drop(sweep);
        disks[1].lock_for_publish().await.unwrap();
    }
}
