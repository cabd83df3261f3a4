//! Namespaces as rows, with their limits, and what each namespace has.
//!
//! Triggers count the versions of a namespace and check its limits (see `migrations`). The
//! transaction also checks them, for a better error.

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params};
use stile_core::critical;
use stile_core::package::source::AllowedSources;
use stile_protocol::names::Namespace;

use super::{Sqlite, number, rows, sql_number, text};
use crate::records::model::{CountedUsage, Quota, RecordedNamespace};
use crate::records::namespaces::{StoredNamespace, readable};
use crate::records::quota::LIMITS;
use crate::{NamespaceLimits, NamespaceRecord, NamespaceUsage, StoreError};

/// The `SELECT` of the columns that [`record`] reads.
const SELECT: &str = "SELECT namespace, created_by, created_at, max_bytes, max_versions, crit, sources FROM namespaces";

impl Sqlite {
    /// Returns the record of a namespace, if it has one.
    pub(crate) async fn namespace_record(
        &self,
        namespace: &Namespace,
    ) -> Result<Option<StoredNamespace>, StoreError> {
        let namespace = namespace.clone();
        self.read(move |connection| record_of(connection, &namespace)).await
    }

    /// Returns all records of namespaces, in order.
    pub(crate) async fn namespace_records(&self) -> Result<Vec<StoredNamespace>, StoreError> {
        self.read(|connection| {
            let sql = format!("{SELECT} ORDER BY namespace");
            Ok(rows(connection, &sql, [])?.iter().map(|row| record(row)).collect())
        })
        .await
    }

    /// Returns what a namespace has. The database counts it, with and without limits.
    pub(crate) async fn counted_usage(
        &self,
        namespace: &Namespace,
    ) -> Result<Option<CountedUsage>, StoreError> {
        let namespace = namespace.clone();
        let used = self.read(move |connection| usage_of(connection, &namespace)).await?;
        Ok(Some(CountedUsage { limits_revision: 0, used }))
    }

    /// Returns what each namespace with a version has.
    pub(crate) async fn usages(&self) -> Result<BTreeMap<Namespace, NamespaceUsage>, StoreError> {
        self.read(|connection| {
            let sql = "SELECT bytes, versions, namespace FROM namespace_usage";
            let found = rows(connection, sql, [])?;
            let read = |row: &Vec<Value>| Some((text(row.get(2))?.parse().ok()?, usage(row)?));
            found.iter().map(read).collect::<Option<_>>().ok_or_else(unreadable_usage)
        })
        .await
    }
}

/// Returns the quota of a namespace. `None` if it has no limit.
pub(super) fn quota_of(
    connection: &Connection,
    namespace: &Namespace,
) -> Result<Option<Quota>, StoreError> {
    let Some(stored) = record_of(connection, namespace)? else { return Ok(None) };
    let limits = readable(stored, namespace)?.record.limits;
    if limits.is_unlimited() {
        return Ok(None);
    }
    let used = usage_of(connection, namespace)?;
    Ok(Some(Quota { limits, limits_revision: 0, used }))
}

/// Returns the record of a namespace, if it has one.
pub(super) fn record_of(
    connection: &Connection,
    namespace: &Namespace,
) -> Result<Option<StoredNamespace>, StoreError> {
    let sql = format!("{SELECT} WHERE namespace = ?1");
    Ok(rows(connection, &sql, [namespace.as_str()])?.pop().map(|row| record(&row)))
}

/// Adds the record of a namespace, or sets its limits. Other columns do not change, including those
/// of a newer program.
pub(super) fn put(transaction: &Transaction<'_>, record: &NamespaceRecord) -> rusqlite::Result<()> {
    let NamespaceLimits { max_bytes, max_versions } = record.limits;
    transaction
        .prepare_cached(
            "INSERT INTO namespaces (namespace, created_by, created_at, max_bytes, max_versions, crit) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT (namespace) DO UPDATE SET \
             max_bytes = excluded.max_bytes, max_versions = excluded.max_versions, crit = excluded.crit",
        )?
        .execute(params![
            record.namespace.as_str(),
            record.created_by,
            record.created_at,
            max_bytes.map(sql_number),
            max_versions.map(sql_number),
            record.limits.crit(),
        ])
        .map(drop)
}

/// Adds the record of a namespace, or sets its allowed sources. Other columns do not change.
pub(super) fn put_sources(
    transaction: &Transaction<'_>,
    record: &NamespaceRecord,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO namespaces (namespace, created_by, created_at, sources) \
             VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (namespace) DO UPDATE SET sources = excluded.sources",
        )?
        .execute(params![
            record.namespace.as_str(),
            record.created_by,
            record.created_at,
            record.sources.to_text(),
        ])
        .map(drop)
}

fn record(row: &[Value]) -> StoredNamespace {
    // A `crit` that is not a list of names is not understood, either.
    let crit = match row.get(5) {
        None | Some(Value::Null) => None,
        crit => {
            Some(text(crit).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default())
        }
    };
    if !critical::understood(crit.as_ref(), &LIMITS) {
        return None;
    }
    let limit = |at: usize| match row.get(at) {
        None | Some(Value::Null) => Some(None),
        value => Some(Some(number(value)?.try_into().ok()?)),
    };
    let record = NamespaceRecord {
        namespace: text(row.first())?.parse().ok()?,
        created_by: text(row.get(1))?.to_owned(),
        created_at: number(row.get(2))?,
        limits: NamespaceLimits { max_bytes: limit(3)?, max_versions: limit(4)? },
        sources: match row.get(6) {
            None | Some(Value::Null) => AllowedSources::default(),
            sources => AllowedSources::read(Some(text(sources)?)),
        },
    };
    // A limit that is named and has no value would be a restriction that nobody keeps.
    if crit.is_some_and(|crit| !record.limits.has_all(&crit)) {
        return None;
    }
    Some(RecordedNamespace { record, limits_revision: 0 })
}

fn usage_of(connection: &Connection, namespace: &Namespace) -> Result<NamespaceUsage, StoreError> {
    let sql = "SELECT bytes, versions FROM namespace_usage WHERE namespace = ?1";
    match rows(connection, sql, [namespace.as_str()])?.pop() {
        None => Ok(NamespaceUsage::default()),
        Some(row) => usage(&row).ok_or_else(unreadable_usage),
    }
}

fn usage(row: &[Value]) -> Option<NamespaceUsage> {
    let column = |at: usize| number(row.get(at))?.try_into().ok();
    Some(NamespaceUsage { bytes: column(0)?, versions: column(1)? })
}

fn unreadable_usage() -> StoreError {
    StoreError::corrupt("cannot read the usage of a namespace in the database")
}
