//! Helpers for the files of a data folder. They make a rename durable, take locks, delete files that
//! a killed process left, and reject files that other users can change or that this user cannot open.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};
use rustix::process::{Uid, geteuid, getuid};

use crate::StoreError;

/// Syncs a folder, so that a rename in it survives a crash of the machine.
///
/// # Errors
///
/// The error of the operating system, for example if the user may not read the folder.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Age at which a file that nobody needs is deleted, in seconds. A process of an earlier release,
/// which takes no locks, can still need a younger one.
pub(crate) const ABANDONED: i64 = 24 * 3600;

/// Age at which an archive that no version names is deleted, in seconds.
///
/// A backup of the database that is put back names no version of the time after it. Until then their
/// archives are still there, so a newer backup can be put back as well.
pub(crate) const SUPERFLUOUS: i64 = 30 * 24 * 3600;

/// Deletes the abandoned files in the folder whose name starts with `prefix`, except those that a
/// living process has locked. Returns their number.
pub(crate) fn delete_abandoned(folder: &Path, prefix: &str, now: i64) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let written_until = now.saturating_sub(ABANDONED);
    let is_deleted = |entry: &fs::DirEntry| {
        entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes())
            && entry
                .metadata()
                .is_ok_and(|metadata| metadata.is_file() && metadata.mtime() <= written_until)
            && open_to_lock(&entry.path())
                .is_ok_and(|file| file.try_lock().is_ok() && fs::remove_file(entry.path()).is_ok())
    };
    entries.flatten().filter(is_deleted).count()
}

/// Opens a file for an exclusive lock. NFS version 4 gives it only if the file is open for writing.
fn open_to_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Rejects a file or folder that users other than its owner can change. It may be missing.
///
/// # Errors
///
/// [`StoreErrorKind::Misconfigured`](crate::StoreErrorKind::Misconfigured), with the path, its mode
/// and the command that repairs it.
pub(crate) fn reject_writable_by_others(path: &Path) -> Result<(), StoreError> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| {
            StoreError::unavailable(format!("cannot read `{}`", path.display()), error)
        })?,
    };
    let mode = metadata.permissions().mode();
    if mode & 0o022 == 0 {
        return Ok(());
    }
    Err(StoreError::misconfigured(format!(
        "users other than its owner can write to `{0}` (mode {1}); hint: run `chmod go-w {0}`",
        path.display(),
        octal(mode)
    )))
}

/// Fails if this process has no permission for that access to a file or folder. It may be missing.
///
/// It opens nothing: to close a file of a database would release the locks of this process on it.
///
/// # Errors
///
/// [`StoreErrorKind::Misconfigured`](crate::StoreErrorKind::Misconfigured), with the path, its
/// owner and what repairs it.
pub(crate) fn require_access(path: &Path, wanted: Access) -> Result<(), StoreError> {
    match access(path, wanted).map_err(io::Error::from) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(permission_denied(path, getuid().as_raw()))
        }
        // For another error, the attempt itself gives the better message.
        _ => Ok(()),
    }
}

/// Returns the error for a path that this user may not use.
fn permission_denied(path: &Path, user: u32) -> StoreError {
    let shown = path.display();
    let (owner, hint) = match fs::metadata(path).map(|metadata| metadata.uid()) {
        Ok(owner) if owner == user => (String::new(), format!("run `chmod u+rwX {shown}`")),
        Ok(owner) => (
            format!(", which belongs to user {owner}"),
            format!("run this program as user {owner}"),
        ),
        Err(_) => {
            (String::new(), "run this program as the user that owns the data folder".to_owned())
        }
    };
    StoreError::misconfigured(format!(
        "permission denied: user {user} cannot open `{shown}`{owner}; hint: {hint}"
    ))
}

/// Rejects a file that belongs to another user, who can read it and could have written it. The file
/// may be missing. `then` is what the operator must do after the repair.
///
/// # Errors
///
/// [`StoreErrorKind::Misconfigured`](crate::StoreErrorKind::Misconfigured), with the path, its mode
/// and the command that repairs it.
pub(crate) fn check_owner(path: &Path, then: &str) -> Result<(), StoreError> {
    let failed = |error: io::Error| {
        StoreError::unavailable(format!("cannot read `{}`", path.display()), error)
    };
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    };
    if !metadata.is_file() {
        return Ok(());
    }
    let folder = fs::metadata(path.parent().unwrap_or(path)).map_err(failed)?;
    let Some(expected) = owner_instead_of(metadata.uid(), folder.uid(), geteuid()) else {
        return Ok(());
    };
    Err(StoreError::misconfigured(format!(
        "`{0}` (mode {1}) belongs to user {2}, not to user {expected}; hint: run `chown {expected} {0}`, and {then}",
        path.display(),
        octal(metadata.permissions().mode()),
        metadata.uid()
    )))
}

/// Returns the user to which a file must belong, if it belongs to another one.
///
/// That is the user of this process. Root may also use a file of the folder's owner, whose broker
/// it administers.
fn owner_instead_of(owner: u32, folder: u32, user: Uid) -> Option<u32> {
    let expected = if user.is_root() { folder } else { user.as_raw() };
    (owner != expected && owner != user.as_raw()).then_some(expected)
}

/// Opens the file of a lock, and creates it if it is missing.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    // NFS version 4 gives a shared lock only on a file that is open for reading.
    let lock = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
    give_to_owner_of(path.parent().unwrap_or(path), &lock)?;
    Ok(lock)
}

/// Time between two attempts to take a lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// Takes a lock. Returns false if others hold it until the deadline.
pub(crate) fn lock_in_time(
    try_lock: impl Fn() -> Result<(), TryLockError>,
    deadline: Duration,
) -> io::Result<bool> {
    let started = Instant::now();
    loop {
        match try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if started.elapsed() < deadline => {
                std::thread::park_timeout(LOCK_INTERVAL.min(deadline));
            }
            Err(TryLockError::WouldBlock) => return Ok(false),
        }
    }
}

/// Gives the file to the owner of the folder. If root wrote the file, the broker's own user could
/// not read it otherwise.
pub(crate) fn give_to_owner_of(folder: &Path, file: &File) -> io::Result<()> {
    let (wanted, current) = (fs::metadata(folder)?, file.metadata()?);
    if wanted.uid() == current.uid() || !geteuid().is_root() {
        return Ok(());
    }
    fchown(file, Some(wanted.uid()), Some(wanted.gid()))
}

/// Returns the permissions of a mode as `chmod` takes them.
pub(crate) fn octal(mode: u32) -> String {
    format!("{:04o}", mode & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_path_is_named_with_its_owner_and_the_user_or_command_that_helps() {
        let folder = tempfile::tempdir().unwrap();
        let (path, missing) = (folder.path(), folder.path().join("missing"));
        let owner = fs::metadata(path).unwrap().uid();
        let other = owner + 1;
        for (path, user, expected) in [
            (
                path,
                other,
                format!(
                    "permission denied: user {other} cannot open `{}`, which belongs to user {owner}; hint: run this program as user {owner}",
                    path.display()
                ),
            ),
            (
                path,
                owner,
                format!(
                    "permission denied: user {owner} cannot open `{0}`; hint: run `chmod u+rwX {0}`",
                    path.display()
                ),
            ),
            (
                missing.as_path(),
                owner,
                format!(
                    "permission denied: user {owner} cannot open `{}`; hint: run this program as the user that owns the data folder",
                    missing.display()
                ),
            ),
        ] {
            let error = permission_denied(path, user);
            assert_eq!(error.kind(), crate::StoreErrorKind::Misconfigured);
            assert_eq!(error.to_string(), expected);
        }
        for path in [path, missing.as_path(), missing.join("too").as_path()] {
            assert!(require_access(path, Access::READ_OK).is_ok(), "{}", path.display());
        }
    }

    #[test]
    fn a_file_must_belong_to_the_user_of_the_process_or_for_root_to_the_owner_of_the_folder() {
        for (owner, folder, user, expected) in [
            (1000, 1001, 1001, Some(1001)),
            (1000, 1000, 1001, Some(1001)),
            (0, 1001, 1001, Some(1001)),
            (1000, 0, 0, Some(0)),
            (1000, 1001, 0, Some(1001)),
            (1000, 1000, 1000, None),
            (1000, 0, 1000, None),
            (1000, 1000, 0, None),
            (0, 0, 0, None),
            (0, 1000, 0, None),
        ] {
            let found = owner_instead_of(owner, folder, Uid::from_raw(user));
            assert_eq!(found, expected, "{owner} {folder} {user}");
        }
    }

    #[test]
    fn only_a_path_that_no_other_user_can_change_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        assert!(reject_writable_by_others(&file).is_ok(), "it does not exist");
        fs::write(&file, "").unwrap();
        for path in [folder.path(), file.as_path()] {
            for mode in [0o777, 0o1777, 0o775, 0o720, 0o702, 0o666] {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                let error = reject_writable_by_others(path).unwrap_err();
                assert_eq!(error.kind(), crate::StoreErrorKind::Misconfigured);
                let expected = format!(
                    "users other than its owner can write to `{0}` (mode {mode:04o}); hint: run `chmod go-w {0}`",
                    path.display()
                );
                assert_eq!(error.to_string(), expected);
            }
            for mode in [0o755, 0o750, 0o700] {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                assert!(reject_writable_by_others(path).is_ok(), "{mode:o}");
            }
        }
    }
}
