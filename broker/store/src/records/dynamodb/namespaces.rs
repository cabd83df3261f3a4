//! Namespaces, one item for each, all in one partition.

use stile_protocol::names::Namespace;

use super::DynamoDb;
use super::attributes::{Row, number, read_number, read_text, text};
use super::table::{Key, Write};
use crate::records::namespaces::StoredNamespace;
use crate::{NamespaceRecord, StoreError};

/// The partition of all namespaces. It is not `namespace N`, which lists the grants on N.
const ALL: &str = "namespaces";

impl DynamoDb {
    /// Returns the record of a namespace, if it has one.
    pub(crate) async fn namespace_record(
        &self,
        namespace: &Namespace,
    ) -> Result<Option<StoredNamespace>, StoreError> {
        Ok(self.row(&key(namespace)).await?.map(|row| record(&row)))
    }

    /// Returns all records of namespaces, in order.
    pub(crate) async fn namespace_records(&self) -> Result<Vec<StoredNamespace>, StoreError> {
        let mut records = Vec::new();
        self.query(ALL, "", |row| {
            records.push(row.and_then(|row| record(&row)));
            false
        })
        .await?;
        Ok(records)
    }
}

/// Creates the write that adds a record, if there is none.
pub(super) fn add(record: &NamespaceRecord) -> Write {
    let row = [
        ("created_by", text(record.created_by.as_str())),
        ("created_at", number(record.created_at)),
    ];
    Write::put(key(&record.namespace), row).only_if_absent()
}

fn key(namespace: &Namespace) -> Key {
    Key::new(ALL, namespace.as_str())
}

fn record(row: &Row) -> StoredNamespace {
    Some(NamespaceRecord {
        namespace: read_text(row, super::table::SK)?.parse().ok()?,
        created_by: read_text(row, "created_by")?.to_owned(),
        created_at: read_number(row, "created_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_from_its_item_and_a_malformed_item_is_not_a_record() {
        let expected = NamespaceRecord {
            namespace: "acme".parse().unwrap(),
            created_by: "local:alice".to_owned(),
            created_at: 7,
        };
        let write = add(&expected);
        let row = write.row().unwrap();
        assert_eq!(record(row), Some(expected));
        let mut newer = row.clone();
        newer.insert("limits".to_owned(), text("{}"));
        assert!(record(&newer).is_some(), "a newer program added a setting");
        let mut bad = row.clone();
        bad.insert("created_at".to_owned(), text("7"));
        assert_eq!(record(&bad), None);
    }
}
