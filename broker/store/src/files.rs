//! Helpers for the files of a data folder. They make a rename durable, delete files that a killed
//! process left, and reject files that other users can change or that this user cannot open.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::process::getuid;

use crate::StoreError;

/// Syncs a folder, so that a rename in it survives a crash of the machine.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Age at which a temporary upload or keyring file is deleted, in seconds. Another process can
/// still be writing a younger one.
const ABANDONED: u64 = 24 * 3600;

/// Deletes the files in the folder whose name starts with `prefix` and whose writer died.
pub(crate) fn delete_abandoned(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()))
    {
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age.as_secs() > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
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
