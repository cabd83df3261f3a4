//! The keyring that tokens are sealed under: where its secrets are, and who can open them. A closed list of ways.

mod file;
mod kms;

use stile_core::token::{Keyring, KeyringSummary};
use stile_protocol::audience::Audience;

pub use file::KeyFile;
pub use kms::Kms;

pub(crate) use file::ASIDE;

use crate::StoreError;
use crate::records::Records;
use crate::records::model::SealedKeyring;

/// Where the keys are.
#[derive(Debug, Clone)]
pub enum Keys {
    /// In a file that only its owner reads.
    File(KeyFile),
    /// In a record, sealed by KMS.
    Kms(Kms),
}

impl Keys {
    /// The keyring; an empty one where there is none yet. `audience` is the registry it must be for, where one is given.
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

    /// Replaces the keyring, unless it is no longer of the given revision.
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

    /// Drops every key without opening one, and says how many there were; `None` where the keyring changed meanwhile.
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

    /// The names of the keys, without opening one. `sealed` is the record that was read together with everything else.
    pub(crate) async fn listed(
        &self,
        sealed: Option<&SealedKeyring>,
    ) -> Result<KeyringSummary, StoreError> {
        match self {
            Self::File(file) => Ok(KeyringSummary::from(&file.keyring().await?)),
            Self::Kms(_) => kms::listed(sealed),
        }
    }
}
