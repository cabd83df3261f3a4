//! Records: grants, pins, revocations, packages, uploads and what a registry has one of. A closed list of backends.
//!
//! A backend answers typed reads, and commits typed [`Mutation`]s, all of a list or none. The rules above it are written
//! once: `grants`, `namespaces`, `single_use`, `revocations`, `packages` and `uploads`.

mod dynamodb;
mod grants;
pub(crate) mod model;
pub(crate) mod mutation;
mod namespaces;
mod package_document;
mod packages;
mod retention;
mod revocations;
mod sealed_keyring;
mod single;
mod single_use;
mod sqlite;
#[cfg(test)]
mod tests;
mod uploads;

use bytes::Bytes;
use stile_core::grants::{GrantNamespace, PermittedNamespaces};
use stile_core::package::{ModuleSummary, PackageAddress, UploadId, Version};
use stile_core::principal::Principal;
use stile_protocol::audience::Audience;
use stile_protocol::names::Namespace;

pub use dynamodb::DynamoDb;
pub use sqlite::Sqlite;
pub use sqlite::migrations::Migrated;

pub(crate) use packages::compare;
pub(crate) use single_use::principal_state;

use crate::StoreError;
use crate::retry::Retry;
use model::{
    CallerRecords, KeyringAndHost, PackageRecord, PrincipalGrants, RevocationRecords,
    StoredArchive, StoredGrant, UploadRecord,
};
use mutation::{Mutation, Outcome};
use namespaces::StoredNamespace;

/// Where records are.
#[derive(Debug, Clone)]
pub enum Records {
    /// In a SQLite database of this machine.
    Sqlite(Sqlite),
    /// In a DynamoDB table.
    DynamoDb(DynamoDb),
}

impl Records {
    /// Commits all of the mutations or none, again as often as somebody else writes at the same time. For mutations whose
    /// conditions do not depend on an earlier read; any other is read again after a conflict.
    pub(crate) async fn settle(&self, mutations: Vec<Mutation>) -> Result<Outcome, StoreError> {
        let mut retry = Retry::default();
        loop {
            match self.commit(mutations.clone()).await? {
                Outcome::Conflict => retry.again().await?,
                settled => return Ok(settled),
            }
        }
    }

    /// Commits all of the mutations or none, once.
    pub(crate) async fn commit(&self, mutations: Vec<Mutation>) -> Result<Outcome, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.commit(mutations).await,
            Self::DynamoDb(dynamodb) => dynamodb.commit(mutations).await,
        }
    }

    /// Everything that a decision about a caller with these principals depends on, its own first.
    pub(crate) async fn caller(
        &self,
        principals: Vec<Principal>,
    ) -> Result<CallerRecords, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.caller(principals).await,
            Self::DynamoDb(dynamodb) => dynamodb.caller(principals).await,
        }
    }

    async fn principal_grants(&self, principal: &Principal) -> Result<PrincipalGrants, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.principal_grants(principal).await,
            Self::DynamoDb(dynamodb) => dynamodb.principal_grants(principal).await,
        }
    }

    async fn stored_grants(
        &self,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
    ) -> Result<Vec<StoredGrant>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.grants(principal, namespace).await,
            Self::DynamoDb(dynamodb) => dynamodb.grants(principal, namespace).await,
        }
    }

    async fn namespace_record(
        &self,
        namespace: &Namespace,
    ) -> Result<Option<StoredNamespace>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.namespace_record(namespace).await,
            Self::DynamoDb(dynamodb) => dynamodb.namespace_record(namespace).await,
        }
    }

    async fn namespace_records(&self) -> Result<Vec<StoredNamespace>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.namespace_records().await,
            Self::DynamoDb(dynamodb) => dynamodb.namespace_records().await,
        }
    }

    async fn revocation_records(&self) -> Result<RevocationRecords, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.revocations().await,
            Self::DynamoDb(dynamodb) => dynamodb.revocations().await,
        }
    }

    /// The ready-made document of a package's versions; `None` where nothing is published.
    pub(crate) async fn package_document(
        &self,
        address: &PackageAddress,
    ) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.package_document(address).await,
            Self::DynamoDb(dynamodb) => dynamodb.package_document(address).await,
        }
    }

    async fn package(&self, address: &PackageAddress) -> Result<Option<PackageRecord>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.package(address).await,
            Self::DynamoDb(dynamodb) => dynamodb.package(address).await,
        }
    }

    /// The archive of one version; `None` where it is not published.
    pub(crate) async fn version(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<Option<StoredArchive>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.version(address, version).await,
            Self::DynamoDb(dynamodb) => dynamodb.version(address, version).await,
        }
    }

    /// The modules within reach, in order of address, from `offset` on; at most `limit`.
    pub(crate) async fn modules(
        &self,
        reach: &PermittedNamespaces,
        namespace: Option<&Namespace>,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<ModuleSummary>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.modules(reach, namespace, offset, limit).await,
            Self::DynamoDb(dynamodb) => dynamodb.modules(reach, namespace, offset, limit).await,
        }
    }

    async fn upload(&self, id: &UploadId) -> Result<Option<UploadRecord>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.upload(id).await,
            Self::DynamoDb(dynamodb) => dynamodb.upload(id).await,
        }
    }

    /// The registry that the records are for; `None` where nobody has written it.
    pub(crate) async fn host(&self) -> Result<Option<Audience>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.host().await,
            Self::DynamoDb(dynamodb) => dynamodb.host().await,
        }
    }

    /// The sealed keyring, and the registry that the records are for.
    pub(crate) async fn sealed_keyring(&self) -> Result<KeyringAndHost, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.sealed_keyring().await,
            Self::DynamoDb(dynamodb) => dynamodb.sealed_keyring().await,
        }
    }

    /// Where they are, for a message.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Sqlite(sqlite) => sqlite.name(),
            Self::DynamoDb(dynamodb) => dynamodb.name(),
        }
    }

    /// Whether a read and a write go through.
    pub(crate) async fn health_check(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.health_check().await,
            Self::DynamoDb(dynamodb) => dynamodb.health_check().await,
        }
    }

    /// Whether they are as they must be.
    pub(crate) async fn diagnose(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.health_check().await,
            Self::DynamoDb(dynamodb) => dynamodb.diagnose().await,
        }
    }
}
