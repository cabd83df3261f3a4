//! Reads and writes files that only their owner may access: checks owner and mode, replaces atomically.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// Largest file that the helper reads or writes, in bytes.
const MAX_FILE: u64 = 256 * 1024;

/// Prefix of a temporary file's name.
const TEMPORARY_PREFIX: &str = ".stile-";

/// Suffix of a temporary file's name.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Suffix that the name of a lock file adds to the name of the locked file.
const LOCK_SUFFIX: &str = ".lock";

/// Why a private file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// The file does not exist.
    #[error("`{}` does not exist", .0.display())]
    NotFound(PathBuf),
    /// Another user could have read or written the file.
    #[error("`{}` {problem}", .path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// What is wrong with the file.
        problem: &'static str,
    },
    /// The new content is longer than the limit for reading.
    #[error("`{}` would be larger than {MAX_FILE} bytes", .0.display())]
    TooLarge(PathBuf),
    /// An input or output error.
    #[error("cannot access `{}`", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Reads a regular file that belongs to this user and that no other user may access.
///
/// Another user may have copied a readable token, and may have planted a writable one.
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
        return Err(exposed("is not a regular file"));
    }
    check_owner(&metadata).map_err(exposed)?;
    if metadata.len() > MAX_FILE {
        return Err(exposed("is too large"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Whether a write must survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// No: the data can be fetched again, so do not wait for the disk.
    Cached,
    /// Yes: this is the only copy.
    Durable,
}

/// Writes a file atomically, readable only by its owner. It creates a missing folder.
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

/// Tells whether a name is that of a temporary file. A killed process leaves one behind.
pub fn is_temporary(name: &str) -> bool {
    name.strip_prefix(TEMPORARY_PREFIX).is_some_and(|rest| rest.ends_with(TEMPORARY_SUFFIX))
}

/// Tells whether a path is a folder of this user, and not a symbolic link.
pub fn is_owned_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir() && is_ours(&metadata))
}

/// Takes the lock file of a file and holds it until the result is dropped.
///
/// Without the lock, the caller decides whether to continue.
///
/// # Errors
///
/// [`NoLock::TimedOut`] if another process holds it, [`NoLock::Unavailable`] if no process can take it.
pub fn lock(path: &Path, limit: Duration) -> Result<File, NoLock> {
    let file = lock_file(path).ok_or(NoLock::Unavailable)?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        if file.lock().is_ok() {
            let _unwanted = sender.send(file);
        }
    });
    receiver.recv_timeout(limit).map_err(|_| NoLock::TimedOut)
}

/// Why a process does not hold a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoLock {
    /// Another process holds it.
    TimedOut,
    /// The lock file cannot be opened, for example in a folder that is read-only.
    Unavailable,
}

/// Opens the lock file of a file.
fn lock_file(path: &Path) -> Option<File> {
    make_folder(path.parent()?).ok()?;
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(LOCK_SUFFIX);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    open_without_following(&mut options, Path::new(&lock_path))
        .ok()
        .filter(|file| file.metadata().is_ok_and(|it| it.is_file()))
}

/// Returns the name of the file that a lock file locks, or `None` for another file's name.
pub fn locked_file_name(name: &str) -> Option<&str> {
    name.strip_suffix(LOCK_SUFFIX)
}

/// Deletes a lock file that no process holds.
///
/// A process that opened the old file just before can lock it while another locks a new file. Use
/// this function only for locks that avoid duplicate work, never for locks that protect data.
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
    // NOFOLLOW closes the gap between check and open. NONBLOCK prevents a planted pipe from blocking.
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
        return Err("is owned by another user");
    }
    if std::os::unix::fs::MetadataExt::mode(metadata) & 0o077 != 0 {
        Err("is accessible to other users")
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

    fn refusal(path: &Path) -> NoLock {
        lock(path, Duration::from_secs(60)).expect_err("nobody can take this lock")
    }

    #[test]
    fn a_file_that_other_users_can_access_is_rejected() {
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
    fn a_temporary_file_is_recognised_by_its_name() {
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
    fn a_written_file_is_private_and_readable_again() {
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
    fn a_lock_file_that_is_not_a_regular_file_is_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (path, lock_path) = (folder.path().join("file"), folder.path().join("file.lock"));
        assert!(std::process::Command::new("mkfifo").arg(&lock_path).status().unwrap().success());
        assert_eq!(refusal(&path), NoLock::Unavailable, "a pipe without a reader");
        let _reader = OpenOptions::new().read(true).write(true).open(&lock_path).unwrap();
        assert_eq!(refusal(&path), NoLock::Unavailable, "a pipe with a reader");
        fs::remove_file(&lock_path).unwrap();
        symlink(folder.path().join("elsewhere"), &lock_path).unwrap();
        assert_eq!(refusal(&path), NoLock::Unavailable, "a link");
        assert!(!folder.path().join("elsewhere").exists());
    }

    #[test]
    fn a_file_too_large_to_read_again_is_not_written() {
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
    fn only_one_holder_has_a_lock_and_waiting_has_a_timeout() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let held = lock(&path, Duration::ZERO);
        assert!(held.is_ok());
        assert!(matches!(lock(&path, Duration::from_millis(20)), Err(NoLock::TimedOut)));
        drop(held);
        assert!(lock(&path, Duration::from_secs(60)).is_ok());
        assert_eq!(refusal(Path::new("/dev/null/nowhere")), NoLock::Unavailable);
    }
}
