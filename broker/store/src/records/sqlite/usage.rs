//! Counted downloads, one row for each version, principal and day.

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params};
use stile_core::package::{PackageAddress, Version};
use stile_core::principal::Principal;
use stile_core::usage::{DeprecatedDownload, DownloadKey};

use super::{Sqlite, number, rows, sql_number, text};
use crate::records::usage::alarm;
use crate::{AfterDownload, DownloadTotal, StoreError};

impl Sqlite {
    /// Returns a page of the totals of a package since a day.
    pub(crate) async fn downloads(
        &self,
        address: &PackageAddress,
        since: i64,
        after: &AfterDownload,
        limit: usize,
    ) -> Result<Vec<DownloadTotal>, StoreError> {
        let (address, after) = (address.clone(), after.clone());
        self.read(move |connection| {
            // In the order of the primary key, so that the limit also ends the read.
            let sql = "SELECT version, principal, sum(count), max(day) FROM downloads \
                       WHERE address = ?1 AND (version, principal) > (?2, ?3) AND day >= ?4 \
                       GROUP BY version, principal ORDER BY version, principal LIMIT ?5";
            let values = params![
                address.to_string(),
                after.version,
                after.principal,
                since,
                sql_number(limit)
            ];
            let mut totals = Vec::new();
            for row in rows(connection, sql, values)? {
                match read(&row) {
                    Some(total) => totals.push(total),
                    None => alarm(),
                }
            }
            Ok(totals)
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
        "INSERT INTO deprecated_downloads (principal, address, version, day) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (principal) DO UPDATE SET address = excluded.address, version = excluded.version, day = excluded.day \
         WHERE excluded.day >= day",
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
            address: PackageAddress::parse(text(row.first())?)?,
            version: Version::parse(text(row.get(1))?).ok()?,
            day: number(row.get(2))?,
        })
    }))
}

fn read(row: &[Value]) -> Option<DownloadTotal> {
    Some(DownloadTotal {
        version: Version::parse(text(row.first())?).ok()?,
        principal: text(row.get(1))?.to_owned(),
        downloads: number(row.get(2))?.try_into().ok()?,
        last_day: number(row.get(3))?,
    })
}
