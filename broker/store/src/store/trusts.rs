//! The trusts of operators: whose JWTs the registry believes.

use stile_core::audit::Kept;
use stile_core::grants::OperatorAccess;
use stile_core::principal::{LocalName, UniqueId};
use stile_core::trust::{Trust, TrustTerms};

use super::Store;
use crate::{StoreError, TrustChange, TrustCreated, TrustDeleted, TrustUpdated, UnreadableTrust};

impl Store {
    /// Returns all trusts, in order of name, in one read.
    ///
    /// It leaves out one that this program cannot read, and raises the alarm.
    pub async fn trusts(&self) -> Result<Vec<Trust>, StoreError> {
        self.records.trusts().await
    }

    /// Returns one trust. It is an error if this program cannot read it.
    pub async fn trust(
        &self,
        _: &OperatorAccess,
        name: &LocalName,
    ) -> Result<Option<Trust>, StoreError> {
        self.records.trust(name).await
    }

    /// Returns the names of the trusts that this program cannot read, and which believe nothing.
    pub async fn unreadable_trusts(
        &self,
        _: &OperatorAccess,
    ) -> Result<Vec<UnreadableTrust>, StoreError> {
        self.records.unreadable_trusts().await
    }

    /// Creates a trust with a random id. It does not change an existing one.
    pub async fn create_trust(
        &self,
        access: &OperatorAccess,
        name: LocalName,
        terms: TrustTerms,
        kept: &Kept,
    ) -> Result<TrustCreated, StoreError> {
        let id = UniqueId::random_trust().map_err(|error| {
            StoreError::unavailable("cannot generate a random id for the trust", error)
        })?;
        let TrustTerms { issuer, audience, conditions, max_age, keys } = terms;
        let trust = Trust {
            id,
            name,
            revision: 1,
            issuer,
            audience,
            conditions,
            max_age,
            keys,
            created_by: access.operator().to_owned(),
            created_at: kept.at(),
            changed_at: kept.at(),
        };
        self.records.create_trust(trust, kept).await
    }

    /// Changes what a trust believes. The tokens that it gave before end within ten seconds.
    pub async fn update_trust(
        &self,
        _: &OperatorAccess,
        name: &LocalName,
        change: &TrustChange,
        kept: &Kept,
    ) -> Result<TrustUpdated, StoreError> {
        self.records.update_trust(name, change, kept).await
    }

    /// Deletes a trust that no grant names, and its pin. Its tokens end within ten seconds.
    pub async fn delete_trust(
        &self,
        _: &OperatorAccess,
        name: &LocalName,
        kept: &Kept,
    ) -> Result<TrustDeleted, StoreError> {
        self.records.delete_trust(name, kept).await
    }
}
