//! The store as the broker and its operators use it: every change takes evidence, and the answers are the same whichever
//! backends there are.

mod folder;
mod on_aws;
mod packages;

use stile_core::grants::{Grant, GrantAccess, GrantNamespace, OperatorAccess, PrincipalState};
use stile_core::identity::SingleUse;
use stile_core::principal::{Principal, UniqueId};
use stile_core::token::{Keyring, TokenId};
use stile_protocol::audience::Audience;
use stile_protocol::names::Namespace;

pub use folder::Made;
pub use on_aws::AwsMade;

use crate::blobs::Blobs;
use crate::keys::Keys;
use crate::records::{Records, principal_state};
use crate::{
    Change, Created, HostKept, NamespaceCreated, NamespaceRecord, NamespaceSummary, NewGrant,
    Recorded, Revocations, SingleUseOutcome, StoreError, Updated,
};

/// Everything that a registry stores.
#[derive(Debug, Clone)]
pub struct Store {
    records: Records,
    blobs: Blobs,
    keys: Keys,
    /// The registry that the store is opened for. Without one, as operators have it, it is the one that the records name.
    audience: Option<Audience>,
}

impl Store {
    /// The same store, for that registry.
    #[must_use]
    pub fn for_registry(self, audience: Audience) -> Self {
        Self { audience: Some(audience), ..self }
    }

    /// The archives.
    pub const fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Everything that a decision about a caller with these principals depends on, the role or user itself first.
    pub async fn principal_state(
        &self,
        principals: Vec<Principal>,
    ) -> Result<PrincipalState, StoreError> {
        let caller = self.records.caller(principals).await?;
        let keyring = self.keys.listed(caller.keyring.as_ref()).await?;
        Ok(principal_state(caller, keyring))
    }

    /// Records that an authentication was used, and pins the unique id where one is given: both or neither.
    ///
    /// An authentication that nobody can copy has nothing to record.
    pub async fn record(
        &self,
        single_use: SingleUse,
        pin: Option<(Principal, UniqueId)>,
        now: i64,
    ) -> Result<SingleUseOutcome, StoreError> {
        match (single_use, pin) {
            (SingleUse::Record { digest, keep_until }, pin) => {
                self.records.record_single_use(digest, keep_until, pin, now).await
            }
            (SingleUse::ByIssuer, Some((principal, id))) => {
                self.records.pin_first(principal, id).await
            }
            (SingleUse::ByIssuer, None) => Ok(SingleUseOutcome::Recorded(Recorded(()))),
        }
    }

    /// The keyring; an empty one where there is none yet.
    pub async fn keyring(&self) -> Result<Keyring, StoreError> {
        self.keys.keyring(&self.records, self.audience.as_ref()).await
    }

    /// Replaces the keyring, unless it is no longer of the given revision.
    pub async fn replace_keyring(&self, revision: i64, next: Keyring) -> Result<bool, StoreError> {
        self.keys.replace(&self.records, self.audience.as_ref(), revision, next).await
    }

    /// Drops every key, so that no token opens any more, and says how many there were; `None` where the keyring changed
    /// in that moment. No key is opened for it.
    pub async fn drop_keys(&self, _: &OperatorAccess) -> Result<Option<usize>, StoreError> {
        self.keys.drop_keys(&self.records, self.audience.as_ref()).await
    }

    /// Creates a grant; one that exists is not touched.
    pub async fn create_grant(
        &self,
        access: &GrantAccess,
        new: NewGrant,
        now: i64,
    ) -> Result<Created, StoreError> {
        let grant = Grant {
            principal: new.principal,
            namespace: access.namespace().clone(),
            permissions: new.permissions,
            expires_at: new.expires_at,
            created_by: access.actor().to_owned(),
            created_at: now,
        };
        self.records.create_grant(grant, new.pin).await
    }

    /// Changes the permissions that are named, and no others.
    pub async fn update_grant(
        &self,
        access: &GrantAccess,
        principal: Principal,
        change: Change,
    ) -> Result<Updated, StoreError> {
        self.records.update_grant(principal, access.namespace().clone(), change).await
    }

    /// Removes a grant; false where there was none.
    pub async fn delete_grant(
        &self,
        access: &GrantAccess,
        principal: Principal,
    ) -> Result<bool, StoreError> {
        self.records.delete_grant(principal, access.namespace().clone()).await
    }

    /// Every grant, or those of a principal, or those on a namespace; in order.
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
        now: i64,
    ) -> Result<NamespaceCreated, StoreError> {
        let created_by = access.operator().to_owned();
        self.records
            .create_namespace(NamespaceRecord { namespace, created_by, created_at: now })
            .await
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

    /// Removes the pin of a role or user, so that its next mint pins again; false where nothing was pinned.
    pub async fn unpin(
        &self,
        _: &OperatorAccess,
        principal: Principal,
    ) -> Result<bool, StoreError> {
        self.records.unpin(principal).await
    }

    /// Revokes one token, for as long as any token can live.
    pub async fn revoke_token(
        &self,
        _: &OperatorAccess,
        id: TokenId,
        now: i64,
    ) -> Result<(), StoreError> {
        self.records.revoke_token(id, now).await
    }

    /// Revokes a principal until it is lifted; false where it was revoked already.
    pub async fn revoke_principal(
        &self,
        _: &OperatorAccess,
        principal: Principal,
        now: i64,
    ) -> Result<bool, StoreError> {
        self.records.revoke_principal(principal, now).await
    }

    /// Lifts the revocation of a principal; false where there was none.
    pub async fn lift(&self, _: &OperatorAccess, principal: Principal) -> Result<bool, StoreError> {
        self.records.lift(principal).await
    }

    /// Everything that is revoked.
    pub async fn revocations(&self, _: &OperatorAccess) -> Result<Revocations, StoreError> {
        self.records.revocations().await
    }

    /// The registry that the records name; `None` where they name none, and an error where they name another than the
    /// store is opened for.
    pub async fn host(&self) -> Result<Option<Audience>, StoreError> {
        let host = self.records.host().await?;
        self.records.check_host(host.as_ref(), self.audience.as_ref())?;
        Ok(host)
    }

    /// Writes the registry's host into the records, unless one is there.
    pub async fn keep_host(
        &self,
        _: &OperatorAccess,
        host: &Audience,
    ) -> Result<HostKept, StoreError> {
        self.records.keep_host(host).await
    }

    /// Whether it answers, to reads and to writes.
    pub async fn health_check(&self) -> Result<(), StoreError> {
        tokio::try_join!(self.records.health_check(), self.blobs.health_check()).map(drop)
    }

    /// Every part of it, and whether that is as it must be.
    pub async fn diagnose(&self) -> Vec<(String, Result<(), StoreError>)> {
        let keys = async {
            match &self.keys {
                // The keyring in a file is read for itself.
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
