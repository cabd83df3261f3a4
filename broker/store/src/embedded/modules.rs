//! Modules as rows: one a version, and one a module with its ready-made `versions` document.

use std::fs;

use bytes::Bytes;
use rusqlite::{OptionalExtension, Transaction, params};
use stile_protocol::names::{ModuleAddress, Namespace};

use super::{Embedded, archives, blocking, database_error};
use crate::{Package, Published, StoreError};
use stile_core::grants::PermittedNamespaces;
use stile_core::package::{
    AnnouncedArchive, Format, ModuleSummary, VerifiedArchive, Version, versions_document,
};

impl Embedded {
    pub(crate) async fn versions_document(
        &self,
        address: ModuleAddress,
    ) -> Result<Option<Bytes>, StoreError> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT versions_document FROM modules WHERE namespace = ?1 AND name = ?2 AND system = ?3")
                .and_then(|mut statement| {
                    statement
                        .query_row(params![address.namespace.as_str(), address.name.as_str(), address.system.as_str()], |row| {
                            row.get::<_, String>(0)
                        })
                        .optional()
                })
                .map(|document| document.map(Bytes::from))
                .map_err(database_error)
        })
        .await
    }

    pub(crate) async fn package(
        &self,
        address: ModuleAddress,
        version: Version,
    ) -> Result<Option<Package>, StoreError> {
        self.read(move |connection| package(connection, &address, &version)).await
    }

    pub(crate) async fn publish(
        &self,
        address: ModuleAddress,
        version: Version,
        archive: VerifiedArchive,
        by: String,
        now: i64,
    ) -> Result<Published, StoreError> {
        let (sha256, format, bytes) =
            (archive.sha256().to_owned(), archive.format(), archive.bytes());
        // Looked at first, so that a version that is taken costs no file; decided again in the transaction.
        let place = self.archive(&sha256, format);
        if let Some(kept) = self.package(address.clone(), version.clone()).await? {
            let same = compare(&kept, &sha256);
            // A file that was lost comes back when the same bytes are sent again.
            if same == Published::Same && fs::metadata(&place).map_or(0, |file| file.len()) != bytes
            {
                blocking(move || archives::keep(archive, &place)).await?;
            }
            return Ok(same);
        }
        blocking(move || archives::keep(archive, &place)).await?;
        self.write(move |transaction| {
            if let Some(kept) = package(transaction, &address, &version)? {
                return Ok(compare(&kept, &sha256));
            }
            transaction
                .execute(
                    "INSERT INTO module_versions (namespace, name, system, version, sha256, format, bytes, published_by, published_at) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    params![
                        address.namespace.as_str(),
                        address.name.as_str(),
                        address.system.as_str(),
                        version.to_string(),
                        sha256,
                        format.extension(),
                        sql_number(bytes),
                        by,
                        now
                    ],
                )
                .map_err(database_error)?;
            write_document(transaction, &address)?;
            Ok(Published::Created)
        })
        .await
    }

    pub(crate) async fn published(
        &self,
        address: ModuleAddress,
        version: Version,
        announced: &AnnouncedArchive,
    ) -> Result<Option<Published>, StoreError> {
        let Some(kept) = self.package(address, version).await? else { return Ok(None) };
        let (outcome, place) =
            (compare(&kept, &announced.sha256), self.archive(&kept.sha256, kept.format));
        let lost = outcome == Published::Same
            && fs::metadata(place).map_or(0, |file| file.len()) != announced.bytes;
        Ok((!lost).then_some(outcome))
    }

    pub(crate) async fn modules(
        &self,
        reach: &PermittedNamespaces,
        namespace: Option<Namespace>,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<ModuleSummary>, StoreError> {
        let within = match reach {
            PermittedNamespaces::All => None,
            PermittedNamespaces::Only(namespaces) => {
                let names: Vec<&str> = namespaces.iter().map(Namespace::as_str).collect();
                Some(serde_json::to_string(&names).map_err(|error| {
                    StoreError::unavailable("the namespaces cannot be written", error)
                })?)
            }
        };
        self.read(move |connection| {
            let sql = "SELECT namespace, name, system, latest, latest_at FROM modules \
                       WHERE (?1 IS NULL OR namespace IN (SELECT value FROM json_each(?1))) AND (?2 IS NULL OR namespace = ?2) \
                       ORDER BY namespace, name, system LIMIT ?3 OFFSET ?4";
            let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
            let rows = statement
                .query_map(params![within, namespace.as_ref().map(Namespace::as_str), sql_number(limit), sql_number(offset)], |row| {
                    Ok((
                        row.get::<_, String>(0)?,
                        row.get::<_, String>(1)?,
                        row.get::<_, String>(2)?,
                        row.get::<_, String>(3)?,
                        row.get::<_, i64>(4)?,
                    ))
                })
                .map_err(database_error)?;
            let mut modules = Vec::new();
            for row in rows {
                let (namespace, name, system, latest, published_at) = row.map_err(database_error)?;
                match (format!("{namespace}/{name}/{system}").parse(), Version::parse(&latest)) {
                    (Ok(address), Ok(latest)) => modules.push(ModuleSummary { address, latest, published_at }),
                    _ => tracing::error!(alarm = "unreadable_module", "a module in the store cannot be read and is not listed"),
                }
            }
            Ok(modules)
        })
        .await
    }
}

/// SQLite's integers are signed; no length or place comes near their end.
fn sql_number(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn compare(kept: &Package, sha256: &str) -> Published {
    if kept.sha256 == sha256 { Published::Same } else { Published::Different }
}

fn package(
    connection: &rusqlite::Connection,
    address: &ModuleAddress,
    version: &Version,
) -> Result<Option<Package>, StoreError> {
    let row: Option<(String, String)> = connection
        .prepare_cached("SELECT sha256, format FROM module_versions WHERE namespace = ?1 AND name = ?2 AND system = ?3 AND version = ?4")
        .and_then(|mut statement| {
            statement
                .query_row(
                    params![address.namespace.as_str(), address.name.as_str(), address.system.as_str(), version.to_string()],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()
        })
        .map_err(database_error)?;
    row.map(|(sha256, extension)| {
        let format = Format::from_extension(&extension)
            .ok_or_else(|| StoreError::corrupt("a version in the store has an unknown format"))?;
        Ok(Package { sha256, format })
    })
    .transpose()
}

/// Writes the module's document anew from all its versions, in the transaction that added one.
fn write_document(
    transaction: &Transaction<'_>,
    address: &ModuleAddress,
) -> Result<(), StoreError> {
    let parts = params![address.namespace.as_str(), address.name.as_str(), address.system.as_str()];
    let mut versions = transaction
        .prepare_cached("SELECT version, published_at FROM module_versions WHERE namespace = ?1 AND name = ?2 AND system = ?3")
        .and_then(|mut statement| {
            statement.query_map(parts, |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?.collect::<rusqlite::Result<Vec<_>>>()
        })
        .map_err(database_error)?
        .into_iter()
        .filter_map(|(text, at)| match Version::parse(&text) {
            Ok(version) => Some((version, at)),
            Err(_) => {
                tracing::error!(alarm = "unreadable_version", "a version in the store cannot be read and is not listed");
                None
            }
        })
        .collect::<Vec<_>>();
    versions.sort();
    let Some((latest, latest_at)) =
        versions.iter().rev().find(|(version, _)| !version.is_prerelease()).or(versions.last())
    else {
        return Ok(());
    };
    let document = versions_document(versions.iter().map(|(version, _)| version));
    transaction
        .execute(
            "INSERT OR REPLACE INTO modules (namespace, name, system, versions_document, latest, latest_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![address.namespace.as_str(), address.name.as_str(), address.system.as_str(), document, latest.to_string(), latest_at],
        )
        .map_err(database_error)?;
    Ok(())
}
