//! Reads everything that the table has of one package, for a check.

use std::collections::BTreeMap;

use stile_core::package::{PackageAddress, PackageKind, Version};

use super::DynamoDb;
use super::attributes::{Row, read_number, read_text, unknown};
use super::packages::{
    KNOWN, VERSION_PREFIX, document_key, list, list_key, partition, read_address, read_package,
    read_version,
};
use super::table::SK;
use crate::StoreError;
use crate::records::model::Revision;
use crate::records::package_state::{PackageState, StoredList};
use crate::records::provider_document::DistrustedKeys;

impl DynamoDb {
    /// Returns the packages in the list, in order.
    pub(crate) async fn packages(&self) -> Result<Vec<PackageAddress>, StoreError> {
        let mut found = Some(Vec::new());
        for kind in PackageKind::ALL {
            self.query(list(kind), "", |row| {
                match (row.as_ref().and_then(|row| read_address(kind, row)), &mut found) {
                    (Some(address), Some(found)) => found.push(address),
                    _ => found = None,
                }
                found.is_none()
            })
            .await?;
        }
        let unreadable = || {
            StoreError::corrupt(
                "cannot read the list of all packages in the table, which a newer release can have written",
            )
        };
        found.ok_or_else(unreadable)
    }

    /// Returns everything that the table has of a package. The list is of a moment before the
    /// records of the versions.
    pub(crate) async fn package_state(
        &self,
        address: &PackageAddress,
    ) -> Result<PackageState, StoreError> {
        let keys = [document_key(address), list_key(address)];
        let found = self.rows(&keys).await?;
        let [document, listed] = keys.map(|key| found.get(&key));
        let latest = [document, listed].map(|row| row.and_then(latest)).into();
        let list = document.map_or(StoredList::Absent, |row| match read_package(address, row) {
            Some(package) => StoredList::Readable(package),
            None => {
                let revision = read_number(row, "revision").map(Revision);
                StoredList::Unreadable(revision, unknown(row, &KNOWN))
            }
        });
        let mut versions = BTreeMap::new();
        let mut unnamed = 0;
        self.query(&partition(address), VERSION_PREFIX, |row| {
            let name = row.as_ref().and_then(|row| read_text(row, SK));
            let name = name.and_then(|name| name.strip_prefix(VERSION_PREFIX));
            let name = name.map(str::to_owned).unwrap_or_else(|| {
                unnamed += 1;
                format!("unknown {unnamed}")
            });
            let record = row.as_ref().and_then(read_version);
            let record = record.filter(|_| Version::parse(&name).is_ok());
            versions.insert(name, record);
            false
        })
        .await?;
        Ok(PackageState { list, latest, versions, distrusted: DistrustedKeys::new() })
    }
}

fn latest(row: &Row) -> Option<(String, i64)> {
    Some((read_text(row, "latest")?.to_owned(), read_number(row, "latest_at")?))
}
