//! Uploads that clients began, as rows.

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, named_params};
use serde_json::Map;
use stile_core::package::{Claimed, UploadId};
use stile_protocol::names::Namespace;

use super::namespaces::quota_of;
use super::{Sqlite, database_error, number, revision, rows, sql_number, text};
use crate::StoreError;
use crate::records::model::{AnnouncedUpload, OpenUpload, OpenUploads, Quota, UploadRecord};

impl Sqlite {
    /// Returns an upload that a client began.
    pub(crate) async fn upload(&self, id: &UploadId) -> Result<Option<UploadRecord>, StoreError> {
        let id = id.clone();
        self.read(move |connection| {
            let sql = "SELECT principal, address, version, format, bytes, sha256, complete_until, claimed, release FROM uploads WHERE id = ?1";
            let Some(row) = rows(connection, sql, [id.as_str()])?.pop() else { return Ok(None) };
            let unreadable = || StoreError::corrupt("cannot read an upload in the database");
            read(&id, &row).map(Some).ok_or_else(unreadable)
        })
        .await
    }

    /// Returns the open uploads to a namespace, and its quota.
    pub(crate) async fn open_uploads(
        &self,
        namespace: &Namespace,
    ) -> Result<(OpenUploads, Option<Quota>), StoreError> {
        let namespace = namespace.clone();
        self.read(move |connection| {
            let snapshot = connection.unchecked_transaction().map_err(database_error)?;
            Ok((open(&snapshot, &namespace)?, quota_of(&snapshot, &namespace)?))
        })
        .await
    }
}

/// Returns the open uploads to a namespace, also those whose time has passed.
pub(super) fn open(
    connection: &Connection,
    namespace: &Namespace,
) -> Result<OpenUploads, StoreError> {
    // The character after `/` is `0`, so the range has every address in the namespace.
    let sql = "SELECT id, principal, complete_until FROM uploads \
               WHERE address >= ?1 || '/' AND address < ?1 || '0' ORDER BY id";
    let found = rows(connection, sql, [namespace.as_str()])?;
    let read = |row: &Vec<Value>| {
        Some(OpenUpload {
            id: UploadId::parse(text(row.first())?)?,
            principal: text(row.get(1))?.to_owned(),
            complete_until: number(row.get(2))?,
        })
    };
    let uploads = found.iter().map(read).collect::<Option<_>>();
    let unreadable = || StoreError::corrupt("cannot read an upload in the database");
    Ok(OpenUploads {
        revision: revision(&found),
        uploads: uploads.ok_or_else(unreadable)?,
        unknown: Map::new(),
    })
}

/// Adds an upload. [`read`] reads it.
pub(super) fn add(transaction: &Transaction<'_>, upload: &UploadRecord) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO uploads (id, principal, address, version, format, bytes, sha256, complete_until, claimed, release) \
             VALUES (:id, :principal, :address, :version, :format, :bytes, :sha256, :complete_until, :claimed, :release)",
        )?
        .execute(named_params! {
            ":id": upload.id.as_str(),
            ":principal": upload.principal,
            ":address": upload.address,
            ":version": upload.version,
            ":format": upload.announced.format(),
            ":bytes": sql_number(upload.announced.bytes()),
            ":sha256": upload.announced.sha256(),
            ":complete_until": upload.complete_until,
            ":claimed": upload.announced.claimed().and_then(Claimed::to_text),
            ":release": upload.announced.release(),
        })
        .map(drop)
}

fn read(id: &UploadId, row: &[Value]) -> Option<UploadRecord> {
    let column = |at: usize| text(row.get(at)).map(str::to_owned);
    Some(UploadRecord {
        id: id.clone(),
        principal: column(0)?,
        address: column(1)?,
        version: column(2)?,
        announced: AnnouncedUpload::read(
            (text(row.get(1))?, text(row.get(2))?),
            (text(row.get(3))?, number(row.get(4))?.try_into().ok()?, text(row.get(5))?),
            text(row.get(8)),
            text(row.get(7)).and_then(Claimed::read),
        )?,
        complete_until: number(row.get(6))?,
    })
}
