//! The manifest of a provider version, which names the versions of the plugin protocol.

use serde_json::Value;
use stile_protocol::strict_json::StrictObject;

use super::shown::shown;
use super::{ProtocolVersion, ProtocolVersionError};

/// Maximum size of a manifest in bytes. Real ones have about 100.
pub const MAX_MANIFEST: usize = 8 * 1024;

/// Maximum number of protocol versions. Terraform has had three.
const MAX_PROTOCOLS: usize = 10;

/// The error for a text that is not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The text is too long.
    #[error("the manifest is larger than 8 KiB")]
    TooLarge,
    /// The text is not one JSON object.
    #[error(
        "the manifest must be one JSON object, as in `{{\"version\":1,\"metadata\":{{\"protocol_versions\":[\"5.0\"]}}}}`"
    )]
    NotAnObject,
    /// The manifest has another format.
    #[error("the manifest must have `\"version\": 1`")]
    OtherFormat,
    /// The list of protocol versions is missing, empty, too long or not of strings.
    #[error("the manifest must have 1 to 10 strings in `metadata.protocol_versions`")]
    NoProtocols,
    /// A protocol version is malformed.
    #[error("the manifest: {0}")]
    Protocol(#[from] ProtocolVersionError),
    /// A protocol version is there twice.
    #[error("the manifest has the protocol version `{0}` twice")]
    Twice(String),
}

/// The manifest of a provider version.
#[derive(Debug)]
pub struct Manifest;

impl Manifest {
    /// Returns the protocol versions of a manifest, in order. It ignores fields that it does not know.
    ///
    /// # Errors
    ///
    /// [`ManifestError`], if the text has another form or lists no protocol version.
    pub fn parse(text: &str) -> Result<Vec<ProtocolVersion>, ManifestError> {
        if text.len() > MAX_MANIFEST {
            return Err(ManifestError::TooLarge);
        }
        let mut object =
            StrictObject::parse(text.as_bytes()).map_err(|_| ManifestError::NotAnObject)?;
        if object.take_optional("version").and_then(|version| version.as_u64()) != Some(1) {
            return Err(ManifestError::OtherFormat);
        }
        let metadata = object.take_optional("metadata");
        let listed = metadata.as_ref().and_then(|metadata| metadata.get("protocol_versions"));
        Self::protocols(listed.unwrap_or(&Value::Null))
    }

    /// Parses a list of protocol versions, as the manifest and the publication have it.
    ///
    /// # Errors
    ///
    /// [`ManifestError`], if it is not a list of 1 to 10 different versions.
    pub fn protocols(listed: &Value) -> Result<Vec<ProtocolVersion>, ManifestError> {
        let listed = listed.as_array().ok_or(ManifestError::NoProtocols)?;
        if listed.is_empty() || listed.len() > MAX_PROTOCOLS {
            return Err(ManifestError::NoProtocols);
        }
        let mut protocols: Vec<ProtocolVersion> = Vec::new();
        for version in listed {
            let text = version.as_str().ok_or(ManifestError::NoProtocols)?;
            let version = text.parse()?;
            if protocols.contains(&version) {
                return Err(ManifestError::Twice(shown(text)));
            }
            protocols.push(version);
        }
        protocols.sort_unstable();
        Ok(protocols)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_without_its_versions_is_refused() {
        for (text, problem) in [
            (String::new(), "must be one JSON object"),
            ("[]".to_owned(), "must be one JSON object"),
            (r#"{"version":1,"version":1}"#.to_owned(), "must be one JSON object"),
            ("{}".to_owned(), "must have `\"version\": 1`"),
            (r#"{"version":2}"#.to_owned(), "must have `\"version\": 1`"),
            (r#"{"version":"1"}"#.to_owned(), "must have `\"version\": 1`"),
            (r#"{"version":1}"#.to_owned(), "must have 1 to 10 strings"),
            (r#"{"version":1,"metadata":[]}"#.to_owned(), "must have 1 to 10 strings"),
            (manifest("[]"), "must have 1 to 10 strings"),
            (manifest("\"5.0\""), "must have 1 to 10 strings"),
            (manifest("[5.0]"), "must have 1 to 10 strings"),
            (manifest(&format!("[{}]", ["\"5.0\""; 11].join(","))), "must have 1 to 10 strings"),
            (manifest("[\"x\"]"), "protocol version `x` must have the form"),
            (manifest("[\"5\"]"), "protocol version `5` must have the form"),
            (manifest("[\"5.0\",\"5.0\"]"), "has the protocol version `5.0` twice"),
            (" ".repeat(9_000), "larger than 8 KiB"),
        ] {
            let error = Manifest::parse(&text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text:.200}: {error}");
        }
    }

    fn manifest(protocols: &str) -> String {
        format!(r#"{{"version":1,"metadata":{{"protocol_versions":{protocols}}}}}"#)
    }

    #[test]
    fn the_protocol_versions_are_in_order_and_unknown_fields_are_ignored() {
        let text =
            r#"{"note":1,"metadata":{"x":1,"protocol_versions":["6.0","5.10","5.2"]},"version":1}"#;
        let protocols: Vec<_> =
            Manifest::parse(text).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(protocols, ["5.2", "5.10", "6.0"]);
    }
}
