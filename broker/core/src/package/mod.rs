//! Modules: their versions, documents, archives, and the links that archives are fetched by. Pure, but for an upload's file.

mod address;
mod announced;
pub mod archive;
mod signed_url;
mod upload;
mod version;

use stile_protocol::names::ModuleAddress;

pub use address::PackageAddress;
pub use announced::{AnnouncedArchive, UploadId};
pub use archive::Format;
pub use signed_url::{LIFETIME as SIGNED_URL_LIFETIME, SignedUrl, SignedUrlError};
pub use upload::{ArchiveUpload, UploadError, VerifiedArchive, sweep_uploads};
pub use version::{Version, VersionError};

/// Largest archive that may be sent, in bytes.
pub const MAX_ARCHIVE: u64 = 100 * 1000 * 1000;

/// Largest archive that a Lambda event carries, in bytes: Lambda takes 6 MB, and bodies come as base64 (Lambda quotas).
pub const MAX_IN_EVENT: u64 = 4 * 1000 * 1000;

/// The same behind a load balancer, which takes 1 MB for a function: whatever stands before a registry, an archive up to
/// here can be sent directly (Elastic Load Balancing, "Lambda functions as targets").
pub const MAX_IN_ANY_EVENT: u64 = 700 * 1000;

/// One line of a list of modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleSummary {
    /// Which module.
    pub address: ModuleAddress,
    /// Its highest version; a pre-release only where there is nothing else.
    pub latest: Version,
    /// When that was published, Unix seconds.
    pub published_at: i64,
}

/// The answer to `GET …/versions`, made when something is published and not when it is read.
///
/// `root` and `submodules` are left out: clients decode them strictly and use neither.
pub fn versions_document<'a>(versions: impl Iterator<Item = &'a Version>) -> String {
    let versions: Vec<_> =
        versions.map(|version| serde_json::json!({ "version": version.to_string() })).collect();
    serde_json::json!({ "modules": [{ "versions": versions }] }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_document_is_what_clients_read() {
        let versions = ["1.2.0", "1.10.0"].map(|text| Version::parse(text).unwrap());
        assert_eq!(
            versions_document(versions.iter()),
            r#"{"modules":[{"versions":[{"version":"1.2.0"},{"version":"1.10.0"}]}]}"#
        );
    }
}
