//! The records of which a registry has one, as rows with a name: its host, and its sealed keyring.

use rusqlite::{Connection, OptionalExtension};
use stile_protocol::audience::Audience;

use super::{Sqlite, database_error};
use crate::StoreError;
use crate::records::model::{KeyringAndHost, SealedKeyring};
use crate::records::sealed_keyring;

/// The name of the host's row.
pub(super) const HOST: &str = "host";

/// The name of the keyring's row.
pub(super) const KEYRING: &str = "keyring";

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
