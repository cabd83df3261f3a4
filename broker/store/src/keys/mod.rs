//! The key store: the secrets of the keyring, in a file or in a record that KMS encrypts.

mod file;
mod kms;

use stile_core::token::{Keyring, KeyringSummary};
use stile_protocol::audience::Audience;

pub use file::KeyFile;
pub use kms::Kms;

pub(crate) use file::reject_other_owner;

use crate::StoreError;
use crate::records::Records;
use crate::records::model::SealedKeyring;

/// The backend of the keyring.
#[derive(Debug, Clone)]
pub enum Keys {
    /// In a file that only its owner can read.
    File(KeyFile),
    /// In a record that KMS encrypts.
    Kms(Kms),
}

impl Keys {
    /// Deletes what a killed process left. Returns the number of files.
    pub(crate) fn sweep(&self, now: i64) -> usize {
        match self {
            Self::File(file) => file.sweep(now),
            Self::Kms(_) => 0,
        }
    }

    /// Returns the keyring. It is empty if the store has none yet. If `audience` is given, the
    /// keyring must be for that registry.
    pub(crate) async fn keyring(
        &self,
        records: &Records,
        audience: Option<&Audience>,
    ) -> Result<Keyring, StoreError> {
        match self {
            Self::File(file) => file.keyring().await,
            Self::Kms(kms) => kms.keyring(records, audience).await,
        }
    }

    /// Replaces the keyring if its revision is still `revision`. Returns whether it did.
    pub(crate) async fn replace(
        &self,
        records: &Records,
        audience: Option<&Audience>,
        revision: i64,
        next: Keyring,
    ) -> Result<bool, StoreError> {
        match self {
            Self::File(file) => file.replace(revision, next).await,
            Self::Kms(kms) => kms.replace(records, audience, revision, next).await,
        }
    }

    /// Deletes every key without decrypting one, and returns the number of keys. `None` if the
    /// keyring changed at the same time.
    pub(crate) async fn drop_keys(
        &self,
        records: &Records,
        audience: Option<&Audience>,
    ) -> Result<Option<usize>, StoreError> {
        match self {
            Self::File(file) => file.drop_keys().await,
            Self::Kms(kms) => kms.drop_keys(records, audience).await,
        }
    }

    /// Returns the ids of the keys without decrypting one. `sealed` is the record from the same
    /// read as the rest of the caller's state.
    pub(crate) async fn summary(
        &self,
        sealed: Option<&SealedKeyring>,
    ) -> Result<KeyringSummary, StoreError> {
        match self {
            Self::File(file) => Ok(KeyringSummary::from(&file.keyring().await?)),
            Self::Kms(_) => kms::summary(sealed),
        }
    }
}
