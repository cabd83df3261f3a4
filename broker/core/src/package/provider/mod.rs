//! Providers: the files of a version, their names, and what the registry records of them.

mod platform;
mod protocol_version;
mod release;

pub use platform::{Platform, PlatformError};
pub use protocol_version::{ProtocolVersion, ProtocolVersionError};
pub use release::{KeyId, Release, ReleaseFile, SignedSums};
