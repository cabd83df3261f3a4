//! Files that only their owner may read: checked before they are believed, written temporary and renamed into place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// Longest file that is read or written, in bytes; a larger one is none of ours.
const MAX_FILE: u64 = 256 * 1024;

/// How the name of a file begins that is being written temporary.
const TEMPORARY_PREFIX: &str = ".stile-";

/// And how it ends.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// What a lock's name has after that of its file.
const LOCK_SUFFIX: &str = ".lock";

/// Why a private file gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// There is none.
    #[error("there is no `{}`", .0.display())]
    NotFound(PathBuf),
    /// Somebody else could have written it, or could read it.
    #[error("`{}` {problem}", .path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More would be in it than is ever read.
    #[error("`{}` would hold more than {MAX_FILE} bytes", .0.display())]
    TooLarge(PathBuf),
    /// It could not be read or written.
    #[error("`{}` cannot be used", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Reads a file if it is a plain one, belongs to us, and no one else may read or write it.
///
/// A secret that lay open may have been taken, and one that another user planted would be sent in our name:
/// so neither is used.
pub fn read(path: &Path) -> Result<Vec<u8>, PrivateFileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => PrivateFileError::NotFound(path.to_owned()),
        _ => PrivateFileError::Io { path: path.to_owned(), source },
    };
    let exposed = |problem| PrivateFileError::Untrusted { path: path.to_owned(), problem };
    if fs::symlink_metadata(path).map_err(failed)?.file_type().is_symlink() {
        return Err(exposed("is a symbolic link"));
    }
    let file = open_without_following(OpenOptions::new().read(true), path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(exposed("is not a plain file"));
    }
    check_owner(&metadata).map_err(exposed)?;
    if metadata.len() > MAX_FILE {
        return Err(exposed("is too large"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Whether a file must outlive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It can be had again: not worth waiting for the disk.
    Cached,
    /// It is the only copy.
    Durable,
}

/// Writes a file that only its owner may read, whole or not at all; its folder is made if it is missing.
pub fn write(path: &Path, bytes: &[u8], keep: Durability) -> Result<(), PrivateFileError> {
    let failed = |source: io::Error| PrivateFileError::Io { path: path.to_owned(), source };
    let folder = path.parent().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(PrivateFileError::TooLarge(path.to_owned()));
    }
    make_folder(folder).map_err(failed)?;
    let mut temporary = temporary_file(folder).map_err(failed)?;
    temporary.write_all(bytes).map_err(failed)?;
    if keep == Durability::Durable {
        temporary.as_file().sync_all().map_err(failed)?;
    }
    temporary.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn temporary_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(TEMPORARY_PREFIX).suffix(TEMPORARY_SUFFIX).tempfile_in(folder)
}

/// Whether a file is called as one that is being written temporary: an old one was left by a process that was killed.
pub fn is_temporary(name: &str) -> bool {
    name.strip_prefix(TEMPORARY_PREFIX).is_some_and(|rest| rest.ends_with(TEMPORARY_SUFFIX))
}

/// Whether a folder is one, no link to one, and belongs to us.
pub fn is_owned_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir() && is_ours(&metadata))
}

/// Holds the lock beside a file until it is dropped; `None` where no lock could be had within the limit.
///
/// It is for callers to say whether they can go on without.
pub fn lock(path: &Path, limit: Duration) -> Option<File> {
    make_folder(path.parent()?).ok()?;
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(LOCK_SUFFIX);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = open_without_following(&mut options, Path::new(&lock_path))
        .ok()
        .filter(|file| file.metadata().is_ok_and(|it| it.is_file()))?;
    if file.try_lock().is_ok() {
        return Some(file);
    }
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        if file.lock().is_ok() {
            let _unwanted = sender.send(file);
        }
    });
    receiver.recv_timeout(limit).ok()
}

/// The name of the file that a lock of that name is beside, if it is one.
pub fn locked_file_name(name: &str) -> Option<&str> {
    name.strip_suffix(LOCK_SUFFIX)
}

/// Removes a lock that nobody holds.
///
/// It is held while it goes. Whoever opened it just before may have it after that, while another makes a new one: so that is
/// for locks which only spare work, and not for those of what is changed.
pub fn remove_lock(lock_path: &Path) {
    let Ok(lock) = open_without_following(OpenOptions::new().write(true), lock_path) else {
        return;
    };
    if lock.try_lock().is_ok() {
        let _removed = fs::remove_file(lock_path);
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(unix)]
fn open_without_following(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // Not following closes the gap between the look and the opening; not blocking keeps a planted pipe from hanging us.
    let flags =
        rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    options.custom_flags(flags.bits().cast_signed()).open(path)
}

#[cfg(not(unix))]
fn open_without_following(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.open(path)
}

#[cfg(unix)]
fn check_owner(metadata: &fs::Metadata) -> Result<(), &'static str> {
    if !is_ours(metadata) {
        return Err("belongs to another user");
    }
    if std::os::unix::fs::MetadataExt::mode(metadata) & 0o077 != 0 {
        Err("is open to other users")
    } else {
        Ok(())
    }
}

#[cfg(not(unix))]
fn check_owner(_metadata: &fs::Metadata) -> Result<(), &'static str> {
    Ok(())
}

#[cfg(unix)]
fn is_ours(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(metadata) == rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn is_ours(_metadata: &fs::Metadata) -> bool {
    true
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_others_could_read_or_plant_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(matches!(read(&path), Err(PrivateFileError::NotFound(_))));
        for mode in [0o604, 0o640, 0o602, 0o620, 0o666] {
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&path), Err(PrivateFileError::Untrusted { .. })), "{mode:o}");
        }
        let elsewhere = folder.path().join("elsewhere");
        write(&elsewhere, b"x", Durability::Cached).unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(matches!(
            read(&path),
            Err(PrivateFileError::Untrusted { problem: "is a symbolic link", .. })
        ));
        assert!(matches!(read(folder.path()), Err(PrivateFileError::Untrusted { .. })));
    }

    #[test]
    fn what_is_written_aside_can_be_told_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for (name, expected) in [
            (".stile-Ab12Cd.tmp", true),
            (".stile-", false),
            (".tmpAb12Cd", false),
            ("tokens.json", false),
        ] {
            assert_eq!(is_temporary(name), expected, "{name}");
        }
        let written = temporary_file(folder.path()).unwrap();
        assert!(is_temporary(written.path().file_name().unwrap().to_str().unwrap()));
    }

    #[test]
    fn what_was_written_is_private_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/file");
        write(&path, b"one", Durability::Durable).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, b"two", Durability::Cached).unwrap();
        assert_eq!(read(&path).unwrap(), b"two");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn a_lock_that_is_no_plain_file_is_none_and_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, lock_path) = (folder.path().join("file"), folder.path().join("file.lock"));
        assert!(std::process::Command::new("mkfifo").arg(&lock_path).status().unwrap().success());
        assert!(lock(&path, Duration::from_secs(60)).is_none(), "a pipe that nobody reads");
        let _reader = OpenOptions::new().read(true).write(true).open(&lock_path).unwrap();
        assert!(lock(&path, Duration::from_secs(60)).is_none(), "a pipe that somebody reads");
        fs::remove_file(&lock_path).unwrap();
        symlink(folder.path().join("elsewhere"), &lock_path).unwrap();
        assert!(lock(&path, Duration::from_secs(60)).is_none(), "a link");
        assert!(!folder.path().join("elsewhere").exists());
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let most = vec![b'x'; usize::try_from(MAX_FILE).unwrap()];
        write(&path, &most, Durability::Cached).unwrap();
        assert!(matches!(
            write(&path, &[&most[..], b"x"].concat(), Durability::Cached),
            Err(PrivateFileError::TooLarge(_))
        ));
        assert_eq!(read(&path).unwrap(), most);
    }

    #[test]
    fn a_lock_is_had_by_one_at_a_time_and_nobody_waits_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let held = lock(&path, Duration::ZERO);
        assert!(held.is_some());
        assert!(lock(&path, Duration::from_millis(20)).is_none());
        drop(held);
        assert!(lock(&path, Duration::from_secs(60)).is_some());
        assert!(lock(Path::new("/dev/null/nowhere"), Duration::ZERO).is_none());
    }
}
