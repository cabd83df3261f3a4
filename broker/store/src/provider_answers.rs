//! The types that the public methods of the store take and return for providers only.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use stile_core::package::provider::{
    KeyId, NamespaceKeys, Platform, ProtocolVersion, Release, ReleaseFile, SignedSums, SignerError,
    Sums, zip_name,
};
use stile_core::package::{Claimed, Life, PackageAddress, UploadId, Version};
use stile_protocol::names::ProviderAddress;

use crate::{Location, Published, QuotaExceeded};

/// The result of retiring a signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRetired {
    /// The state of the key changed.
    Done {
        /// The versions that the key signed, if it is compromised.
        versions: Vec<(ProviderAddress, Version)>,
    },
    /// The key had this state, or is compromised.
    Unchanged {
        /// The versions that the key signed, if the request says that it is compromised. An earlier
        /// request can have stopped before its answer.
        versions: Vec<(ProviderAddress, Version)>,
    },
    /// The namespace has no such key.
    Absent,
}

/// What a publisher wants a version of a provider to be. A registered key has signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderManifest {
    /// The list of digests.
    pub sums: Sums,
    /// The detached OpenPGP signature of the list, in binary.
    pub signature: Vec<u8>,
    /// The key that made the signature.
    pub key_id: KeyId,
    /// The versions of the plugin protocol, in order.
    pub protocols: Vec<ProtocolVersion>,
    /// The text of the manifest, if the list has a line for it.
    pub manifest: Option<String>,
    /// The size in bytes of each file that the publisher announced.
    pub bytes: BTreeMap<Platform, u64>,
    /// What the publisher's environment claims about the version.
    pub claimed: Option<Claimed>,
}

impl ProviderManifest {
    /// Returns the text for the store, without the claims.
    pub(crate) fn to_text(&self) -> String {
        let bytes: Map<String, Value> =
            self.bytes.iter().map(|(of, bytes)| (of.to_string(), (*bytes).into())).collect();
        json!({
            "sums": self.sums.text(),
            "signature": STANDARD.encode(&self.signature),
            "key_id": self.key_id.as_str(),
            "protocols": self.protocols.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "manifest": self.manifest,
            "bytes": bytes,
        })
        .to_string()
    }

    /// Reads the text from the store. `None` if it is malformed, or for another kind of package.
    pub(crate) fn read(
        text: &str,
        address: &str,
        version: &str,
        claimed: Option<Claimed>,
    ) -> Option<Self> {
        let (address, version) = (PackageAddress::parse(address)?, Version::parse(version).ok()?);
        let json: Value = serde_json::from_str(text).ok()?;
        let string = |name: &str| json.get(name)?.as_str();
        let protocols = json.get("protocols")?.as_array()?.iter();
        let bytes = json.get("bytes")?.as_object()?.iter();
        Some(Self {
            sums: Sums::parse(string("sums")?, &address.provider()?.provider_type, &version)
                .ok()?,
            signature: STANDARD.decode(string("signature")?).ok()?,
            key_id: KeyId::parse(string("key_id")?)?,
            protocols: protocols
                .map(|protocol| protocol.as_str()?.parse().ok())
                .collect::<Option<_>>()?,
            manifest: match json.get("manifest")? {
                Value::Null => None,
                manifest => Some(manifest.as_str()?.to_owned()),
            },
            bytes: bytes
                .map(|(platform, bytes)| Some((platform.parse().ok()?, bytes.as_u64()?)))
                .collect::<Option<_>>()?,
            claimed,
        })
    }

    /// Returns the signed list.
    pub(crate) fn signed_sums(&self) -> SignedSums {
        SignedSums {
            text: self.sums.text().to_owned(),
            signature: self.signature.clone(),
            key_id: self.key_id.clone(),
        }
    }

    /// Returns the size of all announced files.
    pub(crate) fn total(&self) -> u64 {
        self.bytes.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }
}

/// Why a signed list does not replace the one of a published version.
///
/// A caller with a stolen token has no private key. It has every signature that was published, and
/// could otherwise bring an earlier list or key back, or change what no signature covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReplaced {
    /// The version is published with other versions of the plugin protocol.
    #[error("the version is published with other versions of the plugin protocol")]
    Protocols,
    /// The version is published with a manifest, which the new list does not have.
    #[error("the version is published with another manifest")]
    Manifest,
    /// The published signature is good, and not older.
    #[error("the version has a signature of the same time or a later one")]
    Older,
}

/// The result of beginning an upload of a version of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BegunProviderUpload {
    /// The publisher sends the missing files, and then completes the session.
    Session(ProviderSession),
    /// The version is published with the same list, key, protocols and manifest.
    Same,
    /// The version has files for these platforms, which the list does not have.
    Stale(Vec<Platform>),
    /// The version is published with another file for this platform.
    Different(Platform),
    /// The list does not replace the published one.
    NotReplaced(NotReplaced),
    /// The registry needs the files of these platforms, and the publisher announced none.
    Unannounced(Vec<Platform>),
    /// The version would exceed a limit of the namespace. Nothing began.
    OverQuota(QuotaExceeded),
    /// The principal or the namespace has the maximum number of open uploads. Nothing began.
    TooManyOpen,
}

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderSession {
    /// The id of the upload.
    pub id: UploadId,
    /// Until when the publisher can complete it, in Unix seconds.
    pub expires_at: i64,
    /// The zip archives of the list, in order of platform.
    pub files: Vec<SessionFile>,
}

/// A file of an open session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFile {
    /// The name in the list.
    pub name: String,
    /// The platform.
    pub platform: Platform,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// Whether the registry has the file.
    pub state: SessionFileState,
}

/// Whether the registry has a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionFileState {
    /// The publisher must send it.
    Missing {
        /// The request that puts it into the bucket. `None` if the broker receives it.
        put: Option<PresignedPut>,
    },
    /// The registry has verified it, now or earlier.
    Verified,
}

/// A request that puts a file directly into the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresignedPut {
    /// The URL. Its signature covers all of `headers`.
    pub url: String,
    /// The headers to send, with exactly these values.
    pub headers: Vec<(String, String)>,
}

/// A session that a principal began and that has not ended. Only the store creates it, and only for
/// that principal.
#[derive(Debug)]
pub struct PendingProviderUpload {
    pub(crate) id: UploadId,
    pub(crate) address: PackageAddress,
    pub(crate) version: Version,
    pub(crate) manifest: ProviderManifest,
    pub(crate) files: Vec<PendingFile>,
    /// The files of the published version that are not at their place any more.
    pub(crate) lost: Vec<ReleaseFile>,
}

/// A file of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingFile {
    /// The name in the list.
    pub name: String,
    /// The platform.
    pub platform: Platform,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// The announced size in bytes.
    pub bytes: u64,
    /// Whether the registry has verified it.
    pub is_verified: bool,
}

impl PendingProviderUpload {
    /// Returns the file with this name, if the session has it.
    pub fn file(&self, name: &str) -> Option<&PendingFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Returns the files, in order of platform.
    pub fn files(&self) -> &[PendingFile] {
        &self.files
    }

    /// Returns the SHA-256 of the list of digests, in lower-case hex.
    pub fn sha256(&self) -> String {
        sums_sha256(self.manifest.sums.text())
    }

    /// Returns the name of the file of a platform.
    pub(crate) fn name_of(&self, platform: &Platform) -> String {
        let provider_type = self.address.provider().map(|provider| &provider.provider_type);
        provider_type.map_or_else(String::new, |of| zip_name(of, &self.version, platform))
    }
}

pub(crate) fn sums_sha256(text: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(text))
}

/// The answer to a request that wants to verify a file.
#[derive(Debug)]
pub enum VerificationTurn {
    /// The request has the turn. End it after the verification, whatever its result.
    Taken(TakenTurn),
    /// The file is verified.
    Verified,
    /// Another request verifies the file.
    InProgress,
    /// An earlier request of the session refused the bytes, for this reason. The next one verifies again.
    Refused(String),
}

/// The turn to verify a file. Nobody else has it for two minutes.
#[derive(Debug)]
pub struct TakenTurn {
    pub(crate) address: PackageAddress,
    pub(crate) version: Version,
    pub(crate) platform: Platform,
    pub(crate) sha256: String,
    /// The id of the session.
    pub(crate) upload: String,
    /// The revision of the record with the turn.
    pub(crate) revision: i64,
    /// Until when the store keeps the record, in Unix seconds.
    pub(crate) keep_until: i64,
}

/// The result of completing a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderCompletion {
    /// All files are verified. This is the result: [`Published::Replaced`] if the version existed and
    /// has more files, or another signed list, now.
    Published(Published),
    /// The files with these names are not verified.
    Missing(Vec<String>),
    /// The version got files for these platforms meanwhile, which the list does not have.
    Stale(Vec<Platform>),
    /// The version got another file for this platform meanwhile.
    Different(Platform),
    /// The list does not replace the published one.
    NotReplaced(NotReplaced),
    /// The key cannot sign any more.
    Signer(SignerError),
}

/// A version of a provider, with everything that a download needs.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderVersion {
    /// The files and the signed list.
    pub release: Release,
    /// The signing keys of the namespace.
    pub keys: NamespaceKeys,
    /// Whether it is deprecated or unpublished.
    pub life: Life,
    /// The principal that published it first.
    pub published_by: String,
    /// The id of the publisher's token.
    pub token_id: Option<String>,
    /// The time of its first publication, in Unix seconds.
    pub published_at: i64,
    /// What the publisher's environment claims. Nobody verified it.
    pub claimed: Option<Claimed>,
}

/// Where a client fetches the files of one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderLocations {
    /// The zip archive.
    pub zip: Location,
    /// The list of digests.
    pub sums: Location,
    /// The signature of the list.
    pub signature: Location,
}
