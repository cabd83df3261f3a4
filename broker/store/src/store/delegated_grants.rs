//! Grants as the bearer of a token lists and changes them. A change takes effect only while the
//! records of its decision have not changed.

use stile_core::audit::Kept;
use stile_core::grants::{
    DelegatedAccess, DelegatedGrant, ExplainAccess, ExplainFacts, GrantNamespace, VisibleGrants,
    principals_of,
};
use stile_core::principal::Principal;

use super::Store;
use crate::{
    AfterGrant, Change, ChangeTerms, DelegatedCreation, DelegatedDeletion, DelegatedUpdate,
    StoreError, VisiblePage,
};

impl Store {
    /// Creates a grant that a bearer may give. It does not change an existing one.
    ///
    /// It sets no pin, and creates no record of the namespace, which only operators do.
    pub async fn create_delegated_grant(
        &self,
        grant: DelegatedGrant,
        kept: &Kept,
    ) -> Result<DelegatedCreation, StoreError> {
        self.records.create_delegated_grant(grant, kept).await
    }

    /// Changes a grant within the limits of the bearer, which it checks at the time of the change.
    pub async fn update_delegated_grant(
        &self,
        access: &DelegatedAccess,
        change: Change,
        terms: &ChangeTerms,
        kept: &Kept,
    ) -> Result<DelegatedUpdate, StoreError> {
        self.records.update_delegated_grant(access, change, terms, kept).await
    }

    /// Deletes a grant within the limits of the bearer.
    pub async fn delete_delegated_grant(
        &self,
        access: &DelegatedAccess,
        terms: &ChangeTerms,
        kept: &Kept,
    ) -> Result<DelegatedDeletion, StoreError> {
        self.records.delete_delegated_grant(access, terms, kept).await
    }

    /// Returns a page of at most `limit` grants that the bearer may see, in the order of principals and
    /// namespaces, after that one. `None` if the bearer may change grants on more namespaces than one
    /// list has.
    pub async fn visible_grants(
        &self,
        visible: &VisibleGrants,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
        after: Option<AfterGrant>,
        limit: usize,
    ) -> Result<Option<VisiblePage>, StoreError> {
        self.records.visible_grants(visible, principal, namespace, after, limit).await
    }

    /// Reads what the explanation of an access depends on, as far as the bearer's right reaches: the
    /// state of the caller, and the grants on the namespace.
    ///
    /// For a bearer who may see the grants on all namespaces, it also reads the grants on `*`, and those
    /// of the caller. It never reads the grants of everyone on other namespaces.
    pub async fn explain_facts(
        &self,
        access: &ExplainAccess,
        caller: &Principal,
    ) -> Result<ExplainFacts, StoreError> {
        let state = self.principal_state(principals_of(caller)).await?;
        let on = access.namespace();
        let mut others = self.records.grants(None, Some(on.clone())).await?;
        if access.sees_all() {
            if *on != GrantNamespace::All {
                others.extend(self.records.grants(None, Some(GrantNamespace::All)).await?);
            }
            let own: Vec<_> =
                state.grants.iter().filter(|own| !others.contains(own)).cloned().collect();
            others.extend(own);
        }
        // Only a permission set or an account has parts, which can be revoked without it.
        let revoked = if caller.is_caller() {
            Vec::new()
        } else {
            self.records.revocations().await?.principals
        };
        let revoked = revoked.into_iter().map(|revoked| revoked.principal).collect();
        Ok(ExplainFacts { state, others, revoked })
    }
}
