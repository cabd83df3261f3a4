//! Files of a data folder that contain a secret, so only their owner may read them.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::StoreError;
use crate::files;

/// Reads the file, and rejects one that other users can read, or that another user can have written.
///
/// Returns `None` if it does not exist. `after_chmod` and `after_chown` are what the operator must do
/// after the repair of the mode or the owner.
///
/// # Errors
///
/// [`StoreErrorKind::Misconfigured`](crate::StoreErrorKind::Misconfigured), with the path, its mode
/// and the command that repairs it.
pub(super) fn read(
    path: &Path,
    after_chmod: &str,
    after_chown: &str,
) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
    let failed =
        |error| StoreError::unavailable(format!("cannot read `{}`", path.display()), error);
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mode = metadata.permissions().mode();
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(StoreError::misconfigured(format!(
            "users other than its owner can read `{0}` (mode {1}); hint: run `chmod 600 {0}`{after_chmod}",
            path.display(),
            files::octal(mode)
        )));
    }
    files::check_owner(path, after_chown)?;
    fs::read(path).map(|text| Some(Zeroizing::new(text))).map_err(failed)
}

/// Writes and syncs a temporary file for the owner of the folder. The caller renames it into place.
///
/// # Errors
///
/// An error of the file system.
pub(super) fn write(folder: &Path, prefix: &str, text: &[u8]) -> io::Result<NamedTempFile> {
    let mut temporary = tempfile::Builder::new()
        .prefix(prefix)
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    files::give_to_owner_of(folder, temporary.as_file())?;
    temporary.write_all(text)?;
    temporary.as_file().sync_all()?;
    Ok(temporary)
}
