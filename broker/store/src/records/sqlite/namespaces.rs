//! Namespaces as rows.

use rusqlite::types::Value;
use stile_protocol::names::Namespace;

use super::{Sqlite, number, rows, text};
use crate::records::namespaces::StoredNamespace;
use crate::{NamespaceRecord, StoreError};

impl Sqlite {
    /// Returns the record of a namespace, if it has one.
    pub(crate) async fn namespace_record(
        &self,
        namespace: &Namespace,
    ) -> Result<Option<StoredNamespace>, StoreError> {
        let namespace = namespace.clone();
        self.read(move |connection| {
            let sql =
                "SELECT namespace, created_by, created_at FROM namespaces WHERE namespace = ?1";
            Ok(rows(connection, sql, [namespace.as_str()])?.pop().map(|row| record(&row)))
        })
        .await
    }

    /// Returns all records of namespaces, in order.
    pub(crate) async fn namespace_records(&self) -> Result<Vec<StoredNamespace>, StoreError> {
        self.read(|connection| {
            let sql = "SELECT namespace, created_by, created_at FROM namespaces ORDER BY namespace";
            Ok(rows(connection, sql, [])?.iter().map(|row| record(row)).collect())
        })
        .await
    }
}

fn record(row: &[Value]) -> StoredNamespace {
    Some(NamespaceRecord {
        namespace: text(row.first())?.parse().ok()?,
        created_by: text(row.get(1))?.to_owned(),
        created_at: number(row.get(2))?,
    })
}
