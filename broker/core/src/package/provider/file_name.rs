//! The names of a provider's files: Terraform and Go's release tools agree on them.

use stile_protocol::names::ProviderType;

use super::shown::shown;
use super::{Platform, PlatformError};
use crate::package::Version;

/// The beginning of the name of each file of a provider.
const PREFIX: &str = "terraform-provider-";

/// A file of a provider version that `SHA256SUMS` can list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProviderFile {
    /// The zip archive of a platform.
    Zip(Platform),
    /// The manifest, which has the versions of the plugin protocol.
    Manifest,
}

/// The error for a name that no file of a provider version has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileNameError {
    /// The name belongs to another provider, or to none.
    #[error("file `{found}` must have a name that begins with `{PREFIX}{expected}_`")]
    OtherProvider {
        /// The name.
        found: String,
        /// The type of the provider.
        expected: String,
    },
    /// The name belongs to another version.
    #[error("file `{found}` must have the version `{expected}` in its name")]
    OtherVersion {
        /// The name.
        found: String,
        /// The version.
        expected: String,
    },
    /// The file is neither a zip archive nor the manifest.
    #[error("file `{0}` must end in `_OS_ARCH.zip` or in `_manifest.json`")]
    Unknown(String),
    /// The platform in the name is invalid.
    #[error("file `{found}`: {problem}")]
    Platform {
        /// The name.
        found: String,
        /// The problem of the platform.
        problem: PlatformError,
    },
}

impl ProviderFile {
    /// Parses the name of a file of this version.
    ///
    /// # Errors
    ///
    /// [`FileNameError`], if no file of this version has the name.
    pub fn parse(
        name: &str,
        provider_type: &ProviderType,
        version: &Version,
    ) -> Result<Self, FileNameError> {
        let rest = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix(provider_type.as_str()))
            .and_then(|rest| rest.strip_prefix('_'))
            .ok_or_else(|| FileNameError::OtherProvider {
                found: shown(name),
                expected: provider_type.to_string(),
            })?;
        let rest = rest
            .strip_prefix(version.to_string().as_str())
            .and_then(|rest| rest.strip_prefix('_'))
            .ok_or_else(|| FileNameError::OtherVersion {
                found: shown(name),
                expected: version.to_string(),
            })?;
        if rest == "manifest.json" {
            return Ok(Self::Manifest);
        }
        let platform =
            rest.strip_suffix(".zip").ok_or_else(|| FileNameError::Unknown(shown(name)))?;
        match platform.parse() {
            Ok(platform) => Ok(Self::Zip(platform)),
            Err(problem) => Err(FileNameError::Platform { found: shown(name), problem }),
        }
    }

    /// Returns the name of the file.
    pub fn name(&self, provider_type: &ProviderType, version: &Version) -> String {
        match self {
            Self::Zip(platform) => zip_name(provider_type, version, platform),
            Self::Manifest => manifest_name(provider_type, version),
        }
    }
}

/// Returns the name of the zip archive of a platform.
pub fn zip_name(provider_type: &ProviderType, version: &Version, platform: &Platform) -> String {
    format!("{PREFIX}{provider_type}_{version}_{platform}.zip")
}

/// Returns the name of the manifest.
pub fn manifest_name(provider_type: &ProviderType, version: &Version) -> String {
    format!("{PREFIX}{provider_type}_{version}_manifest.json")
}

/// Returns the name of the list of digests.
pub fn sums_name(provider_type: &ProviderType, version: &Version) -> String {
    format!("{PREFIX}{provider_type}_{version}_SHA256SUMS")
}

/// Returns the name of the detached signature of the list of digests.
pub fn signature_name(provider_type: &ProviderType, version: &Version) -> String {
    format!("{PREFIX}{provider_type}_{version}_SHA256SUMS.sig")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_another_provider_version_or_kind_is_refused() {
        let (dns, version) =
            (ProviderType::parse("dns").unwrap(), Version::parse("1.0.0").unwrap());
        for (name, problem) in [
            ("", "must have a name that begins with `terraform-provider-dns_`"),
            ("terraform-provider-web_1.0.0_linux_amd64.zip", "must have a name that begins"),
            ("terraform-provider-dns-x_1.0.0_linux_amd64.zip", "must have a name that begins"),
            ("terraform-provider-d_ns_1.0.0_linux_amd64.zip", "must have a name that begins"),
            ("../terraform-provider-dns_1.0.0_linux_amd64.zip", "must have a name that begins"),
            ("Terraform-provider-dns_1.0.0_linux_amd64.zip", "must have a name that begins"),
            ("terraform-provider-dns_1.0.1_linux_amd64.zip", "must have the version `1.0.0`"),
            ("terraform-provider-dns_v1.0.0_linux_amd64.zip", "must have the version `1.0.0`"),
            ("terraform-provider-dns_1.0.0-rc.1_linux_amd64.zip", "must have the version"),
            ("terraform-provider-dns_1.0.0_SHA256SUMS", "must end in `_OS_ARCH.zip`"),
            ("terraform-provider-dns_1.0.0_linux_amd64.tar.gz", "must end in `_OS_ARCH.zip`"),
            ("terraform-provider-dns_1.0.0_linux.zip", "must have the form `OS_ARCH`"),
            ("terraform-provider-dns_1.0.0_../a_amd64.zip", "must have the form `OS_ARCH`"),
            ("terraform-provider-dns_1.0.0_linux_x86_64.zip", "must have the form `OS_ARCH`"),
            ("terraform-provider-dns_1.0.0_macos_arm64.zip", "must have the name `darwin`"),
        ] {
            let error = ProviderFile::parse(name, &dns, &version).unwrap_err().to_string();
            assert!(error.contains(problem), "{name}: {error}");
        }
    }

    #[test]
    fn each_file_is_parsed_from_its_own_name() {
        let (dns, version) =
            (ProviderType::parse("dns").unwrap(), Version::parse("1.0.0-rc.1").unwrap());
        for file in [ProviderFile::Zip("linux_amd64".parse().unwrap()), ProviderFile::Manifest] {
            let name = file.name(&dns, &version);
            assert_eq!(ProviderFile::parse(&name, &dns, &version), Ok(file), "{name}");
        }
        assert_eq!(sums_name(&dns, &version), "terraform-provider-dns_1.0.0-rc.1_SHA256SUMS");
        assert_eq!(
            signature_name(&dns, &version),
            "terraform-provider-dns_1.0.0-rc.1_SHA256SUMS.sig"
        );
    }
}
