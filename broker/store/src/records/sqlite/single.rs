//! The records of which a registry has one, as rows with a name: its host, its sealed keyring, and
//! the lease on files of grants.

use rusqlite::{Connection, OptionalExtension};
use serde_json::{Value, json};
use stile_protocol::audience::Audience;

use super::{Sqlite, database_error};
use crate::StoreError;
use crate::records::model::{KeyringAndHost, LeaseRecord, SealedKeyring};
use crate::records::sealed_keyring;

/// The name of the host's row.
pub(super) const HOST: &str = "host";

/// The name of the keyring's row.
pub(super) const KEYRING: &str = "keyring";

/// The name of the row of the lease on files of grants.
pub(super) const GRANT_LEASE: &str = "grant_lease";

impl Sqlite {
    /// Returns the registry that the records are for. `None` if none is recorded.
    pub(crate) async fn host(&self) -> Result<Option<Audience>, StoreError> {
        self.read(host).await
    }

    /// Returns the sealed keyring, and the registry that the records are for, which not every
    /// caller needs.
    pub(crate) async fn sealed_keyring(&self) -> Result<KeyringAndHost, StoreError> {
        self.read(|connection| Ok((keyring(connection)?, host(connection)))).await
    }

    /// Returns the lease on files of grants.
    pub(crate) async fn grant_lease(&self) -> Result<LeaseRecord, StoreError> {
        self.read(grant_lease).await
    }
}

/// Returns the lease on files of grants as it is now.
pub(super) fn grant_lease(connection: &Connection) -> Result<LeaseRecord, StoreError> {
    let Some((revision, text)) = record(connection, GRANT_LEASE)? else {
        return Ok(LeaseRecord::default());
    };
    let read = || {
        let fields: Value = serde_json::from_str(&text).ok()?;
        Some(LeaseRecord {
            revision,
            holder: match fields.get("holder")? {
                Value::Null => None,
                holder => Some(holder.as_str()?.to_owned()),
            },
        })
    };
    read().ok_or_else(|| {
        StoreError::corrupt("cannot read the lease on files of grants in the database")
    })
}

/// Returns the text of the row of the lease. [`grant_lease`] reads it.
pub(super) fn lease_to_text(lease: &LeaseRecord) -> String {
    json!({ "holder": lease.holder }).to_string()
}

/// Returns the sealed keyring as it is now.
pub(super) fn keyring(connection: &Connection) -> Result<Option<SealedKeyring>, StoreError> {
    let unreadable = || StoreError::corrupt("cannot read the keyring in the database");
    let Some((revision, text)) = record(connection, KEYRING)? else { return Ok(None) };
    sealed_keyring::from_text(revision, &text).ok_or_else(unreadable).map(Some)
}

/// Returns the host as it is now.
pub(super) fn host(connection: &Connection) -> Result<Option<Audience>, StoreError> {
    let Some((_, text)) = record(connection, HOST)? else { return Ok(None) };
    Audience::parse(&text).map(Some).map_err(|error| {
        StoreError::corrupt("the host in the database is not a valid registry host")
            .caused_by(error)
    })
}

fn record(connection: &Connection, name: &str) -> Result<Option<(i64, String)>, StoreError> {
    connection
        .prepare_cached("SELECT revision, record FROM registry_records WHERE name = ?1")
        .and_then(|mut statement| {
            statement.query_row([name], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .map_err(database_error)
}
