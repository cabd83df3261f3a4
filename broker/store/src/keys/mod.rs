//! The key store: the secrets of the keyring, in a file or in a record that KMS encrypts.

mod audit_key;
mod file;
mod kms;
mod private_file;
mod release_kms;

use stile_core::audit::{self, Kept};
use stile_core::token::{Keyring, KeyringSummary};
use stile_protocol::audience::Audience;

pub(crate) use audit_key::{
    AuditKey, AuditKeyFile, AuditKms, reject_other_owner as reject_other_owner_of_audit_key,
};
pub use file::KeyFile;
pub use kms::Kms;
pub use release_kms::{ReleaseKms, ReleaseKmsKey};

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
    ///
    /// No commit contains a file. So the event of a deletion of the file is first, and if the deletion
    /// fails, another event says so. Only a damaged chain of events causes a deletion without one.
    pub(crate) async fn drop_keys(
        &self,
        records: &Records,
        audience: Option<&Audience>,
        kept: &Kept,
    ) -> Result<Option<usize>, StoreError> {
        let file = match self {
            Self::Kms(kms) => return kms.drop_keys(records, audience, kept).await,
            Self::File(file) => file,
        };
        if file.keyring().await?.keys().is_empty() {
            return Ok(Some(0));
        }
        let keep =
            async |outcome| records.commit_revocation(Vec::new(), kept, outcome).await.map(drop);
        keep(audit::Outcome::Dropped).await?;
        let dropped = file.drop_keys().await;
        match &dropped {
            Ok(Some(_)) => {}
            Ok(None) => keep(audit::Outcome::Conflict).await?,
            // The first error says more than one of the second event.
            Err(_) => drop(keep(audit::Outcome::Failed).await),
        }
        dropped
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
