//! Reads the audit events that the store keeps.

use stile_core::audit::{Chain, Head, StoredLink};

use super::Store;
use crate::StoreError;

impl Store {
    /// Returns the heads of all chains that have events, in order of chain.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Corrupt`](crate::StoreErrorKind::Corrupt), if one cannot be read.
    pub async fn audit_heads(&self) -> Result<Vec<Head>, StoreError> {
        self.records.audit_heads().await
    }

    /// Returns at most `limit` events of a chain, in order, from the first one after `after` on. The
    /// first event has number 1.
    ///
    /// Nobody has verified them: somebody can have changed the store.
    pub async fn audit_page(
        &self,
        chain: &Chain,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredLink>, StoreError> {
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
