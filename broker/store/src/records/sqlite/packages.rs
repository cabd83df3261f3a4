//! Packages as rows: one for each version, and one for each package with its versions document.

use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, named_params, params};
use serde_json::Map;
use stile_core::grants::PermittedNamespaces;
use stile_core::package::{Claimed, Life, ModuleSummary, PackageAddress, SearchText, Version};
use stile_core::search::SearchEntry;
use stile_protocol::names::Namespace;

use super::namespaces::{quota_of, record_of};
use super::{Sqlite, database_error, migrations, number, revision, rows, sql_number, text};
use crate::StoreError;
use crate::records::model::{
    Content, OBJECT_FORMAT, PackageRecord, Quota, Revision, VersionRecord,
};
use crate::records::namespaces::StoredNamespace;
use crate::records::package_document;
use crate::records::stored_object::StoredObject;

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

    /// Returns a package with the list of its versions, and the quota of its namespace.
    pub(crate) async fn package_and_quota(
        &self,
        address: &PackageAddress,
    ) -> Result<(Option<PackageRecord>, Option<Quota>), StoreError> {
        let address = address.clone();
        self.read(move |connection| {
            let snapshot = connection.unchecked_transaction().map_err(database_error)?;
            let quota = quota_of(&snapshot, address.namespace())?;
            let Some(row) = row_of(&snapshot, &address)? else { return Ok((None, quota)) };
            let read = || {
                let document = serde_json::from_str(text(row.first())?).ok()?;
                let mut package =
                    package_document::read(&address, document, number(row.get(2))?, Map::new())?;
                package.revision = revision([&row]);
                Some(package)
            };
            let package = read().ok_or_else(|| unreadable(&address))?;
            Ok((Some(package), quota))
        })
        .await
    }

    /// Returns one version.
    pub(crate) async fn version(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<Option<VersionRecord>, StoreError> {
        let (address, version) = (address.clone(), version.clone());
        self.read(move |connection| version_of(connection, &address, &version)).await
    }

    /// Returns one version, and the record of its namespace, of one moment.
    pub(crate) async fn version_and_namespace(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<(Option<VersionRecord>, Option<StoredNamespace>), StoreError> {
        let (address, version) = (address.clone(), version.clone());
        self.read(move |connection| {
            let snapshot = connection.unchecked_transaction().map_err(database_error)?;
            let namespace = record_of(&snapshot, address.namespace())?;
            Ok((version_of(&snapshot, &address, &version)?, namespace))
        })
        .await
    }

    /// Returns one version, and the quota of its namespace.
    pub(crate) async fn version_and_quota(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<(Option<VersionRecord>, Option<Quota>), StoreError> {
        let (address, version) = (address.clone(), version.clone());
        self.read(move |connection| {
            let snapshot = connection.unchecked_transaction().map_err(database_error)?;
            let quota = quota_of(&snapshot, address.namespace())?;
            Ok((version_of(&snapshot, &address, &version)?, quota))
        })
        .await
    }

    /// Returns the SHA-256 and the extension of each archive that a version names. An object of
    /// another bucket has the extension [`OBJECT_FORMAT`]: only its metadata is in the folder.
    ///
    /// Returns `None` for a database of a newer program, in which other records can name archives.
    pub(crate) async fn named_archives(&self) -> Result<Option<Vec<(String, String)>>, StoreError> {
        self.read(|connection| {
            // One transaction, so that both answers are of the same moment.
            let snapshot = connection.unchecked_transaction().map_err(database_error)?;
            if migrations::format(&snapshot)? > migrations::FORMAT {
                return Ok(None);
            }
            let found = rows(
                &snapshot,
                "SELECT DISTINCT sha256, format FROM module_versions WHERE origin IS NULL OR format = ?1",
                [OBJECT_FORMAT],
            )?;
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
                       WHERE latest <> '' AND (?1 IS NULL OR namespace IN (SELECT value FROM json_each(?1))) AND (?2 IS NULL OR namespace = ?2) \
                       ORDER BY namespace, name, system LIMIT ?3 OFFSET ?4";
            let namespace = namespace.as_ref().map(Namespace::as_str);
            let limits = params![within, namespace, sql_number(limit), sql_number(offset)];
            let mut modules = Vec::new();
            for row in rows(connection, sql, limits)? {
                match summary(&row) {
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

impl Sqlite {
    /// Returns the modules of a namespace, each with the text of its latest version.
    pub(crate) async fn search_entries(
        &self,
        namespace: &Namespace,
    ) -> Result<Vec<SearchEntry>, StoreError> {
        let namespace = namespace.clone();
        self.read(move |connection| {
            let sql = "SELECT m.namespace, m.name, m.system, m.latest, m.latest_at, v.search FROM modules m \
                       LEFT JOIN module_versions v ON v.namespace = m.namespace AND v.name = m.name AND v.system = m.system AND v.version = m.latest \
                       WHERE m.latest <> '' AND m.namespace = ?1";
            let read = |row: &Vec<Value>| {
                let module = summary(row)?;
                Some(SearchEntry {
                    address: module.address,
                    version: module.latest,
                    published_at: module.published_at,
                    text: row.get(5).map(search_text).unwrap_or_default(),
                })
            };
            Ok(rows(connection, sql, [namespace.as_str()])?.iter().filter_map(read).collect())
        })
        .await
    }
}

/// Reads a row that begins with the address, the latest version and its time.
fn summary(row: &[Value]) -> Option<ModuleSummary> {
    let [namespace, name, system] = [0, 1, 2].map(|at| text(row.get(at)));
    Some(ModuleSummary {
        address: format!("{}/{}/{}", namespace?, name?, system?).parse().ok()?,
        latest: Version::parse(text(row.get(3))?).ok()?,
        published_at: number(row.get(4))?,
    })
}

/// Adds a version. [`version_of`] reads it.
pub(super) fn add_version(
    transaction: &Transaction<'_>,
    address: &PackageAddress,
    version: &Version,
    record: &VersionRecord,
) -> rusqlite::Result<()> {
    let PackageAddress::Module(module) = address;
    transaction
        .prepare_cached(
            "INSERT INTO module_versions (namespace, name, system, version, sha256, format, bytes, published_by, published_at, object_version, token_id, claimed, life, search, origin) \
             VALUES (:namespace, :name, :system, :version, :sha256, :format, :bytes, :published_by, :published_at, :object_version, :token_id, :claimed, :life, :search, :origin)",
        )?
        .execute(named_params! {
            ":namespace": module.namespace.as_str(),
            ":name": module.name.as_str(),
            ":system": module.system.as_str(),
            ":version": version.to_string(),
            ":sha256": record.content.sha256(),
            ":format": record.content.format(),
            ":bytes": sql_number(record.bytes),
            ":published_by": record.published_by,
            ":published_at": record.published_at,
            ":object_version": record.content.object_version(),
            ":origin": record.content.origin(),
            ":token_id": record.token_id,
            ":claimed": record.claimed.as_ref().and_then(Claimed::to_text),
            ":life": record.life.to_text(),
            ":search": record.search.to_json().map(|json| json.to_string()),
        })
        .map(drop)
}

/// Changes the object of a version.
pub(super) fn replace_object(
    transaction: &Transaction<'_>,
    address: &PackageAddress,
    version: &Version,
    object: &StoredObject,
) -> rusqlite::Result<()> {
    let PackageAddress::Module(module) = address;
    transaction
        .prepare_cached(
            "UPDATE module_versions SET object_version = ?5, origin = ?6 \
             WHERE namespace = ?1 AND name = ?2 AND system = ?3 AND version = ?4",
        )?
        .execute(params![
            module.namespace.as_str(),
            module.name.as_str(),
            module.system.as_str(),
            version.to_string(),
            object.state.version(),
            object.origin(),
        ])
        .map(drop)
}

/// Changes the life of a version.
pub(super) fn change_life(
    transaction: &Transaction<'_>,
    address: &PackageAddress,
    version: &Version,
    life: &Life,
) -> rusqlite::Result<()> {
    let PackageAddress::Module(module) = address;
    transaction
        .prepare_cached(
            "UPDATE module_versions SET life = ?5 \
             WHERE namespace = ?1 AND name = ?2 AND system = ?3 AND version = ?4",
        )?
        .execute(params![
            module.namespace.as_str(),
            module.name.as_str(),
            module.system.as_str(),
            version.to_string(),
            life.to_text(),
        ])
        .map(drop)
}

/// Returns one version as it is now.
pub(super) fn version_of(
    connection: &Connection,
    address: &PackageAddress,
    version: &Version,
) -> Result<Option<VersionRecord>, StoreError> {
    let PackageAddress::Module(module) = address;
    let sql = "SELECT sha256, format, object_version, bytes, published_by, published_at, token_id, claimed, life, search, origin FROM module_versions \
               WHERE namespace = ?1 AND name = ?2 AND system = ?3 AND version = ?4";
    let version_text = version.to_string();
    let parts =
        [module.namespace.as_str(), module.name.as_str(), module.system.as_str(), &version_text];
    let Some(row) = rows(connection, sql, parts)?.pop() else { return Ok(None) };
    let read = || {
        Some(VersionRecord {
            content: Content::read(
                text(row.first())?,
                text(row.get(1))?,
                optional(row.get(2)?)?,
                optional(row.get(10)?)?,
            )?,
            bytes: number(row.get(3))?.try_into().ok()?,
            published_by: text(row.get(4))?.to_owned(),
            published_at: number(row.get(5))?,
            token_id: optional(row.get(6)?)?.map(str::to_owned),
            // What is malformed counts as missing, because nothing is decided by it.
            claimed: text(row.get(7)).and_then(Claimed::read),
            life: optional(row.get(8)?)?.map_or_else(|| Some(Life::default()), Life::read)?,
            search: search_text(row.get(9)?),
        })
    };
    read().map(Some).ok_or_else(|| {
        StoreError::corrupt(format!("cannot read `{address}` {version} in the store"))
    })
}

/// Reads the text of a search. What is malformed counts as missing.
fn search_text(value: &Value) -> SearchText {
    let json = text(Some(value)).and_then(|text| serde_json::from_str(text).ok());
    json.map(|json| SearchText::read(&json)).unwrap_or_default()
}

/// Returns the text in a column that may be empty. `None` if it holds something else.
fn optional(value: &Value) -> Option<Option<&str>> {
    match value {
        Value::Null => Some(None),
        value => text(Some(value)).map(Some),
    }
}

/// Adds or changes the row of a package. `latest` is empty if no version is listed. Columns of a newer program do not change.
pub(super) fn put_package(
    transaction: &Transaction<'_>,
    address: &PackageAddress,
    package: &PackageRecord,
) -> rusqlite::Result<()> {
    let PackageAddress::Module(module) = address;
    transaction
        .prepare_cached(
            "INSERT INTO modules (namespace, name, system, versions_document, latest, latest_at) VALUES (:namespace, :name, :system, :document, :latest, :latest_at) \
             ON CONFLICT (namespace, name, system) DO UPDATE SET \
             versions_document = excluded.versions_document, latest = excluded.latest, latest_at = excluded.latest_at",
        )?
        .execute(named_params! {
            ":namespace": module.namespace.as_str(),
            ":name": module.name.as_str(),
            ":system": module.system.as_str(),
            ":document": package.document.to_string(),
            ":latest": package.latest().map(ToString::to_string).unwrap_or_default(),
            ":latest_at": package.latest_at,
        })
        .map(drop)
}

/// Returns the current revision of a package.
pub(super) fn revision_of(
    connection: &Connection,
    address: &PackageAddress,
) -> Result<Revision, StoreError> {
    Ok(row_of(connection, address)?.map_or_else(Revision::default, |row| revision([&row])))
}

pub(super) fn row_of(
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
