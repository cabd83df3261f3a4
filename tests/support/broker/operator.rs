//! Changes grants and revocations in tests with an operator's access, as the admin program does.

use stile_core::audit::{Event, Kept, Kind};
use stile_core::grants::{Grant, GrantNamespace, GrantTag, OperatorAccess, Pin};
use stile_core::identity::SingleUse;
use stile_core::package::PackageAddress;
use stile_core::package::source::{AllowedObjects, AllowedSource, SourcesChange};
use stile_core::principal::{Principal, UniqueId};
use stile_core::token::TokenId;
use stile_protocol::audience::Audience;
use stile_protocol::names::Namespace;
use stile_store::{
    Change, Created, Deleted, HostRecorded, Leftover, LimitChange, LimitsChange, LimitsSet,
    NamespaceCreated, NamespaceSummary, NewGrant, PackageFault, Relisted, Repaired, Revocations,
    SingleUseOutcome, SourcesSet, Store, StoreError, Updated,
};

use crate::aws::emulated::REGION;

/// Returns the operator access of tests.
pub fn operator() -> OperatorAccess {
    OperatorAccess::for_store_writer("test")
}

/// Returns what the store keeps of a change at that time.
pub fn kept(now: i64) -> Kept {
    Kept::new(&Event::new(Kind::Store), now)
}

/// A store with operator access.
#[derive(Debug)]
pub struct Operated<'a>(&'a Store);

/// Adds [`Self::as_operator`] to the store.
pub trait AsOperator {
    /// Returns the store with operator access.
    fn as_operator(&self) -> Operated<'_>;
}

impl AsOperator for Store {
    fn as_operator(&self) -> Operated<'_> {
        Operated(self)
    }
}

impl Operated<'_> {
    /// Creates a grant with its own `created_by` and `created_at`.
    pub async fn create_grant(
        &self,
        grant: Grant,
        pin: Option<Pin>,
    ) -> Result<Created, StoreError> {
        let access =
            OperatorAccess::for_store_writer(grant.created_by).grant_access(grant.namespace);
        let Grant { principal, permissions, expires_at, created_at, .. } = grant;
        let new = NewGrant { principal, permissions, expires_at, pin };
        self.0.create_grant(&access, new, &kept(created_at)).await
    }

    /// Changes a grant.
    pub async fn update_grant(
        &self,
        principal: Principal,
        namespace: GrantNamespace,
        change: Change,
    ) -> Result<Updated, StoreError> {
        let access = operator().grant_access(namespace);
        self.0.update_grant(&access, principal, change, None, &kept(0)).await
    }

    /// Changes a grant, if it is in the expected state.
    pub async fn update_grant_if(
        &self,
        principal: Principal,
        namespace: GrantNamespace,
        change: Change,
        expected: &GrantTag,
    ) -> Result<Updated, StoreError> {
        let access = operator().grant_access(namespace);
        self.0.update_grant(&access, principal, change, Some(expected), &kept(0)).await
    }

    /// Deletes a grant. Returns whether it existed.
    pub async fn delete_grant(
        &self,
        principal: Principal,
        namespace: GrantNamespace,
    ) -> Result<bool, StoreError> {
        let access = operator().grant_access(namespace);
        let deleted = self.0.delete_grant(&access, principal, None, &kept(0)).await?;
        Ok(matches!(deleted, Deleted::Done(_)))
    }

    /// Deletes a grant, if it is in the expected state.
    pub async fn delete_grant_if(
        &self,
        principal: Principal,
        namespace: GrantNamespace,
        expected: &GrantTag,
    ) -> Result<Deleted, StoreError> {
        let access = operator().grant_access(namespace);
        self.0.delete_grant(&access, principal, Some(expected), &kept(0)).await
    }

    /// Makes the list of a module as the records of its versions say it.
    pub async fn relist(&self, module: &str, now: i64) -> Result<Relisted, StoreError> {
        let address = PackageAddress::Module(module.parse().unwrap());
        self.0.relist(&operator(), &address, &kept(now)).await
    }

    /// Returns what a check of all packages finds.
    pub async fn package_faults(&self) -> Result<Vec<PackageFault>, StoreError> {
        let stored = self.0.stored_packages(&operator()).await?;
        let mut faults = Vec::new();
        for address in stored.addresses() {
            faults.extend(self.0.check_package(&operator(), &stored, address).await?.faults);
        }
        Ok(faults)
    }

    /// Lists grants.
    pub async fn grants(
        &self,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
    ) -> Result<Vec<Grant>, StoreError> {
        self.0.grants(&operator(), principal, namespace).await
    }

    /// Creates a namespace.
    pub async fn create_namespace(
        &self,
        namespace: Namespace,
        now: i64,
    ) -> Result<NamespaceCreated, StoreError> {
        self.0.create_namespace(&operator(), namespace, &kept(now)).await
    }

    /// Sets limits of a namespace.
    pub async fn set_limits(
        &self,
        namespace: &str,
        max_bytes: LimitChange,
        max_versions: LimitChange,
        now: i64,
    ) -> Result<LimitsSet, StoreError> {
        let change = LimitsChange { max_bytes, max_versions };
        self.0.set_limits(&operator(), &namespace.parse().unwrap(), change, &kept(now)).await
    }

    /// Adds allowed sources to a namespace, with branches for those that end with ` *`.
    pub async fn allow_sources(
        &self,
        namespace: &str,
        addresses: &[&str],
        now: i64,
    ) -> Result<SourcesSet, StoreError> {
        let parse = |text: &&str| match text.strip_suffix(" *") {
            Some(address) => AllowedSource::parse(address, true).unwrap(),
            None => AllowedSource::parse(text, false).unwrap(),
        };
        let add = addresses.iter().map(parse).collect();
        let change = SourcesChange { add, ..SourcesChange::default() };
        self.0.set_sources(&operator(), &namespace.parse().unwrap(), &change, &kept(now)).await
    }

    /// Adds allowed objects to a namespace, in buckets of the region of emulated ones.
    pub async fn allow_objects(
        &self,
        namespace: &str,
        addresses: &[&str],
        now: i64,
    ) -> Result<SourcesSet, StoreError> {
        let parse = |text: &&str| AllowedObjects::parse(text, REGION).unwrap();
        let add_objects = addresses.iter().map(parse).collect();
        let change = SourcesChange { add_objects, ..SourcesChange::default() };
        self.0.set_sources(&operator(), &namespace.parse().unwrap(), &change, &kept(now)).await
    }

    /// Removes all allowed sources of a namespace.
    pub async fn forbid_sources(
        &self,
        namespace: &str,
        now: i64,
    ) -> Result<SourcesSet, StoreError> {
        let change = SourcesChange { remove_all: true, ..SourcesChange::default() };
        self.0.set_sources(&operator(), &namespace.parse().unwrap(), &change, &kept(now)).await
    }

    /// Shows a namespace.
    pub async fn namespace(
        &self,
        namespace: &Namespace,
    ) -> Result<Option<NamespaceSummary>, StoreError> {
        self.0.namespace(&operator(), namespace).await
    }

    /// Lists namespaces.
    pub async fn namespaces(&self) -> Result<Vec<NamespaceSummary>, StoreError> {
        self.0.namespaces(&operator()).await
    }

    /// Removes a pin.
    pub async fn unpin(&self, principal: Principal) -> Result<bool, StoreError> {
        self.0.unpin(&operator(), principal, &kept(0)).await
    }

    /// Revokes a token.
    pub async fn revoke_token(&self, id: TokenId, now: i64) -> Result<(), StoreError> {
        self.0.revoke_token(&operator(), id, &kept(now)).await
    }

    /// Revokes a principal.
    pub async fn revoke_principal(
        &self,
        principal: Principal,
        now: i64,
    ) -> Result<bool, StoreError> {
        self.0.revoke_principal(&operator(), principal, &kept(now)).await
    }

    /// Lifts the revocation of a principal.
    pub async fn lift(&self, principal: Principal) -> Result<bool, StoreError> {
        self.0.lift(&operator(), principal, &kept(0)).await
    }

    /// Lists revocations.
    pub async fn revocations(&self) -> Result<Revocations, StoreError> {
        self.0.revocations(&operator()).await
    }

    /// Deletes archives that were written until then and that no version names.
    pub async fn delete_leftovers(
        &self,
        written_until: i64,
        now: i64,
    ) -> Result<Repaired, StoreError> {
        self.0.delete_leftovers(&operator(), written_until, &kept(now)).await
    }

    /// Lists archives that no version names.
    pub async fn leftovers(&self) -> Result<Vec<Leftover>, StoreError> {
        self.0.leftovers(&operator()).await
    }

    /// Drops every key.
    pub async fn drop_keys(&self) -> Result<Option<usize>, StoreError> {
        self.0.drop_keys(&operator(), &kept(0)).await
    }

    /// Records which registry the store belongs to.
    pub async fn record_host(&self, host: &Audience) -> Result<HostRecorded, StoreError> {
        self.0.record_host(&operator(), host, &kept(0)).await
    }

    /// Records a proof as used, as minting a token does.
    pub async fn claim(
        &self,
        digest: [u8; 32],
        keep_until: i64,
        pin: Option<(Principal, UniqueId)>,
        now: i64,
    ) -> Result<SingleUseOutcome, StoreError> {
        self.0.record(SingleUse::Record { digest, named: None, keep_until }, pin, now).await
    }
}
