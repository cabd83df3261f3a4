//! The signing keys of a namespace: which keys can sign new versions, and which ones clients get.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::detached::{DetachedSignature, SignatureError};
use super::key_error::KeyError;
use super::{KeyId, SignedSums, SigningKey};
use crate::critical::{self, CRIT};

/// Maximum number of keys of a namespace, with those that are retired.
///
/// One record has all of them, at most 16 KiB each, and a record of DynamoDB has at most 400 KB. A
/// retired key stays, because clients verify old versions with it.
pub const MAX_KEYS: usize = 20;

/// Whether a key can sign new versions, and whether clients still trust it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyState {
    /// The key can sign new versions.
    Active,
    /// The key cannot sign new versions. Versions that it signed stay valid.
    Retired {
        /// The time of the change, in Unix seconds.
        at: i64,
        /// The principal that retired the key.
        by: String,
    },
    /// The key was stolen: versions that it signed are refused until another key signs them.
    Compromised {
        /// The time of the change, in Unix seconds.
        at: i64,
        /// The principal that reported it.
        by: String,
    },
}

/// A key that a namespace registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredKey {
    /// The id of the primary key.
    pub key_id: KeyId,
    /// The fingerprint of the primary key, as 40 upper-case hex digits.
    pub fingerprint: String,
    /// The algorithm in words, for example `RSA 4096`.
    pub algorithm: String,
    /// The main user id.
    pub user_id: String,
    /// The key as one armored block.
    pub armor: String,
    /// The time at which the key expires in Unix seconds, if it does.
    pub expires_at: Option<i64>,
    /// The principal that added the key.
    pub added_by: String,
    /// The time of the addition, in Unix seconds.
    pub added_at: i64,
    /// Whether the key can sign.
    pub state: KeyState,
    /// Fields that a newer program added.
    unknown: Map<String, Value>,
}

/// The signing keys of a namespace, in the order of their addition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamespaceKeys {
    /// The keys. At most [`MAX_KEYS`].
    pub keys: Vec<RegisteredKey>,
    /// Fields that a newer program added.
    unknown: Map<String, Value>,
}

/// The result of an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAdded {
    /// The key is new.
    Added,
    /// The key was there, and has other user ids, subkeys or another time of expiry now.
    Renewed,
    /// The same key is there.
    Unchanged,
    /// The key is retired or compromised, so it cannot be added again.
    Retired,
    /// The key lacks a primary key or a subkey that could sign until now, so that clients could not
    /// verify what that signed.
    Lacks,
    /// Another key has the same id, and clients choose keys by their id.
    SameId,
    /// The namespace has [`MAX_KEYS`] keys.
    Full,
}

/// The result of a retirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRetired {
    /// The state of the key changed.
    Done,
    /// The key had this state, or is compromised.
    Unchanged,
    /// The namespace has no such key.
    Absent,
}

/// The error for a list of digests that no active key of the namespace signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// The namespace has no key.
    #[error("the namespace has no signing key")]
    NoKeys,
    /// The key that made the signature is not registered.
    #[error("the signature is by the key `{0}`, which the namespace has not registered")]
    Unregistered(KeyId),
    /// The key that made the signature is retired.
    #[error("the signature is by the key `{0}`, which is retired")]
    Retired(KeyId),
    /// The key that made the signature is compromised.
    #[error("the signature is by the key `{0}`, which is compromised")]
    Compromised(KeyId),
    /// The key that made the signature is expired, or not valid for another reason.
    #[error("the signature is by the key `{id}`: {problem}")]
    Key {
        /// The key.
        id: KeyId,
        /// Why it is not valid.
        problem: KeyError,
    },
    /// The signature itself is invalid.
    #[error(transparent)]
    Signature(SignatureError),
}

impl RegisteredKey {
    /// Creates the record of a key that the principal `by` adds at `at`, in Unix seconds.
    pub fn new(key: &SigningKey, by: &str, at: i64) -> Self {
        Self {
            key_id: key.key_id().clone(),
            fingerprint: key.fingerprint(),
            algorithm: key.algorithm(),
            user_id: key.user_id().to_owned(),
            armor: key.armor().to_owned(),
            expires_at: key.expires_at(),
            added_by: by.to_owned(),
            added_at: at,
            state: KeyState::Active,
            unknown: Map::new(),
        }
    }

    const fn is_compromised(&self) -> bool {
        matches!(self.state, KeyState::Compromised { .. })
    }
}

impl NamespaceKeys {
    /// Returns the key with this id.
    pub fn get(&self, id: &KeyId) -> Option<&RegisteredKey> {
        self.keys.iter().find(|key| key.key_id == *id)
    }

    /// Adds a key, or renews it. `by` is the principal and `at` the time in Unix seconds.
    pub fn add(&mut self, key: &SigningKey, by: &str, at: i64) -> KeyAdded {
        let new = RegisteredKey::new(key, by, at);
        let Some(old) = self.keys.iter_mut().find(|old| old.key_id == new.key_id) else {
            if self.keys.len() >= MAX_KEYS {
                return KeyAdded::Full;
            }
            self.keys.push(new);
            return KeyAdded::Added;
        };
        if old.fingerprint != new.fingerprint {
            return KeyAdded::SameId;
        }
        if old.state != KeyState::Active {
            return KeyAdded::Retired;
        }
        if old.armor == new.armor {
            return KeyAdded::Unchanged;
        }
        // Published versions can have signatures of each of them.
        if let (Ok(before), Ok(after)) =
            (SigningKey::read(&old.armor), SigningKey::read(&new.armor))
            && !before.signers().is_subset(&after.signers())
        {
            return KeyAdded::Lacks;
        }
        *old = RegisteredKey { unknown: std::mem::take(&mut old.unknown), ..new };
        KeyAdded::Renewed
    }

    /// Retires a key, or marks it as compromised. A retired key can become compromised, but a
    /// compromised key stays so.
    pub fn retire(&mut self, id: &KeyId, compromised: bool, by: &str, at: i64) -> KeyRetired {
        let Some(key) = self.keys.iter_mut().find(|key| key.key_id == *id) else {
            return KeyRetired::Absent;
        };
        let by = by.to_owned();
        key.state = match (&key.state, compromised) {
            (KeyState::Active, false) => KeyState::Retired { at, by },
            (KeyState::Active | KeyState::Retired { .. }, true) => KeyState::Compromised { at, by },
            _ => return KeyRetired::Unchanged,
        };
        KeyRetired::Done
    }

    /// Returns the active key that signed a list of digests.
    ///
    /// `now` is the current time in Unix seconds.
    ///
    /// # Errors
    ///
    /// [`SignerError`], if no key of the namespace that is active and valid now made the signature.
    pub fn signer(
        &self,
        sums: &str,
        signature: &[u8],
        now: i64,
    ) -> Result<&RegisteredKey, SignerError> {
        if self.keys.is_empty() {
            return Err(SignerError::NoKeys);
        }
        let signature = DetachedSignature::parse(signature).map_err(SignerError::Signature)?;
        let mut error = SignerError::Unregistered(signature.issuer());
        let mut signer = None;
        for registered in &self.keys {
            let id = || registered.key_id.clone();
            let key = match SigningKey::read(&registered.armor) {
                Ok(key) if key.is_named_by(&signature) => key,
                Ok(_) => continue,
                Err(problem) if registered.key_id == signature.issuer() => {
                    return Err(SignerError::Key { id: id(), problem });
                }
                Err(_) => continue,
            };
            // Two keys can share a subkey. The thief of one of them has it.
            error = match registered.state {
                KeyState::Compromised { .. } => return Err(SignerError::Compromised(id())),
                KeyState::Retired { .. } => SignerError::Retired(id()),
                KeyState::Active => match key.check(&signature, sums.as_bytes(), now) {
                    Ok(()) => {
                        signer = Some(registered);
                        continue;
                    }
                    Err(SignatureError::Key(problem)) => SignerError::Key { id: id(), problem },
                    Err(problem) => SignerError::Signature(problem),
                },
            };
        }
        signer.ok_or(error)
    }

    /// Returns whether a signed list may replace a published one with the same platforms.
    ///
    /// A publisher signs again if the published signature is not good any more: its key is retired,
    /// compromised or expired, or does not verify it. Otherwise the new signature must be newer. So a
    /// caller without a private key, who has only the signatures of earlier lists, changes nothing.
    ///
    /// The new signature must be one of [`Self::signer`]. `now` is the current time in Unix seconds.
    pub fn may_replace(&self, published: &SignedSums, signature: &[u8], now: i64) -> bool {
        if self.signer(&published.text, &published.signature, now).is_err() {
            return true;
        }
        let at = |signature| Some(DetachedSignature::parse(signature).ok()?.created_at());
        matches!((at(&published.signature), at(signature)), (Some(old), Some(new)) if new > old)
    }

    /// Returns whether the active key of a published list still verifies it.
    pub fn still_verifies(&self, published: &SignedSums, now: i64) -> bool {
        self.signer(&published.text, &published.signature, now)
            .is_ok_and(|signer| signer.key_id == published.key_id)
    }

    /// Returns the keys that clients get for a version that this key signed: the signer first, then
    /// every other key that is not compromised.
    ///
    /// `None`, if the signer is compromised or absent. Then nobody can download the version.
    pub fn for_download(&self, signer: &KeyId) -> Option<Vec<&RegisteredKey>> {
        let signer = self.get(signer).filter(|signer| !signer.is_compromised())?;
        let others =
            self.keys.iter().filter(|key| key.key_id != signer.key_id && !key.is_compromised());
        Some(std::iter::once(signer).chain(others).collect())
    }

    /// Returns since when the key is compromised, in Unix seconds. `None` if it is not.
    pub fn compromised_at(&self, id: &KeyId) -> Option<i64> {
        match self.get(id)?.state {
            KeyState::Compromised { at, .. } => Some(at),
            KeyState::Active | KeyState::Retired { .. } => None,
        }
    }

    /// Returns the keys as JSON for the store.
    pub fn to_text(&self) -> String {
        let stored = Stored {
            keys: self.keys.iter().map(StoredKey::of).collect(),
            unknown: self.unknown.clone(),
        };
        // A structure of strings and numbers always becomes JSON.
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// Reads the stored keys. `None` if they are malformed, or a newer program restricted them.
    ///
    /// It ignores fields that it does not know.
    pub fn read(text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        let keys = json.get("keys").and_then(Value::as_array)?;
        let understood = |object: &Value| critical::understood(object.get(CRIT), &KNOWN_CRITICAL);
        if !understood(&json) || !keys.iter().all(understood) {
            return None;
        }
        let stored: Stored = serde_json::from_value(json).ok()?;
        let keys = stored.keys.into_iter().map(StoredKey::into_key).collect::<Option<_>>()?;
        Some(Self { keys, unknown: stored.unknown })
    }
}

/// The fields of stored keys that a newer reader may list as critical: none so far.
const KNOWN_CRITICAL: [&str; 0] = [];

/// The keys as the store has them.
#[derive(Serialize, Deserialize)]
struct Stored {
    keys: Vec<StoredKey>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// A key as the store has it.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    key_id: String,
    fingerprint: String,
    algorithm: String,
    user_id: String,
    armor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    added_by: String,
    added_at: i64,
    /// One of [`ACTIVE`], [`RETIRED`] and [`COMPROMISED`]. A reader rejects any other.
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_by: Option<String>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

const ACTIVE: &str = "active";
const RETIRED: &str = "retired";
const COMPROMISED: &str = "compromised";

impl KeyState {
    /// Returns the state as one word, for the store and for responses.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Active => ACTIVE,
            Self::Retired { .. } => RETIRED,
            Self::Compromised { .. } => COMPROMISED,
        }
    }
}

impl StoredKey {
    fn of(key: &RegisteredKey) -> Self {
        let (ended_at, ended_by) = match &key.state {
            KeyState::Active => (None, None),
            KeyState::Retired { at, by } | KeyState::Compromised { at, by } => {
                (Some(*at), Some(by.clone()))
            }
        };
        Self {
            key_id: key.key_id.to_string(),
            fingerprint: key.fingerprint.clone(),
            algorithm: key.algorithm.clone(),
            user_id: key.user_id.clone(),
            armor: key.armor.clone(),
            expires_at: key.expires_at,
            added_by: key.added_by.clone(),
            added_at: key.added_at,
            state: key.state.as_str().to_owned(),
            ended_at,
            ended_by,
            unknown: key.unknown.clone(),
        }
    }

    fn into_key(self) -> Option<RegisteredKey> {
        let state = match self.state.as_str() {
            ACTIVE => KeyState::Active,
            RETIRED => KeyState::Retired { at: self.ended_at?, by: self.ended_by? },
            COMPROMISED => KeyState::Compromised { at: self.ended_at?, by: self.ended_by? },
            _ => return None,
        };
        Some(RegisteredKey {
            key_id: KeyId::parse(&self.key_id)?,
            fingerprint: self.fingerprint,
            algorithm: self.algorithm,
            user_id: self.user_id,
            armor: self.armor,
            expires_at: self.expires_at,
            added_by: self.added_by,
            added_at: self.added_at,
            state,
            unknown: self.unknown,
        })
    }
}
