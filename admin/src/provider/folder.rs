//! Reads the names in a folder with a release: the `dist` of GoReleaser, or tarballs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use stile_core::package::Version;
use stile_core::package::provider::{
    MAX_MANIFEST, MAX_SUMS, Platform, ProviderFile, signature_name, sums_name,
};
use stile_protocol::names::ProviderType;
use terraform_credentials_stile::message::one_line;

use crate::error::CommandError;

/// The beginning of the names of files of every provider.
const PREFIX: &str = "terraform-provider-";

/// The end of the name of a tarball.
const TARBALL: &str = "-bin.tar.gz";

/// The end of the name of a list of digests, of any version.
const SUMS: &str = "_SHA256SUMS";

/// The end of the name of a manifest, of any version.
const MANIFEST: &str = "_manifest.json";

/// The name of a manifest in the repository of a provider. GoReleaser publishes it under another name,
/// and does not copy it into its `dist`, which is a folder of the repository.
const SOURCE_MANIFEST: &str = "terraform-registry-manifest.json";

/// Maximum size of a signature in bytes. One of RSA-4096 has about 600.
const MAX_SIGNATURE: usize = 8 * 1024;

/// The beginning of an armored signature. Terraform reads binary signatures only.
const ARMOR: &[u8] = b"-----BEGIN PGP";

/// The archives of a release, by platform.
#[derive(Debug)]
pub(crate) enum Archives {
    /// Zip archives, which clients install as they are.
    Zips(BTreeMap<Platform, PathBuf>),
    /// Tarballs, which the program repacks.
    Tarballs(BTreeMap<Platform, PathBuf>),
}

/// The files of one version in a folder. Only the small ones are in memory.
#[derive(Debug)]
pub(crate) struct ReleaseFolder {
    /// The archives. At least one.
    pub(crate) archives: Archives,
    /// The text of `SHA256SUMS`.
    pub(crate) sums: Option<String>,
    /// The detached signature of `SHA256SUMS`, in binary.
    pub(crate) signature: Option<Vec<u8>>,
    /// The manifest.
    pub(crate) manifest: Option<ManifestFile>,
}

/// The manifest of a version, in or near the folder.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) text: String,
}

impl ManifestFile {
    /// Reads a manifest.
    pub(crate) fn read(path: PathBuf) -> Result<Self, CommandError> {
        let text = text(&path, MAX_MANIFEST)?;
        Ok(Self { path, text })
    }

    /// Reads the manifest of the repository in which the folder is, if there is one.
    fn outside(folder: &Path) -> Result<Option<Self>, CommandError> {
        let path = folder.join("..").join(SOURCE_MANIFEST);
        match path.try_exists() {
            Ok(false) => Ok(None),
            Ok(true) => Self::read(path).map(Some),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }
}

/// What a name in the folder says.
enum Named {
    Zip(Platform),
    Tarball(Platform),
    Sums,
    Signature,
    Manifest,
    SourceManifest,
    /// The file does not belong to a release, for example `CHANGELOG.md`.
    Other,
}

impl ReleaseFolder {
    /// Reads the files at the top of a folder that belong to this version.
    ///
    /// It ignores folders, and files that no release has. The manifest is `manifest`, or else a file
    /// of the folder, or else that of the repository in which the folder is.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if a file of another provider or version is there, if there is no archive, or
    /// if there are archives of both kinds.
    pub(crate) fn read(
        folder: &Path,
        provider_type: &ProviderType,
        version: &Version,
        manifest: Option<&Path>,
    ) -> Result<Self, CommandError> {
        let unreadable = |error: &io::Error| unreadable(folder, error);
        let (mut zips, mut tarballs) = (BTreeMap::new(), BTreeMap::new());
        let (mut sums, mut signature, mut own_manifest, mut source_manifest) =
            (None, None, None, None);
        for entry in fs::read_dir(folder).map_err(|error| unreadable(&error))? {
            let entry = entry.map_err(|error| unreadable(&error))?;
            let path = entry.path();
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            match named(&name, provider_type, version)? {
                Named::Zip(platform) => {
                    zips.insert(platform, path);
                }
                Named::Tarball(platform) => {
                    tarballs.insert(platform, path);
                }
                Named::Sums => sums = Some(text(&path, MAX_SUMS)?),
                Named::Signature => signature = Some(signature_of(&path)?),
                Named::Manifest => own_manifest = Some(path),
                Named::SourceManifest => source_manifest = Some(path),
                Named::Other => {}
            }
        }
        let archives = match (zips.is_empty(), tarballs.is_empty()) {
            (false, true) => Archives::Zips(zips),
            (true, false) => Archives::Tarballs(tarballs),
            (true, true) => return Err(no_archive(folder, provider_type, version)),
            (false, false) => {
                return Err(refused(folder, "has both zip archives and tarballs of the version")
                    .hint("publish the ones or the others, from a folder of their own"));
            }
        };
        if let (Archives::Tarballs(_), Some(_)) = (&archives, &sums) {
            return Err(refused(
                folder,
                "has a `SHA256SUMS`, but the archives that are published are repacked from tarballs",
            )
            .hint("move the file away; the program writes a new one for the zip archives"));
        }
        if sums.is_none() && signature.is_some() {
            return Err(refused(folder, "has a signature, and no `SHA256SUMS`"));
        }
        let manifest = manifest.map(Path::to_owned).or(own_manifest).or(source_manifest);
        let manifest = match manifest {
            Some(path) => Some(ManifestFile::read(path)?),
            None => ManifestFile::outside(folder)?,
        };
        Ok(Self { archives, sums, signature, manifest })
    }
}

/// Classifies the name of a file. A name of another provider or version is an error.
fn named(
    name: &str,
    provider_type: &ProviderType,
    version: &Version,
) -> Result<Named, CommandError> {
    if name == SOURCE_MANIFEST {
        return Ok(Named::SourceManifest);
    }
    if !name.starts_with(PREFIX) {
        return Ok(Named::Other);
    }
    if name.ends_with(TARBALL) {
        return tarball(name, provider_type, version).map(Named::Tarball);
    }
    if name.ends_with(".zip") || name.ends_with(MANIFEST) {
        let file = ProviderFile::parse(name, provider_type, version)
            .map_err(|error| other(&error.to_string()))?;
        return Ok(match file {
            ProviderFile::Zip(platform) => Named::Zip(platform),
            ProviderFile::Manifest => Named::Manifest,
        });
    }
    let expected = [
        (SUMS, sums_name(provider_type, version), Named::Sums),
        ("_SHA256SUMS.sig", signature_name(provider_type, version), Named::Signature),
    ];
    for (end, expected, found) in expected {
        if name.ends_with(end) {
            return if name == expected {
                Ok(found)
            } else {
                let name = one_line(name);
                Err(other(&format!("file `{name}` must have the name `{expected}`")))
            };
        }
    }
    Ok(Named::Other)
}

/// Parses `terraform-provider-NAME-vVERSION-OS-ARCH-bin.tar.gz`.
fn tarball(
    name: &str,
    provider_type: &ProviderType,
    version: &Version,
) -> Result<Platform, CommandError> {
    let begin = format!("{PREFIX}{provider_type}-v{version}-");
    let shown = one_line(name);
    let platform = name
        .strip_prefix(&begin)
        .and_then(|rest| rest.strip_suffix(TARBALL))
        .ok_or_else(|| other(&format!("file `{shown}` must begin with `{begin}`")))?;
    let (os, arch) = platform.split_once('-').unwrap_or((platform, ""));
    Platform::new(os, arch).map_err(|error| other(&format!("file `{shown}`: {error}")))
}

fn other(problem: &str) -> CommandError {
    CommandError::refused(problem)
        .hint("a folder has the files of one version; correct the version, or move the file away")
}

fn no_archive(folder: &Path, provider_type: &ProviderType, version: &Version) -> CommandError {
    let zip = format!("{PREFIX}{provider_type}_{version}_OS_ARCH.zip");
    let tarball = format!("{PREFIX}{provider_type}-v{version}-OS-ARCH{TARBALL}");
    refused(folder, "has no archive of the version")
        .hint(format!("name a folder with files such as `{zip}` or `{tarball}`"))
}

fn refused(folder: &Path, problem: &str) -> CommandError {
    CommandError::refused(format!("`{}` {problem}", one_line(&folder.to_string_lossy())))
}

/// Returns the error for a file or folder that cannot be read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> CommandError {
    let path = one_line(&path.to_string_lossy());
    CommandError::failed_because(format_args!("`{path}` cannot be read"), error)
}

/// Opens a regular file. Opening a pipe would wait for a writer.
pub(super) fn open(path: &Path) -> Result<File, CommandError> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(refused(path, "is not a file"));
    }
    File::open(path).map_err(|error| unreadable(path, &error))
}

/// Reads a small file, of at most that many bytes.
pub(crate) fn read_small(path: &Path, most: usize) -> Result<Vec<u8>, CommandError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    open(path)?.take(limit).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if bytes.len() > most {
        return Err(refused(path, &format!("is larger than {most} bytes")));
    }
    Ok(bytes)
}

fn text(path: &Path, most: usize) -> Result<String, CommandError> {
    String::from_utf8(read_small(path, most)?).map_err(|_| refused(path, "is not UTF-8"))
}

fn signature_of(path: &Path) -> Result<Vec<u8>, CommandError> {
    let bytes = read_small(path, MAX_SIGNATURE)?;
    if bytes.starts_with(ARMOR) {
        return Err(refused(path, "is an armored signature, but Terraform reads only binary ones")
            .hint("sign with `gpg --detach-sign`, without `--armor`"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[&str]) -> Result<ReleaseFolder, CommandError> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("dist")).unwrap();
        for name in files {
            fs::write(folder.path().join("dist").join(name), "x").unwrap();
        }
        let provider_type = ProviderType::parse("dns").unwrap();
        let version = Version::parse("1.2.0").unwrap();
        // No other test writes into the parent of this folder.
        ReleaseFolder::read(&folder.path().join("dist"), &provider_type, &version, None)
    }

    const ZIP: &str = "terraform-provider-dns_1.2.0_linux_amd64.zip";
    const TAR: &str = "terraform-provider-dns-v1.2.0-linux-amd64-bin.tar.gz";

    #[test]
    fn a_folder_that_is_not_of_one_version_is_refused_with_a_sentence() {
        for (files, expected) in [
            (&[][..], "has no archive of the version"),
            (&["terraform-provider-dns.zip"], "must have a name that begins with"),
            (
                &[ZIP, "terraform-provider-dns_1.3.0_linux_arm64.zip"],
                "must have the version `1.2.0`",
            ),
            (
                &[ZIP, "terraform-provider-aws_1.2.0_linux_arm64.zip"],
                "begins with `terraform-provider-dns_`",
            ),
            (&["terraform-provider-dns_1.2.0_macos_arm64.zip"], "the name `darwin` of Go"),
            (&["terraform-provider-dns_1.2.0_linux_x86_64.zip"], "must have the form `OS_ARCH`"),
            (&[ZIP, TAR], "has both zip archives and tarballs"),
            (
                &[ZIP, "terraform-provider-dns_1.3.0_SHA256SUMS"],
                "must have the name `terraform-provider-dns_1.2.0_SHA256SUMS`",
            ),
            (
                &[ZIP, "terraform-provider-dns_1.2.0_SHA256SUMS.sig"],
                "has a signature, and no `SHA256SUMS`",
            ),
            (&[TAR, "terraform-provider-dns_1.2.0_SHA256SUMS"], "repacked from tarballs"),
            (
                &["terraform-provider-dns-v1.3.0-linux-amd64-bin.tar.gz"],
                "must begin with `terraform-provider-dns-v1.2.0-`",
            ),
            (&["terraform-provider-dns-v1.2.0-linux-bin.tar.gz"], "must have the form `OS_ARCH`"),
        ] {
            let error = read(files).unwrap_err();
            assert!(error.is_refusal() && error.message().contains(expected), "{files:?}: {error}");
        }
    }

    #[test]
    fn files_that_no_release_has_are_ignored() {
        let found =
            read(&[ZIP, "artifacts.json", "CHANGELOG.md", "terraform-provider-dns_amd64.txt"]);
        let Archives::Zips(zips) = found.unwrap().archives else { panic!("zips are expected") };
        assert_eq!(zips.keys().map(ToString::to_string).collect::<Vec<_>>(), ["linux_amd64"]);
        let found = read(&[TAR, "terraform-registry-manifest.json"]).unwrap();
        assert_eq!(found.manifest.unwrap().text, "x");
    }

    #[test]
    fn a_named_manifest_comes_before_one_of_the_folder_and_one_of_the_repository() {
        let top = tempfile::tempdir().unwrap();
        let dist = top.path().join("dist");
        fs::create_dir(&dist).unwrap();
        fs::write(dist.join(ZIP), "x").unwrap();
        let read = |named: Option<&Path>| {
            let provider_type = ProviderType::parse("dns").unwrap();
            let version = Version::parse("1.2.0").unwrap();
            let found = ReleaseFolder::read(&dist, &provider_type, &version, named);
            found.map(|found| found.manifest.map(|manifest| manifest.text))
        };
        assert_eq!(read(None).unwrap(), None);
        fs::write(top.path().join(SOURCE_MANIFEST), "repository").unwrap();
        assert_eq!(read(None).unwrap().as_deref(), Some("repository"));
        fs::write(dist.join("terraform-provider-dns_1.2.0_manifest.json"), "folder").unwrap();
        assert_eq!(read(None).unwrap().as_deref(), Some("folder"));
        let named = top.path().join("named.json");
        let error = read(Some(&named)).unwrap_err();
        assert!(error.message().contains("named.json` cannot be read"), "{error}");
        fs::write(&named, "named").unwrap();
        assert_eq!(read(Some(&named)).unwrap().as_deref(), Some("named"));
    }
}
