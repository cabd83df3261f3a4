//! The keyring sealed into a record. KMS encrypts its secrets as one blob, for this registry only.
//!
//! Ids, times and the revision are not encrypted, so a process can see without KMS whether it knows
//! the keys. The blob contains the ids, too, so no secret can get the id of another key.

mod setup;

use std::collections::HashMap;
use std::sync::Arc;

use aws_config::SdkConfig;
use aws_sdk_kms::error::SdkError;
use aws_sdk_kms::operation::decrypt::DecryptError;
use aws_sdk_kms::primitives::Blob;
use stile_core::audit::{self, Kept};
use stile_core::token::{Key, KeyId, Keyring, KeyringSummary};
use stile_protocol::audience::Audience;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::aws::{Genuine, Measured, own_retries};
use crate::records::Records;
use crate::records::model::{ClearKey, SealedKeyring};
use crate::records::mutation::{Mutation, Outcome};
use crate::{Service, ServiceCalls, StoreError, StoreErrorKind};

/// The purpose in the encryption context. KMS binds the blob to the purpose and to the registry
/// host. It does not decrypt a blob of another registry, or one that the same key encrypted for
/// another purpose.
const PURPOSE: &str = "stile-keyring";

/// Size of a key's id and secret in the blob, in bytes.
const ENTRY_BYTES: usize = 22 + 32;

/// The keyring that this process has decrypted, and its record.
type Opened = Option<(SealedKeyring, Keyring)>;

/// A KMS key, and the keyring that this process has decrypted with it. The process decrypts a
/// keyring once, however often a caller needs it.
#[derive(Clone)]
pub struct Kms {
    client: aws_sdk_kms::Client,
    key_id: String,
    opened: Arc<Mutex<Opened>>,
}

impl std::fmt::Debug for Kms {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Kms").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl Kms {
    /// Creates a client for the key with this id, ARN or alias.
    pub(crate) fn new(key_id: &str, sdk: &SdkConfig, calls: &ServiceCalls) -> Self {
        let config = aws_sdk_kms::config::Builder::from(sdk)
            .interceptor(Genuine)
            .interceptor(Measured::new(Service::Kms, calls))
            .retry_partition(own_retries("kms"));
        Self {
            client: aws_sdk_kms::Client::from_conf(config.build()),
            key_id: key_id.to_owned(),
            opened: Arc::default(),
        }
    }

    /// Returns the name of the key, for messages.
    pub(crate) fn name(&self) -> String {
        format!("KMS key {}", self.key_id)
    }

    /// Returns the keyring. It is empty if the store has none yet. If `audience` is given, the
    /// keyring must be for that registry.
    pub(crate) async fn keyring(
        &self,
        records: &Records,
        audience: Option<&Audience>,
    ) -> Result<Keyring, StoreError> {
        // Hold the lock during the call, so that many waiting tasks cause one call of KMS.
        let mut opened = self.opened.lock().await;
        let (sealed, host) = records.sealed_keyring().await?;
        // Check the host before any key is used. A key for another registry than the table's would
        // outlive the mistake.
        records.check_host(host?.as_ref(), audience)?;
        let Some(sealed) = sealed else { return Ok(Keyring::default()) };
        if let Some((known, keyring)) = opened.as_ref().filter(|(known, _)| *known == sealed) {
            debug_assert_eq!(known.revision, keyring.revision, "the cache holds both together");
            return Ok(keyring.clone());
        }
        let keyring = self.open(&sealed, audience).await?;
        *opened = Some((sealed, keyring.clone()));
        Ok(keyring)
    }

    /// Replaces the keyring if its revision is still `revision`. Returns whether it did.
    pub(crate) async fn replace(
        &self,
        records: &Records,
        audience: Option<&Audience>,
        revision: i64,
        next: Keyring,
    ) -> Result<bool, StoreError> {
        let mut opened = self.opened.lock().await;
        let audience = match audience {
            Some(audience) => audience.as_str().to_owned(),
            None => audience_in(records).await?,
        };
        let sealed = self.seal(audience, &next).await?;
        let put = Mutation::PutKeyring { before: revision, keyring: sealed.clone() };
        if records.commit_with_retries(vec![put]).await? != Outcome::Done {
            return Ok(false);
        }
        *opened = Some((sealed, next));
        Ok(true)
    }

    /// Deletes every key without decrypting it, so that it works while KMS is down. Returns the
    /// number of keys, or `None` if the keyring changed at the same time.
    pub(crate) async fn drop_keys(
        &self,
        records: &Records,
        audience: Option<&Audience>,
        kept: &Kept,
    ) -> Result<Option<usize>, StoreError> {
        let mut opened = self.opened.lock().await;
        let (Some(sealed), _) = records.sealed_keyring().await? else { return Ok(Some(0)) };
        check_audience(&sealed, audience)?;
        if sealed.keys.is_empty() {
            return Ok(Some(0));
        }
        let (before, count) = (sealed.revision, sealed.keys.len());
        let dropped = SealedKeyring {
            revision: before.saturating_add(1),
            keys: Vec::new(),
            blob: None,
            ..sealed
        };
        let put = vec![Mutation::PutKeyring { before, keyring: dropped }];
        let outcome = audit::Outcome::Dropped;
        if records.commit_revocation(put, kept, outcome).await? != Outcome::Done {
            return Ok(None);
        }
        *opened = None;
        Ok(Some(count))
    }

    async fn open(
        &self,
        sealed: &SealedKeyring,
        audience: Option<&Audience>,
    ) -> Result<Keyring, StoreError> {
        check_audience(sealed, audience)?;
        let Some(blob) = &sealed.blob else {
            // Every key was deleted, so the record must not name one.
            return if sealed.keys.is_empty() {
                Ok(Keyring::stored(sealed.revision, Vec::new()))
            } else {
                Err(malformed())
            };
        };
        let asked = self
            .client
            .decrypt()
            .ciphertext_blob(Blob::new(blob.as_slice()))
            .key_id(&self.key_id)
            .set_encryption_context(Some(context(&sealed.audience)));
        let answer = Box::pin(asked.send()).await.map_err(decrypt_error)?;
        let secrets =
            answer.plaintext.map(Blob::into_inner).ok_or_else(|| incomplete("plaintext"))?;
        let secrets = Zeroizing::new(secrets);
        let keys = secrets_of(sealed, &secrets).ok_or_else(malformed)?;
        Ok(Keyring::stored(sealed.revision, keys))
    }

    async fn seal(&self, audience: String, keyring: &Keyring) -> Result<SealedKeyring, StoreError> {
        let clear = |key: &Key| ClearKey {
            id: key.id().as_str().to_owned(),
            created_at: key.created_at(),
            mints_from: key.mints_from(),
        };
        let keys: Vec<ClearKey> = keyring.keys().iter().map(clear).collect();
        let mut secrets = Zeroizing::new(Vec::with_capacity(keys.len() * ENTRY_BYTES));
        for key in keyring.keys() {
            secrets.extend_from_slice(key.id().as_str().as_bytes());
            secrets.extend_from_slice(key.secret());
        }
        let mut blob = None;
        if !keys.is_empty() {
            let asked = self
                .client
                .encrypt()
                .key_id(&self.key_id)
                .plaintext(Blob::new(secrets.as_slice()))
                .set_encryption_context(Some(context(&audience)));
            let answer = Box::pin(asked.send()).await.map_err(|error| {
                StoreError::unavailable("KMS cannot encrypt the keyring", error)
            })?;
            let sealed = answer.ciphertext_blob.map(Blob::into_inner);
            blob = Some(sealed.ok_or_else(|| incomplete("ciphertext"))?);
        }
        Ok(SealedKeyring { revision: keyring.revision, audience, keys, blob })
    }
}

/// Returns the revision and the ids of the keys, which are not encrypted. Both are empty if there
/// is no record.
pub(super) fn summary(sealed: Option<&SealedKeyring>) -> Result<KeyringSummary, StoreError> {
    let Some(sealed) = sealed else { return Ok(KeyringSummary::default()) };
    let ids = sealed.keys.iter().map(|key| KeyId::parse(&key.id)).collect::<Option<_>>();
    Ok(KeyringSummary { revision: sealed.revision, ids: ids.ok_or_else(malformed)? })
}

/// Returns the registry of the stored keyring, for an operator who did not name one.
async fn audience_in(records: &Records) -> Result<String, StoreError> {
    let (sealed, _) = records.sealed_keyring().await?;
    let audience = sealed.and_then(|sealed| Audience::parse(&sealed.audience).ok());
    audience
        .map(|audience| audience.as_str().to_owned())
        .ok_or_else(|| StoreError::misconfigured("the table has no keyring yet"))
}

fn check_audience(sealed: &SealedKeyring, audience: Option<&Audience>) -> Result<(), StoreError> {
    if audience.is_some_and(|audience| audience.as_str() != sealed.audience) {
        return Err(StoreError::misconfigured(format!(
            "the keyring in the table is for registry `{}`",
            sealed.audience
        )));
    }
    Ok(())
}

/// Returns the keys of the decrypted blob. They must be those that the record names, in the same
/// order.
fn secrets_of(sealed: &SealedKeyring, secrets: &[u8]) -> Option<Vec<Key>> {
    if secrets.len() != sealed.keys.len() * ENTRY_BYTES {
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
    sealed.keys.iter().zip(secrets.chunks_exact(ENTRY_BYTES)).map(key).collect()
}

fn context(audience: &str) -> HashMap<String, String> {
    [("purpose".to_owned(), PURPOSE.to_owned()), ("audience".to_owned(), audience.to_owned())]
        .into()
}

/// Converts an error of a decryption. An invalid blob, or one that another key encrypted, is a
/// permanent failure. Every other failure is temporary.
fn decrypt_error(error: SdkError<DecryptError>) -> StoreError {
    let said = error.as_service_error();
    let kind = if said.is_some_and(DecryptError::is_invalid_ciphertext_exception) {
        StoreErrorKind::Corrupt
    } else if said.is_some_and(DecryptError::is_incorrect_key_exception) {
        StoreErrorKind::Misconfigured
    } else {
        StoreErrorKind::Unavailable
    };
    StoreError::new(kind, "KMS cannot decrypt the keyring").caused_by(error)
}

fn incomplete(missing: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, format!("the answer of KMS contains no {missing}"))
}

fn malformed() -> StoreError {
    StoreError::corrupt("cannot read the keyring in the table")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_belongs_only_to_the_id_that_it_was_stored_with() {
        let keyring = Keyring::default().rotated(0).unwrap().rotated(100_000).unwrap();
        let ids: Vec<String> =
            keyring.keys().iter().map(|key| key.id().as_str().to_owned()).collect();
        let clear = |id: &String| ClearKey { id: id.clone(), created_at: 1, mints_from: 1 };
        let sealed = |ids: &[String]| SealedKeyring {
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
        let opened = secrets_of(&sealed(&ids), &secrets).unwrap();
        assert_eq!(opened[1].secret(), keyring.keys()[1].secret());
        let swapped = [ids[1].clone(), ids[0].clone()];
        for (named, secrets) in [
            (&swapped[..], &secrets[..]),
            (&ids[..1], &secrets[..]),
            (&ids[..], &secrets[..ENTRY_BYTES]),
            (&ids[..], &secrets[1..]),
            (&ids[..], &[]),
        ] {
            assert!(secrets_of(&sealed(named), secrets).is_none());
        }
    }
}
