//! What only providers have, as rows: the signing keys of namespaces, and files that wait for their
//! version.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use stile_core::package::provider::NamespaceKeys;
use stile_core::package::{PackageAddress, Version};
use stile_protocol::names::Namespace;

use super::packages::version_of;
use super::{Sqlite, database_error, number, rows, text};
use crate::StoreError;
use crate::records::model::{Revision, VersionRecord};
use crate::records::provider_files::{WaitingFile, WaitingKey};
use crate::records::signing_keys::StoredKeys;

impl Sqlite {
    /// Returns the signing keys of a namespace.
    pub(crate) async fn signing_keys(
        &self,
        namespace: &Namespace,
    ) -> Result<StoredKeys, StoreError> {
        let namespace = namespace.clone();
        self.read(move |connection| keys_of(connection, &namespace)).await
    }

    /// Returns one version, and the signing keys of its namespace, of one moment.
    pub(crate) async fn version_and_keys(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<(Option<VersionRecord>, StoredKeys), StoreError> {
        let (address, version) = (address.clone(), version.clone());
        self.read(move |connection| {
            let snapshot = connection.unchecked_transaction().map_err(database_error)?;
            let keys = keys_of(&snapshot, address.namespace())?;
            Ok((version_of(&snapshot, &address, &version)?, keys))
        })
        .await
    }

    /// Returns the files that wait for a version.
    pub(crate) async fn waiting_files(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<Vec<(WaitingKey, WaitingFile)>, StoreError> {
        let (address, version) = (address.to_string(), version.to_string());
        self.read(move |connection| {
            let sql = "SELECT platform, sha256, revision, record, keep_until FROM provider_files \
                       WHERE address = ?1 AND version = ?2";
            let found = rows(connection, sql, [&address, &version])?;
            let read = |row: &Vec<Value>| {
                let key = WaitingKey {
                    platform: text(row.first())?.parse().ok()?,
                    sha256: text(row.get(1))?.to_owned(),
                };
                let revision = Revision(number(row.get(2))?);
                Some((key, WaitingFile::read(revision, text(row.get(3))?, number(row.get(4))?)?))
            };
            let unreadable = || StoreError::corrupt("cannot read a waiting file in the database");
            found.iter().map(read).collect::<Option<_>>().ok_or_else(unreadable)
        })
        .await
    }
}

/// Returns the signing keys of a namespace as they are now.
pub(super) fn keys_of(
    connection: &Connection,
    namespace: &Namespace,
) -> Result<StoredKeys, StoreError> {
    let sql = "SELECT revision, record FROM signing_keys WHERE namespace = ?1";
    let Some(row) = rows(connection, sql, [namespace.as_str()])?.pop() else {
        return Ok(StoredKeys::default());
    };
    let read = || {
        let revision = Revision(number(row.first())?);
        Some(StoredKeys { revision, keys: NamespaceKeys::read(text(row.get(1))?)? })
    };
    read().ok_or_else(|| {
        StoreError::corrupt(format!(
            "cannot read the signing keys of `{namespace}` in the database"
        ))
    })
}

/// Replaces the signing keys of a namespace.
pub(super) fn put_keys(
    transaction: &Transaction<'_>,
    namespace: &Namespace,
    before: Revision,
    keys: &NamespaceKeys,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO signing_keys (namespace, revision, record) VALUES (?1, ?2, ?3) \
             ON CONFLICT (namespace) DO UPDATE SET revision = excluded.revision, record = excluded.record",
        )?
        .execute(params![namespace.as_str(), before.0.saturating_add(1), keys.to_text()])
        .map(drop)
}

/// Returns the current revision of a waiting file.
pub(super) fn waiting_revision(
    transaction: &Transaction<'_>,
    address: &PackageAddress,
    version: &Version,
    key: &WaitingKey,
) -> rusqlite::Result<Revision> {
    let sql = "SELECT revision FROM provider_files \
               WHERE address = ?1 AND version = ?2 AND platform = ?3 AND sha256 = ?4";
    let (address, version) = (address.to_string(), version.to_string());
    let parts = params![address, version, key.platform.to_string(), key.sha256];
    let mut statement = transaction.prepare_cached(sql)?;
    let found: Option<i64> = statement.query_row(parts, |row| row.get(0)).optional()?;
    Ok(found.map_or_else(Revision::default, Revision))
}

/// Adds or replaces a waiting file, and forgets old ones.
pub(super) fn put_waiting(
    transaction: &Transaction<'_>,
    (address, version, key): (&PackageAddress, &Version, &WaitingKey),
    before: Revision,
    after: &WaitingFile,
    forget_before: i64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM provider_files WHERE keep_until < ?1")?
        .execute([forget_before])?;
    transaction
        .prepare_cached(
            "INSERT INTO provider_files (address, version, platform, sha256, revision, record, keep_until) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             ON CONFLICT (address, version, platform, sha256) DO UPDATE SET \
             revision = excluded.revision, record = excluded.record, keep_until = excluded.keep_until",
        )?
        .execute(params![
            address.to_string(),
            version.to_string(),
            key.platform.to_string(),
            key.sha256,
            before.0.saturating_add(1),
            after.to_text(),
            after.keep_until,
        ])
        .map(drop)
}
