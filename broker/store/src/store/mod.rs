//! The store as the broker and operators use it. Every change takes evidence. The results are the
//! same on all backends.

mod audit;
mod backup;
mod delegated_grants;
mod folder;
mod head_signer;
mod leased_grants;
mod leftovers;
mod listed_versions;
mod metadata;
mod objects;
mod on_aws;
mod outbox;
mod package_check;
mod packages;
mod providers;
mod publish_guard;
mod repair;
mod service_tokens;
mod signed_heads;
mod sources;
mod trusts;

use stile_core::audit::Kept;
use stile_core::grants::{
    Grant, GrantAccess, GrantNamespace, GrantTag, OperatorAccess, Pin, PrincipalState,
};
use stile_core::identity::{PROOF_MAX_AHEAD, SingleUse};
use stile_core::package::source::{AllowedSources, SourcesChange};
use stile_core::principal::{Principal, UniqueId};
use stile_core::refused_exchange::RefusedExchange;
use stile_core::token::{Keyring, TokenId};
use stile_core::usage::DeprecatedDownload;
use stile_protocol::audience::Audience;
use stile_protocol::names::Namespace;
use stile_protocol::request_id::RequestId;

use head_signer::HeadSigner;
use listed_versions::ListedVersions;

pub use backup::{BackedUp, CopyProgress, Restored};
pub use folder::FolderCreated;
pub use on_aws::AwsCreated;
pub use package_check::StoredPackages;
pub use signed_heads::{ExpiredEvents, ExpiryProblem};

use crate::blobs::{Blobs, SourceBuckets};
use crate::keys::Keys;
use crate::records::{Records, principal_state};
use crate::{
    Change, Created, Deleted, HostRecorded, Leased, LimitsChange, LimitsSet, NamespaceCreated,
    NamespaceLimits, NamespaceRecord, NamespaceSummary, NewGrant, Recorded, Revocations,
    ServiceCalls, SingleUseOutcome, SourcesSet, StoreError, Updated,
};

/// Everything that a registry stores.
#[derive(Debug, Clone)]
pub struct Store {
    records: Records,
    blobs: Blobs,
    keys: Keys,
    /// The buckets of others, in which versions can have their archives.
    source_buckets: SourceBuckets,
    calls: ServiceCalls,
    /// The versions whose place depends on the record of the namespace.
    listed_versions: ListedVersions,
    /// Signs the heads of audit chains with the audit key.
    head_signer: HeadSigner,
    /// The registry that the store was opened for. Operators open it without one, and then the
    /// registry in the records applies.
    audience: Option<Audience>,
    /// When the store was restored from a backup of this program, in Unix seconds.
    restored_at: Option<i64>,
}

impl Store {
    /// Returns the same store, opened for this registry.
    #[must_use]
    pub fn for_registry(self, audience: Audience) -> Self {
        Self { audience: Some(audience), ..self }
    }

    /// Returns the count of the calls of this store.
    pub const fn calls(&self) -> &ServiceCalls {
        &self.calls
    }

    /// Returns the blob store.
    pub const fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Returns the time from which proofs must be signed, in Unix seconds. `None` if the store was
    /// not restored from a backup of this program.
    ///
    /// Proofs that were used after the backup have no record. Each of them was signed at most
    /// [`PROOF_MAX_AHEAD`] after the restore.
    pub fn proofs_from(&self) -> Option<i64> {
        self.restored_at.map(proofs_from)
    }

    /// Reads everything that a decision about a caller depends on. The first of the principals is
    /// the caller's own role or user.
    pub async fn principal_state(
        &self,
        principals: Vec<Principal>,
    ) -> Result<PrincipalState, StoreError> {
        self.principal_at_mint(principals).await.map(|(state, _)| state)
    }

    /// Reads the same in the same call, and the latest download of a deprecated version by the first
    /// principal.
    pub async fn principal_at_mint(
        &self,
        principals: Vec<Principal>,
    ) -> Result<(PrincipalState, Option<DeprecatedDownload>), StoreError> {
        let mut caller = self.records.caller(principals).await?;
        let keyring = self.keys.summary(caller.keyring.as_ref()).await?;
        let deprecated_download = caller.deprecated_download.take();
        Ok((principal_state(caller, keyring), deprecated_download))
    }

    /// Returns the groups of AWS callers with a grant or a revocation whose text begins with one of
    /// these.
    pub async fn aws_groups(&self, starts: &[String]) -> Result<Vec<Principal>, StoreError> {
        self.records.aws_groups(starts).await
    }

    /// Records that an authentication was used, and pins the unique id, if one is given. It does
    /// both or neither.
    ///
    /// An authentication that no one can copy needs no record.
    pub async fn record(
        &self,
        single_use: SingleUse,
        pin: Option<(Principal, UniqueId)>,
        now: i64,
    ) -> Result<SingleUseOutcome, StoreError> {
        match (single_use, pin) {
            (SingleUse::Record { digest, named, keep_until }, pin) => {
                let digests = [Some(digest), named].into_iter().flatten().collect();
                self.records.record_single_use(digests, keep_until, pin, now).await
            }
            (SingleUse::ByIssuer, Some((principal, id))) => {
                self.records.pin_first(principal, id).await
            }
            (SingleUse::ByIssuer, None) => Ok(SingleUseOutcome::Recorded(Recorded(()))),
        }
    }

    /// Keeps the record of a refused exchange for seven days, in one attempt.
    ///
    /// Only an identity makes such a record, and the caller limits how many it keeps.
    pub async fn keep_refused_exchange(&self, refused: RefusedExchange) -> Result<(), StoreError> {
        self.records.add_refused_exchange(refused).await
    }

    /// Returns the record of a refused exchange. `None` if the store has none of the last seven days.
    pub async fn refused_exchange(
        &self,
        _: &OperatorAccess,
        id: &RequestId,
        now: i64,
    ) -> Result<Option<RefusedExchange>, StoreError> {
        self.records.refused_exchange(id, now).await
    }

    /// Returns the keyring. It is empty if the store has none yet.
    pub async fn keyring(&self) -> Result<Keyring, StoreError> {
        self.keys.keyring(&self.records, self.audience.as_ref()).await
    }

    /// Replaces the keyring if its revision is still `revision`. Returns whether it did.
    pub async fn replace_keyring(&self, revision: i64, next: Keyring) -> Result<bool, StoreError> {
        self.keys.replace(&self.records, self.audience.as_ref(), revision, next).await
    }

    /// Deletes every key, so that no token opens any more, and returns the number of keys.
    ///
    /// It decrypts no key. It returns `None` if the keyring changed at the same time.
    pub async fn drop_keys(
        &self,
        _: &OperatorAccess,
        kept: &Kept,
    ) -> Result<Option<usize>, StoreError> {
        self.keys.drop_keys(&self.records, self.audience.as_ref(), kept).await
    }

    /// Creates a grant. It does not change an existing one, so the expected state is always none.
    pub async fn create_grant(
        &self,
        access: &GrantAccess,
        new: NewGrant,
        kept: &Kept,
    ) -> Result<Created, StoreError> {
        let (grant, pin) = new_grant(access, new, kept.at());
        unleased(self.records.create_grant(grant, pin, None, kept).await?)
    }

    /// Adds and removes the given permissions of a grant, and no others.
    ///
    /// With `expected`, it changes the grant only if its state has that tag at the time of the change.
    pub async fn update_grant(
        &self,
        access: &GrantAccess,
        principal: Principal,
        change: Change,
        expected: Option<&GrantTag>,
        kept: &Kept,
    ) -> Result<Updated, StoreError> {
        let on = access.namespace().clone();
        unleased(self.records.update_grant(principal, on, change, expected, None, kept).await?)
    }

    /// Deletes a grant.
    ///
    /// With `expected`, it deletes the grant only if its state has that tag at the time of the
    /// deletion.
    pub async fn delete_grant(
        &self,
        access: &GrantAccess,
        principal: Principal,
        expected: Option<&GrantTag>,
        kept: &Kept,
    ) -> Result<Deleted, StoreError> {
        let on = access.namespace().clone();
        unleased(self.records.delete_grant(principal, on, expected, None, kept).await?)
    }

    /// Returns grants in order: all, those of a principal, or those on a namespace.
    pub async fn grants(
        &self,
        _: &OperatorAccess,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
    ) -> Result<Vec<Grant>, StoreError> {
        self.records.grants(principal, namespace).await
    }

    /// Creates the record of a namespace. It does not change an existing record.
    pub async fn create_namespace(
        &self,
        access: &OperatorAccess,
        namespace: Namespace,
        kept: &Kept,
    ) -> Result<NamespaceCreated, StoreError> {
        let record = NamespaceRecord {
            namespace,
            created_by: access.operator().to_owned(),
            created_at: kept.at(),
            limits: NamespaceLimits::default(),
            sources: AllowedSources::default(),
        };
        self.records.create_namespace(record, kept).await
    }

    /// Sets limits of a namespace, and counts what it has.
    pub async fn set_limits(
        &self,
        access: &OperatorAccess,
        namespace: &Namespace,
        change: LimitsChange,
        kept: &Kept,
    ) -> Result<LimitsSet, StoreError> {
        self.records.set_limits(namespace, change, access.operator(), kept).await
    }

    /// Changes the list of sources that the versions of a namespace may have.
    pub async fn set_sources(
        &self,
        access: &OperatorAccess,
        namespace: &Namespace,
        change: &SourcesChange,
        kept: &Kept,
    ) -> Result<SourcesSet, StoreError> {
        self.records.set_sources(namespace, change, access.operator(), kept).await
    }

    /// Returns one namespace; `None` if it has no record, no grant and no module.
    pub async fn namespace(
        &self,
        _: &OperatorAccess,
        namespace: &Namespace,
    ) -> Result<Option<NamespaceSummary>, StoreError> {
        self.records.namespace(namespace).await
    }

    /// Returns all namespaces that have a record, a grant or a module, in order.
    pub async fn namespaces(
        &self,
        _: &OperatorAccess,
    ) -> Result<Vec<NamespaceSummary>, StoreError> {
        self.records.namespaces().await
    }

    /// Removes the pin of a role or user, so that its next mint sets a new one. Returns whether
    /// there was a pin.
    pub async fn unpin(
        &self,
        _: &OperatorAccess,
        principal: Principal,
        kept: &Kept,
    ) -> Result<bool, StoreError> {
        self.records.unpin(principal, kept).await
    }

    /// Revokes one token, for as long as any token can live.
    pub async fn revoke_token(
        &self,
        _: &OperatorAccess,
        id: TokenId,
        kept: &Kept,
    ) -> Result<(), StoreError> {
        self.records.revoke_token(id, kept).await
    }

    /// Revokes a principal until an operator lifts the revocation. Returns false if it was revoked
    /// already.
    pub async fn revoke_principal(
        &self,
        _: &OperatorAccess,
        principal: Principal,
        kept: &Kept,
    ) -> Result<bool, StoreError> {
        self.records.revoke_principal(principal, kept).await
    }

    /// Lifts the revocation of a principal. Returns whether there was one.
    pub async fn lift(
        &self,
        _: &OperatorAccess,
        principal: Principal,
        kept: &Kept,
    ) -> Result<bool, StoreError> {
        self.records.lift(principal, kept).await
    }

    /// Returns all revoked tokens and principals.
    pub async fn revocations(&self, _: &OperatorAccess) -> Result<Revocations, StoreError> {
        self.records.revocations().await
    }

    /// Returns the registry host in the records, if any. It is an error if the store was opened for
    /// another registry.
    pub async fn host(&self) -> Result<Option<Audience>, StoreError> {
        let host = self.records.host().await?;
        self.records.check_host(host.as_ref(), self.audience.as_ref())?;
        Ok(host)
    }

    /// Records the registry host, unless the store has one.
    pub async fn record_host(
        &self,
        _: &OperatorAccess,
        host: &Audience,
        kept: &Kept,
    ) -> Result<HostRecorded, StoreError> {
        self.records.record_host(host, Some(kept)).await
    }

    /// Records the registry that this store was opened for, when a broker first serves a data
    /// folder. It is an error if the folder is for another registry.
    ///
    /// It writes to no table: only its creator says which registry a table is for. No one decides it,
    /// so it has no audit event.
    pub async fn record_served_host(&self) -> Result<(), StoreError> {
        let (Records::Sqlite(_), Some(audience)) = (&self.records, &self.audience) else {
            return Ok(());
        };
        if self.host().await?.is_some() {
            return Ok(());
        }
        self.records.record_host(audience, None).await?;
        // Another broker can have been faster, and can serve another registry.
        self.host().await.map(drop)
    }

    /// Checks that the store answers reads and writes.
    pub async fn health_check(&self) -> Result<(), StoreError> {
        tokio::try_join!(self.records.health_check(), self.blobs.health_check()).map(drop)
    }

    /// Checks the setup of every part of the store. Returns the name of each part and the result.
    pub async fn diagnose(&self) -> Vec<(String, Result<(), StoreError>)> {
        let keys = async {
            match &self.keys {
                // A keyring file needs no check here: a caller checks it by reading the keyring.
                Keys::File(_) => None,
                Keys::Kms(kms) => Some((kms.name(), kms.diagnose().await)),
            }
        };
        let (records, blobs, keys) =
            tokio::join!(self.records.diagnose(), self.blobs.diagnose(), keys);
        let records = (self.records.name().replace('`', ""), records);
        [records, blobs].into_iter().chain(keys).collect()
    }
}

fn new_grant(access: &GrantAccess, new: NewGrant, now: i64) -> (Grant, Option<Pin>) {
    let grant = Grant {
        principal: new.principal,
        namespace: access.namespace().clone(),
        permissions: new.permissions,
        expires_at: new.expires_at,
        created_by: access.actor().to_owned(),
        created_at: now,
    };
    (grant, new.pin)
}

/// Returns the answer of a change without a lease.
fn unleased<T>(leased: Leased<T>) -> Result<T, StoreError> {
    match leased {
        Leased::Done(answer) => Ok(answer),
        // A change loses only a lease that it has.
        Leased::Lost => Err(StoreError::busy("another program applies a file of grants")),
    }
}

/// Returns the time from which proofs must be signed after a restore at that time.
const fn proofs_from(restored_at: i64) -> i64 {
    // A proof that was used in the second of the restore can be signed this far ahead.
    restored_at.saturating_add(PROOF_MAX_AHEAD).saturating_add(1)
}
