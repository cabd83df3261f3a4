//! What only providers have: one item with the signing keys of each namespace, and one for each file
//! that waits for its version. The table deletes those after their time.

use stile_core::package::provider::NamespaceKeys;
use stile_core::package::{PackageAddress, Version};
use stile_protocol::names::Namespace;

use super::attributes::{Row, bytes, number, read_bytes, read_number, read_text, text};
use super::packages::{read_version, unreadable_version, version_key};
use super::table::{Key, SK, TTL, Write};
use super::{DynamoDb, compression, reservations};
use crate::StoreError;
use crate::records::model::{Revision, VersionRecord};
use crate::records::retention::MARGIN;
use crate::records::signing_keys::StoredKeys;
use crate::records::waiting_file::{WaitingFile, WaitingKey, WaitingState};

impl DynamoDb {
    /// Returns the signing keys of a namespace.
    pub(crate) async fn signing_keys(
        &self,
        namespace: &Namespace,
    ) -> Result<StoredKeys, StoreError> {
        read_keys(namespace, self.row(&keys_key(namespace)).await?.as_ref())
    }

    /// Returns one version, and the signing keys of its namespace, in one read.
    pub(crate) async fn version_and_keys(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<(Option<VersionRecord>, StoredKeys), StoreError> {
        let keys = [version_key(address, version), keys_key(address.namespace())];
        let found = self.rows(&keys).await?;
        let [of_version, of_keys] = &keys;
        let keys = read_keys(address.namespace(), found.get(of_keys))?;
        let Some(row) = found.get(of_version) else { return Ok((None, keys)) };
        let published = read_version(row).ok_or_else(|| unreadable_version(address, version))?;
        Ok((Some(published), keys))
    }

    /// Returns the files that wait for a version.
    pub(crate) async fn waiting_files(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<Vec<(WaitingKey, WaitingFile)>, StoreError> {
        let mut found = Some(Vec::new());
        self.query(&waiting_partition(address, version), "", |row| {
            match (row.as_ref().and_then(read_waiting), &mut found) {
                (Some(file), Some(found)) => found.push(file),
                _ => found = None,
            }
            found.is_none()
        })
        .await?;
        let unreadable = || {
            StoreError::corrupt(format!(
                "cannot read the files that wait for `{address}` {version}"
            ))
        };
        found.ok_or_else(unreadable)
    }
}

fn keys_key(namespace: &Namespace) -> Key {
    Key::new(format!("signing keys {namespace}"), "keys")
}

/// Returns the write that replaces the signing keys of a namespace. `None` if they would not fit.
pub(super) fn put_keys(
    namespace: &Namespace,
    before: Revision,
    keys: &NamespaceKeys,
) -> Option<Write> {
    let compressed = compression::compress(keys.to_text().as_bytes())?;
    let row = [("revision", number(before.0.saturating_add(1))), ("keys", bytes(compressed))];
    Some(Write::put(keys_key(namespace), row).only_if_revision(before.0))
}

/// Returns the write that changes nothing, and takes place only if the signing keys are as they were
/// read.
pub(super) fn keep_keys(namespace: &Namespace, before: Revision) -> Write {
    Write::check(keys_key(namespace)).only_if_revision(before.0)
}

fn read_keys(namespace: &Namespace, row: Option<&Row>) -> Result<StoredKeys, StoreError> {
    let Some(row) = row else { return Ok(StoredKeys::default()) };
    let read = || {
        let text = compression::decompress(read_bytes(row, "keys")?)?;
        Some(StoredKeys {
            revision: Revision(read_number(row, "revision")?),
            keys: NamespaceKeys::read(std::str::from_utf8(&text).ok()?)?,
        })
    };
    read().ok_or_else(|| {
        StoreError::corrupt(format!("cannot read the signing keys of `{namespace}` in the table"))
    })
}

fn waiting_partition(address: &PackageAddress, version: &Version) -> String {
    format!("waiting {} {address} {version}", address.kind())
}

/// Returns the writes that add or replace a waiting file. [`read_waiting`] reads it.
///
/// A file counts as verified only if nobody deletes its object.
pub(super) fn put_waiting(
    (address, version, key): (&PackageAddress, &Version, &WaitingKey),
    before: Revision,
    after: &WaitingFile,
) -> Vec<Write> {
    let row = [
        ("revision", number(before.0.saturating_add(1))),
        ("record", text(after.to_text())),
        ("keep_until", number(after.keep_until)),
        (TTL, number(after.keep_until.saturating_add(MARGIN))),
    ];
    let sort_key = format!("{} {}", key.platform, key.sha256);
    let put = Write::put(Key::new(waiting_partition(address, version), sort_key), row);
    let object_version = match &after.state {
        WaitingState::Verified(file) => file.object_version.as_deref(),
        WaitingState::Verifying(_) | WaitingState::Refused { .. } => None,
    };
    let not_gone = object_version.map(|id| reservations::not_gone(address, version, id));
    std::iter::once(put.only_if_revision(before.0)).chain(not_gone).collect()
}

fn read_waiting(row: &Row) -> Option<(WaitingKey, WaitingFile)> {
    let (platform, sha256) = read_text(row, SK)?.split_once(' ')?;
    let key = WaitingKey { platform: platform.parse().ok()?, sha256: sha256.to_owned() };
    let revision = Revision(read_number(row, "revision")?);
    let file =
        WaitingFile::read(revision, read_text(row, "record")?, read_number(row, "keep_until")?)?;
    Some((key, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_file_is_read_from_its_item_and_a_malformed_item_is_an_error() {
        let address = PackageAddress::parse("acme/dns").unwrap();
        let version = Version::parse("1.0.0").unwrap();
        let key = WaitingKey { platform: "linux_amd64".parse().unwrap(), sha256: "ab".repeat(32) };
        let after =
            WaitingFile { revision: Revision(5), state: WaitingState::Verifying(7), keep_until: 9 };
        let writes = put_waiting((&address, &version, &key), Revision(4), &after);
        let [write] = writes.as_slice() else { panic!("{writes:?}") };
        let row = write.row().unwrap();
        assert_eq!(read_waiting(row), Some((key, after)));
        for name in [SK, "revision", "record", "keep_until"] {
            let mut bad = row.clone();
            bad.insert(name.to_owned(), text("x"));
            assert_eq!(read_waiting(&bad), None, "{name}");
        }
    }
}
