//! An archive that somebody is about to send, in their own words: nothing of it is believed before the bytes are there.

use stile_protocol::strict_json::{FieldError, StrictObject};

use super::archive::Format;

/// What is to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedArchive {
    /// What kind of archive.
    pub format: Format,
    /// How long it is; S3 and the completion take neither more nor less.
    pub bytes: u64,
    /// Lower-case hex SHA-256 of its bytes.
    pub sha256: String,
}

impl AnnouncedArchive {
    /// Reads `{"format": …, "bytes": …, "sha256": …}` and nothing else.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        let mut object = StrictObject::parse(body)?;
        let (format, bytes, sha256) =
            (object.string("format")?, object.integer("bytes")?, object.string("sha256")?);
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
                .filter(|text| is_digest(text))
                .ok_or_else(|| FieldError::new("sha256", "64 lower-case hexadecimal digits"))?,
        })
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// What names an upload: 128 random bits, so that nobody comes upon somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadId(String);

impl UploadId {
    /// A new one.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hex::encode(bytes)))
    }

    /// Reads the one spelling there is.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| Self(text.to_owned()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_out_of_its_grammar_is_refused_by_the_name_of_its_field() {
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
            AnnouncedArchive { format: Format::TarGz, bytes: 5_000_000, sha256: digest }
        );
    }

    #[test]
    fn an_id_has_one_spelling_and_no_two_are_alike() {
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
