//! The object of another bucket that a version has as its archive, as the store keeps it.

use serde_json::{Map, Value};
use stile_core::critical::{self, CRIT};
use stile_core::package::Format;
use stile_core::package::source::ObjectAddress;

/// The fields of the stored text.
const OBJECT: &str = "object";
const FORMAT: &str = "format";
const BYTES: &str = "bytes";
const ETAG: &str = "etag";

/// An object of another bucket, in the state in which it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredObject {
    pub(crate) address: ObjectAddress,
    /// SHA-256 of the archive, in lower-case hexadecimal.
    pub(crate) sha256: String,
    pub(crate) format: Format,
    /// The size in bytes.
    pub(crate) bytes: u64,
    pub(crate) state: ObjectState,
}

/// How the registry recognises the published state of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ObjectState {
    /// By the version of the object, whose bytes never change.
    Version(String),
    /// In a bucket without versions: by the ETag, which S3 changes with the bytes.
    Entity(String),
}

impl ObjectState {
    /// The version of an object that was written while its bucket had no versioning. Another write
    /// can replace it.
    pub(crate) const UNVERSIONED: &str = "null";

    /// Returns the version of the object, if it has one.
    pub(crate) fn version(&self) -> Option<&str> {
        match self {
            Self::Version(version) => Some(version),
            Self::Entity(_) => None,
        }
    }
}

impl StoredObject {
    /// Returns the text to store as the origin of the version. The digest and the version of the
    /// object have columns of their own.
    pub(crate) fn origin(&self) -> String {
        let mut fields = Map::new();
        fields.insert(OBJECT.to_owned(), self.address.as_str().into());
        fields.insert(FORMAT.to_owned(), self.format.extension().into());
        fields.insert(BYTES.to_owned(), self.bytes.into());
        if let ObjectState::Entity(etag) = &self.state {
            fields.insert(ETAG.to_owned(), etag.as_str().into());
        }
        Value::from(fields).to_string()
    }

    /// Reads what the store has. `None` if it is malformed, or not understood.
    pub(crate) fn read(sha256: &str, version: Option<&str>, origin: &str) -> Option<Self> {
        let fields: Map<String, Value> = serde_json::from_str(origin).ok()?;
        if !critical::understood(fields.get(CRIT), &[OBJECT, FORMAT, BYTES, ETAG]) {
            return None;
        }
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let state = match (version, text(ETAG)) {
            (Some(ObjectState::UNVERSIONED), _) | (None, None) => return None,
            (Some(version), _) => ObjectState::Version(version.to_owned()),
            (None, Some(etag)) => ObjectState::Entity(etag.to_owned()),
        };
        Some(Self {
            address: ObjectAddress::parse(text(OBJECT)?).ok()?,
            sha256: sha256.to_owned(),
            format: Format::from_extension(text(FORMAT)?)?,
            bytes: fields.get(BYTES)?.as_u64()?,
            state,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_read_as_it_was_stored() {
        for (state, origin) in [
            (
                ObjectState::Version("v1".to_owned()),
                json!({"object": "s3://bucket/vpc.zip", "format": "zip", "bytes": 7}),
            ),
            (
                ObjectState::Entity("\"e\"".to_owned()),
                json!({"object": "s3://bucket/vpc.zip", "format": "zip", "bytes": 7, "etag": "\"e\""}),
            ),
        ] {
            let stored = StoredObject {
                address: ObjectAddress::parse("s3://bucket/vpc.zip").unwrap(),
                sha256: "ab".repeat(32),
                format: Format::Zip,
                bytes: 7,
                state,
            };
            let written: Value = serde_json::from_str(&stored.origin()).unwrap();
            assert_eq!(written, origin);
            let version = stored.state.version();
            let read = StoredObject::read(&stored.sha256, version, &stored.origin());
            assert_eq!(read.as_ref(), Some(&stored));
            let mut newer = origin;
            newer["note"] = "x".into();
            assert_eq!(
                StoredObject::read(&stored.sha256, version, &newer.to_string()),
                Some(stored),
                "a note restricts nothing"
            );
        }
    }

    #[test]
    fn an_object_without_a_state_or_with_another_spelling_is_not_read() {
        let good = json!({"object": "s3://bucket/vpc.zip", "format": "zip", "bytes": 7});
        assert!(StoredObject::read("ab", Some("v1"), &good.to_string()).is_some());
        assert_eq!(StoredObject::read("ab", None, &good.to_string()), None, "no version, no ETag");
        assert_eq!(StoredObject::read("ab", Some("null"), &good.to_string()), None);
        for (field, value) in [
            ("object", json!("s3://bucket/../vpc.zip")),
            ("object", json!("https://bucket/vpc.zip")),
            ("object", Value::Null),
            ("format", json!("exe")),
            ("bytes", json!(-1)),
            ("bytes", json!("7")),
            ("crit", json!(["hours"])),
            ("crit", json!([])),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            assert_eq!(StoredObject::read("ab", Some("v1"), &bad.to_string()), None, "{bad}");
        }
        for text in ["", "x", "[]", "s3://bucket/vpc.zip"] {
            assert_eq!(StoredObject::read("ab", Some("v1"), text), None, "{text}");
        }
    }
}
