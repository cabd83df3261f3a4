//! The audit key as a file, readable only by its owner: the seed of an Ed25519 key.
//!
//! The first process that needs it creates it, and no process replaces it. So two processes that start
//! together use the same key.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use stile_core::audit::{HeadAlgorithm, HeadKey, HeadStatement, SignedHead};
use stile_core::critical;
use stile_protocol::exchange::decode_base64url;
use zeroize::{Zeroize, Zeroizing};

use crate::StoreError;
use crate::blocking::blocking;
use crate::files;
use crate::keys::private_file;

/// The file name in the data folder.
const NAME: &str = "audit-key";

/// Prefix of the name of a file that is not renamed into place yet.
const TEMPORARY_PREFIX: &str = ".audit-key-";

/// What the operator does after the key belongs to the right user again, or instead of that.
const AFTER_CHOWN: &str = "move the file away, so that the broker creates a new key";

/// The format that this program writes, and the newest that it reads.
const FORMAT: i64 = 1;

/// The bytes of the digest that are the name of a key: enough to tell keys apart.
const ID_BYTES: usize = 16;

/// The audit key in a file.
#[derive(Debug, Clone)]
pub(crate) struct AuditKeyFile {
    path: Arc<PathBuf>,
}

/// The content of the file. Unknown fields are ignored, unless `crit` names them.
#[derive(Serialize, Deserialize)]
struct Document {
    v: i64,
    algorithm: String,
    seed: String,
    #[serde(default, skip_serializing)]
    crit: Option<Value>,
}

impl Drop for Document {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

impl AuditKeyFile {
    /// Creates a store for the key of this data folder. The file need not exist yet.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { path: Arc::new(folder.join(NAME)) }
    }

    pub(super) async fn create_if_missing(&self) -> Result<bool, StoreError> {
        let path = Arc::clone(&self.path);
        blocking(move || create_if_missing(&path)).await
    }

    pub(super) async fn sign(
        &self,
        statement: HeadStatement,
    ) -> Result<Option<SignedHead>, StoreError> {
        let path = Arc::clone(&self.path);
        blocking(move || {
            let Some(pair) = read(&path)? else { return Ok(None) };
            let signature = pair.sign(&statement.bytes()).as_ref().to_vec();
            let key_id = key_id(pair.public_key().as_ref());
            Ok(Some(SignedHead { statement, key_id, key: public(&pair), signature }))
        })
        .await
    }

    pub(super) async fn public(&self) -> Result<Option<HeadKey>, StoreError> {
        let path = Arc::clone(&self.path);
        blocking(move || Ok(read(&path)?.as_ref().map(public))).await
    }

    pub(super) fn sweep(&self, now: i64) -> usize {
        files::delete_abandoned(self.path.parent().unwrap_or(&self.path), TEMPORARY_PREFIX, now)
    }
}

/// Rejects the audit key of a folder if it belongs to another user, who can read it and could have
/// written it. The key may be missing.
pub(crate) fn reject_other_owner(folder: &Path) -> Result<(), StoreError> {
    files::check_owner(&folder.join(NAME), AFTER_CHOWN)
}

fn public(pair: &Ed25519KeyPair) -> HeadKey {
    HeadKey::new(HeadAlgorithm::Ed25519, pair.public_key().as_ref().to_vec())
}

/// Returns the name of a key, which shows nothing of its private half.
fn key_id(public: &[u8]) -> String {
    hex::encode(&Sha256::digest(public)[..ID_BYTES])
}

/// Reads the key. `None` if the file does not exist.
fn read(path: &Path) -> Result<Option<Ed25519KeyPair>, StoreError> {
    let text = private_file::read(path, &format!(", or {AFTER_CHOWN}"), AFTER_CHOWN)?;
    text.map(|text| parse(path, &text)).transpose()
}

fn parse(path: &Path, text: &[u8]) -> Result<Ed25519KeyPair, StoreError> {
    let malformed = || StoreError::corrupt(format!("`{}` is not an audit key", path.display()));
    // Read the version first, because a newer format can change every other field.
    #[derive(Deserialize)]
    struct Versioned {
        v: i64,
    }
    let versioned: Versioned = serde_json::from_slice(text).map_err(|_| malformed())?;
    if versioned.v > FORMAT {
        return Err(StoreError::corrupt(format!(
            "`{}` has format {}, and this program reads formats up to {FORMAT}; hint: run a newer release",
            path.display(),
            versioned.v
        )));
    }
    let document: Document = serde_json::from_slice(text).map_err(|_| malformed())?;
    let known = critical::understood(document.crit.as_ref(), &["v", "algorithm", "seed"]);
    if !known || document.algorithm != HeadAlgorithm::Ed25519.as_str() {
        return Err(malformed());
    }
    let seed = Zeroizing::new(decode_base64url(&document.seed).ok_or_else(malformed)?);
    Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| malformed())
}

/// Creates the key, unless there is one. Returns whether it did.
fn create_if_missing(path: &Path) -> Result<bool, StoreError> {
    if read(path)?.is_some() {
        return Ok(false);
    }
    let failed = |error: std::io::Error| {
        StoreError::unavailable(format!("cannot write `{}`", path.display()), error)
    };
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|error| StoreError::unavailable("the system has no random numbers", error))?;
    let document = Document {
        v: FORMAT,
        algorithm: HeadAlgorithm::Ed25519.as_str().to_owned(),
        seed: URL_SAFE_NO_PAD.encode(seed.as_slice()),
        crit: None,
    };
    let text = Zeroizing::new(serde_json::to_vec(&document).map_err(|error| failed(error.into()))?);
    let folder = path.parent().unwrap_or(path);
    let temporary = private_file::write(folder, TEMPORARY_PREFIX, &text).map_err(failed)?;
    match temporary.persist_noclobber(path) {
        Ok(_) => {}
        // Another process was faster, and its key is the key.
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(failed(error.error)),
    }
    files::sync_folder(folder).map_err(failed)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_process_creates_the_key_and_no_process_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        assert!(read(&path).unwrap().is_none());
        assert!(create_if_missing(&path).unwrap());
        let first = public(&read(&path).unwrap().unwrap());
        assert!(!create_if_missing(&path).unwrap());
        assert_eq!(public(&read(&path).unwrap().unwrap()), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_damaged_is_neither_used_nor_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        create_if_missing(&path).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("(mode 0640)") && error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for text in [
            "",
            "{}",
            r#"{"v":1,"algorithm":"ed25519","seed":"AAAA"}"#,
            &whole.replace("ed25519", "rsa"),
            &whole.replace("{\"v\"", "{\"crit\":[\"x\"],\"v\""),
        ] {
            fs::write(&path, text).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("is not an audit key"), "{text}");
            assert!(create_if_missing(&path).is_err(), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::write(&path, whole.replace("\"v\":1", "\"v\":2")).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("has format 2"));
    }
}
