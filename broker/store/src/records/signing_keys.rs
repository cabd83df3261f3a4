//! The rules of the signing keys of a namespace: one record has all of them.
//!
//! A key that is compromised is refused at downloads from the commit on. After it, the documents of the
//! versions that the key signed get a warning. That is safe to repeat.

use stile_core::audit::{self, Chain, Kept};
use stile_core::package::provider::{
    KeyAdded, KeyId, KeyRetired as Retirement, KeyState, NamespaceKeys, SigningKey,
};
use stile_core::package::{PackageAddress, PackageKind, Version};
use stile_protocol::names::{Namespace, ProviderAddress};

use super::Records;
use super::model::{Content, Revision};
use super::mutation::{Mutation, Outcome};
use super::provider_document::DistrustedKeys;
use crate::retry::Retry;
use crate::{KeyRetired, StoreError};

/// The signing keys of a namespace, as the backend found them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct StoredKeys {
    pub(crate) revision: Revision,
    pub(crate) keys: NamespaceKeys,
}

impl StoredKeys {
    /// Returns the ids of the keys that are compromised.
    pub(crate) fn distrusted(&self) -> DistrustedKeys {
        let keys = self.keys.keys.iter();
        keys.filter(|key| matches!(key.state, KeyState::Compromised { .. }))
            .map(|key| key.key_id.clone())
            .collect()
    }
}

impl Records {
    /// Returns the signing keys of a namespace.
    pub(crate) async fn signing_keys(
        &self,
        namespace: &Namespace,
    ) -> Result<StoredKeys, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.signing_keys(namespace).await,
            Self::DynamoDb(dynamodb) => dynamodb.signing_keys(namespace).await,
        }
    }

    /// Returns the signing keys on which the document of a package depends. That of a module depends on
    /// none.
    pub(super) async fn keys_of(&self, address: &PackageAddress) -> Result<StoredKeys, StoreError> {
        match address {
            PackageAddress::Module(_) => Ok(StoredKeys::default()),
            PackageAddress::Provider(provider) => self.signing_keys(&provider.namespace).await,
        }
    }

    /// Adds a signing key.
    pub(crate) async fn add_signing_key(
        &self,
        namespace: &Namespace,
        key: &SigningKey,
        (by, kept): (&str, &Kept),
    ) -> Result<KeyAdded, StoreError> {
        let mut retry = Retry::default();
        loop {
            let StoredKeys { revision, mut keys } = self.signing_keys(namespace).await?;
            let added = keys.add(key, by, kept.at());
            let outcome = match added {
                KeyAdded::Added => audit::Outcome::Created,
                KeyAdded::Renewed => audit::Outcome::Changed,
                KeyAdded::Unchanged
                | KeyAdded::Retired
                | KeyAdded::Lacks
                | KeyAdded::SameId
                | KeyAdded::Full => {
                    return Ok(added);
                }
            };
            let put = put(namespace, revision, keys);
            match self.commit_audited(&Chain::from(namespace), vec![put], kept, outcome).await? {
                Outcome::Done => return Ok(added),
                Outcome::TooLarge => return Ok(KeyAdded::Full),
                // Another writer changed the keys at the same time.
                Outcome::Refused(_) | Outcome::Conflict => retry.wait().await?,
            }
        }
    }

    /// Retires a signing key. If it is compromised, the documents of the versions that it signed get a
    /// warning, also if an earlier call stopped before that.
    pub(crate) async fn retire_signing_key(
        &self,
        namespace: &Namespace,
        id: &KeyId,
        compromised: bool,
        (by, kept): (&str, &Kept),
    ) -> Result<KeyRetired, StoreError> {
        let mut retry = Retry::default();
        let retirement = loop {
            let StoredKeys { revision, mut keys } = self.signing_keys(namespace).await?;
            let retirement = keys.retire(id, compromised, by, kept.at());
            match retirement {
                Retirement::Absent => return Ok(KeyRetired::Absent),
                Retirement::Unchanged => break retirement,
                Retirement::Done => {}
            }
            let (chain, changed) = (Chain::from(namespace), audit::Outcome::Changed);
            let put = put(namespace, revision, keys);
            match self.commit_audited(&chain, vec![put], kept, changed).await? {
                Outcome::Done => break retirement,
                _ => retry.wait().await?,
            }
        };
        let mut versions = Vec::new();
        if compromised {
            versions = self.warn_about(namespace, id).await?;
        }
        Ok(match retirement {
            Retirement::Done => KeyRetired::Done { versions },
            Retirement::Unchanged | Retirement::Absent => KeyRetired::Unchanged { versions },
        })
    }

    /// Writes the warnings about a key into the documents of a namespace. Returns the versions that the
    /// key signed, in order.
    async fn warn_about(
        &self,
        namespace: &Namespace,
        id: &KeyId,
    ) -> Result<Vec<(ProviderAddress, Version)>, StoreError> {
        let mut signed = Vec::new();
        for summary in self.all_summaries(PackageKind::Provider, Some(namespace)).await? {
            let address = summary.address;
            let state = self.package_state(&address).await?;
            let mut versions: Vec<Version> = Vec::new();
            for (text, record) in &state.versions {
                let Some(Content::Provider(release)) = record.as_ref().map(|it| &it.content) else {
                    continue;
                };
                if release.sums.key_id == *id {
                    versions.extend(Version::parse(text));
                }
            }
            if versions.is_empty() {
                continue;
            }
            // A repetition writes only what an earlier request did not. It holds one copy at a time.
            let is_described = state.described(&address).is_none();
            drop(state);
            if !is_described {
                self.describe_again(&address).await?;
            }
            versions.sort();
            if let Some(provider) = address.provider() {
                signed.extend(versions.into_iter().map(|version| (provider.clone(), version)));
            }
        }
        Ok(signed)
    }

    /// Makes the document of a provider as its records and the keys say it, without an event: the change
    /// of the keys has one.
    async fn describe_again(&self, address: &PackageAddress) -> Result<(), StoreError> {
        let mut retry = Retry::default();
        loop {
            let state = self.package_state(address).await?;
            let Some(package) = state.described(address) else { return Ok(()) };
            let (address, before) = (address.clone(), package.revision);
            match self.commit(vec![Mutation::PutPackage { address, before, package }]).await? {
                Outcome::Done => return Ok(()),
                Outcome::TooLarge => {
                    tracing::warn!("the versions document of a provider has no space for warnings");
                    return Ok(());
                }
                Outcome::Refused(_) | Outcome::Conflict => retry.wait().await?,
            }
        }
    }
}

fn put(namespace: &Namespace, before: Revision, keys: NamespaceKeys) -> Mutation {
    Mutation::PutSigningKeys { namespace: namespace.clone(), before, keys }
}
