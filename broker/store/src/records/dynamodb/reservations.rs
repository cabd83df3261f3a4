//! Versions that are about to be published, one item for each.
//!
//! A publisher reserves the version before it stores an archive, so one that would lose the race
//! stores nothing. The item also names the object versions that an operator deletes. The commit of a
//! publisher requires that its object is not among them, whatever the clocks say.

use stile_core::package::{PackageAddress, Version};

use super::DynamoDb;
use super::attributes::{number, text, texts};
use super::packages::partition;
use super::table::{FORMAT, Key, TTL, Write};
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
        let reserve = || {
            keep(address, version, "SET holder = :holder, reserved_until = :until", until)
                .only_if(
                    "attribute_not_exists(holder) OR holder = :holder OR reserved_until < :now",
                )
                .value(":holder", text(holder))
                .value(":until", number(until))
                .value(":now", number(now))
        };
        Ok(self.write(reserve).await? == Outcome::Done)
    }

    /// Ends the reservation of this holder, if it still has it.
    pub(crate) async fn release(
        &self,
        address: &PackageAddress,
        version: &Version,
        holder: &str,
    ) -> Result<(), StoreError> {
        self.write(|| {
            ended(address, version).only_if("holder = :holder").value(":holder", text(holder))
        })
        .await
        .map(drop)
    }

    /// Records that an object version of an archive is about to be deleted. From then on, no version
    /// can use it.
    pub(crate) async fn exclude_object(
        &self,
        address: &PackageAddress,
        version: &Version,
        object_version: &str,
        now: i64,
    ) -> Result<(), StoreError> {
        let exclude = || {
            keep(address, version, "ADD gone :gone", now).value(":gone", texts([object_version]))
        };
        self.write(exclude).await.map(drop)
    }

    async fn write(&self, write: impl Fn() -> Write) -> Result<Outcome, StoreError> {
        let mut retry = Retry::default();
        loop {
            match self.transact(vec![write()]).await? {
                Outcome::Conflict => retry.wait().await?,
                outcome => return Ok(outcome),
            }
        }
    }
}

fn key(address: &PackageAddress, version: &Version) -> Key {
    Key::new(partition(address), format!("reserved {version}"))
}

/// Returns an update that keeps every other attribute, and the item until a day after that time.
fn keep(address: &PackageAddress, version: &Version, expression: &str, until: i64) -> Write {
    let set = if expression.starts_with("SET ") {
        format!("{expression}, #ttl = :ttl, v = :v")
    } else {
        format!("SET #ttl = :ttl, v = :v {expression}")
    };
    Write::update(key(address, version), set)
        .name("#ttl", TTL)
        .value(":ttl", number(until.saturating_add(MARGIN)))
        .value(":v", number(FORMAT))
}

fn ended(address: &PackageAddress, version: &Version) -> Write {
    Write::update(key(address, version), "SET reserved_until = :ended").value(":ended", number(0))
}

/// Returns the write that ends a reservation, if it is still that of this holder, and if nobody
/// deletes this object version.
///
/// It is in the commit of what the holder reserved the version for. So a holder that was slow cannot
/// make a version use an archive that was deleted meanwhile.
pub(super) fn end(
    address: &PackageAddress,
    version: &Version,
    holder: &str,
    object_version: Option<&str>,
) -> Write {
    let end = ended(address, version).value(":holder", text(holder));
    match object_version {
        None => end.only_if("holder = :holder"),
        Some(object_version) => end
            .only_if("holder = :holder AND (attribute_not_exists(gone) OR NOT contains(gone, :object_version))")
            .value(":object_version", text(object_version)),
    }
}

/// Returns the write that changes nothing, and takes place only if nobody deletes this object version.
pub(super) fn not_gone(address: &PackageAddress, version: &Version, object_version: &str) -> Write {
    Write::check(key(address, version))
        .only_if("attribute_not_exists(gone) OR NOT contains(gone, :object_version)")
        .value(":object_version", text(object_version))
}
