//! Counted downloads, one item for each version, principal and day. The table deletes them after
//! their time.

use stile_core::package::{PackageAddress, Version};
use stile_core::principal::Principal;
use stile_core::usage::{DeprecatedDownload, DownloadKey, start_of};

use super::DynamoDb;
use super::attributes::{Row, number, read_number, read_text, text};
use super::table::{FORMAT, Key, SK, TTL, VERSION, Write};
use crate::records::usage::{KEPT_DAYS, alarm};
use crate::{AfterDownload, DownloadTotal, StoreError};

impl DynamoDb {
    /// Returns a page of the totals of a package since a day.
    pub(crate) async fn downloads(
        &self,
        address: &PackageAddress,
        since: i64,
        after: &AfterDownload,
        limit: usize,
    ) -> Result<Vec<DownloadTotal>, StoreError> {
        let mut totals: Vec<DownloadTotal> = Vec::new();
        let first = match after.version.as_str() {
            "" => String::from(FIRST),
            // `!` sorts after the space that ends a principal, and before what can follow in another.
            version if !after.principal.is_empty() => format!("{version} {}!", after.principal),
            version => format!("{version} "),
        };
        self.query_from(&partition(address), &first, |row| {
            let Some(Count { version, principal, day, count }) = row.as_ref().and_then(read) else {
                alarm();
                return false;
            };
            if day < since {
                return false;
            }
            match totals.last_mut() {
                Some(last) if last.version == version && last.principal == principal => {
                    last.downloads = last.downloads.saturating_add(count);
                    last.last_day = last.last_day.max(day);
                }
                _ => totals.push(DownloadTotal {
                    version,
                    principal,
                    downloads: count,
                    last_day: day,
                }),
            }
            // The rows of the last one are complete only when another one begins.
            totals.len() > limit
        })
        .await?;
        totals.truncate(limit);
        Ok(totals)
    }
}

/// The first sort key. A key condition may not have an empty string.
const FIRST: &str = " ";

/// The downloads of one version by one principal on one day.
#[derive(Debug, PartialEq, Eq)]
struct Count {
    version: Version,
    principal: String,
    day: i64,
    count: u64,
}

/// Returns the write that adds a count. [`read`] reads it.
pub(super) fn add(key: &DownloadKey, count: u64) -> Write {
    // The days of a version and principal are next to each other.
    let sort_key = format!("{} {} {}", key.version(), key.principal(), sort_key_of(key.day()));
    let until = start_of(key.day().saturating_add(KEPT_DAYS));
    Write::update(
        Key::new(partition(key.address()), sort_key),
        "SET #ttl = :ttl, #v = :v ADD #count :count",
    )
    .name("#ttl", TTL)
    .name("#v", VERSION)
    .name("#count", "count")
    .value(":ttl", number(until))
    .value(":v", number(FORMAT))
    .value(":count", number(count.try_into().unwrap_or(i64::MAX)))
}

/// Returns the key of a principal's latest download of a deprecated version.
pub(super) fn deprecated_key(principal: &Principal) -> Key {
    key_of_deprecated(principal.as_str())
}

fn key_of_deprecated(principal: &str) -> Key {
    Key::new(format!("deprecated {principal}"), "download")
}

/// Returns the write that records a download of a deprecated version. [`read_deprecated`] reads it.
pub(super) fn put_deprecated(key: &DownloadKey) -> Write {
    let row = [
        ("address", text(key.address().to_string())),
        ("version", text(key.version().to_string())),
        ("day", number(key.day())),
        (TTL, number(start_of(key.day().saturating_add(KEPT_DAYS)))),
    ];
    Write::put(key_of_deprecated(key.principal()), row)
}

pub(super) fn read_deprecated(row: &Row) -> Option<DeprecatedDownload> {
    Some(DeprecatedDownload {
        address: PackageAddress::parse(read_text(row, "address")?)?,
        version: Version::parse(read_text(row, "version")?).ok()?,
        day: read_number(row, "day")?,
    })
}

fn partition(address: &PackageAddress) -> String {
    format!("downloads {} {address}", address.kind())
}

/// Returns the day in a form that sorts by time, until the year 4700.
fn sort_key_of(day: i64) -> String {
    format!("{:06}", day.clamp(0, 999_999))
}

fn read(row: &Row) -> Option<Count> {
    let (rest, day) = read_text(row, SK)?.rsplit_once(' ')?;
    let (version, principal) = rest.split_once(' ')?;
    Some(Count {
        version: Version::parse(version).ok()?,
        principal: principal.to_owned(),
        day: day.parse().ok()?,
        count: read_number(row, "count")?.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read_from_its_item_and_a_malformed_item_is_an_error() {
        let row = |key: &str, count| -> Row {
            [(SK.to_owned(), text(key)), ("count".to_owned(), count)].into()
        };
        let good = row("1.0.0 aws:111122223333:role/deploy 020777", number(7));
        let expected = Count {
            version: Version::parse("1.0.0").unwrap(),
            principal: "aws:111122223333:role/deploy".to_owned(),
            day: 20_777,
            count: 7,
        };
        assert_eq!(read(&good), Some(expected));
        for bad in [
            row("1.0.0 020777", number(7)),
            row("1.0.0 other x", number(7)),
            row("1.0 other 020777", number(7)),
            row("1.0.0 other 020777", number(-7)),
            row("1.0.0 other 020777", text("7")),
        ] {
            assert_eq!(read(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sort_keys_are_in_the_order_of_days() {
        let keys: Vec<_> = [-5, 0, 9, 20_777, 100_000, i64::MAX].map(sort_key_of).into();
        assert!(keys.is_sorted() && keys.iter().all(|key| key.len() == 6), "{keys:?}");
    }
}
