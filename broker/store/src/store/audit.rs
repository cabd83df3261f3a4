//! Reads the audit events that the store keeps, and keeps those of changes that no record contains.

use stile_core::audit::{Chain, Head, Kept, Outcome, StoredLink};
use stile_core::grants::OperatorAccess;

use super::Store;
use crate::StoreError;
use crate::records::AuditPage;

impl Store {
    /// Keeps the event of an operator's change of the store as a whole, which no record contains: that
    /// it was created or migrated.
    pub async fn keep_operation(
        &self,
        _: &OperatorAccess,
        kept: &Kept,
        outcome: Outcome,
    ) -> Result<(), StoreError> {
        self.keep_audit(kept, outcome).await
    }

    /// Appends an event to the chain of operators, without a change of a record.
    pub(super) async fn keep_audit(&self, kept: &Kept, outcome: Outcome) -> Result<(), StoreError> {
        let chain = Chain::Operator;
        self.records.commit_audited(&chain, Vec::new(), kept, outcome).await.map(drop)
    }

    /// Returns the heads of all chains that have events, in order of chain.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Corrupt`](crate::StoreErrorKind::Corrupt), if one cannot be read.
    pub async fn audit_heads(&self) -> Result<Vec<Head>, StoreError> {
        self.records.audit_heads().await
    }

    /// Returns at most `limit` events of a chain, in order, from the first one after `after` on, and
    /// the rows among them that are no events. The first event has number 1.
    pub async fn audit_page(
        &self,
        chain: &Chain,
        after: u64,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        self.records.audit_page(chain, after, limit).await
    }

    /// Returns at most `limit` events of a chain, the latest first, from the last one before `before`
    /// on. Nobody has verified them.
    pub async fn audit_page_before(
        &self,
        chain: &Chain,
        before: u64,
        limit: usize,
    ) -> Result<Vec<StoredLink>, StoreError> {
        self.records.audit_page_before(chain, before, limit).await
    }
}
