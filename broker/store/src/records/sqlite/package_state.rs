//! Reads everything that the database has of one package, for a check.

use std::collections::BTreeMap;

use rusqlite::Transaction;
use rusqlite::types::Value;
use serde_json::Map;
use stile_core::package::{PackageAddress, Version};

use super::package_tables::{self, AddressValues, PackageTables, tables_of};
use super::packages::{address, row_of, version_of};
use super::{Sqlite, database_error, number, revision, rows, text};
use crate::records::model::VersionRecord;
use crate::records::package_document;
use crate::records::package_state::{PackageState, StoredList};
use crate::records::provider_document::DistrustedKeys;
use crate::{StoreError, StoreErrorKind};

impl Sqlite {
    /// Returns the packages that have a list of versions, or a version, in order.
    pub(crate) async fn packages(&self) -> Result<Vec<PackageAddress>, StoreError> {
        self.read(|connection| {
            let mut all = Vec::new();
            for tables in package_tables::ALL {
                let PackageTables { kind, packages, versions, address: columns, .. } = tables;
                let sql = format!(
                    "SELECT {columns} FROM {packages} UNION SELECT {columns} FROM {versions}"
                );
                for row in rows(connection, &sql, [])? {
                    all.push(address(*kind, &row).ok_or_else(|| {
                        let kind = kind.as_str();
                        StoreError::corrupt(format!("cannot read the address of a {kind}"))
                    })?);
                }
            }
            Ok(all)
        })
        .await
    }

    /// Returns everything that the database has of a package, of one moment.
    pub(crate) async fn package_state(
        &self,
        address: &PackageAddress,
    ) -> Result<PackageState, StoreError> {
        let address = address.clone();
        self.read(move |connection| {
            let snapshot = connection.unchecked_transaction().map_err(database_error)?;
            let row = row_of(&snapshot, &address)?;
            let latest = row.as_ref().and_then(|row| {
                let latest = text(row.get(1)).filter(|latest| !latest.is_empty())?;
                Some((latest.to_owned(), number(row.get(2))?))
            });
            let list = row.map_or(StoredList::Absent, |row| read_list(&address, &row));
            Ok(PackageState {
                list,
                latest: vec![latest],
                versions: versions(&snapshot, &address)?,
                distrusted: DistrustedKeys::new(),
            })
        })
        .await
    }
}

fn read_list(address: &PackageAddress, row: &Vec<Value>) -> StoredList {
    let read = || {
        let document = serde_json::from_str(text(row.first())?).ok()?;
        package_document::read(address, document, number(row.get(2))?, Map::new())
    };
    let revision = revision([row]);
    match read() {
        Some(mut package) => {
            package.revision = revision;
            StoredList::Readable(package)
        }
        None => StoredList::Unreadable(Some(revision), Map::new()),
    }
}

fn versions(
    snapshot: &Transaction<'_>,
    address: &PackageAddress,
) -> Result<BTreeMap<String, Option<VersionRecord>>, StoreError> {
    let PackageTables { versions, is_package, .. } = tables_of(address);
    let sql = format!("SELECT version FROM {versions} WHERE {is_package}");
    let mut found = BTreeMap::new();
    for row in rows(snapshot, &sql, &*AddressValues::of(address).and(&[]))? {
        let name = text(row.first()).unwrap_or_default();
        let record = match Version::parse(name) {
            Ok(version) => match version_of(snapshot, address, &version) {
                Ok(record) => record,
                Err(error) if error.kind() == StoreErrorKind::Corrupt => None,
                Err(error) => return Err(error),
            },
            Err(_) => None,
        };
        found.insert(name.to_owned(), record);
    }
    Ok(found)
}
