//! Providers: the files of a version, their names, and what the registry records of them.

mod file_name;
mod manifest;
mod platform;
mod protocol_version;
mod release;
mod shown;
mod sums;

pub use file_name::{
    FileNameError, ProviderFile, manifest_name, signature_name, sums_name, zip_name,
};
pub use manifest::{MAX_MANIFEST, Manifest, ManifestError};
pub use platform::{Platform, PlatformError};
pub use protocol_version::{ProtocolVersion, ProtocolVersionError};
pub use release::{KeyId, Release, ReleaseFile, SignedSums};
pub use sums::{MAX_SUMS, NotIncluded, Sums, SumsError};
