//! The keyring as a file, readable only by its owner. A change takes a lock, and renames a new file
//! into place.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stile_core::critical;
use stile_core::token::{Key, KeyId, Keyring};
use stile_protocol::exchange::decode_base64url;
use zeroize::{Zeroize, Zeroizing};

use super::private_file;
use crate::blocking::blocking;
use crate::files;
use crate::{EmbeddedDeadlines, StoreError};

/// Prefix of the name of a keyring file that is not renamed into place yet.
const TEMPORARY_PREFIX: &str = ".keyring-";

/// The newest format that this program reads. It writes no version, because the previous release
/// accepts no other field.
const FORMAT: i64 = 1;

/// What the operator does after the keyring belongs to the right user again.
const AFTER_CHOWN: &str = "rotate the keys";

/// The keyring in a file.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: Arc<PathBuf>,
    deadline: Duration,
}

/// The content of the file. Unknown fields are ignored, unless `crit` names them.
#[derive(Serialize, Deserialize)]
struct KeyringDocument {
    revision: i64,
    keys: Vec<KeyDocument>,
    #[serde(default, skip_serializing)]
    crit: Option<Value>,
}

#[derive(Serialize, Deserialize)]
struct KeyDocument {
    id: String,
    created_at: i64,
    mints_from: i64,
    secret: String,
    #[serde(default, skip_serializing)]
    crit: Option<Value>,
}

impl Drop for KeyDocument {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl KeyFile {
    /// Creates a key store for this file. The file need not exist yet.
    pub(crate) fn new(path: PathBuf, deadlines: EmbeddedDeadlines) -> Self {
        Self { path: Arc::new(path), deadline: deadlines.keyring }
    }

    /// Deletes the files that a killed process did not rename into place. Returns their number.
    pub(crate) fn sweep(&self, now: i64) -> usize {
        files::delete_abandoned(self.path.parent().unwrap_or(&self.path), TEMPORARY_PREFIX, now)
    }

    /// Returns the keyring. It is empty if the file does not exist yet.
    pub(crate) async fn keyring(&self) -> Result<Keyring, StoreError> {
        let path = Arc::clone(&self.path);
        blocking(move || read(&path)).await
    }

    /// Replaces the keyring if its revision is still `revision`. Returns whether it did.
    pub(crate) async fn replace(&self, revision: i64, next: Keyring) -> Result<bool, StoreError> {
        let (path, deadline) = (Arc::clone(&self.path), self.deadline);
        blocking(move || replace(&path, revision, &next, deadline)).await
    }

    /// Deletes every key and returns the number of keys. `None` if the keyring changed at the same
    /// time.
    pub(crate) async fn drop_keys(&self) -> Result<Option<usize>, StoreError> {
        let (path, deadline) = (Arc::clone(&self.path), self.deadline);
        blocking(move || {
            let keyring = read(&path)?;
            let count = keyring.keys().len();
            Ok((count == 0 || replace(&path, keyring.revision, &keyring.cleared(), deadline)?)
                .then_some(count))
        })
        .await
    }
}

/// Reads the keyring. It is empty if the file does not exist.
fn read(path: &Path) -> Result<Keyring, StoreError> {
    let text = private_file::read(path, ", and rotate the keys", AFTER_CHOWN)?;
    text.map_or_else(|| Ok(Keyring::default()), |text| parse(path, &text))
}

/// Rejects a keyring that belongs to another user, who can read it and could have written it. The
/// keyring may be missing.
pub(crate) fn reject_other_owner(path: &Path) -> Result<(), StoreError> {
    files::check_owner(path, AFTER_CHOWN)
}

fn parse(path: &Path, text: &[u8]) -> Result<Keyring, StoreError> {
    let malformed = || StoreError::corrupt(format!("`{}` is not a keyring", path.display()));
    // Read the version first, because a newer format can change every other field.
    #[derive(Deserialize)]
    struct Versioned {
        v: Option<i64>,
    }
    let versioned: Versioned = serde_json::from_slice(text).map_err(|_| malformed())?;
    let format = versioned.v.unwrap_or(1);
    if format > FORMAT {
        return Err(StoreError::corrupt(format!(
            "`{}` has format {format}, and this program reads formats up to {FORMAT}; hint: run a newer release",
            path.display()
        )));
    }
    let document: KeyringDocument = serde_json::from_slice(text).map_err(|_| malformed())?;
    let keys = document.keys.iter().map(key).collect::<Option<Vec<_>>>().ok_or_else(malformed)?;
    let known = critical::understood(document.crit.as_ref(), &["v", "revision", "keys"]);
    known.then(|| Keyring::stored(document.revision, keys)).ok_or_else(malformed)
}

fn key(key: &KeyDocument) -> Option<Key> {
    let known = ["id", "created_at", "mints_from", "secret"];
    critical::understood(key.crit.as_ref(), &known).then_some(())?;
    let bytes = Zeroizing::new(decode_base64url(&key.secret)?);
    let secret = Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?);
    Some(Key::stored(KeyId::parse(&key.id)?, secret, key.created_at, key.mints_from))
}

fn replace(
    path: &Path,
    revision: i64,
    next: &Keyring,
    deadline: Duration,
) -> Result<bool, StoreError> {
    let failed = |error: std::io::Error| {
        StoreError::unavailable(format!("cannot write `{}`", path.display()), error)
    };
    let folder = path.parent().unwrap_or(path);
    // The lock has a file of its own. A change renames a new file over the keyring, and a lock on
    // the keyring would stay with the old file.
    let lock = files::open_lock(&path.with_extension("lock")).map_err(failed)?;
    if !files::lock_in_time(|| lock.try_lock(), deadline).map_err(failed)? {
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
        crit: None,
    });
    let document = KeyringDocument { revision: next.revision, keys: keys.collect(), crit: None };
    let text = Zeroizing::new(serde_json::to_vec(&document).map_err(|error| failed(error.into()))?);
    let temporary = private_file::write(folder, TEMPORARY_PREFIX, &text).map_err(failed)?;
    temporary.persist(path).map_err(|error| failed(error.error))?;
    files::sync_folder(folder).map_err(failed)?;
    drop::<File>(lock);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_keyring_is_read_as_it_was_written_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring.json");
        assert_eq!(read(&path).unwrap().revision, 0);
        let first = Keyring::default().rotated(5).unwrap();
        assert!(replace(&path, 0, &first, LONG).unwrap());
        let stored = read(&path).unwrap();
        assert_eq!(stored.revision, 1);
        assert_eq!(stored.keys()[0].secret(), first.keys()[0].secret());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn only_one_of_two_writers_replaces_a_revision() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring.json");
        let (one, two) =
            (Keyring::default().rotated(5).unwrap(), Keyring::default().rotated(5).unwrap());
        assert!(replace(&path, 0, &one, LONG).unwrap());
        assert!(!replace(&path, 0, &two, LONG).unwrap());
        assert_eq!(read(&path).unwrap().keys()[0].id(), one.keys()[0].id());
    }

    #[test]
    fn a_keyring_file_that_others_can_read_or_that_is_malformed_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring.json");
        replace(&path, 0, &Keyring::default().rotated(5).unwrap(), LONG).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("(mode 0640)") && error.contains("chmod 600"), "{error}");
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

    #[test]
    fn an_unknown_field_is_ignored_unless_it_is_critical_and_a_newer_format_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring.json");
        replace(&path, 0, &Keyring::default().rotated(5).unwrap(), Duration::ZERO).unwrap();
        let whole: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let with = |change: fn(&mut Value)| {
            let mut document = whole.clone();
            change(&mut document);
            parse(&path, document.to_string().as_bytes())
        };
        let added = with(|document| {
            document["note"] = "x".into();
            document["v"] = 1.into();
            document["keys"][0]["note"] = "y".into();
        });
        assert_eq!(added.unwrap().keys().len(), 1);
        for change in [
            (|document| document["crit"] = serde_json::json!(["note"])) as fn(&mut Value),
            |document| document["keys"][0]["crit"] = serde_json::json!(["note"]),
            |document| document["crit"] = serde_json::json!([]),
        ] {
            assert!(with(change).unwrap_err().to_string().contains("is not a keyring"));
        }
        let newer = with(|document| document["v"] = 99.into()).unwrap_err();
        assert!(
            newer.to_string().contains("has format 99, and this program reads formats up to 1")
        );
        let written = fs::read_to_string(&path).unwrap();
        assert!(
            !written.contains("\"v\"") && !written.contains("crit"),
            "the previous release can read it"
        );
    }
}
