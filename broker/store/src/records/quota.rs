//! The rules of the limits of a namespace: how many versions, and how many bytes of archives.
//!
//! The store checks a limit in the transaction that adds a version, so writers at the same time
//! cannot exceed it together.

use std::collections::BTreeMap;

use stile_core::audit::{self, Chain, Kept};
use stile_protocol::names::Namespace;

use super::Records;
use super::model::{CountedUsage, Quota, RecordedNamespace};
use super::mutation::{Mutation, Outcome};
use super::namespaces::{Known, empty, readable};
use crate::retry::Retry;
use crate::{LimitsChange, LimitsSet, NamespaceLimits, NamespaceUsage, QuotaExceeded, StoreError};

/// The names of the limits in a record, which its `crit` lists.
pub(super) const LIMITS: [&str; 2] = ["max_bytes", "max_versions"];

impl Quota {
    /// Returns the quota with so many more used bytes.
    pub(crate) const fn with(mut self, bytes: u64) -> Self {
        self.used.bytes = self.used.bytes.saturating_add(bytes);
        self
    }

    /// Returns the limit that so many more bytes would exceed, or one more version if it `is_new`.
    pub(crate) fn exceeded(&self, bytes: u64, is_new: bool) -> Option<QuotaExceeded> {
        if is_new { self.exceeded_by(bytes) } else { self.exceeded_by_bytes(bytes) }
    }

    /// Returns the limit that one more version with an archive of that size would exceed.
    pub(crate) fn exceeded_by(&self, archive: u64) -> Option<QuotaExceeded> {
        let NamespaceUsage { versions, .. } = self.used;
        if let Some(max) = self.limits.max_versions.filter(|max| versions >= *max) {
            return Some(QuotaExceeded::Versions { max, used: versions });
        }
        self.exceeded_by_bytes(archive)
    }

    /// Returns the limit that so many more bytes of an existing version would exceed.
    pub(crate) fn exceeded_by_bytes(&self, archive: u64) -> Option<QuotaExceeded> {
        let NamespaceUsage { bytes, .. } = self.used;
        // A version without bytes, with a source or an object, fits even above a lowered limit.
        let max = self.limits.max_bytes.filter(|_| archive > 0);
        let max = max.filter(|max| bytes.saturating_add(archive) > *max)?;
        Some(QuotaExceeded::Bytes { max, used: bytes, archive })
    }
}

impl NamespaceLimits {
    /// Returns whether each limit is set that a `crit` names.
    pub(super) fn has_all(&self, crit: &serde_json::Value) -> bool {
        let is_named = |name: &str| {
            crit.as_array().is_some_and(|names| names.iter().any(|named| named == name))
        };
        let set = [self.max_bytes, self.max_versions].map(|limit| limit.is_some());
        LIMITS.into_iter().zip(set).all(|(name, is_set)| is_set || !is_named(name))
    }

    /// Returns the `crit` of a record with these limits, as JSON text. `None` without a limit.
    pub(crate) fn crit(&self) -> Option<String> {
        let set = [self.max_bytes, self.max_versions].map(|limit| limit.is_some());
        let names: Vec<&str> =
            LIMITS.into_iter().zip(set).filter_map(|(name, set)| set.then_some(name)).collect();
        (!names.is_empty()).then(|| serde_json::Value::from(names).to_string())
    }
}

impl Records {
    /// Sets limits of a namespace, and counts what it has.
    ///
    /// A table counts versions only while its namespace has a limit. The first limit counts those
    /// that exist. So the store then counts again, for versions that were published during the
    /// first count.
    pub(crate) async fn set_limits(
        &self,
        namespace: &Namespace,
        change: LimitsChange,
        created_by: &str,
        kept: &Kept,
    ) -> Result<LimitsSet, StoreError> {
        let mut retry = Retry::default();
        let mut limits_before = None;
        loop {
            let before = self.recorded(namespace).await?;
            if before.is_none() && self.known_namespace(namespace).await? == Known::Unknown {
                return Ok(LimitsSet::Absent);
            }
            let mut record = before.as_ref().map_or_else(
                || empty(namespace, created_by, kept.at()),
                |before| before.record.clone(),
            );
            let held = record.limits;
            let held_before = *limits_before.get_or_insert(held);
            let limits = NamespaceLimits {
                max_bytes: change.max_bytes.after(held.max_bytes),
                max_versions: change.max_versions.after(held.max_versions),
            };
            record.limits = limits;
            let counted = self.counted_usage(namespace).await?;
            let usage = self.count_for(namespace, limits).await?;
            let counts_again = counted.is_none() && !limits.is_unlimited();
            let set = Mutation::SetLimits { before, record, counted, usage };
            let outcome = if limits == held {
                self.commit(vec![set]).await?
            } else {
                let (chain, changed) = (Chain::from(namespace), audit::Outcome::Changed);
                self.commit_audited(&chain, vec![set], kept, changed).await?
            };
            match outcome {
                Outcome::Done if !counts_again => {
                    let usage = self.counted_usage(namespace).await?.map(|counted| counted.used);
                    return Ok(LimitsSet::Done { before: held_before, limits, usage });
                }
                _ => retry.wait().await?,
            }
        }
    }

    /// Returns the record of a namespace, if it has one.
    pub(super) async fn recorded(
        &self,
        namespace: &Namespace,
    ) -> Result<Option<RecordedNamespace>, StoreError> {
        let stored = self.namespace_record(namespace).await?;
        stored.map(|stored| readable(stored, namespace)).transpose()
    }

    async fn counted_usage(
        &self,
        namespace: &Namespace,
    ) -> Result<Option<CountedUsage>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.counted_usage(namespace).await,
            Self::DynamoDb(dynamodb) => dynamodb.counted_usage(namespace).await,
        }
    }

    /// Counts the versions of a namespace and their bytes, if the limits require that. SQLite counts
    /// by itself.
    async fn count_for(
        &self,
        namespace: &Namespace,
        limits: NamespaceLimits,
    ) -> Result<NamespaceUsage, StoreError> {
        match self {
            Self::DynamoDb(dynamodb) if !limits.is_unlimited() => dynamodb.count(namespace).await,
            _ => Ok(NamespaceUsage::default()),
        }
    }

    /// Returns what namespaces have, of those that the store counts. A table counts at most the
    /// given ones.
    pub(super) async fn usages(
        &self,
        limited: &[Namespace],
    ) -> Result<BTreeMap<Namespace, NamespaceUsage>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.usages().await,
            Self::DynamoDb(dynamodb) => dynamodb.usages(limited).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_exceeds_a_limit_only_past_its_last_byte_and_version() {
        let bytes = |max, used, archive| QuotaExceeded::Bytes { max, used, archive };
        let versions = |max, used| QuotaExceeded::Versions { max, used };
        for (max_bytes, max_versions, used, archive, expected) in [
            (None, None, (u64::MAX, u64::MAX), u64::MAX, None),
            (Some(10), None, (6, 1), 5, Some(bytes(10, 6, 5))),
            (Some(10), None, (6, 1), 4, None),
            (Some(10), None, (0, 0), 11, Some(bytes(10, 0, 11))),
            (Some(10), None, (12, 1), 0, None),
            (Some(10), None, (12, 1), 1, Some(bytes(10, 12, 1))),
            (Some(10), Some(1), (12, 1), 0, Some(versions(1, 1))),
            (Some(10), None, (u64::MAX, 1), 1, Some(bytes(10, u64::MAX, 1))),
            (None, Some(2), (6, 2), 5, Some(versions(2, 2))),
            (None, Some(2), (6, 3), 5, Some(versions(2, 3))),
            (None, Some(2), (6, 1), 5, None),
            (None, Some(0), (0, 0), 1, Some(versions(0, 0))),
            (Some(10), Some(2), (6, 1), 5, Some(bytes(10, 6, 5))),
            (Some(10), Some(2), (6, 2), 5, Some(versions(2, 2))),
            (Some(10), Some(2), (6, 1), 4, None),
        ] {
            let limits = NamespaceLimits { max_bytes, max_versions };
            let used = NamespaceUsage { bytes: used.0, versions: used.1 };
            let quota = Quota { limits, limits_revision: 0, used };
            assert_eq!(quota.exceeded_by(archive), expected, "{limits:?} {used:?} {archive}");
        }
    }

    #[test]
    fn each_limit_that_is_set_is_critical() {
        for (max_bytes, max_versions, expected) in [
            (None, None, None),
            (Some(0), None, Some(r#"["max_bytes"]"#)),
            (None, Some(0), Some(r#"["max_versions"]"#)),
            (Some(1), Some(1), Some(r#"["max_bytes","max_versions"]"#)),
        ] {
            let limits = NamespaceLimits { max_bytes, max_versions };
            assert_eq!(limits.crit().as_deref(), expected, "{limits:?}");
        }
    }
}
