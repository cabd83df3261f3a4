//! Changes of grants under the lease on files of grants, for a program that applies a file.

use std::time::Instant;

use stile_core::audit::Kept;
use stile_core::grants::{Grant, GrantAccess, GrantTag, OperatorAccess};
use stile_core::principal::Principal;

use super::{Store, new_grant};
use crate::{
    Change, Created, Deleted, GrantLease, LeaseTaken, LeaseWatch, Leased, ListedGrants, NewGrant,
    StoreError, Updated,
};

impl Store {
    /// Takes the lease on files of grants, so that no other program applies one at the same time.
    ///
    /// `watch` is what this program has seen of the lease so far, and `clock` is monotonic. Changes
    /// of single grants need no lease. So a holder must still make each change on the condition that
    /// the grant is as expected.
    pub async fn take_grant_lease(
        &self,
        access: &OperatorAccess,
        watch: &mut LeaseWatch,
        clock: impl Fn() -> Instant,
    ) -> Result<LeaseTaken, StoreError> {
        self.records.take_grant_lease(access.operator(), watch, clock).await
    }

    /// Renews the lease on files of grants without a change of a grant.
    pub async fn renew_grant_lease(
        &self,
        lease: &mut GrantLease,
    ) -> Result<Leased<()>, StoreError> {
        self.records.renew_grant_lease(lease).await
    }

    /// Ends the lease on files of grants. It changes nothing if another program has taken it.
    pub async fn end_grant_lease(&self, lease: GrantLease) -> Result<(), StoreError> {
        self.records.end_grant_lease(lease).await
    }

    /// Creates a grant, if this program still has the lease. It does not change an existing one.
    pub async fn create_grant_under(
        &self,
        lease: &mut GrantLease,
        access: &GrantAccess,
        new: NewGrant,
        kept: &Kept,
    ) -> Result<Leased<Created>, StoreError> {
        let (grant, pin): (Grant, _) = new_grant(access, new, kept.at());
        self.records.create_grant(grant, pin, Some(lease), kept).await
    }

    /// Changes a grant, if it has the expected state and this program still has the lease.
    pub async fn update_grant_under(
        &self,
        lease: &mut GrantLease,
        access: &GrantAccess,
        principal: Principal,
        change: Change,
        expected: &GrantTag,
        kept: &Kept,
    ) -> Result<Leased<Updated>, StoreError> {
        let on = access.namespace().clone();
        self.records.update_grant(principal, on, change, Some(expected), Some(lease), kept).await
    }

    /// Deletes a grant, if it has the expected state and this program still has the lease.
    pub async fn delete_grant_under(
        &self,
        lease: &mut GrantLease,
        access: &GrantAccess,
        principal: Principal,
        expected: &GrantTag,
        kept: &Kept,
    ) -> Result<Leased<Deleted>, StoreError> {
        let on = access.namespace().clone();
        self.records.delete_grant(principal, on, Some(expected), Some(lease), kept).await
    }

    /// Returns all grants in order, and the names of those that this program cannot read.
    pub async fn listed_grants(&self, _: &OperatorAccess) -> Result<ListedGrants, StoreError> {
        self.records.listed_grants().await
    }
}
