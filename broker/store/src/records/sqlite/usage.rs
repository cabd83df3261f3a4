//! Counted downloads, one row for each version, principal and day.

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params};
use stile_core::package::{PackageAddress, Version};
use stile_core::principal::Principal;
use stile_core::usage::{DeprecatedDownload, DownloadKey};

use super::{Sqlite, number, rows, sql_number, text};
use crate::{DownloadCount, StoreError};

impl Sqlite {
    /// Returns the counts of a package since a day.
    pub(crate) async fn downloads(
        &self,
        address: &PackageAddress,
        since: i64,
    ) -> Result<Vec<DownloadCount>, StoreError> {
        let address = address.clone();
        self.read(move |connection| {
            let sql = "SELECT version, principal, day, count FROM downloads WHERE address = ?1 AND day >= ?2";
            let found = rows(connection, sql, params![address.to_string(), since])?;
            let unreadable = || {
                StoreError::corrupt(format!("cannot read the downloads of `{address}` in the store"))
            };
            found.iter().map(|row| read(row)).collect::<Option<_>>().ok_or_else(unreadable)
        })
        .await
    }
}

/// Adds counts and downloads of deprecated versions, and deletes counts of days before
/// `forget_before`.
pub(super) fn add(
    transaction: &Transaction<'_>,
    counts: &[(DownloadKey, u64)],
    deprecated: &[DownloadKey],
    forget_before: i64,
) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM downloads WHERE day < ?1")?.execute([forget_before])?;
    let mut add = transaction.prepare_cached(
        "INSERT INTO downloads (address, version, principal, day, count) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (address, version, principal, day) DO UPDATE SET count = count + excluded.count",
    )?;
    for (key, count) in counts {
        add.execute(params![
            key.address().to_string(),
            key.version().to_string(),
            key.principal(),
            key.day(),
            sql_number(*count),
        ])?;
    }
    let mut put = transaction.prepare_cached(
        "INSERT OR REPLACE INTO deprecated_downloads (principal, address, version, day) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for key in deprecated {
        put.execute(params![
            key.principal(),
            key.address().to_string(),
            key.version().to_string(),
            key.day(),
        ])?;
    }
    Ok(())
}

/// Returns the latest download of a deprecated version by a principal.
pub(super) fn deprecated_download(
    connection: &Connection,
    principal: &Principal,
) -> Result<Option<DeprecatedDownload>, StoreError> {
    let sql = "SELECT address, version, day FROM deprecated_downloads WHERE principal = ?1";
    let row = rows(connection, sql, [principal.as_str()])?.pop();
    Ok(row.and_then(|row| {
        Some(DeprecatedDownload {
            address: PackageAddress::Module(text(row.first())?.parse().ok()?),
            version: Version::parse(text(row.get(1))?).ok()?,
            day: number(row.get(2))?,
        })
    }))
}

fn read(row: &[Value]) -> Option<DownloadCount> {
    Some(DownloadCount {
        version: Version::parse(text(row.first())?).ok()?,
        principal: text(row.get(1))?.to_owned(),
        day: number(row.get(2))?,
        count: number(row.get(3))?.try_into().ok()?,
    })
}
