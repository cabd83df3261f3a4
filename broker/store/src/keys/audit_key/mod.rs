//! The audit key, which signs the heads of the chains of events. It is not in the keyring, so it stays
//! when an operator revokes all tokens.

mod file;
mod kms;

use stile_core::audit::{HeadKey, HeadStatement, SignedHead};

pub(crate) use file::{AuditKeyFile, reject_other_owner};
pub(crate) use kms::AuditKms;

use crate::StoreError;

/// The backend of the audit key.
#[derive(Debug, Clone)]
pub(crate) enum AuditKey {
    /// In a file that only its owner can read.
    File(AuditKeyFile),
    /// An asymmetric key of KMS, which no program can read.
    Kms(AuditKms),
    /// The store has none, so nothing is signed.
    Missing,
}

impl AuditKey {
    /// Creates the key of a folder if it is missing. Returns whether it did.
    pub(crate) async fn create_if_missing(&self) -> Result<bool, StoreError> {
        match self {
            Self::File(file) => file.create_if_missing().await,
            Self::Kms(_) | Self::Missing => Ok(false),
        }
    }

    /// Signs a statement. `None` if there is no key.
    pub(crate) async fn sign(
        &self,
        statement: HeadStatement,
    ) -> Result<Option<SignedHead>, StoreError> {
        match self {
            Self::File(file) => file.sign(statement).await,
            Self::Kms(kms) => kms.sign(statement).await.map(Some),
            Self::Missing => Ok(None),
        }
    }

    /// Returns the public key. `None` if there is no key.
    pub(crate) async fn public(&self) -> Result<Option<HeadKey>, StoreError> {
        match self {
            Self::File(file) => file.public().await,
            Self::Kms(kms) => kms.public().await.map(Some),
            Self::Missing => Ok(None),
        }
    }

    /// Deletes what a killed process left. Returns the number of files.
    pub(crate) fn sweep(&self, now: i64) -> usize {
        match self {
            Self::File(file) => file.sweep(now),
            Self::Kms(_) | Self::Missing => 0,
        }
    }
}
