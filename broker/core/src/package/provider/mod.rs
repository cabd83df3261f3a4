//! Providers: the files of a version, their names, and what the registry records of them.

mod announced;
mod detached;
mod documents;
mod file_name;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod key_algorithm;
mod key_error;
mod manifest;
mod namespace_keys;
mod packets;
mod platform;
mod protocol_version;
mod release;
mod self_signatures;
mod shown;
mod signing_key;
mod sums;

pub use announced::{AnnouncedRelease, AnnouncedReleaseError};
pub use detached::{MAX_SIGNATURE, SignatureError};
pub use documents::{DownloadUrls, download_document};
pub use file_name::{
    FileNameError, ProviderFile, manifest_name, signature_name, sums_name, zip_name,
};
pub use key_error::KeyError;
pub use manifest::{MAX_MANIFEST, Manifest, ManifestError};
pub use namespace_keys::{
    KeyAdded, KeyRetired, KeyState, MAX_KEYS, NamespaceKeys, RegisteredKey, SignerError,
};
pub use platform::{Platform, PlatformError};
pub use protocol_version::{ProtocolVersion, ProtocolVersionError};
pub use release::{KeyId, Release, ReleaseFile, SignedSums};
pub use signing_key::{MAX_ARMOR, SigningKey};
pub use sums::{MAX_SUMS, NotIncluded, Sums, SumsError};

#[cfg(test)]
mod tests;
