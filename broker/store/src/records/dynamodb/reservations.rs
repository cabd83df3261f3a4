//! Versions that are about to be published, one item for each.
//!
//! A publisher reserves the version before it stores an archive, so one that would lose the race
//! stores nothing. An operator who deletes archives that no version names does the same, and never deletes
//! the archive of a publish that is in progress.

use stile_core::package::{PackageAddress, Version};

use super::DynamoDb;
use super::attributes::{number, text};
use super::packages::partition;
use super::table::{Key, TTL, Write};
use crate::StoreError;
use crate::records::mutation::Outcome;
use crate::records::retention::MARGIN;
use crate::retry::Retry;

impl DynamoDb {
    /// Reserves a version until that time, unless another holder has it reserved. Returns whether it
    /// did.
    ///
    /// Publishers of the same content are one holder: the digest of the content. A holder that takes
    /// longer loses the reservation to the next one, and then its commit is refused: [`end`].
    pub(crate) async fn reserve(
        &self,
        address: &PackageAddress,
        version: &Version,
        holder: &str,
        now: i64,
        until: i64,
    ) -> Result<bool, StoreError> {
        let mut retry = Retry::default();
        loop {
            let reserve = reserve(address, version, holder, now, until);
            match self.transact(vec![reserve]).await? {
                Outcome::Conflict => retry.wait().await?,
                outcome => return Ok(outcome == Outcome::Done),
            }
        }
    }
}

fn key(address: &PackageAddress, version: &Version) -> Key {
    Key::new(partition(address), format!("reserved {version}"))
}

fn reserve(
    address: &PackageAddress,
    version: &Version,
    holder: &str,
    now: i64,
    until: i64,
) -> Write {
    let row = [
        ("holder", text(holder)),
        ("reserved_until", number(until)),
        (TTL, number(until.saturating_add(MARGIN))),
    ];
    Write::put(key(address, version), row)
        .only_if("attribute_not_exists(pk) OR holder = :holder OR reserved_until < :now")
        .value(":holder", text(holder))
        .value(":now", number(now))
}

/// Returns the write that ends a reservation, if it is still that of this holder.
///
/// It is in the commit of what the holder reserved the version for. So a holder that was slow cannot
/// make a version use an archive that was deleted meanwhile.
pub(super) fn end(address: &PackageAddress, version: &Version, holder: &str) -> Write {
    Write::update(key(address, version), "SET reserved_until = :ended")
        .only_if("holder = :holder")
        .value(":holder", text(holder))
        .value(":ended", number(0))
}
