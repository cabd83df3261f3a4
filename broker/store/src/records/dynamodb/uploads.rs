//! Uploads that clients began, one item for each. The table deletes them after their time.

use stile_core::package::{AnnouncedArchive, Format, UploadId};

use super::DynamoDb;
use super::attributes::{Row, number, read_number, read_text, text};
use super::table::{Key, TTL, Write};
use crate::StoreError;
use crate::records::model::UploadRecord;
use crate::records::retention::MARGIN;

impl DynamoDb {
    /// Returns an upload that a client began.
    pub(crate) async fn upload(&self, id: &UploadId) -> Result<Option<UploadRecord>, StoreError> {
        let Some(row) = self.row(&key(id)).await? else { return Ok(None) };
        let unreadable = || StoreError::corrupt("cannot read an upload in the store");
        read(id, &row).map(Some).ok_or_else(unreadable)
    }
}

/// Returns the key of an upload.
pub(super) fn key(id: &UploadId) -> Key {
    Key::new(format!("upload {}", id.as_str()), "upload")
}

/// Returns the write that adds an upload.
pub(super) fn add(upload: &UploadRecord) -> Write {
    let row = [
        ("principal", text(upload.principal.as_str())),
        ("address", text(upload.address.as_str())),
        ("version", text(upload.version.as_str())),
        ("format", text(upload.announced.format.extension())),
        ("bytes", number(upload.announced.bytes.try_into().unwrap_or(i64::MAX))),
        ("sha256", text(upload.announced.sha256.as_str())),
        ("complete_until", number(upload.complete_until)),
        (TTL, number(upload.complete_until.saturating_add(MARGIN))),
    ];
    Write::put(key(&upload.id), row).only_if_absent()
}

fn read(id: &UploadId, row: &Row) -> Option<UploadRecord> {
    Some(UploadRecord {
        id: id.clone(),
        principal: read_text(row, "principal")?.to_owned(),
        address: read_text(row, "address")?.to_owned(),
        version: read_text(row, "version")?.to_owned(),
        announced: AnnouncedArchive {
            format: Format::from_extension(read_text(row, "format")?)?,
            bytes: read_number(row, "bytes")?.try_into().ok()?,
            sha256: read_text(row, "sha256")?.to_owned(),
        },
        complete_until: read_number(row, "complete_until")?,
    })
}
