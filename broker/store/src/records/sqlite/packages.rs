//! Packages as rows: one for each version, and one for each package with its versions document.

use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Map;
use stile_core::grants::PermittedNamespaces;
use stile_core::package::{Format, ModuleSummary, PackageAddress, Version};
use stile_protocol::names::Namespace;

use super::{Sqlite, database_error, migrations, number, revision, rows, sql_number, text};
use crate::StoreError;
use crate::records::model::{PackageRecord, Revision, StoredArchive};
use crate::records::package_document;

impl Sqlite {
    /// Returns the versions document of a package.
    pub(crate) async fn package_document(
        &self,
        address: &PackageAddress,
    ) -> Result<Option<Bytes>, StoreError> {
        let address = address.clone();
        self.read(move |connection| {
            let found = row_of(connection, &address)?;
            let document = found.map(|row| {
                let unreadable = || unreadable(&address);
                text(row.first()).map(|text| Bytes::from(text.to_owned())).ok_or_else(unreadable)
            });
            document.transpose()
        })
        .await
    }

    /// Returns a package with the list of its versions.
    pub(crate) async fn package(
        &self,
        address: &PackageAddress,
    ) -> Result<Option<PackageRecord>, StoreError> {
        let address = address.clone();
        self.read(move |connection| {
            let Some(row) = row_of(connection, &address)? else { return Ok(None) };
            let read = || {
                let document = serde_json::from_str(text(row.first())?).ok()?;
                let mut package =
                    package_document::read(&address, document, number(row.get(2))?, Map::new())?;
                package.revision = revision([&row]);
                Some(package)
            };
            read().map(Some).ok_or_else(|| unreadable(&address))
        })
        .await
    }

    /// Returns the archive of one version.
    pub(crate) async fn version(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<Option<StoredArchive>, StoreError> {
        let (address, version) = (address.clone(), version.clone());
        self.read(move |connection| archive(connection, &address, &version)).await
    }

    /// Returns the SHA-256 and the extension of each archive that a version names.
    ///
    /// Returns `None` for a database of a newer program, in which other records can name archives.
    pub(crate) async fn named_archives(&self) -> Result<Option<Vec<(String, String)>>, StoreError> {
        self.read(|connection| {
            // One transaction, so that both answers are of the same moment.
            let snapshot = connection.unchecked_transaction().map_err(database_error)?;
            if migrations::format(&snapshot)? > migrations::FORMAT {
                return Ok(None);
            }
            let found = rows(&snapshot, "SELECT DISTINCT sha256, format FROM module_versions", [])?;
            let named = found.iter().map(|row| {
                let column = |at: usize| text(row.get(at)).map(str::to_owned);
                column(0).zip(column(1))
            });
            let unreadable = || StoreError::corrupt("cannot read a version in the database");
            named.collect::<Option<_>>().map(Some).ok_or_else(unreadable)
        })
        .await
    }

    /// Returns at most `limit` modules of the permitted namespaces, in order of address, from
    /// `offset` on.
    pub(crate) async fn modules(
        &self,
        reach: &PermittedNamespaces,
        namespace: Option<&Namespace>,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<ModuleSummary>, StoreError> {
        let within = match reach {
            PermittedNamespaces::All => None,
            PermittedNamespaces::Only(namespaces) => {
                let names: Vec<&str> = namespaces.iter().map(Namespace::as_str).collect();
                Some(serde_json::Value::from(names).to_string())
            }
        };
        let namespace = namespace.cloned();
        self.read(move |connection| {
            let sql = "SELECT namespace, name, system, latest, latest_at FROM modules \
                       WHERE (?1 IS NULL OR namespace IN (SELECT value FROM json_each(?1))) AND (?2 IS NULL OR namespace = ?2) \
                       ORDER BY namespace, name, system LIMIT ?3 OFFSET ?4";
            let namespace = namespace.as_ref().map(Namespace::as_str);
            let limits = params![within, namespace, sql_number(limit), sql_number(offset)];
            let read = |row: Vec<Value>| {
                let [namespace, name, system] = [0, 1, 2].map(|at| text(row.get(at)));
                Some(ModuleSummary {
                    address: format!("{}/{}/{}", namespace?, name?, system?).parse().ok()?,
                    latest: Version::parse(text(row.get(3))?).ok()?,
                    published_at: number(row.get(4))?,
                })
            };
            let mut modules = Vec::new();
            for row in rows(connection, sql, limits)? {
                match read(row) {
                    Some(module) => modules.push(module),
                    None => tracing::error!(
                        alarm = "unreadable_module",
                        "a module in the store cannot be read and is not listed"
                    ),
                }
            }
            Ok(modules)
        })
        .await
    }
}

/// Returns the archive of one version as it is now.
pub(super) fn archive(
    connection: &Connection,
    address: &PackageAddress,
    version: &Version,
) -> Result<Option<StoredArchive>, StoreError> {
    let PackageAddress::Module(module) = address;
    let row: Option<(String, String, Option<String>)> = connection
        .prepare_cached("SELECT sha256, format, object_version FROM module_versions WHERE namespace = ?1 AND name = ?2 AND system = ?3 AND version = ?4")
        .and_then(|mut statement| {
            statement
                .query_row(
                    params![module.namespace.as_str(), module.name.as_str(), module.system.as_str(), version.to_string()],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )
                .optional()
        })
        .map_err(database_error)?;
    row.map(|(sha256, extension, object_version)| {
        let format = Format::from_extension(&extension).ok_or_else(|| {
            StoreError::corrupt(format!("cannot read `{address}` {version} in the store"))
        })?;
        Ok(StoredArchive { sha256, format, object_version })
    })
    .transpose()
}

/// Returns the current revision of a package.
pub(super) fn revision_of(
    connection: &Connection,
    address: &PackageAddress,
) -> Result<Revision, StoreError> {
    Ok(row_of(connection, address)?.map_or_else(Revision::default, |row| revision([&row])))
}

fn row_of(
    connection: &Connection,
    address: &PackageAddress,
) -> Result<Option<Vec<Value>>, StoreError> {
    let PackageAddress::Module(module) = address;
    let sql = "SELECT versions_document, latest, latest_at FROM modules WHERE namespace = ?1 AND name = ?2 AND system = ?3";
    let parts = [module.namespace.as_str(), module.name.as_str(), module.system.as_str()];
    Ok(rows(connection, sql, parts)?.pop())
}

fn unreadable(address: &PackageAddress) -> StoreError {
    StoreError::corrupt(format!("cannot read the versions of `{address}` in the store"))
}
