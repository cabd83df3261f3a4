//! Reads which modules `terraform init` installed: `.terraform/modules/modules.json`.
//!
//! Terraform and OpenTofu write the same format. A reader ignores fields that it does not know.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use stile_protocol::audience::Audience;
use stile_protocol::names::{ModuleAddress, ProviderAddress};
use stile_settings::mask::mask;
use terraform_credentials_stile::config::{self, Environment};
use terraform_credentials_stile::message::one_line;

/// The folder of Terraform, if `TF_DATA_DIR` names no other.
const DATA_FOLDER: &str = ".terraform";

/// The host of a source that names none.
const PUBLIC_HOST: &str = "registry.terraform.io";

/// Largest file that is read, in bytes: thousands of modules or providers.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Longest version that is a version of a registry, in characters.
const MAX_VERSION: usize = 64;

/// Why the list of installed modules cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstalledError {
    /// There is no folder of Terraform.
    #[error("`{}` does not exist, so nothing is installed there", .0.display())]
    NotInitialized(PathBuf),
    /// The file cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file has another form.
    #[error("`{}` is damaged", .0.display())]
    Damaged(PathBuf),
}

/// An installed module or provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Installed {
    /// One version of a registry's package.
    Version(InstalledVersion),
    /// A module or provider from elsewhere, as a line without secrets.
    Elsewhere(String),
}

/// The address of an installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum InstalledAddress {
    /// A module.
    Module(ModuleAddress),
    /// A provider.
    Provider(ProviderAddress),
}

impl InstalledAddress {
    /// Returns the path of the registry's route for the package, without a slash at the end.
    pub(crate) fn route(&self) -> String {
        match self {
            Self::Module(module) => format!("/v1/modules/{module}"),
            Self::Provider(provider) => format!("/v1/providers/{provider}"),
        }
    }
}

impl fmt::Display for InstalledAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(module) => module.fmt(formatter),
            Self::Provider(provider) => provider.fmt(formatter),
        }
    }
}

/// An installed version of a registry's package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InstalledVersion {
    /// The host of the registry.
    pub(crate) host: Audience,
    /// The address of the package.
    pub(crate) address: InstalledAddress,
    /// The version: a digit, and then letters, digits, `.`, `-` and `+`.
    pub(crate) version: String,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "Modules")]
    modules: Vec<ManifestEntry>,
}

#[derive(Deserialize)]
struct ManifestEntry {
    #[serde(rename = "Source", default)]
    source: String,
    #[serde(rename = "Version", default)]
    version: String,
}

/// Returns the modules that are installed for the configuration in a folder, each once. Modules of
/// the configuration itself, with a local path, are not among them.
///
/// # Errors
///
/// [`InstalledError`]. A configuration that calls no module has no list, which is not an error.
pub(crate) fn read(
    folder: &Path,
    environment: &Environment,
) -> Result<BTreeSet<Installed>, InstalledError> {
    let data = folder.join(environment.terraform_data.as_deref().unwrap_or(Path::new(DATA_FOLDER)));
    let path = data.join("modules").join("modules.json");
    match read_file(&path)? {
        Some(bytes) => parse(&bytes).ok_or(InstalledError::Damaged(path)),
        None if data.is_dir() => Ok(BTreeSet::new()),
        None => Err(InstalledError::NotInitialized(data)),
    }
}

/// Reads a file that Terraform wrote. `None` if it does not exist.
pub(crate) fn read_file(path: &Path) -> Result<Option<Vec<u8>>, InstalledError> {
    let mut bytes = Vec::new();
    // Nobody may write into a pipe there, and then a read never ends.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(InstalledError::Damaged(path.to_owned()));
    }
    match File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)) {
        Ok(_) if bytes.len() as u64 > MAX_FILE => Err(InstalledError::Damaged(path.to_owned())),
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(InstalledError::Unreadable { path: path.to_owned(), source }),
    }
}

fn parse(bytes: &[u8]) -> Option<BTreeSet<Installed>> {
    let manifest: Manifest = serde_json::from_slice(bytes).ok()?;
    Some(manifest.modules.iter().filter_map(installed).collect())
}

/// Returns an installed module, or `None` for a part of the configuration itself.
fn installed(entry: &ManifestEntry) -> Option<Installed> {
    let source = entry.source.as_str();
    let is_local = ["", ".", ".."].contains(&source)
        || ["./", "../", ".\\", "..\\"].iter().any(|start| source.starts_with(start));
    if is_local {
        return None;
    }
    let version = of_registry(source, &entry.version);
    let version = version.map(Installed::Version);
    Some(version.unwrap_or_else(|| elsewhere(source)))
}

/// Returns a package from elsewhere, as a line without secrets.
pub(crate) fn elsewhere(source: &str) -> Installed {
    Installed::Elsewhere(one_line(&mask(source)))
}

/// Parses a source such as `registry.example.com/acme/vpc/aws//modules/subnet`.
fn of_registry(source: &str, version: &str) -> Option<InstalledVersion> {
    if !is_version(version) {
        return None;
    }
    let package = source.split_once("//").map_or(source, |(package, _)| package);
    let (host, address) = match package.matches('/').count() {
        2 => (PUBLIC_HOST, package),
        3 => package.split_once('/')?,
        _ => return None,
    };
    Some(InstalledVersion {
        host: config::parse_host(host).ok()?,
        address: InstalledAddress::Module(address.parse().ok()?),
        version: version.to_owned(),
    })
}

/// Tells whether a text can be a version. It becomes a part of a URL.
pub(crate) fn is_version(text: &str) -> bool {
    text.len() <= MAX_VERSION
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(source: &str, version: &str) -> Vec<String> {
        let manifest = serde_json::json!({ "Modules": [
            { "Key": "", "Source": "", "Dir": "." },
            { "Key": "a", "Source": source, "Version": version, "Dir": "a", "Later": 1 },
            { "Key": "b", "Source": source, "Version": version, "Dir": "b" },
        ], "Later": 1 });
        let found = parse(manifest.to_string().as_bytes()).unwrap();
        let shown = |installed: Installed| match installed {
            Installed::Version(InstalledVersion { host, address, version }) => {
                format!("{host} {address} {version}")
            }
            Installed::Elsewhere(source) => format!("elsewhere {source}"),
        };
        found.into_iter().map(shown).collect()
    }

    #[test]
    fn a_file_of_another_form_is_damaged() {
        for text in ["", "{", "[]", "{}", r#"{"Modules":7}"#, r#"{"Modules":[7]}"#] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_source_that_is_no_address_with_a_version_is_elsewhere_and_shows_no_secret() {
        for (source, version) in [
            ("registry.example.com/acme/vpc/aws", ""),
            ("registry.example.com/acme/vpc/aws", "../../x"),
            ("registry.example.com/acme/vpc/aws", "1.2.0?x"),
            ("registry.example.com/acme/vpc/aws", "1.2.0/../x"),
            ("registry.example.com/acme/../aws", "1.2.0"),
            ("registry.example.com/ACME/vpc/aws", "1.2.0"),
            ("git::https://bob:hunter2@example.com/vpc.git?ref=v1", ""),
            ("s3::https://bucket.example.com/vpc.zip?X-Amz-Signature=hunter2", ""),
            ("github.com/acme/vpc", ""),
            ("a\u{1b}[2Jb", ""),
        ] {
            let found = listed(source, version);
            let [line] = found.as_slice() else { panic!("{source}: {found:?}") };
            assert!(line.starts_with("elsewhere "), "{source}: {line}");
            assert!(!line.contains("hunter2") && !line.contains('\u{1b}'), "{line}");
        }
    }

    #[test]
    fn a_module_of_a_registry_is_listed_once_and_a_local_one_not_at_all() {
        for source in ["./modules/a", "../a", ".\\a", "."] {
            assert_eq!(listed(source, ""), [""; 0], "{source}");
        }
        for (source, expected) in [
            ("registry.example.com/acme/vpc/aws", "registry.example.com acme/vpc/aws 1.2.0"),
            (
                "registry.example.com/acme/vpc/aws//modules/a/b",
                "registry.example.com acme/vpc/aws 1.2.0",
            ),
            ("127.0.0.1:8443/acme/vpc/aws", "127.0.0.1:8443 acme/vpc/aws 1.2.0"),
            ("acme/vpc/aws", "registry.terraform.io acme/vpc/aws 1.2.0"),
        ] {
            assert_eq!(listed(source, "1.2.0"), [expected], "{source}");
        }
    }
}
