//! The announcement of an upload: the client's claims about an archive that it wants to send.
//!
//! The broker verifies these claims when it has the archive.

use stile_protocol::strict_json::{FieldError, StrictObject};

use super::archive::Format;
use super::provenance::{CLAIMED, Claimed};

/// An archive that a client announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedArchive {
    /// The format of the archive.
    pub format: Format,
    /// The exact size in bytes. S3 and the completion of the upload reject any other size.
    pub bytes: u64,
    /// SHA-256 of the archive, in lower-case hex.
    pub sha256: String,
    /// What the publisher's environment claims about the version.
    pub claimed: Option<Claimed>,
}

impl AnnouncedArchive {
    /// Parses `{"format": …, "bytes": …, "sha256": …, "claimed"?: …}`.
    ///
    /// # Errors
    ///
    /// [`FieldError`], if a field is missing, malformed or unknown.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        let mut object = StrictObject::parse(body)?;
        let (format, bytes, sha256) =
            (object.string("format")?, object.integer("bytes")?, object.string("sha256")?);
        let claimed = object.take_optional(CLAIMED);
        object.finish()?;
        Ok(Self {
            format: Format::from_extension(&format)
                .ok_or_else(|| FieldError::new("format", "`zip` or `tar.gz`"))?,
            bytes: bytes
                .try_into()
                .ok()
                .filter(|bytes| *bytes > 0)
                .ok_or_else(|| FieldError::new("bytes", "a number of bytes"))?,
            sha256: Some(sha256)
                .filter(|text| is_sha256(text))
                .ok_or_else(|| FieldError::new("sha256", "64 lower-case hexadecimal digits"))?,
            claimed: claimed.as_ref().map(Claimed::parse).transpose()?,
        })
    }
}

/// Returns whether a text is a SHA-256 in lower-case hex.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// An upload id: 128 random bits as 32 hex digits, so that nobody can guess another client's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadId(String);

impl UploadId {
    /// Creates a random id.
    ///
    /// # Errors
    ///
    /// If the system provides no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hex::encode(bytes)))
    }

    /// Parses the canonical text, or returns `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| Self(text.to_owned()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_a_malformed_announcement_names_the_field() {
        let digest = "ab".repeat(32);
        let body = |format: &str, bytes: &str, sha256: &str| {
            format!(r#"{{"format":{format},"bytes":{bytes},"sha256":"{sha256}"}}"#)
        };
        for (body, expected) in [
            (String::new(), "the body must be one JSON object in UTF-8"),
            ("{}".to_owned(), "field `format` is missing"),
            (body("\"tgz\"", "1", &digest), "`format` must be `zip` or `tar.gz`"),
            (body("7", "1", &digest), "`format` must be a string"),
            (body("\"zip\"", "0", &digest), "`bytes` must be a number of bytes"),
            (body("\"zip\"", "-1", &digest), "`bytes` must be a number of bytes"),
            (body("\"zip\"", "1.0", &digest), "`bytes` must be an integer"),
            (body("\"zip\"", "\"1\"", &digest), "`bytes` must be an integer"),
            (
                body("\"zip\"", "1", &digest[1..]),
                "`sha256` must be 64 lower-case hexadecimal digits",
            ),
            (
                body("\"zip\"", "1", &"AB".repeat(32)),
                "`sha256` must be 64 lower-case hexadecimal digits",
            ),
            (body("\"zip\"", "1,\"bytes\":2", &digest), "field `bytes` appears twice"),
            (body("\"zip\"", "1,\"url\":\"x\"", &digest), "field `url` is not known"),
            (
                body("\"zip\"", "1,\"claimed\":\"x\"", &digest),
                "`claimed` must be one JSON object with each field once",
            ),
        ] {
            assert_eq!(
                AnnouncedArchive::parse(body.as_bytes()).unwrap_err().problem,
                expected,
                "{body}"
            );
        }
        let good =
            AnnouncedArchive::parse(body("\"tar.gz\"", "5000000", &digest).as_bytes()).unwrap();
        assert_eq!(
            good,
            AnnouncedArchive {
                format: Format::TarGz,
                bytes: 5_000_000,
                sha256: digest,
                claimed: None
            }
        );
    }

    #[test]
    fn upload_ids_are_canonical_and_random() {
        for text in
            ["", "..", "a/b", &"AB".repeat(16), &"ab".repeat(15), &"ab".repeat(17), &"é".repeat(16)]
        {
            assert_eq!(UploadId::parse(text), None, "{text}");
        }
        let (one, two) = (UploadId::random().unwrap(), UploadId::random().unwrap());
        assert_eq!(UploadId::parse(one.as_str()), Some(one.clone()));
        assert_ne!(one, two);
    }
}
