//! The paths of an export, which only parsed names can make.

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use stile_core::package::provider::{
    Platform, ProviderFile, SignedSums, manifest_name, signature_name, sums_name, zip_name,
};
use stile_core::package::{Format, Version};
use stile_protocol::names::{ModuleAddress, ProviderAddress};

/// The path of a file of the export, from the folder of the export.
///
/// It stops a hostile registry from writing to another folder: a path consists of constants and of
/// names that were parsed, and none of them can have `/` or be `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TreePath(String);

/// The beginnings of the paths of packages.
const PROVIDERS: &str = "v1/providers";
const MODULES: &str = "v1/modules";

impl TreePath {
    /// Returns the path of the discovery document.
    pub(crate) fn discovery() -> Self {
        Self(".well-known/terraform.json".to_owned())
    }

    /// Returns the path of the list of media types.
    pub(crate) fn content_types() -> Self {
        Self("content-types.txt".to_owned())
    }

    /// Returns the path of the snippet for nginx.
    pub(crate) fn nginx() -> Self {
        Self("snippets/nginx.conf".to_owned())
    }

    /// Returns the path of the function for `CloudFront`.
    pub(crate) fn cloudfront() -> Self {
        Self("snippets/cloudfront-function.js".to_owned())
    }

    /// Returns the path of the data of the function for `CloudFront`.
    pub(crate) fn cloudfront_keys() -> Self {
        Self("snippets/cloudfront-keys.json".to_owned())
    }

    /// Returns the path of the versions of a provider.
    pub(crate) fn provider_versions(provider: &ProviderAddress) -> Self {
        Self(format!("{PROVIDERS}/{provider}/versions"))
    }

    /// Returns the path of the download document of a platform.
    pub(crate) fn provider_download(
        provider: &ProviderAddress,
        version: &Version,
        platform: &Platform,
    ) -> Self {
        let (os, arch) = (platform.os(), platform.arch());
        Self(format!("{PROVIDERS}/{provider}/{version}/download/{os}/{arch}"))
    }

    /// Returns the path of the zip archive of a platform.
    pub(crate) fn provider_zip(
        provider: &ProviderAddress,
        version: &Version,
        platform: &Platform,
    ) -> Self {
        let name = zip_name(&provider.provider_type, version, platform);
        Self::provider_file(provider, version, &name)
    }

    /// Returns the path of the manifest of a version.
    pub(crate) fn provider_manifest(provider: &ProviderAddress, version: &Version) -> Self {
        let name = manifest_name(&provider.provider_type, version);
        Self::provider_file(provider, version, &name)
    }

    /// Returns the path of the signed list of digests of a version. `pair` is the id of the list and its
    /// signature.
    pub(crate) fn provider_sums(
        provider: &ProviderAddress,
        version: &Version,
        pair: &SumsId,
    ) -> Self {
        let name = sums_name(&provider.provider_type, version);
        Self(format!("{PROVIDERS}/{provider}/{version}/sums/{pair}/{name}"))
    }

    /// Returns the path of the signature of the list of digests.
    pub(crate) fn provider_signature(
        provider: &ProviderAddress,
        version: &Version,
        pair: &SumsId,
    ) -> Self {
        let name = signature_name(&provider.provider_type, version);
        Self(format!("{PROVIDERS}/{provider}/{version}/sums/{pair}/{name}"))
    }

    fn provider_file(provider: &ProviderAddress, version: &Version, name: &str) -> Self {
        Self(format!("{PROVIDERS}/{provider}/{version}/files/{name}"))
    }

    /// Returns the path of the versions of a module.
    pub(crate) fn module_versions(module: &ModuleAddress) -> Self {
        Self(format!("{MODULES}/{module}/versions"))
    }

    /// Returns the path of the download document of a version of a module.
    pub(crate) fn module_download(module: &ModuleAddress, version: &Version) -> Self {
        Self(format!("{MODULES}/{module}/{version}/download"))
    }

    /// Returns the path of the archive of a version of a module.
    pub(crate) fn module_archive(
        module: &ModuleAddress,
        version: &Version,
        format: Format,
    ) -> Self {
        Self(format!("{MODULES}/{module}/{version}/archive.{}", format.extension()))
    }

    /// Parses the path of a file of a package. `None` for every path that the export does not make.
    pub(crate) fn parse(text: &str) -> Option<(Self, Owner)> {
        let owner = match text.split('/').collect::<Vec<_>>().as_slice() {
            ["v1", "providers", namespace, of_type, rest @ ..] => {
                let address: ProviderAddress = format!("{namespace}/{of_type}").parse().ok()?;
                let version = provider_version(&address, rest)?;
                Owner::Provider { address, version }
            }
            ["v1", "modules", namespace, name, system, rest @ ..] => {
                let address: ModuleAddress = format!("{namespace}/{name}/{system}").parse().ok()?;
                let version = module_version(rest)?;
                Owner::Module { address, version }
            }
            _ => return None,
        };
        Some((Self(text.to_owned()), owner))
    }

    /// Returns the path as text, with `/`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path of the file in the folder of an export.
    pub(super) fn below(&self, folder: &Path) -> PathBuf {
        folder.join(&self.0)
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The id of a list of digests with its signature: the beginning of a SHA-256 of both.
///
/// A version that grows or is signed again gets another list and another signature. They have a folder
/// of their own, so no client gets one of them with the other's predecessor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SumsId(String);

/// The length of the id in hex digits.
const SUMS_ID_LEN: usize = 16;

impl SumsId {
    /// Computes the id.
    pub(crate) fn of(sums: &SignedSums) -> Self {
        let text = Sha256::digest(sums.text.as_bytes());
        let both = Sha256::new().chain_update(text).chain_update(&sums.signature).finalize();
        Self(hex::encode(both).chars().take(SUMS_ID_LEN).collect())
    }

    fn is_valid(text: &str) -> bool {
        text.len() == SUMS_ID_LEN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl fmt::Display for SumsId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The package that a file is for. The version is missing for the versions document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A provider.
    Provider {
        /// The address.
        address: ProviderAddress,
        /// The version.
        version: Option<Version>,
    },
    /// A module.
    Module {
        /// The address.
        address: ModuleAddress,
        /// The version.
        version: Option<Version>,
    },
}

impl Owner {
    /// Returns whether the file is the versions document of the package.
    pub(crate) const fn is_index(&self) -> bool {
        let (Self::Provider { version, .. } | Self::Module { version, .. }) = self;
        version.is_none()
    }
}

/// Parses what follows the address of a provider. `None` if it is no file of the export.
fn provider_version(address: &ProviderAddress, rest: &[&str]) -> Option<Option<Version>> {
    match rest {
        ["versions"] => Some(None),
        [version, "download", os, arch] => {
            Platform::new(os, arch).ok()?;
            Version::parse(version).ok().map(Some)
        }
        [version, "files", name] => {
            let version = Version::parse(version).ok()?;
            ProviderFile::parse(name, &address.provider_type, &version).ok()?;
            Some(Some(version))
        }
        [version, "sums", pair, name] if SumsId::is_valid(pair) => {
            let version = Version::parse(version).ok()?;
            let of_type = &address.provider_type;
            [sums_name(of_type, &version), signature_name(of_type, &version)]
                .contains(&(*name).to_owned())
                .then_some(Some(version))
        }
        _ => None,
    }
}

/// Parses what follows the address of a module. `None` if it is no file of the export.
fn module_version(rest: &[&str]) -> Option<Option<Version>> {
    match rest {
        ["versions"] => Some(None),
        [version, "download"] => Version::parse(version).ok().map(Some),
        [version, name] => {
            Format::from_extension(name.strip_prefix("archive.")?)?;
            Version::parse(version).ok().map(Some)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_the_export_does_not_make_is_no_path_of_it() {
        for text in [
            "",
            "x",
            "../x",
            "/etc/passwd",
            "v1/modules/../../../etc/passwd/versions",
            "v1/modules/acme/../aws/versions",
            "v1/modules/Acme/vpc/aws/versions",
            "v1/modules/acme/vpc/aws/1.0/download",
            "v1/modules/acme/vpc/aws/../download",
            "v1/modules/acme/vpc/aws/1.0.0/archive.rar",
            "v1/modules/acme/vpc/aws/1.0.0/index.html",
            "v1/providers/acme/dns/1.0.0/files/..",
            "v1/providers/acme/dns/1.0.0/files/terraform-provider-web_1.0.0_linux_amd64.zip",
            "v1/providers/acme/dns/1.0.0/sums/../terraform-provider-dns_1.0.0_SHA256SUMS",
            "v1/providers/acme/dns/1.0.0/download/linux/..",
            "v1/providers/acme/dns/1.0.0/download/linux",
            "v1//providers/acme/dns/versions",
        ] {
            assert_eq!(TreePath::parse(text), None, "{text}");
        }
    }

    #[test]
    fn each_path_of_a_package_is_parsed_as_what_it_is_for() {
        let version = Version::parse("1.0.0-rc.1").unwrap();
        let provider: ProviderAddress = "acme/dns".parse().unwrap();
        let linux: Platform = "linux_amd64".parse().unwrap();
        let pair = SumsId("0123456789abcdef".to_owned());
        let of = |version: Option<&Version>| Owner::Provider {
            address: provider.clone(),
            version: version.cloned(),
        };
        for (path, owner) in [
            (TreePath::provider_versions(&provider), of(None)),
            (TreePath::provider_download(&provider, &version, &linux), of(Some(&version))),
            (TreePath::provider_zip(&provider, &version, &linux), of(Some(&version))),
            (TreePath::provider_sums(&provider, &version, &pair), of(Some(&version))),
            (TreePath::provider_signature(&provider, &version, &pair), of(Some(&version))),
            (TreePath::provider_manifest(&provider, &version), of(Some(&version))),
        ] {
            assert_eq!(TreePath::parse(path.as_str()), Some((path.clone(), owner)), "{path}");
        }
        let module: ModuleAddress = "acme/vpc/aws".parse().unwrap();
        let of = |version: Option<&Version>| Owner::Module {
            address: module.clone(),
            version: version.cloned(),
        };
        for (path, owner) in [
            (TreePath::module_versions(&module), of(None)),
            (TreePath::module_download(&module, &version), of(Some(&version))),
            (TreePath::module_archive(&module, &version, Format::Zip), of(Some(&version))),
            (TreePath::module_archive(&module, &version, Format::TarGz), of(Some(&version))),
        ] {
            assert_eq!(TreePath::parse(path.as_str()), Some((path.clone(), owner)), "{path}");
        }
    }
}
