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
use crate::records::signing_keys::StoredKeys;
use crate::records::waiting_file::{WaitingBytes, WaitingFile, WaitingKey};

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

    /// Returns the files that wait for a version of this namespace until later than `now`, with their
    /// sizes, without those that their version has.
    pub(crate) async fn waiting_bytes(
        &self,
        namespace: &Namespace,
        now: i64,
    ) -> Result<Vec<WaitingBytes>, StoreError> {
        let namespace = namespace.clone();
        self.read(move |connection| {
            // The character after `/` is `0`, so the range has every address in the namespace.
            let sql = "SELECT address, version, platform, sha256, \
                       record ->> '$.verified.bytes' AS bytes FROM provider_files AS waiting \
                       WHERE address >= ?1 || '/' AND address < ?1 || '0' AND keep_until > ?2 \
                       AND bytes IS NOT NULL AND NOT EXISTS ( \
                       SELECT 1 FROM provider_versions AS published, \
                       json_each(published.release, '$.files') AS file \
                       WHERE published.namespace = ?1 \
                       AND published.type = substr(waiting.address, length(?1) + 2) \
                       AND published.version = waiting.version AND file.key = waiting.platform \
                       AND file.value ->> '$.sha256' = waiting.sha256)";
            let found = rows(connection, sql, params![namespace.as_str(), now])?;
            let read = |row: &Vec<Value>| {
                Some(WaitingBytes {
                    address: text(row.first())?.to_owned(),
                    version: text(row.get(1))?.to_owned(),
                    key: WaitingKey {
                        platform: text(row.get(2))?.parse().ok()?,
                        sha256: text(row.get(3))?.to_owned(),
                    },
                    bytes: u64::try_from(number(row.get(4))?).ok()?,
                })
            };
            let unreadable = || StoreError::corrupt("cannot read a waiting file in the database");
            found.iter().map(read).collect::<Option<_>>().ok_or_else(unreadable)
        })
        .await
    }

    /// Returns whether a verified file stopped to wait before that time.
    pub(crate) async fn has_ended_waiting(&self, before: i64) -> Result<bool, StoreError> {
        self.read(move |connection| {
            let sql = format!("SELECT 1 FROM provider_files WHERE {ENDED} LIMIT 1");
            Ok(!rows(connection, &sql, [before])?.is_empty())
        })
        .await
    }

    /// Forgets the verified files that stopped to wait before that time. Returns the SHA-256 of each.
    pub(crate) async fn forget_waiting(&self, before: i64) -> Result<Vec<String>, StoreError> {
        self.write(move |transaction| {
            let sql = format!("DELETE FROM provider_files WHERE {ENDED} RETURNING sha256");
            let found = rows(transaction, &sql, [before])?;
            Ok(found.iter().filter_map(|row| text(row.first()).map(str::to_owned)).collect())
        })
        .await
    }
}

/// The condition for the records of verified files that stopped to wait before a time. Others have no
/// file.
const ENDED: &str = "keep_until < ?1 AND record ->> '$.verified.bytes' IS NOT NULL";

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
        // The record of a verified file says what the file is, so the sweep forgets it with the file.
        .prepare_cached(
            "DELETE FROM provider_files \
             WHERE keep_until < ?1 AND record ->> '$.verified.bytes' IS NULL",
        )?
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
