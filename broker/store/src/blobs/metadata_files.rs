//! Metadata of archives as files, named by the digest of the archive. A file is replaced as a
//! whole.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::metadata::{compress, decompress, file_name};
use crate::{StoreError, files};

/// Returns the path of an archive's metadata in the folder of all metadata.
pub(super) fn place(folder: &Path, sha256: &str) -> PathBuf {
    folder.join(sha256.get(..2).unwrap_or_default()).join(file_name(sha256))
}

/// Writes the metadata of an archive. When this returns, the file is on disk under its name.
///
/// It also replaces an existing file, so that no sweep takes it for an old one. `incoming` is the
/// folder of temporary files.
pub(super) fn put(
    folder: &Path,
    sha256: &str,
    json: &[u8],
    incoming: &Path,
) -> Result<(), StoreError> {
    let place = place(folder, sha256);
    let failed = |error: io::Error| {
        StoreError::unavailable(format!("cannot write `{}`", place.display()), error)
    };
    let compressed = compress(json)?;
    let subfolder = place.parent().unwrap_or(folder);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(subfolder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(incoming).map_err(failed)?;
    file.write_all(&compressed).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(&place).map_err(|error| failed(error.error))?;
    files::sync_folder(subfolder).and_then(|()| files::sync_folder(folder)).map_err(failed)
}

/// Reads the metadata of an archive. `None` if there is none.
pub(super) fn read(folder: &Path, sha256: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let place = place(folder, sha256);
    match fs::read(&place) {
        Ok(compressed) => decompress(&compressed, &place.display().to_string()).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(StoreError::unavailable(format!("cannot read `{}`", place.display()), error))
        }
    }
}

/// Returns the files of metadata written until then whose archive no version names. `named` has the file names of
/// the archives that versions name.
pub(super) fn old_and_unnamed(
    folder: &Path,
    named: &HashSet<String>,
    written_until: i64,
) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |error: io::Error| {
        StoreError::unavailable(format!("cannot read `{}`", folder.display()), error)
    };
    let named: HashSet<&str> = named.iter().filter_map(|name| name.split('.').next()).collect();
    let subfolders = match fs::read_dir(folder) {
        Ok(subfolders) => subfolders,
        // Only earlier releases have published here.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for subfolder in subfolders {
        let subfolder = subfolder.map_err(failed)?;
        if !subfolder.file_type().map_err(failed)?.is_dir() {
            continue;
        }
        for entry in fs::read_dir(subfolder.path()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let digest = name.split('.').next().unwrap_or_default();
            let is_old = || {
                entry
                    .metadata()
                    .is_ok_and(|metadata| metadata.is_file() && metadata.mtime() <= written_until)
            };
            if digest.len() == 64
                && name == file_name(digest)
                && !named.contains(digest)
                && is_old()
            {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}
