//! The source of a module's archive, and what its name says about the module.

use std::ffi::OsStr;
use std::path::PathBuf;

use reqwest::Url;
use stile_core::package::{Format, Version};
use stile_protocol::names::ModuleAddress;
use terraform_credentials_stile::config::is_loopback;

use crate::error::CommandError;
use crate::fetch;

/// The beginning of a file name that says which module the file contains.
const NAMED: &str = "terraform-module_";

/// A folder, a file or a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A folder, or a file with an archive.
    Path(PathBuf),
    /// The URL of an archive.
    Url(Url),
}

impl Source {
    /// Parses a path, or a URL: a text with `://`.
    ///
    /// # Errors
    ///
    /// A usage error for a URL that is not `https`, except on a loopback address, or that contains a
    /// user or a password.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, CommandError> {
        if !is_url(text) {
            return Ok(Self::Path(text.into()));
        }
        let invalid = |problem: &dyn std::fmt::Display| {
            CommandError::usage(format!("the source is not a valid URL: {problem}"))
                .hint("use a URL such as `https://HOST/PATH`")
        };
        let text = text.to_str().ok_or_else(|| invalid(&"it is not UTF-8"))?;
        let url = Url::parse(text).map_err(|error| invalid(&error))?;
        if !text.contains("://") {
            return Err(invalid(&"`//` is missing after its scheme"));
        }
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
            return Err(CommandError::usage(format!(
                "the source is a URL with `{}`, but only `https` is supported",
                url.scheme()
            )));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(CommandError::usage("the URL of the source contains a user or a password")
                .hint("download the archive, and publish the file"));
        }
        Ok(Self::Url(url))
    }

    /// Returns the module and the version that the name of the file says.
    ///
    /// # Errors
    ///
    /// A usage error, if the name has another form than
    /// `terraform-module_NAMESPACE_NAME_SYSTEM_vVERSION` with `.zip` or `.tar.gz`.
    pub(crate) fn named(&self) -> Result<(ModuleAddress, Version), CommandError> {
        let name = match self {
            Self::Path(path) => {
                path.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned()
            }
            Self::Url(url) => fetch::name(url),
        };
        named(&name)
    }
}

/// Returns whether a word is meant as a URL, and not as a path.
pub(crate) fn is_url(text: &OsStr) -> bool {
    let text = text.as_encoded_bytes().to_ascii_lowercase();
    text.windows(3).any(|part| part == b"://")
        || [&b"https:"[..], b"http:"].iter().any(|scheme| text.starts_with(scheme))
}

/// Returns the module and the version that the name of an archive says, as [`Source::named`].
pub(crate) fn named(name: &str) -> Result<(ModuleAddress, Version), CommandError> {
    let unnamed = || {
        CommandError::usage(format!(
            "the name `{}` does not say which module it is",
            name.escape_debug()
        ))
        .hint("write `ADDRESS VERSION SOURCE`, or name the file `terraform-module_NAMESPACE_NAME_SYSTEM_vVERSION.tar.gz`")
    };
    let stem = Format::ALL
        .iter()
        .find_map(|format| name.strip_suffix(format.extension())?.strip_suffix('.'))
        .ok_or_else(unnamed)?;
    let rest = stem.strip_prefix(NAMED).ok_or_else(unnamed)?;
    // A namespace and a system have no `_`, and neither has a version.
    let (rest, version) = rest.rsplit_once("_v").ok_or_else(unnamed)?;
    let (namespace, rest) = rest.split_once('_').ok_or_else(unnamed)?;
    let (module, system) = rest.rsplit_once('_').ok_or_else(unnamed)?;
    let address = format!("{namespace}/{module}/{system}").parse()?;
    let version =
        Version::parse(version).map_err(|error| CommandError::usage(error.to_string()))?;
    Ok((address, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str) -> Result<String, String> {
        named(name)
            .map(|(address, version)| format!("{address} {version}"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_that_says_no_module_is_an_error() {
        for name in [
            "",
            "vpc.tar.gz",
            "terraform-module_acme_vpc_aws_v1.2.0",
            "terraform-module_acme_vpc_aws_v1.2.0.tar",
            "terraform-module_acme_vpc_aws_v1.2.0.tgz",
            "terraform-module_acme_vpc_aws_1.2.0.zip",
            "terraform-module_acme_vpc_v1.2.0.zip",
            "terraform-module-acme-vpc-aws-v1.2.0.zip",
            "Terraform-module_acme_vpc_aws_v1.2.0.zip",
            "terraform-provider_acme_vpc_aws_v1.2.0.zip",
        ] {
            let error = parsed(name).unwrap_err();
            assert!(error.contains("does not say which module it is"), "{name}: {error}");
        }
        for name in [
            "terraform-module_Acme_vpc_aws_v1.2.0.zip",
            "terraform-module_acme__aws_v1.2.0.zip",
            "terraform-module_acme_vpc_AWS_v1.2.0.zip",
            "terraform-module_acme_vpc_aws_v1.2.zip",
            "terraform-module_acme_vpc_aws_v01.2.0.zip",
            "terraform-module_acme_vpc_aws_v1.2.0+build.tar.gz",
            "terraform-module_acme_vpc_aws_v1.2.0-.tar.gz",
            "terraform-module_acme_vpc_aws_vv1.2.0.tar.gz",
        ] {
            assert!(parsed(name).is_err(), "{name}: {:?}", parsed(name));
        }
    }

    #[test]
    fn a_name_in_the_form_of_releases_says_the_module_and_the_version() {
        for (name, expected) in [
            ("terraform-module_acme_vpc_aws_v1.2.0.tar.gz", "acme/vpc/aws 1.2.0"),
            ("terraform-module_acme_vpc_aws_v1.2.0.zip", "acme/vpc/aws 1.2.0"),
            ("terraform-module_a-b_my_long_vpc_aws_v0.0.1.zip", "a-b/my_long_vpc/aws 0.0.1"),
            ("terraform-module_acme_a_v1_aws_v1.0.0.zip", "acme/a_v1/aws 1.0.0"),
            ("terraform-module_acme_vpc_aws_v1.2.0-rc.1.tar.gz", "acme/vpc/aws 1.2.0-rc.1"),
            ("terraform-module_acme_vpc_aws_v1.2.0-x-y.zip", "acme/vpc/aws 1.2.0-x-y"),
            ("terraform-module_acme_vpc_aws_v10.20.30-0.3.7.zip", "acme/vpc/aws 10.20.30-0.3.7"),
        ] {
            assert_eq!(parsed(name).as_deref(), Ok(expected), "{name}");
        }
    }

    #[test]
    fn a_url_is_https_and_contains_no_user() {
        for text in [
            "http://example.com/a.zip",
            "ftp://example.com/a.zip",
            "git::https://example.com/a.git",
            "s3://bucket/a.zip",
            "file:///etc/passwd",
            "https://",
            "https:/example.com/a.zip?hunter2",
            "HTTPS:example.com/a.zip?hunter2",
            "bob:hunter2@example.com/get?u=https://x",
            "https://bob@example.com/a.zip",
            "https://bob:hunter2@example.com/a.zip",
        ] {
            let error = Source::parse(OsStr::new(text)).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
        for text in ["https://example.com/a.zip?X-Amz-Signature=1", "http://127.0.0.1:8/a.zip"] {
            assert!(matches!(Source::parse(OsStr::new(text)), Ok(Source::Url(_))), "{text}");
        }
        for text in ["vpc", "./a.zip", "C:/modules/vpc", "//h/a"] {
            assert_eq!(Source::parse(OsStr::new(text)).unwrap(), Source::Path(text.into()));
        }
    }
}
