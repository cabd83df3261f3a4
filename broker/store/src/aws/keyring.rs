//! The keyring: one row, with the secrets as one blob that KMS encrypts for this registry alone.
//!
//! Ids, times and the revision stand in the clear, so that a process sees without KMS whether it knows the keys. The ids
//! are in the blob as well: a secret cannot be given another key's name.

use std::collections::HashMap;

use aws_sdk_kms::error::SdkError;
use aws_sdk_kms::operation::decrypt::DecryptError;
use aws_sdk_kms::primitives::Blob;
use serde::{Deserialize, Serialize};
use stile_protocol::audience::Audience;
use zeroize::Zeroizing;

use super::Aws;
use super::host;
use super::retry::Retry;
use super::table::{
    Key as RowKey, Row, Write, Written, bytes, number, read_bytes, read_number, read_text, text,
};
use crate::{StoreError, StoreErrorKind};
use stile_core::token::{Key, KeyId, Keyring, KeyringSummary};

/// What the blob is for. KMS binds it to this and to the registry's host: a blob of another registry, or one that was
/// encrypted for anything else under the same key, does not open.
const PURPOSE: &str = "stile-keyring";

/// A key's id and its secret in the blob, in bytes.
const RECORD: usize = 22 + 32;

/// The keyring this process has opened, and the row it came from: opened once, however often it is looked at.
#[derive(Default)]
pub(super) struct Opened(tokio::sync::Mutex<Option<(Sealed, Keyring)>>);

/// The row as it is kept.
#[derive(Clone, PartialEq, Eq)]
struct Sealed {
    revision: i64,
    audience: String,
    keys: Vec<ClearKey>,
    blob: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClearKey {
    id: String,
    created_at: i64,
    mints_from: i64,
}

/// Where it is kept.
pub(super) fn key() -> RowKey {
    RowKey::new("keyring", "keyring")
}

/// The registry it is for.
pub(super) fn audience(row: &Row) -> Option<&str> {
    read_text(row, "audience")
}

/// What stands there in the clear; nothing where there is no row.
pub(super) fn listed(row: Option<&Row>) -> Result<KeyringSummary, StoreError> {
    let read = |row: &Row| {
        let sealed = Sealed::read(row)?;
        Some(KeyringSummary {
            revision: sealed.revision,
            ids: sealed.keys.iter().map(|key| KeyId::parse(&key.id)).collect::<Option<_>>()?,
        })
    };
    row.map_or_else(|| Ok(KeyringSummary::default()), |row| read(row).ok_or_else(malformed))
}

impl Aws {
    pub(crate) async fn keyring(&self) -> Result<Keyring, StoreError> {
        // Held while KMS is asked, so that it is asked once however many wait.
        let mut opened = self.keyring.0.lock().await;
        let rows = self.rows(&[key(), host::key()]).await?;
        // Before any key: one that was made for another registry than the table's would outlive the mistake.
        self.host_of(rows.get(&host::key()))?;
        let Some(row) = rows.get(&key()) else { return Ok(Keyring::default()) };
        let sealed = Sealed::read(row).ok_or_else(malformed)?;
        if let Some((known, keyring)) = opened.as_ref().filter(|(known, _)| *known == sealed) {
            debug_assert_eq!(known.revision, keyring.revision, "they were kept together");
            return Ok(keyring.clone());
        }
        let keyring = self.open(&sealed).await?;
        *opened = Some((sealed, keyring.clone()));
        Ok(keyring)
    }

    pub(crate) async fn replace_keyring(
        &self,
        revision: i64,
        next: Keyring,
    ) -> Result<bool, StoreError> {
        let mut opened = self.keyring.0.lock().await;
        let audience = match &self.audience {
            Some(audience) => audience.as_str().to_owned(),
            None => self.kept_audience().await?,
        };
        let sealed = self.seal(audience, &next).await?;
        let mut retry = Retry::default();
        loop {
            match self.transact(vec![sealed.write()?.only_if_revision(revision)]).await? {
                Written::Done => {
                    *opened = Some((sealed, next));
                    return Ok(true);
                }
                Written::Refused(_) => return Ok(false),
                Written::Conflict => retry.again().await?,
            }
        }
    }

    /// Drops every key, without KMS: what is dropped need not be opened, and it must work while nothing opens. Says how many
    /// there were, or `None` where the keyring changed meanwhile.
    pub(crate) async fn drop_keys(&self) -> Result<Option<usize>, StoreError> {
        let mut opened = self.keyring.0.lock().await;
        let Some(row) = self.row(&key()).await? else { return Ok(Some(0)) };
        let sealed = Sealed::read(&row).ok_or_else(malformed)?;
        self.is_ours(&sealed)?;
        if sealed.keys.is_empty() {
            return Ok(Some(0));
        }
        let (before, count) = (sealed.revision, sealed.keys.len());
        let dropped =
            Sealed { revision: before.saturating_add(1), keys: Vec::new(), blob: None, ..sealed };
        let mut retry = Retry::default();
        loop {
            match self.transact(vec![dropped.write()?.only_if_revision(before)]).await? {
                Written::Done => {
                    *opened = None;
                    return Ok(Some(count));
                }
                Written::Refused(_) => return Ok(None),
                Written::Conflict => retry.again().await?,
            }
        }
    }

    fn is_ours(&self, sealed: &Sealed) -> Result<(), StoreError> {
        if self.audience.as_ref().is_some_and(|audience| audience.as_str() != sealed.audience) {
            return Err(StoreError::misconfigured(format!(
                "the keyring in the table is that of registry `{}`",
                sealed.audience
            )));
        }
        Ok(())
    }

    async fn open(&self, sealed: &Sealed) -> Result<Keyring, StoreError> {
        self.is_ours(sealed)?;
        let Some(blob) = &sealed.blob else {
            // Dropped: no key is left, and none may be named.
            return if sealed.keys.is_empty() {
                Ok(Keyring::stored(sealed.revision, Vec::new()))
            } else {
                Err(malformed())
            };
        };
        let asked = self
            .kms
            .decrypt()
            .ciphertext_blob(Blob::new(blob.as_slice()))
            .key_id(&self.place.kms_key);
        let asked = asked.set_encryption_context(Some(context(&sealed.audience)));
        let answer = Box::pin(asked.send()).await.map_err(|error| unopened(error))?;
        let secrets =
            answer.plaintext.map(Blob::into_inner).ok_or_else(|| silent("a plaintext"))?;
        let secrets = Zeroizing::new(secrets);
        sealed
            .keys(&secrets)
            .map(|keys| Keyring::stored(sealed.revision, keys))
            .ok_or_else(malformed)
    }

    async fn seal(&self, audience: String, keyring: &Keyring) -> Result<Sealed, StoreError> {
        let clear = |key: &Key| ClearKey {
            id: key.id().as_str().to_owned(),
            created_at: key.created_at(),
            mints_from: key.mints_from(),
        };
        let keys: Vec<ClearKey> = keyring.keys().iter().map(clear).collect();
        let mut secrets = Zeroizing::new(Vec::with_capacity(keys.len() * RECORD));
        for key in keyring.keys() {
            secrets.extend_from_slice(key.id().as_str().as_bytes());
            secrets.extend_from_slice(key.secret());
        }
        let mut blob = None;
        if !keys.is_empty() {
            let asked = self
                .kms
                .encrypt()
                .key_id(&self.place.kms_key)
                .plaintext(Blob::new(secrets.as_slice()));
            let asked = asked.set_encryption_context(Some(context(&audience)));
            let answer = Box::pin(asked.send()).await.map_err(|error| {
                StoreError::unavailable("KMS does not encrypt the keyring", error)
            })?;
            blob = Some(
                answer
                    .ciphertext_blob
                    .map(Blob::into_inner)
                    .ok_or_else(|| silent("a ciphertext"))?,
            );
        }
        Ok(Sealed { revision: keyring.revision, audience, keys, blob })
    }

    /// The registry's host as the table has it, for an operator who did not say.
    async fn kept_audience(&self) -> Result<String, StoreError> {
        let row = self.row(&key()).await?;
        let kept = row.as_ref().and_then(audience).and_then(|text| Audience::parse(text).ok());
        kept.map(|audience| audience.as_str().to_owned())
            .ok_or_else(|| StoreError::misconfigured("the table has no keyring yet"))
    }
}

impl Sealed {
    fn read(row: &Row) -> Option<Self> {
        Some(Self {
            revision: read_number(row, "revision")?,
            audience: audience(row)?.to_owned(),
            keys: serde_json::from_str(read_text(row, "keys")?).ok()?,
            blob: read_bytes(row, "blob").map(<[u8]>::to_vec),
        })
    }

    fn write(&self) -> Result<Write, StoreError> {
        let keys = serde_json::to_string(&self.keys)
            .map_err(|error| StoreError::unavailable("the keyring cannot be written", error))?;
        let blob = self.blob.as_ref().map(|blob| ("blob", bytes(blob.as_slice())));
        let clear = [
            ("revision", number(self.revision)),
            ("audience", text(self.audience.as_str())),
            ("keys", text(keys)),
        ];
        Ok(Write::put(key(), clear.into_iter().chain(blob)))
    }

    /// The keys of the opened blob, which must be those that are named in the clear, in that order.
    fn keys(&self, secrets: &[u8]) -> Option<Vec<Key>> {
        if secrets.len() != self.keys.len() * RECORD {
            return None;
        }
        let key = |(clear, record): (&ClearKey, &[u8])| {
            let (id, secret) = record.split_at(record.len() - 32);
            if id != clear.id.as_bytes() {
                return None;
            }
            let secret = Zeroizing::new(<[u8; 32]>::try_from(secret).ok()?);
            Some(Key::stored(KeyId::parse(&clear.id)?, secret, clear.created_at, clear.mints_from))
        };
        self.keys.iter().zip(secrets.chunks_exact(RECORD)).map(key).collect()
    }
}

fn context(audience: &str) -> HashMap<String, String> {
    [("purpose".to_owned(), PURPOSE.to_owned()), ("audience".to_owned(), audience.to_owned())]
        .into()
}

/// A blob that KMS knows for none of its own, or for another registry's, stays so; every other failure passes.
fn unopened(error: SdkError<DecryptError>) -> StoreError {
    let said = error.as_service_error();
    let kind = if said.is_some_and(DecryptError::is_invalid_ciphertext_exception) {
        StoreErrorKind::Corrupt
    } else if said.is_some_and(DecryptError::is_incorrect_key_exception) {
        StoreErrorKind::Misconfigured
    } else {
        StoreErrorKind::Unavailable
    };
    StoreError::new(kind, "KMS does not open the keyring").caused_by(error)
}

fn silent(lacks: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, format!("KMS answered without {lacks}"))
}

fn malformed() -> StoreError {
    StoreError::corrupt("the keyring in the table cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_with_the_ids_they_were_kept_under_and_no_others() {
        let keyring = Keyring::default().rotated(0).unwrap().rotated(100_000).unwrap();
        let ids: Vec<String> =
            keyring.keys().iter().map(|key| key.id().as_str().to_owned()).collect();
        let clear = |id: &String| ClearKey { id: id.clone(), created_at: 1, mints_from: 1 };
        let sealed = |ids: &[String]| Sealed {
            revision: 1,
            audience: String::new(),
            keys: ids.iter().map(clear).collect(),
            blob: None,
        };
        let secrets: Vec<u8> = keyring
            .keys()
            .iter()
            .flat_map(|key| [key.id().as_str().as_bytes(), key.secret()].concat())
            .collect();
        let opened = sealed(&ids).keys(&secrets).unwrap();
        assert_eq!(opened[1].secret(), keyring.keys()[1].secret());
        let swapped = [ids[1].clone(), ids[0].clone()];
        for (named, secrets) in [
            (&swapped[..], &secrets[..]),
            (&ids[..1], &secrets[..]),
            (&ids[..], &secrets[..RECORD]),
            (&ids[..], &secrets[1..]),
            (&ids[..], &[]),
        ] {
            assert!(sealed(named).keys(secrets).is_none());
        }
    }
}
