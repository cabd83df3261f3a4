//! Uploads that clients began, one item for each. The table deletes them after their time.
//!
//! One more item for each namespace has its open uploads, an attribute for each. An upload that ends
//! removes its attribute without a read. The next upload that begins removes those whose time has
//! passed.

use stile_core::package::{Claimed, UploadId};
use stile_protocol::names::Namespace;

use super::DynamoDb;
use super::attributes::{Row, from_unknown, number, read_number, read_text, text, unknown};
use super::table::{Key, PK, SK, TTL, VERSION, Write};
use crate::StoreError;
use crate::records::model::{
    AnnouncedUpload, OpenUpload, OpenUploads, Quota, Revision, UploadRecord,
};
use crate::records::retention::MARGIN;

/// The start of the name of an open upload's attribute. A name must begin with a letter.
const OPEN_PREFIX: &str = "upload_";

impl DynamoDb {
    /// Returns an upload that a client began.
    pub(crate) async fn upload(&self, id: &UploadId) -> Result<Option<UploadRecord>, StoreError> {
        let Some(row) = self.row(&key(id)).await? else { return Ok(None) };
        let unreadable = || StoreError::corrupt("cannot read an upload in the store");
        read(id, &row).map(Some).ok_or_else(unreadable)
    }

    /// Returns the open uploads to a namespace, and its quota, in one read.
    pub(crate) async fn open_uploads(
        &self,
        namespace: &Namespace,
    ) -> Result<(OpenUploads, Option<Quota>), StoreError> {
        let key = open_key(namespace);
        let (found, quota) = self.rows_and_quota(namespace, std::slice::from_ref(&key)).await?;
        let open = read_open(found.get(&key)).ok_or_else(|| {
            StoreError::corrupt(format!(
                "cannot read the open uploads to `{namespace}` in the store"
            ))
        })?;
        Ok((open, quota))
    }
}

/// Returns the key of the open uploads to a namespace.
fn open_key(namespace: &Namespace) -> Key {
    Key::new(format!("uploads {namespace}"), "open")
}

fn open_name(id: &UploadId) -> String {
    format!("{OPEN_PREFIX}{}", id.as_str())
}

/// Returns the write that adds an upload to those of its namespace. [`read_open`] reads them.
pub(super) fn add_open(
    upload: &UploadRecord,
    namespace: &Namespace,
    before: Revision,
    after: &OpenUploads,
) -> Write {
    let open = |id: &UploadId, principal: &str, until: i64| {
        (open_name(id), text(format!("{until} {principal}")))
    };
    let mut row = from_unknown(&after.unknown);
    row.push(("revision".to_owned(), number(before.0.saturating_add(1))));
    row.push(open(&upload.id, &upload.principal, upload.complete_until));
    row.extend(
        after.uploads.iter().map(|other| open(&other.id, &other.principal, other.complete_until)),
    );
    let row = row.iter().map(|(name, value)| (name.as_str(), value.clone()));
    Write::put(open_key(namespace), row).only_if_revision(before.0)
}

/// Returns the write that removes an upload from those of its namespace, if it is among them.
pub(super) fn remove_open(id: &UploadId, namespace: &Namespace) -> Write {
    let expression = format!("REMOVE {} ADD revision :one", open_name(id));
    Write::update(open_key(namespace), expression).value(":one", number(1))
}

fn read_open(row: Option<&Row>) -> Option<OpenUploads> {
    let Some(row) = row else {
        return Some(OpenUploads {
            revision: Revision::default(),
            uploads: Vec::new(),
            unknown: serde_json::Map::new(),
        });
    };
    let revision = Revision(read_number(row, "revision")?);
    let mut known = vec![PK, SK, VERSION, "revision"];
    let mut uploads = Vec::new();
    for (name, value) in row {
        let Some(id) = name.strip_prefix(OPEN_PREFIX) else { continue };
        let (until, principal) = value.as_s().ok()?.split_once(' ')?;
        uploads.push(OpenUpload {
            id: UploadId::parse(id)?,
            principal: principal.to_owned(),
            complete_until: until.parse().ok()?,
        });
        known.push(name);
    }
    Some(OpenUploads { revision, uploads, unknown: unknown(row, &known) })
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
        ("format", text(upload.announced.format())),
        ("bytes", number(upload.announced.bytes().try_into().unwrap_or(i64::MAX))),
        ("sha256", text(upload.announced.sha256())),
        ("complete_until", number(upload.complete_until)),
        (TTL, number(upload.complete_until.saturating_add(MARGIN))),
    ];
    let claimed = upload.announced.claimed().and_then(Claimed::to_text);
    let claimed = claimed.map(|claimed| ("claimed", text(claimed)));
    let release = upload.announced.release().map(|release| ("provider_release", text(release)));
    let row = row.into_iter().chain(claimed).chain(release);
    Write::put(key(&upload.id), row).only_if_absent()
}

fn read(id: &UploadId, row: &Row) -> Option<UploadRecord> {
    Some(UploadRecord {
        id: id.clone(),
        principal: read_text(row, "principal")?.to_owned(),
        address: read_text(row, "address")?.to_owned(),
        version: read_text(row, "version")?.to_owned(),
        announced: AnnouncedUpload::read(
            (read_text(row, "address")?, read_text(row, "version")?),
            (
                read_text(row, "format")?,
                read_number(row, "bytes")?.try_into().ok()?,
                read_text(row, "sha256")?,
            ),
            read_text(row, "provider_release"),
            read_text(row, "claimed").and_then(Claimed::read),
        )?,
        complete_until: read_number(row, "complete_until")?,
    })
}

#[cfg(test)]
mod tests {
    use stile_core::package::{AnnouncedArchive, Format};

    use super::*;

    fn upload(principal: &str, until: i64) -> UploadRecord {
        UploadRecord {
            id: UploadId::random().unwrap(),
            principal: principal.to_owned(),
            address: "acme/vpc/aws".to_owned(),
            version: "1.0.0".to_owned(),
            announced: AnnouncedUpload::Archive(AnnouncedArchive {
                format: Format::Zip,
                bytes: 5,
                sha256: "ab".repeat(32),
                claimed: None,
            }),
            complete_until: until,
        }
    }

    #[test]
    fn open_uploads_are_read_as_they_were_written_with_what_a_newer_program_added() {
        let (namespace, none) = ("acme".parse().unwrap(), read_open(None).unwrap());
        let first = upload("aws:111122223333:role/deploy", 7);
        let write = add_open(&first, &namespace, none.revision, &none);
        let mut row = write.row().unwrap().clone();
        row.insert("note".to_owned(), text("x"));
        let open = read_open(Some(&row)).unwrap();
        let expected =
            OpenUpload { id: first.id.clone(), principal: first.principal, complete_until: 7 };
        assert_eq!((open.revision, &open.uploads[..]), (Revision(1), &[expected][..]));
        assert_eq!(open.unknown.get("note"), Some(&"x".into()));
        let write = add_open(&upload("x", 8), &namespace, open.revision, &open);
        let both = read_open(write.row()).unwrap();
        assert_eq!(
            (both.revision, both.uploads.len(), &both.unknown),
            (Revision(2), 2, &open.unknown)
        );
        for (name, value) in [
            ("revision".to_owned(), text("1")),
            (open_name(&first.id), text("7")),
            (open_name(&first.id), text("soon x")),
            (open_name(&first.id), number(7)),
            ("upload_x".to_owned(), text("7 x")),
        ] {
            let mut bad = row.clone();
            bad.insert(name.clone(), value);
            assert_eq!(read_open(Some(&bad)), None, "{name}");
        }
    }
}
