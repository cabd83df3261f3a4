//! The announcement of a provider version: the signed list of digests, and the files that follow.
//!
//! It is checked as far as that is possible without the files, the keys and the published version.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use stile_protocol::names::ProviderType;
use stile_protocol::strict_json::{FieldError, StrictObject};

use super::{
    FileNameError, MAX_SIGNATURE, Manifest, ManifestError, Platform, ProtocolVersion, ProviderFile,
    Sums, SumsError, manifest_name,
};
use crate::package::{CLAIMED, Claimed, MAX_PROVIDER_FILE, Version};

/// What a publisher announces of a provider version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedRelease {
    /// The list of digests.
    pub sums: Sums,
    /// The detached signature of the list, in binary. Nobody has verified it.
    pub unverified_signature: Vec<u8>,
    /// The versions of the plugin protocol, in order.
    pub protocols: Vec<ProtocolVersion>,
    /// The text of the manifest, which has the digest in the list.
    pub manifest: Option<String>,
    /// The size in bytes of each file that the publisher wants to send.
    pub bytes: BTreeMap<Platform, u64>,
    /// What the publisher's environment claims about the version.
    pub claimed: Option<Claimed>,
}

/// The error for an announcement that cannot be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnouncedReleaseError {
    /// A field is missing, malformed or unknown.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The list of digests is not valid.
    #[error(transparent)]
    Sums(#[from] SumsError),
    /// The manifest, or the list of protocol versions, is not valid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Nothing says which versions of the plugin protocol the provider has.
    #[error(
        "`manifest` or `protocols` is missing: the registry must know the versions of the plugin protocol"
    )]
    NoProtocols,
    /// The manifest and the list of protocol versions differ.
    #[error("`protocols` and the manifest name other versions of the plugin protocol")]
    OtherProtocols,
    /// The list of digests names a manifest that is not in the announcement.
    #[error("`SHA256SUMS` has a line for `{0}`, but `manifest` is missing")]
    NoManifest(String),
    /// The list of digests has no line for the manifest.
    #[error("`SHA256SUMS` has no line for `{0}`")]
    ManifestNotListed(String),
    /// The manifest has another digest than the list says.
    #[error("`manifest` has another SHA-256 than `SHA256SUMS` says for `{0}`")]
    OtherManifest(String),
    /// A file has a name that no file of this version has.
    #[error("`files`: {0}")]
    Name(#[from] FileNameError),
    /// A file is not in the list of digests.
    #[error("`SHA256SUMS` has no line for `{0}`")]
    NotListed(String),
    /// A file appears twice.
    #[error("`files` has `{0}` twice")]
    Twice(String),
    /// The manifest needs no upload.
    #[error("`files` must have only zip archives; the text of the manifest is in `manifest`")]
    ManifestAsFile,
    /// A file is empty, or too large.
    #[error("`{0}` must have 1 byte to 1 GB")]
    Size(String),
}

impl AnnouncedRelease {
    /// Parses the announcement of this version of a provider of this type: `{"sha256sums": text,
    /// "signature": base64, "protocols"?: ["5.0"], "manifest"?: text, "files": [{"name", "bytes"}],
    /// "claimed"?: {…}}`.
    ///
    /// # Errors
    ///
    /// [`AnnouncedReleaseError`], with one sentence.
    pub fn parse(
        body: &[u8],
        provider_type: &ProviderType,
        version: &Version,
    ) -> Result<Self, AnnouncedReleaseError> {
        let mut object = StrictObject::parse(body)?;
        let sums = Sums::parse(&object.string("sha256sums")?, provider_type, version)?;
        let unverified_signature = signature(&object.string("signature")?)?;
        let listed = object.take_optional("protocols");
        let listed = listed.as_ref().map(Manifest::protocols).transpose()?;
        let manifest = object.optional_string("manifest")?;
        let files = object.take("files")?;
        let claimed = object.take_optional(CLAIMED);
        object.finish()?;
        let name = manifest_name(provider_type, version);
        Ok(Self {
            protocols: protocols(listed, manifest.as_deref(), &sums, &name)?,
            bytes: sizes(files, &sums, provider_type, version)?,
            claimed: claimed.as_ref().map(Claimed::parse).transpose()?,
            sums,
            unverified_signature,
            manifest,
        })
    }

    /// Returns the SHA-256 of the list of digests, in lower-case hex. It covers every file.
    pub fn sha256(&self) -> String {
        hex::encode(Sha256::digest(self.sums.text()))
    }
}

fn signature(text: &str) -> Result<Vec<u8>, FieldError> {
    let decoded = (text.len() <= 2 * MAX_SIGNATURE).then(|| STANDARD.decode(text).ok()).flatten();
    decoded.filter(|bytes| !bytes.is_empty() && bytes.len() <= MAX_SIGNATURE).ok_or_else(|| {
        FieldError::new("signature", "base64 of a detached signature, of at most 8 KiB")
    })
}

/// Returns the protocol versions, on which the manifest and the list must agree.
fn protocols(
    listed: Option<Vec<ProtocolVersion>>,
    manifest: Option<&str>,
    sums: &Sums,
    name: &str,
) -> Result<Vec<ProtocolVersion>, AnnouncedReleaseError> {
    let of_manifest = match (manifest, sums.manifest()) {
        (None, None) => None,
        (None, Some(_)) => return Err(AnnouncedReleaseError::NoManifest(name.to_owned())),
        (Some(_), None) => return Err(AnnouncedReleaseError::ManifestNotListed(name.to_owned())),
        (Some(text), Some(sha256)) => {
            if hex::encode(Sha256::digest(text)) != sha256 {
                return Err(AnnouncedReleaseError::OtherManifest(name.to_owned()));
            }
            Some(Manifest::parse(text)?)
        }
    };
    match (of_manifest, listed) {
        (None, None) => Err(AnnouncedReleaseError::NoProtocols),
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (Some(one), Some(other)) if one == other => Ok(one),
        (Some(_), Some(_)) => Err(AnnouncedReleaseError::OtherProtocols),
    }
}

/// Reads the sizes of the files, each of which is in the list of digests.
fn sizes(
    files: Value,
    sums: &Sums,
    provider_type: &ProviderType,
    version: &Version,
) -> Result<BTreeMap<Platform, u64>, AnnouncedReleaseError> {
    let malformed = || FieldError::new("files", "a list of objects with `name` and `bytes`");
    let Value::Array(files) = files else { return Err(malformed().into()) };
    let mut sizes = BTreeMap::new();
    for file in files {
        let mut file = StrictObject::parse(file.to_string().as_bytes()).map_err(|_| malformed())?;
        let (name, bytes) = (file.string("name")?, file.integer("bytes")?);
        file.finish()?;
        let platform = match ProviderFile::parse(&name, provider_type, version)? {
            ProviderFile::Zip(platform) => platform,
            ProviderFile::Manifest => return Err(AnnouncedReleaseError::ManifestAsFile),
        };
        if !sums.files().contains_key(&platform) {
            return Err(AnnouncedReleaseError::NotListed(name));
        }
        let bytes = u64::try_from(bytes).unwrap_or_default();
        if !(1..=MAX_PROVIDER_FILE).contains(&bytes) {
            return Err(AnnouncedReleaseError::Size(name));
        }
        if sizes.insert(platform, bytes).is_some() {
            return Err(AnnouncedReleaseError::Twice(name));
        }
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MANIFEST: &str = r#"{"version":1,"metadata":{"protocol_versions":["5.0"]}}"#;

    fn zip(platform: &str) -> String {
        format!("terraform-provider-dns_1.0.0_{platform}.zip")
    }

    fn manifest_line() -> String {
        let sha256 = hex::encode(Sha256::digest(MANIFEST));
        format!("{sha256}  terraform-provider-dns_1.0.0_manifest.json\n")
    }

    fn body() -> Value {
        let line = format!("{}  {}\n", "ab".repeat(32), zip("linux_amd64"));
        json!({
            "sha256sums": line + &manifest_line(),
            "signature": "AAEC",
            "manifest": MANIFEST,
            "files": [{ "name": zip("linux_amd64"), "bytes": 7 }],
        })
    }

    fn parse(body: &Value) -> Result<AnnouncedRelease, AnnouncedReleaseError> {
        let body = body.to_string();
        let version = Version::parse("1.0.0").unwrap();
        AnnouncedRelease::parse(body.as_bytes(), &ProviderType::parse("dns").unwrap(), &version)
    }

    #[test]
    fn an_announcement_that_contradicts_itself_is_refused_with_a_sentence() {
        let only_zip = format!("{}  {}\n", "ab".repeat(32), zip("linux_amd64"));
        let file = |name: &str, bytes: i64| json!([{ "name": name, "bytes": bytes }]);
        for (field, value, expected) in [
            ("sha256sums", json!(7), "`sha256sums` must be a string"),
            ("sha256sums", json!(""), "`SHA256SUMS` is empty"),
            ("sha256sums", json!(only_zip), "no line for `terraform-provider-dns_1.0.0_manifest"),
            ("signature", json!("?"), "`signature` must be base64"),
            ("signature", json!(""), "`signature` must be base64"),
            ("signature", json!("A".repeat(40_000)), "`signature` must be base64"),
            ("manifest", json!(format!("{MANIFEST} ")), "`manifest` has another SHA-256"),
            ("manifest", Value::Null, "`manifest` must be a string"),
            ("protocols", json!(["6.0"]), "name other versions"),
            ("protocols", json!(["x"]), "protocol version"),
            ("protocols", json!([]), "protocol"),
            ("files", json!({}), "`files` must be a list"),
            ("files", json!(["x"]), "`files` must be a list"),
            ("files", json!([{ "name": zip("linux_amd64") }]), "field `bytes` is missing"),
            ("files", file("x.zip", 1), "`files`: file `x.zip`"),
            ("files", file(&zip("darwin_arm64"), 1), "`SHA256SUMS` has no line for"),
            ("files", file(&zip("linux_amd64"), 0), "must have 1 byte to 1 GB"),
            ("files", file(&zip("linux_amd64"), -1), "must have 1 byte to 1 GB"),
            ("files", file(&zip("linux_amd64"), 1_000_000_001), "must have 1 byte to 1 GB"),
            ("files", file("terraform-provider-dns_1.0.0_manifest.json", 1), "only zip archives"),
            ("claimed", json!("x"), "`claimed` must be"),
            ("url", json!("x"), "field `url` is not known"),
        ] {
            let mut bad = body();
            bad[field] = value;
            let error = parse(&bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{field}: {error}");
        }
        let mut twice = body();
        let file = twice["files"][0].clone();
        twice["files"].as_array_mut().unwrap().push(file);
        assert!(parse(&twice).unwrap_err().to_string().contains("twice"));
        for missing in ["sha256sums", "signature", "files", "manifest"] {
            let mut bad = body();
            bad.as_object_mut().unwrap().remove(missing);
            assert!(parse(&bad).unwrap_err().to_string().contains("missing"), "{missing}");
        }
        let mut silent = body();
        silent.as_object_mut().unwrap().remove("manifest");
        silent["sha256sums"] = only_zip.into();
        assert_eq!(parse(&silent), Err(AnnouncedReleaseError::NoProtocols));
        silent["protocols"] = json!(["6.0", "5.0"]);
        let read = parse(&silent).unwrap();
        assert_eq!(
            read.protocols.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["5.0", "6.0"]
        );
    }

    #[test]
    fn an_announcement_has_the_protocols_of_its_manifest_and_the_sizes_of_its_files() {
        let mut whole = body();
        whole["protocols"] = json!(["5.0"]);
        let read = parse(&whole).unwrap();
        assert_eq!(read.protocols, ["5.0".parse().unwrap()]);
        assert_eq!(read.bytes, [("linux_amd64".parse().unwrap(), 7)].into());
        assert_eq!(read.unverified_signature, [0, 1, 2]);
        assert_eq!(read.manifest.as_deref(), Some(MANIFEST));
    }
}
