//! What a version of a provider consists of: its files by platform, and the signed list of digests.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Platform, ProtocolVersion};
use crate::critical::{self, CRIT};

/// The id of an OpenPGP key: the last 8 bytes of its fingerprint, as 16 upper-case hex digits
/// (RFC 9580, section 5.5.4.1). Terraform shows it in this form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

impl KeyId {
    /// Parses 16 upper-case hex digits, or returns `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
        hex.then(|| Self(text.to_owned()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The file of one platform. The registry computed every value from the file itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseFile {
    /// SHA-256 of the zip archive in lower-case hex. Clients call it `zh:`.
    pub sha256: String,
    /// The hash of the unpacked files, `h1:` and base64 (Go's `dirhash.Hash1`).
    pub h1: String,
    /// The size in bytes.
    pub bytes: u64,
    /// The version of the object, if the archives are objects with versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_version: Option<String>,
}

/// The file `SHA256SUMS` of a version, with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedSums {
    /// The whole text: one line for each file.
    pub text: String,
    /// The detached OpenPGP signature, in binary.
    pub signature: Vec<u8>,
    /// The key that made the signature.
    pub key_id: KeyId,
}

impl SignedSums {
    /// Returns the SHA-256 of the list and its signature together, in lower-case hex.
    pub fn digest(&self) -> String {
        let list = Sha256::digest(self.text.as_bytes());
        hex::encode(Sha256::digest([list.as_slice(), self.signature.as_slice()].concat()))
    }
}

/// What a version of a provider consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The versions of the plugin protocol, in order. At least one.
    pub protocols: Vec<ProtocolVersion>,
    /// The files by platform. At least one.
    pub files: BTreeMap<Platform, ReleaseFile>,
    /// The signed list of digests, which has a line for each file.
    pub sums: SignedSums,
    /// The text of the manifest, if the list of digests has a line for it.
    pub manifest: Option<String>,
    /// Fields that a newer program added.
    unknown: Map<String, Value>,
}

/// A release as the store has it.
#[derive(Serialize, Deserialize)]
struct Stored {
    protocols: Vec<String>,
    files: BTreeMap<String, ReleaseFile>,
    sums: String,
    signature: String,
    key_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// The fields of a stored release that a reader must know: none so far.
const KNOWN_CRITICAL: [&str; 0] = [];

impl Release {
    /// Creates a release of files that the registry verified.
    pub fn new(
        protocols: Vec<ProtocolVersion>,
        files: BTreeMap<Platform, ReleaseFile>,
        sums: SignedSums,
        manifest: Option<String>,
    ) -> Self {
        Self { protocols, files, sums, manifest, unknown: Map::new() }
    }

    /// Returns the release that replaces another one of its version, with what a newer program added
    /// to that.
    #[must_use]
    pub fn replacing(self, before: &Self) -> Self {
        Self { unknown: before.unknown.clone(), ..self }
    }

    /// Returns the SHA-256 of the list of digests, in lower-case hex. It covers every file.
    pub fn sha256(&self) -> String {
        hex::encode(Sha256::digest(self.sums.text.as_bytes()))
    }

    /// Returns the size of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.values().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// Returns the release as JSON for the store.
    pub fn to_text(&self) -> String {
        let stored = Stored {
            protocols: self.protocols.iter().map(ToString::to_string).collect(),
            files: self
                .files
                .iter()
                .map(|(platform, file)| (platform.to_string(), file.clone()))
                .collect(),
            sums: self.sums.text.clone(),
            signature: STANDARD.encode(&self.sums.signature),
            key_id: self.sums.key_id.to_string(),
            manifest: self.manifest.clone(),
            unknown: self.unknown.clone(),
        };
        // A structure of strings and numbers always becomes JSON.
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// Reads a stored release. `None` if it is malformed, or a newer program restricted it.
    ///
    /// It ignores fields that it does not know.
    pub fn read(text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        if !critical::understood(json.get(CRIT), &KNOWN_CRITICAL) {
            return None;
        }
        let stored: Stored = serde_json::from_value(json).ok()?;
        let protocols = stored.protocols.iter().map(|text| text.parse().ok());
        let files =
            stored.files.into_iter().map(|(platform, file)| Some((platform.parse().ok()?, file)));
        let release = Self {
            protocols: protocols.collect::<Option<_>>()?,
            files: files.collect::<Option<_>>()?,
            sums: SignedSums {
                text: stored.sums,
                signature: STANDARD.decode(&stored.signature).ok()?,
                key_id: KeyId::parse(&stored.key_id)?,
            },
            manifest: stored.manifest,
            unknown: stored.unknown,
        };
        let is_whole = !release.files.is_empty() && !release.protocols.is_empty();
        is_whole.then_some(release)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Release {
        let file = ReleaseFile {
            sha256: "ab".repeat(32),
            h1: "h1:abc=".to_owned(),
            bytes: 7,
            object_version: Some("v1".to_owned()),
        };
        let other = ReleaseFile { bytes: 5, object_version: None, ..file.clone() };
        let files = [("linux_amd64", file), ("darwin_arm64", other)];
        Release::new(
            vec!["5.0".parse().unwrap()],
            files.map(|(platform, file)| (platform.parse().unwrap(), file)).into(),
            SignedSums {
                text: "ab  x\n".to_owned(),
                signature: vec![0, 255],
                key_id: KeyId::parse("F9BA19AD6BE4698A").unwrap(),
            },
            Some("{}".to_owned()),
        )
    }

    #[test]
    fn a_key_id_is_canonical() {
        for text in ["", "f9ba19ad6be4698a", "0xF9BA19AD6BE4698A", "F9BA19AD6BE4698", "ABCDEFGH"] {
            assert_eq!(KeyId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_release_is_read_as_it_was_written_and_keeps_what_a_newer_program_added() {
        let written = release();
        assert_eq!(written.bytes(), 12);
        assert_eq!(Release::read(&written.to_text()), Some(written.clone()));
        let mut json: Value = serde_json::from_str(&written.to_text()).unwrap();
        json["note"] = "x".into();
        let read = Release::read(&json.to_string()).unwrap();
        assert_ne!(read, written);
        let replaced = release().replacing(&read);
        assert!(replaced.to_text().contains(r#""note":"x""#), "{}", replaced.to_text());
    }

    #[test]
    fn a_damaged_or_restricted_release_is_not_read() {
        let good: Value = serde_json::from_str(&release().to_text()).unwrap();
        for (field, value) in [
            ("protocols", Value::from(vec!["x"])),
            ("protocols", Value::Array(Vec::new())),
            ("files", Value::Object(Map::new())),
            ("files", serde_json::json!({"linux": good["files"]["linux_amd64"]})),
            ("files", serde_json::json!({"linux_amd64": {}})),
            ("signature", "?".into()),
            ("key_id", "x".into()),
            ("sums", Value::Null),
            ("crit", Value::from(vec!["embargo"])),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            assert_eq!(Release::read(&bad.to_string()), None, "{field}");
        }
        assert_eq!(Release::read("[]"), None);
    }
}
