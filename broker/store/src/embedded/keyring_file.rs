//! The keyring as a file beside the database: readable by its owner alone, locked while it changes, renamed into place.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use stile_protocol::exchange::decode_base64url;
use zeroize::{Zeroize, Zeroizing};

use super::{Embedded, archives, blocking};
use crate::StoreError;
use stile_core::token::{Key, KeyId, Keyring};

/// How the name of a keyring begins that is not in its place yet.
pub(super) const ASIDE: &str = ".keyring-";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    revision: i64,
    keys: Vec<KeyDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyDocument {
    id: String,
    created_at: i64,
    mints_from: i64,
    secret: String,
}

impl Drop for KeyDocument {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl Embedded {
    pub(super) fn keyring_path(&self) -> PathBuf {
        self.folder.join("keyring.json")
    }

    pub(crate) async fn keyring(&self) -> Result<Keyring, StoreError> {
        let path = self.keyring_path();
        blocking(move || read(&path)).await
    }

    pub(crate) async fn replace_keyring(
        &self,
        revision: i64,
        next: Keyring,
    ) -> Result<bool, StoreError> {
        let (path, deadline) = (self.keyring_path(), self.deadlines.keyring);
        blocking(move || replace(&path, revision, &next, deadline)).await
    }

    pub(crate) async fn drop_keys(&self) -> Result<Option<usize>, StoreError> {
        let (path, deadline) = (self.keyring_path(), self.deadlines.keyring);
        blocking(move || {
            let keyring = read(&path)?;
            let count = keyring.keys().len();
            Ok((count == 0 || replace(&path, keyring.revision, &keyring.cleared(), deadline)?)
                .then_some(count))
        })
        .await
    }
}

/// Reads the keyring; an empty one where there is no file.
pub(super) fn read(path: &Path) -> Result<Keyring, StoreError> {
    let failed = |error: std::io::Error| {
        StoreError::unavailable(format!("`{}` cannot be read", path.display()), error)
    };
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Keyring::default()),
        other => other.map_err(failed)?,
    };
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        return Err(StoreError::misconfigured(format!(
            "`{0}` can be read by others than its owner; hint: `chmod 600 {0}`, and rotate the keys",
            path.display()
        )));
    }
    let text = Zeroizing::new(fs::read(path).map_err(failed)?);
    let malformed = || StoreError::corrupt(format!("`{}` is not a keyring", path.display()));
    let document: Document = serde_json::from_slice(&text).map_err(|_| malformed())?;
    let keys = document.keys.iter().map(key).collect::<Option<Vec<_>>>().ok_or_else(malformed)?;
    Ok(Keyring::stored(document.revision, keys))
}

fn key(document: &KeyDocument) -> Option<Key> {
    let bytes = Zeroizing::new(decode_base64url(&document.secret)?);
    let secret = Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?);
    Some(Key::stored(KeyId::parse(&document.id)?, secret, document.created_at, document.mints_from))
}

fn replace(
    path: &Path,
    revision: i64,
    next: &Keyring,
    deadline: Duration,
) -> Result<bool, StoreError> {
    let failed = |error: std::io::Error| {
        StoreError::unavailable(format!("`{}` cannot be written", path.display()), error)
    };
    let folder = path.parent().unwrap_or(path);
    // The lock is on a file of its own: the keyring itself is renamed over, and a lock would stay with the old one.
    let lock = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path.with_extension("lock"))
        .map_err(failed)?;
    give_to_owner_of(folder, &lock).map_err(failed)?;
    if !lock_in_time(&lock, deadline).map_err(failed)? {
        return Err(StoreError::busy(format!(
            "another process holds the lock of `{}`",
            path.display()
        )));
    }
    if read(path)?.revision != revision {
        return Ok(false);
    }
    let keys = next.keys().iter().map(|key| KeyDocument {
        id: key.id().as_str().to_owned(),
        created_at: key.created_at(),
        mints_from: key.mints_from(),
        secret: URL_SAFE_NO_PAD.encode(key.secret()),
    });
    let document = Document { revision: next.revision, keys: keys.collect() };
    let text = Zeroizing::new(serde_json::to_vec(&document).map_err(|error| failed(error.into()))?);
    let mut aside = tempfile::Builder::new()
        .prefix(ASIDE)
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(failed)?;
    give_to_owner_of(folder, aside.as_file()).map_err(failed)?;
    aside.write_all(&text).and_then(|()| aside.as_file().sync_all()).map_err(failed)?;
    aside.persist(path).map_err(|error| failed(error.error))?;
    archives::sync_folder(folder).map_err(failed)?;
    drop::<File>(lock);
    Ok(true)
}

/// How often the lock is tried while another process holds it.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// Takes the lock; false when another process holds it until the deadline.
fn lock_in_time(lock: &File, deadline: Duration) -> std::io::Result<bool> {
    let started = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if started.elapsed() < deadline => {
                std::thread::park_timeout(LOCK_INTERVAL.min(deadline));
            }
            Err(TryLockError::WouldBlock) => return Ok(false),
        }
    }
}

/// Gives the file to whoever owns the folder: written by root, it would lock the broker's own user out.
fn give_to_owner_of(folder: &Path, file: &File) -> std::io::Result<()> {
    let (wanted, made) = (fs::metadata(folder)?, file.metadata()?);
    if wanted.uid() == made.uid() || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    fchown(file, Some(wanted.uid()), Some(wanted.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_keyring_comes_back_as_it_was_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring.json");
        assert_eq!(read(&path).unwrap().revision, 0);
        let first = Keyring::default().rotated(5).unwrap();
        assert!(replace(&path, 0, &first, LONG).unwrap());
        let kept = read(&path).unwrap();
        assert_eq!(kept.revision, 1);
        assert_eq!(kept.keys()[0].secret(), first.keys()[0].secret());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn of_two_who_replace_the_same_revision_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring.json");
        let (one, two) =
            (Keyring::default().rotated(5).unwrap(), Keyring::default().rotated(5).unwrap());
        assert!(replace(&path, 0, &one, LONG).unwrap());
        assert!(!replace(&path, 0, &two, LONG).unwrap());
        assert_eq!(read(&path).unwrap().keys()[0].id(), one.keys()[0].id());
    }

    #[test]
    fn a_keyring_that_others_can_read_or_that_is_none_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring.json");
        replace(&path, 0, &Keyring::default().rotated(5).unwrap(), LONG).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for text in [
            "",
            "{}",
            r#"{"revision":1,"keys":[{"id":"x","created_at":0,"mints_from":0,"secret":"AAAA"}]}"#,
        ] {
            fs::write(&path, text).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("is not a keyring"), "{text}");
        }
    }
}
