//! Copies single files between a data folder and a backup, and verifies each while it copies.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::blobs::decompress_metadata;
use crate::{StoreError, files};

/// The prefix of the names of temporary files.
pub(super) const TEMPORARY_PREFIX: &str = ".copy-";

/// The number of bytes that are copied at once.
const CHUNK: usize = 128 * 1024;

/// Creates a temporary file in a folder, readable only by its owner.
pub(super) fn temporary_in(folder: &Path) -> Result<tempfile::NamedTempFile, StoreError> {
    tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .tempfile_in(folder)
        .map_err(|error| cannot_write(folder, error))
}

/// Copies a file whose SHA-256 is known. When this returns, the copy is on disk under its name.
///
/// `unfinished` is a folder of the same file system for temporary files. `cure` is the hint for a
/// file that is missing or damaged.
pub(super) fn copy_verified(
    from: &Path,
    to: &Path,
    sha256: &str,
    unfinished: &Path,
    cure: &str,
) -> Result<u64, StoreError> {
    let copy = temporary_in(unfinished)?;
    let bytes = write_verified(from, copy.as_file(), to, sha256, cure)?;
    place(copy, to)?;
    Ok(bytes)
}

/// Writes the content of a file whose SHA-256 is known to another file. Returns its length.
///
/// `to` is the name of the other file, for messages.
pub(super) fn write_verified(
    from: &Path,
    mut copy: &File,
    to: &Path,
    sha256: &str,
    cure: &str,
) -> Result<u64, StoreError> {
    let write = |read: &[u8]| copy.write_all(read).map_err(|error| cannot_write(to, error));
    let (digest, bytes) = read_all(from, cure, write)?;
    if digest == sha256 {
        return Ok(bytes);
    }
    Err(StoreError::corrupt(format!(
        "`{}` is damaged: its SHA-256 is `{digest}`, and not `{sha256}`; hint: {cure}",
        from.display()
    )))
}

/// Returns the SHA-256 and the length of a file.
pub(super) fn digest_of(path: &Path) -> Result<(String, u64), StoreError> {
    read_all(path, "try again", |_| Ok(()))
}

/// Reads a file to its end. Returns its SHA-256 and its length.
fn read_all(
    path: &Path,
    cure: &str,
    mut each: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<(String, u64), StoreError> {
    let mut file = File::open(path).map_err(|error| cannot_read(path, error, cure))?;
    let (mut digest, mut bytes, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK]);
    loop {
        let length = match file.read(&mut chunk) {
            Ok(0) => return Ok((hex::encode(digest.finalize()), bytes)),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(cannot_read(path, error, cure)),
        };
        let read = chunk.get(..length).unwrap_or_default();
        digest.update(read);
        each(read)?;
        bytes += read.len() as u64;
    }
}

/// Copies the metadata of an archive, unless the copy is there and at least as new. Returns whether
/// it did. Metadata can be missing.
pub(super) fn copy_metadata(
    from: &Path,
    to: &Path,
    unfinished: &Path,
    cure: &str,
) -> Result<bool, StoreError> {
    let wanted = match fs::metadata(from) {
        Ok(wanted) => wanted,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(cannot_read(from, error, cure)),
    };
    let is_as_new = |copy: &fs::Metadata| {
        let times = wanted.modified().ok().zip(copy.modified().ok());
        copy.len() == wanted.len() && times.is_some_and(|(wanted, copy)| wanted <= copy)
    };
    if fs::metadata(to).is_ok_and(|copy| copy.is_file() && is_as_new(&copy)) {
        return Ok(false);
    }
    let content = fs::read(from).map_err(|error| cannot_read(from, error, cure))?;
    if let Err(error) = decompress_metadata(&content, &from.display().to_string()) {
        return Err(StoreError::corrupt(format!("{error}; hint: {cure}")));
    }
    let mut copy = temporary_in(unfinished)?;
    copy.write_all(&content).map_err(|error| cannot_write(to, error))?;
    place(copy, to)?;
    Ok(true)
}

/// Gives a temporary file its name, and creates the missing folders. When this returns, the file
/// is on disk under its name.
pub(super) fn place(copy: tempfile::NamedTempFile, to: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| cannot_write(to, error);
    let folder = to.parent().unwrap_or(to);
    let is_new = !folder.is_dir();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    copy.as_file().sync_all().map_err(failed)?;
    copy.persist(to).map_err(|error| failed(error.error))?;
    files::sync_folder(folder).map_err(failed)?;
    if is_new { sync_above(folder).map_err(failed) } else { Ok(()) }
}

/// Syncs the two folders above a new one, which can be new as well.
fn sync_above(folder: &Path) -> io::Result<()> {
    folder.ancestors().skip(1).take(2).try_for_each(files::sync_folder)
}

fn cannot_read(path: &Path, error: io::Error, cure: &str) -> StoreError {
    if error.kind() == io::ErrorKind::NotFound {
        return StoreError::corrupt(format!("`{}` is missing; hint: {cure}", path.display()));
    }
    StoreError::unavailable(format!("cannot read `{}`", path.display()), error)
}

/// Returns the error of a write to this path.
pub(super) fn cannot_write(path: &Path, error: io::Error) -> StoreError {
    StoreError::unavailable(format!("cannot write `{}`", path.display()), error)
}
