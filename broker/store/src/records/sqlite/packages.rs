//! Packages as rows: one for each version, and one for each package with its versions document.

use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, ToSql, Transaction, params};
use serde_json::Map;
use stile_core::grants::PermittedNamespaces;
use stile_core::package::provider::Release;
use stile_core::package::{
    Claimed, Life, PackageAddress, PackageKind, PackageSummary, SearchText, Version,
};
use stile_core::search::SearchEntry;
use stile_protocol::names::Namespace;

use super::namespaces::{quota_of, record_of};
use super::package_tables::{AddressValues, PROVIDER_FILES, PackageTables, tables, tables_of};
use super::{Sqlite, database_error, migrations, number, revision, rows, sql_number, text};
use crate::StoreError;
use crate::records::model::{
    Content, OBJECT_FORMAT, PackageRecord, PackagesPage, Quota, Revision, VersionRecord,
};
use crate::records::namespaces::StoredNamespace;
use crate::records::stored_object::StoredObject;
use crate::records::{alarm_about_unreadable, package_document};

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

    /// Returns the SHA-256 and the extension of each archive that a version names, or that waits for
    /// the version of a provider. An object of another bucket has the extension [`OBJECT_FORMAT`]: only
    /// its metadata is in the folder.
    ///
    /// Returns `None` for a database of a newer program, in which other records can name archives.
    pub(crate) async fn named_archives(&self) -> Result<Option<Vec<(String, String)>>, StoreError> {
        self.read(|connection| {
            // One transaction, so that both answers are of the same moment.
            let snapshot = connection.unchecked_transaction().map_err(database_error)?;
            if migrations::format(&snapshot)? > migrations::FORMAT {
                return Ok(None);
            }
            let sql = format!(
                "SELECT sha256, format FROM module_versions WHERE origin IS NULL OR format = ?1 \
                 UNION SELECT sha256, format FROM ({PROVIDER_FILES}) \
                 UNION SELECT sha256, 'zip' FROM provider_files"
            );
            let found = rows(&snapshot, &sql, [OBJECT_FORMAT])?;
            let named = found.iter().map(|row| {
                let column = |at: usize| text(row.get(at)).map(str::to_owned);
                column(0).zip(column(1))
            });
            let unreadable = || StoreError::corrupt("cannot read a version in the database");
            named.collect::<Option<_>>().map(Some).ok_or_else(unreadable)
        })
        .await
    }

    /// Returns the packages of this kind that the page has, in order of address.
    pub(crate) async fn summaries(
        &self,
        kind: PackageKind,
        page: &PackagesPage<'_>,
    ) -> Result<Vec<PackageSummary>, StoreError> {
        let within = match page.reach {
            PermittedNamespaces::All => None,
            PermittedNamespaces::Only(namespaces) => {
                let names: Vec<&str> = namespaces.iter().map(Namespace::as_str).collect();
                Some(serde_json::Value::from(names).to_string())
            }
        };
        let (namespace, limit, offset) = (page.namespace.cloned(), page.limit, page.offset);
        self.read(move |connection| {
            let PackageTables { packages, address, .. } = tables(kind);
            let sql = format!(
                "SELECT latest, latest_at, {address} FROM {packages} \
                 WHERE latest <> '' AND (?1 IS NULL OR namespace IN (SELECT value FROM json_each(?1))) AND (?2 IS NULL OR namespace = ?2) \
                 ORDER BY {address} LIMIT ?3 OFFSET ?4"
            );
            let namespace = namespace.as_ref().map(Namespace::as_str);
            let limits = params![within, namespace, sql_number(limit), sql_number(offset)];
            let mut found = Vec::new();
            for row in rows(connection, &sql, limits)? {
                match summary(kind, &row) {
                    Some(package) => found.push(package),
                    None => alarm_about_unreadable(kind),
                }
            }
            Ok(found)
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
            let sql = "SELECT m.latest, m.latest_at, m.namespace, m.name, m.system, v.search FROM modules m \
                       LEFT JOIN module_versions v ON v.namespace = m.namespace AND v.name = m.name AND v.system = m.system AND v.version = m.latest \
                       WHERE m.latest <> '' AND m.namespace = ?1";
            let read = |row: &Vec<Value>| {
                let (search, row) = row.split_last()?;
                let module = summary(PackageKind::Module, row)?;
                Some(SearchEntry {
                    address: module.address.module()?.clone(),
                    version: module.latest,
                    published_at: module.published_at,
                    text: search_text(search),
                })
            };
            Ok(rows(connection, sql, [namespace.as_str()])?.iter().filter_map(read).collect())
        })
        .await
    }
}

/// Reads a row with the latest version, its time, and then the address.
fn summary(kind: PackageKind, row: &[Value]) -> Option<PackageSummary> {
    Some(PackageSummary {
        address: address(kind, row.get(2..)?)?,
        latest: Version::parse(text(row.first())?).ok()?,
        published_at: number(row.get(1))?,
    })
}

/// Reads the columns of an address.
pub(super) fn address(kind: PackageKind, columns: &[Value]) -> Option<PackageAddress> {
    let parts: Vec<&str> = columns.iter().map(|part| text(Some(part))).collect::<Option<_>>()?;
    PackageAddress::of_kind(kind, &parts.join("/"))
}

/// Adds a version. [`version_of`] reads it.
pub(super) fn add_version(
    transaction: &Transaction<'_>,
    address: &PackageAddress,
    version: &Version,
    record: &VersionRecord,
) -> rusqlite::Result<()> {
    let (tables, values) = (tables_of(address), AddressValues::of(address));
    let (release, of_release) = match &record.content {
        Content::Provider(_) => (", release", ", :release"),
        Content::Archive(_) | Content::Source(_) | Content::Object(_) => ("", ""),
    };
    let sql = format!(
        "INSERT INTO {} ({}, version, sha256, format, bytes, published_by, published_at, object_version, token_id, claimed, life, search, origin{release}) \
         VALUES ({}, :version, :sha256, :format, :bytes, :published_by, :published_at, :object_version, :token_id, :claimed, :life, :search, :origin{of_release})",
        tables.versions, tables.address, tables.parameters,
    );
    let content = &record.content;
    let (version, bytes, claimed) =
        (version.to_string(), sql_number(record.bytes), &record.claimed);
    let (sha256, format, object_version) =
        (content.sha256(), content.format(), content.object_version());
    let (origin, release) = (content.origin(), content.release());
    let (claimed, life) = (claimed.as_ref().and_then(Claimed::to_text), record.life.to_text());
    let search = record.search.to_json().map(|json| json.to_string());
    let mut values = values.and(&[
        (":version", &version),
        (":sha256", &sha256),
        (":format", &format),
        (":bytes", &bytes),
        (":published_by", &record.published_by),
        (":published_at", &record.published_at),
        (":object_version", &object_version),
        (":origin", &origin),
        (":token_id", &record.token_id),
        (":claimed", &claimed),
        (":life", &life),
        (":search", &search),
    ]);
    values.extend(release.as_ref().map(|release| (":release", release as &dyn ToSql)));
    transaction.prepare_cached(&sql)?.execute(&*values).map(drop)
}

/// Changes columns of a version, which `set` names with their parameters.
fn change_version(
    transaction: &Transaction<'_>,
    address: &PackageAddress,
    version: &Version,
    set: &str,
    values: &[(&'static str, &dyn ToSql)],
) -> rusqlite::Result<()> {
    let PackageTables { versions, is_package, .. } = tables_of(address);
    let sql = format!("UPDATE {versions} SET {set} WHERE {is_package} AND version = :version");
    let (of_package, version) = (AddressValues::of(address), version.to_string());
    let mut named = of_package.and(values);
    named.push((":version", &version));
    transaction.prepare_cached(&sql)?.execute(&*named).map(drop)
}

/// Changes which object a version uses.
pub(super) fn move_archive(
    transaction: &Transaction<'_>,
    address: &PackageAddress,
    version: &Version,
    object_version: Option<&str>,
) -> rusqlite::Result<()> {
    let set = "object_version = :object_version";
    let values: [(_, &dyn ToSql); 1] = [(":object_version", &object_version)];
    change_version(transaction, address, version, set, &values)
}

/// Changes the object of a version.
pub(super) fn replace_object(
    transaction: &Transaction<'_>,
    address: &PackageAddress,
    version: &Version,
    object: &StoredObject,
) -> rusqlite::Result<()> {
    let set = "object_version = :object_version, origin = :origin";
    let (object_version, origin) = (object.state.version(), object.origin());
    let values: [(_, &dyn ToSql); 2] = [(":object_version", &object_version), (":origin", &origin)];
    change_version(transaction, address, version, set, &values)
}

/// Replaces the files of a provider's version.
pub(super) fn replace_release(
    transaction: &Transaction<'_>,
    address: &PackageAddress,
    version: &Version,
    release: &Release,
) -> rusqlite::Result<()> {
    let set = "sha256 = :sha256, bytes = :bytes, release = :release";
    let values: [(_, &dyn ToSql); 3] = [
        (":sha256", &release.sha256()),
        (":bytes", &sql_number(release.bytes())),
        (":release", &release.to_text()),
    ];
    change_version(transaction, address, version, set, &values)
}

/// Changes the life of a version.
pub(super) fn change_life(
    transaction: &Transaction<'_>,
    address: &PackageAddress,
    version: &Version,
    life: &Life,
) -> rusqlite::Result<()> {
    let values: [(_, &dyn ToSql); 1] = [(":life", &life.to_text())];
    change_version(transaction, address, version, "life = :life", &values)
}

/// Returns one version as it is now.
pub(super) fn version_of(
    connection: &Connection,
    address: &PackageAddress,
    version: &Version,
) -> Result<Option<VersionRecord>, StoreError> {
    let PackageTables { versions, is_package, release, .. } = tables_of(address);
    let sql = format!(
        "SELECT sha256, format, object_version, bytes, published_by, published_at, token_id, claimed, life, search, origin, {release} FROM {versions} \
         WHERE {is_package} AND version = :version"
    );
    let (of_package, version_text) = (AddressValues::of(address), version.to_string());
    let named = of_package.and(&[(":version", &version_text)]);
    let Some(row) = rows(connection, &sql, &*named)?.pop() else { return Ok(None) };
    let read = || {
        Some(VersionRecord {
            content: Content::read(
                text(row.first())?,
                text(row.get(1))?,
                optional(row.get(2)?)?,
                optional(row.get(10)?)?,
                optional(row.get(11)?)?,
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
    let PackageTables { packages, address: columns, parameters, .. } = tables_of(address);
    let sql = format!(
        "INSERT INTO {packages} ({columns}, versions_document, latest, latest_at) VALUES ({parameters}, :document, :latest, :latest_at) \
         ON CONFLICT ({columns}) DO UPDATE SET \
         versions_document = excluded.versions_document, latest = excluded.latest, latest_at = excluded.latest_at"
    );
    let of_package = AddressValues::of(address);
    let document = package.document.to_string();
    let latest = package.latest().map(ToString::to_string).unwrap_or_default();
    let values = of_package.and(&[
        (":document", &document),
        (":latest", &latest),
        (":latest_at", &package.latest_at),
    ]);
    transaction.prepare_cached(&sql)?.execute(&*values).map(drop)
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
    let PackageTables { packages, is_package, .. } = tables_of(address);
    let sql =
        format!("SELECT versions_document, latest, latest_at FROM {packages} WHERE {is_package}");
    Ok(rows(connection, &sql, &*AddressValues::of(address).and(&[]))?.pop())
}

fn unreadable(address: &PackageAddress) -> StoreError {
    StoreError::corrupt(format!("cannot read the versions of `{address}` in the store"))
}
