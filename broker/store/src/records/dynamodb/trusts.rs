//! Trusts, one item for each, all in one partition that only operators write.

use stile_core::principal::{LocalName, UniqueId};
use stile_core::trust::LiveTrust;

use super::DynamoDb;
use super::attributes::{Row, number, read_number, read_text, text};
use super::table::{Key, SK, Write};
use crate::StoreError;
use crate::records::trust_record::{FoundTrust, TrustRecord};

/// The partition of all trusts.
const ALL: &str = "trusts";

impl DynamoDb {
    /// Returns all trusts, in order of name.
    pub(crate) async fn trusts(&self) -> Result<Vec<FoundTrust>, StoreError> {
        let mut all = Vec::new();
        self.query(ALL, "", |row| {
            all.push(row.map_or_else(FoundTrust::default, |row| found(&row)));
            false
        })
        .await?;
        Ok(all)
    }

    /// Returns one trust.
    pub(crate) async fn trust(&self, name: &LocalName) -> Result<Option<FoundTrust>, StoreError> {
        Ok(self.row(&key(name.as_str())).await?.as_ref().map(found))
    }
}

/// Returns the key of a trust's item.
pub(super) fn key(name: &str) -> Key {
    Key::new(ALL, name)
}

/// Reads what a decision needs to know of a trust from its item.
pub(super) fn live(name: &str, row: Option<&Row>) -> Result<Option<LiveTrust>, StoreError> {
    row.map(|row| found(row).live(name)).transpose()
}

/// Returns the write that adds a trust. [`found`] reads it.
pub(super) fn add(record: &TrustRecord) -> Write {
    put_item(record).only_if_absent()
}

/// Returns the write that replaces a trust, if it has the same id and this revision.
pub(super) fn put(before: i64, record: &TrustRecord) -> Write {
    put_item(record)
        .only_if("id = :id AND revision = :revision")
        .value(":id", text(record.id.as_str()))
        .value(":revision", number(before))
}

/// Returns the write that removes a trust, if it still has this id.
pub(super) fn remove(name: &LocalName, id: &UniqueId) -> Write {
    Write::delete(key(name.as_str())).only_if("id = :id").value(":id", text(id.as_str()))
}

/// Returns the check that a trust still has this id.
pub(super) fn keep(name: &LocalName, id: &UniqueId) -> Write {
    Write::check(key(name.as_str())).only_if("id = :id").value(":id", text(id.as_str()))
}

fn put_item(record: &TrustRecord) -> Write {
    let row = [
        ("id", text(record.id.as_str())),
        ("revision", number(record.revision)),
        ("record", text(record.text.as_str())),
    ];
    Write::put(key(record.name.as_str()), row)
}

fn found(row: &Row) -> FoundTrust {
    FoundTrust {
        name: read_text(row, SK).and_then(|name| name.parse().ok()),
        id: read_text(row, "id").and_then(UniqueId::parse),
        revision: read_number(row, "revision"),
        text: read_text(row, "record").map(str::to_owned),
    }
}
