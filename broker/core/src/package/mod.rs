//! Packages: addresses, versions, archives, uploads and signed URLs. Only uploads do I/O, in a
//! temporary file.

mod address;
mod announced;
pub mod archive;
mod life;
mod provenance;
pub mod provider;
mod search_text;
mod signed_url;
pub mod source;
mod upload;
mod version;

use stile_protocol::names::{ModuleAddress, ProviderAddress};

pub use address::{PackageAddress, PackageKind};
pub use announced::{AnnouncedArchive, UploadId, is_sha256};
pub use archive::Format;
pub use life::{Explanation, Life, LifeChange, Step};
pub use provenance::{CLAIMED, Claimed, PromotedFrom};
pub use search_text::SearchText;
pub(crate) use search_text::{split_words, words_of};
pub use signed_url::{
    LIFETIME as SIGNED_URL_LIFETIME, PROVIDER_PREFIX as PROVIDER_FILES_PREFIX, ProviderText,
    SignedProviderText, SignedUrl, SignedUrlError,
};
pub use upload::{
    ArchiveUpload, UploadError, VerifiedArchive, VerifiedProviderFile, sweep_uploads,
};
pub use version::{Version, VersionError};

/// Maximum size of an archive in bytes.
pub const MAX_ARCHIVE: u64 = 100 * 1000 * 1000;

/// Maximum size in bytes of the zip archive of one platform of a provider.
pub const MAX_PROVIDER_FILE: u64 = 1_000 * 1_000 * 1_000;

/// Maximum size in bytes of an archive in a Lambda event.
///
/// An event has at most 6 MB, and contains the body in base64 (AWS Lambda quotas).
pub const MAX_IN_EVENT: u64 = 4 * 1000 * 1000;

/// Maximum size in bytes of an archive in any event, including those of a load balancer.
///
/// A load balancer accepts at most 1 MB for a function (Elastic Load Balancing, "Lambda functions as
/// targets"). So a client can send such an archive directly to every registry.
pub const MAX_IN_ANY_EVENT: u64 = 700 * 1000;

/// What a publisher says about a new version, in one request or in an upload session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// The version.
    pub version: Version,
    /// The format of the archive.
    pub format: Format,
    /// What the publisher's environment claims about the version.
    pub claimed: Option<Claimed>,
    /// The text by which it is found.
    pub search: SearchText,
}

/// One package in a list of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary<A> {
    /// The address of the package.
    pub address: A,
    /// The highest version. It is a pre-release only if there is no other version.
    pub latest: Version,
    /// Time of publication of the highest version, in Unix seconds.
    pub published_at: i64,
}

/// One package of any kind in a list.
pub type PackageSummary = Summary<PackageAddress>;

/// One module in a list of modules.
pub type ModuleSummary = Summary<ModuleAddress>;

/// One provider in a list of providers.
pub type ProviderSummary = Summary<ProviderAddress>;

impl<A> Summary<A> {
    /// Returns the same with another address. `None` if `address` returns none.
    pub fn with_address<B>(self, address: impl FnOnce(A) -> Option<B>) -> Option<Summary<B>> {
        let Self { address: before, latest, published_at } = self;
        Some(Summary { address: address(before)?, latest, published_at })
    }
}

/// Returns the response to `GET …/versions`. The store writes it at publication, not at each read.
///
/// It omits `root` and `submodules`: clients decode them strictly and use neither.
pub fn versions_document<'a>(versions: impl Iterator<Item = &'a Version>) -> String {
    let versions: Vec<_> =
        versions.map(|version| serde_json::json!({ "version": version.to_string() })).collect();
    serde_json::json!({ "modules": [{ "versions": versions }] }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_document_has_the_format_of_the_module_registry_protocol() {
        let versions = ["1.2.0", "1.10.0"].map(|text| Version::parse(text).unwrap());
        assert_eq!(
            versions_document(versions.iter()),
            r#"{"modules":[{"versions":[{"version":"1.2.0"},{"version":"1.10.0"}]}]}"#
        );
    }
}
