//! The record store: grants, pins, revocations, packages, uploads, and the records of which a
//! registry has one.
//!
//! A backend answers typed reads. It commits all of a list of typed [`Mutation`]s, or none. The
//! rules above it exist once: `audit`, `grants`, `delegated_grants`, `lease`, `namespaces`, `quota`,
//! `single_use`, `revocations`, `aws_groups`, `refused_exchanges`, `packages`, `package_state`, `life`,
//! `uploads`, `provider_releases`, `provider_files`, `service_tokens`, `signing_keys`, `sources`, `trusts`,
//! `usage`, `webhooks` and `outbox`.

pub(crate) mod audit;
mod aws_groups;
mod delegated_grants;
mod dynamodb;
mod grants;
mod grants_page;
mod lease;
mod life;
pub(crate) mod model;
pub(crate) mod mutation;
mod namespaces;
pub(crate) mod outbox;
mod package_document;
pub(crate) mod package_state;
mod packages;
pub(crate) mod provider_document;
pub(crate) mod provider_files;
pub(crate) mod provider_releases;
mod quota;
mod refused_exchanges;
mod retention;
mod revocations;
mod sealed_keyring;
pub(crate) mod service_tokens;
pub(crate) mod signed_heads;
pub(crate) mod signing_keys;
mod single;
mod single_use;
mod sources;
mod sqlite;
pub(crate) mod stored_object;
#[cfg(test)]
mod tests;
mod trust_record;
pub(crate) mod trusts;
mod uploads;
pub(crate) mod usage;
pub(crate) mod waiting_file;
mod webhooks;

use bytes::Bytes;
use stile_core::grants::{GrantNamespace, PermittedNamespaces};
use stile_core::package::{PackageAddress, PackageKind, PackageSummary, UploadId, Version};
use stile_core::principal::Principal;
use stile_core::search::SearchEntry;
use stile_protocol::audience::Audience;
use stile_protocol::names::Namespace;

pub use audit::AuditPage;
pub use delegated_grants::LISTED_NAMESPACES;
pub use dynamodb::DynamoDb;
pub use grants::{ListedGrants, UnreadableGrant};
pub use lease::{GRANT_LEASE, GrantLease, LeaseTaken, LeaseWatch, Leased};
pub use outbox::MAX_WAITING;
pub use signed_heads::StoredSignedHead;
pub use sqlite::Sqlite;
pub(crate) use sqlite::copies;
pub use sqlite::migrations::Migrated;
pub use usage::COUNTS_PER_COMMIT;

pub(crate) use packages::compare;
pub(crate) use single_use::principal_state;
pub(crate) use uploads::{COMPLETE_WITHIN, UploadAdded};

use crate::StoreError;
use crate::retry::Retry;
use grants_page::{Found, GrantsPage};
use model::{
    CallerRecords, KeyringAndHost, LeaseRecord, OpenUploads, PackageRecord, PackagesPage,
    PrincipalGrants, Quota, RevocationRecords, StoredGrant, UploadRecord, VersionRecord,
};
use mutation::{Mutation, Outcome};
use namespaces::StoredNamespace;
use package_state::PackageState;

/// Raises the alarm for a package that a list leaves out.
fn alarm_about_unreadable(kind: PackageKind) {
    let kind = kind.as_str();
    tracing::error!(
        alarm = "unreadable_module",
        kind,
        "a package in the store cannot be read and is not listed"
    );
}

/// The backend of the records.
#[derive(Debug, Clone)]
pub enum Records {
    /// In a SQLite database on this machine.
    Sqlite(Sqlite),
    /// In a DynamoDB table.
    DynamoDb(DynamoDb),
}

impl Records {
    /// Commits all of the mutations or none, and tries again after each conflict with another
    /// writer.
    ///
    /// It is for mutations whose conditions do not depend on an earlier read. For others, the
    /// caller must read again after a conflict.
    pub(crate) async fn commit_with_retries(
        &self,
        mutations: Vec<Mutation>,
    ) -> Result<Outcome, StoreError> {
        let mut retry = Retry::default();
        loop {
            match self.commit(mutations.clone()).await? {
                Outcome::Conflict => retry.wait().await?,
                outcome => return Ok(outcome),
            }
        }
    }

    /// Commits all of the mutations or none, in one attempt.
    pub(crate) async fn commit(&self, mutations: Vec<Mutation>) -> Result<Outcome, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.commit(mutations).await,
            Self::DynamoDb(dynamodb) => dynamodb.commit(mutations).await,
        }
    }

    /// Reads everything that a decision about a caller depends on. The first of the principals is
    /// the caller's own role or user.
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

    async fn grants_page(&self, page: GrantsPage) -> Result<Found, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.grants_page(page).await,
            Self::DynamoDb(dynamodb) => dynamodb.grants_page(&page).await,
        }
    }

    /// Returns the packages, in order.
    pub(crate) async fn packages(&self) -> Result<Vec<PackageAddress>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.packages().await,
            Self::DynamoDb(dynamodb) => dynamodb.packages().await,
        }
    }

    /// Returns everything that the store records of a package.
    pub(crate) async fn package_state(
        &self,
        address: &PackageAddress,
    ) -> Result<PackageState, StoreError> {
        let mut state = match self {
            Self::Sqlite(sqlite) => sqlite.package_state(address).await?,
            Self::DynamoDb(dynamodb) => dynamodb.package_state(address).await?,
        };
        state.distrusted = self.keys_of(address).await?.distrusted();
        Ok(state)
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

    /// Returns the versions document of a package. `None` if no version is published.
    pub(crate) async fn package_document(
        &self,
        address: &PackageAddress,
    ) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.package_document(address).await,
            Self::DynamoDb(dynamodb) => dynamodb.package_document(address).await,
        }
    }

    /// Returns a package with the list of its versions, and the quota of its namespace.
    async fn package_and_quota(
        &self,
        address: &PackageAddress,
    ) -> Result<(Option<PackageRecord>, Option<Quota>), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.package_and_quota(address).await,
            Self::DynamoDb(dynamodb) => dynamodb.package_and_quota(address).await,
        }
    }

    /// Returns one version. `None` if it is not published.
    pub(crate) async fn version(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<Option<VersionRecord>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.version(address, version).await,
            Self::DynamoDb(dynamodb) => dynamodb.version(address, version).await,
        }
    }

    /// Returns one version, and the record of its namespace, in one read.
    pub(crate) async fn version_and_namespace(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<(Option<VersionRecord>, Option<StoredNamespace>), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.version_and_namespace(address, version).await,
            Self::DynamoDb(dynamodb) => dynamodb.version_and_namespace(address, version).await,
        }
    }

    /// Returns one version, and the quota of its namespace.
    pub(crate) async fn version_and_quota(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<(Option<VersionRecord>, Option<Quota>), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.version_and_quota(address, version).await,
            Self::DynamoDb(dynamodb) => dynamodb.version_and_quota(address, version).await,
        }
    }

    /// Returns the packages of this kind in a namespace, or in all, in order of address.
    async fn all_summaries(
        &self,
        kind: PackageKind,
        namespace: Option<&Namespace>,
    ) -> Result<Vec<PackageSummary>, StoreError> {
        let reach = &PermittedNamespaces::All;
        let page = PackagesPage { reach, namespace, offset: 0, limit: usize::MAX };
        self.summaries(kind, &page).await
    }

    /// Returns the packages of this kind that the page has, in order of address.
    pub(crate) async fn summaries(
        &self,
        kind: PackageKind,
        page: &PackagesPage<'_>,
    ) -> Result<Vec<PackageSummary>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.summaries(kind, page).await,
            Self::DynamoDb(dynamodb) => dynamodb.summaries(kind, page).await,
        }
    }

    /// Returns the modules of a namespace, each with the text of its latest version.
    pub(crate) async fn search_entries(
        &self,
        namespace: &Namespace,
    ) -> Result<Vec<SearchEntry>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.search_entries(namespace).await,
            Self::DynamoDb(dynamodb) => dynamodb.search_entries(namespace).await,
        }
    }

    async fn upload(&self, id: &UploadId) -> Result<Option<UploadRecord>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.upload(id).await,
            Self::DynamoDb(dynamodb) => dynamodb.upload(id).await,
        }
    }

    /// Returns the open uploads to a namespace, and its quota.
    async fn open_uploads(
        &self,
        namespace: &Namespace,
    ) -> Result<(OpenUploads, Option<Quota>), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.open_uploads(namespace).await,
            Self::DynamoDb(dynamodb) => dynamodb.open_uploads(namespace).await,
        }
    }

    /// Returns the registry that the records are for. `None` if none is recorded.
    pub(crate) async fn host(&self) -> Result<Option<Audience>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.host().await,
            Self::DynamoDb(dynamodb) => dynamodb.host().await,
        }
    }

    /// Returns the sealed keyring, and the registry that the records are for.
    pub(crate) async fn sealed_keyring(&self) -> Result<KeyringAndHost, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.sealed_keyring().await,
            Self::DynamoDb(dynamodb) => dynamodb.sealed_keyring().await,
        }
    }

    async fn grant_lease(&self) -> Result<LeaseRecord, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.grant_lease().await,
            Self::DynamoDb(dynamodb) => dynamodb.grant_lease().await,
        }
    }

    /// Returns the name of the backend, for messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Sqlite(sqlite) => sqlite.name(),
            Self::DynamoDb(dynamodb) => dynamodb.name(),
        }
    }

    /// Checks that a read and a write succeed.
    pub(crate) async fn health_check(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.health_check().await,
            Self::DynamoDb(dynamodb) => dynamodb.health_check().await,
        }
    }

    /// Checks the setup of the backend.
    pub(crate) async fn diagnose(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.health_check().await,
            Self::DynamoDb(dynamodb) => dynamodb.diagnose().await,
        }
    }
}
