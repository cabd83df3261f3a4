//! The items of which a registry has one: its host, its sealed keyring, and the lease on files of
//! grants.
//!
//! A broker never writes the host. The creator of the table writes it once, and no request can
//! change it.

use stile_protocol::audience::Audience;

use super::DynamoDb;
use super::attributes::{Row, bytes, number, read_bytes, read_number, read_text, text};
use super::table::{Key, Write};
use crate::StoreError;
use crate::records::model::{KeyringAndHost, LeaseRecord, SealedKeyring};
use crate::records::sealed_keyring;

/// The only attribute of the host's item.
const HOST: &str = "host";

impl DynamoDb {
    /// Returns the registry that the records are for. `None` if none is recorded.
    pub(crate) async fn host(&self) -> Result<Option<Audience>, StoreError> {
        self.read_host(self.row(&host_key()).await?.as_ref())
    }

    /// Returns the sealed keyring, and the registry that the records are for, which not every
    /// caller needs.
    pub(crate) async fn sealed_keyring(&self) -> Result<KeyringAndHost, StoreError> {
        let (keyring, host) = (keyring_key(), host_key());
        let found = self.rows(&[keyring.clone(), host.clone()]).await?;
        Ok((read_keyring(found.get(&keyring))?, self.read_host(found.get(&host))))
    }

    /// Returns the lease on files of grants.
    pub(crate) async fn grant_lease(&self) -> Result<LeaseRecord, StoreError> {
        let Some(row) = self.row(&lease_key()).await? else { return Ok(LeaseRecord::default()) };
        let read = || {
            Some(LeaseRecord {
                revision: read_number(&row, "revision")?,
                holder: match row.get("holder") {
                    None => None,
                    Some(_) => Some(read_text(&row, "holder")?.to_owned()),
                },
            })
        };
        read().ok_or_else(|| {
            StoreError::corrupt("cannot read the lease on files of grants in the table")
        })
    }

    /// Reads the host from its item. An unreadable item is an error. Otherwise, only a flag would
    /// decide which registry this is.
    fn read_host(&self, row: Option<&Row>) -> Result<Option<Audience>, StoreError> {
        let Some(row) = row else { return Ok(None) };
        let table = &self.table;
        let typed = read_text(row, HOST).ok_or_else(|| {
            StoreError::corrupt(format!(
                "cannot read the host in table `{table}`: the row has no text `{HOST}`"
            ))
        })?;
        Audience::parse(typed).map(Some).map_err(|error| {
            StoreError::corrupt(format!("the host in table `{table}` is not a valid registry host"))
                .caused_by(error)
        })
    }
}

/// Returns the write of the host.
pub(super) fn add_host(host: &Audience) -> Write {
    Write::put(host_key(), [(HOST, text(host.as_str()))]).only_if_absent()
}

/// Returns the write of the keyring.
pub(super) fn put_keyring(before: i64, keyring: &SealedKeyring) -> Write {
    let blob = keyring.blob.as_ref().map(|blob| ("blob", bytes(blob.as_slice())));
    let clear = [
        ("revision", number(keyring.revision)),
        ("audience", text(keyring.audience.as_str())),
        ("keys", text(sealed_keyring::keys_to_text(&keyring.keys))),
    ];
    Write::put(keyring_key(), clear.into_iter().chain(blob)).only_if_revision(before)
}

/// Returns the write of the lease on files of grants.
///
/// It never deletes the item. If its revision started again, a delayed writer could mistake it for
/// the old one.
pub(super) fn put_grant_lease(before: i64, lease: &LeaseRecord) -> Write {
    let holder = lease.holder.as_ref().map(|holder| ("holder", text(holder.as_str())));
    let fields = [("revision", number(lease.revision))];
    Write::put(lease_key(), fields.into_iter().chain(holder)).only_if_revision(before)
}

fn lease_key() -> Key {
    Key::new("grant lease", "lease")
}

/// Returns the key of the keyring's item.
pub(super) fn keyring_key() -> Key {
    Key::new("keyring", "keyring")
}

fn host_key() -> Key {
    Key::new("host", "host")
}

/// Reads the keyring from its item.
pub(super) fn read_keyring(row: Option<&Row>) -> Result<Option<SealedKeyring>, StoreError> {
    let Some(row) = row else { return Ok(None) };
    let read = || {
        Some(SealedKeyring {
            revision: read_number(row, "revision")?,
            audience: read_text(row, "audience")?.to_owned(),
            keys: sealed_keyring::keys_from_text(read_text(row, "keys")?)?,
            blob: read_bytes(row, "blob").map(<[u8]>::to_vec),
        })
    };
    read().map(Some).ok_or_else(|| StoreError::corrupt("cannot read the keyring in the table"))
}
