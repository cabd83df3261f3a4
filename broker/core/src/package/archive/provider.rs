//! Inspects the zip archive of a provider, and computes its hash `h1:`.

use std::fs::File;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use stile_protocol::names::ProviderType;

use super::listing::{HashedFile, Listing, printable};
use super::{ArchiveError, ArchiveLimits, Format, read};
use crate::package::provider::Platform;

/// What an inspection found in the zip archive of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedProvider {
    /// The hash of the unpacked files, `h1:` and base64 (Go's `dirhash.Hash1`).
    pub h1: String,
}

/// Inspects a whole zip archive of a provider, with the same care for its entries as
/// [`super::inspect`], and computes its hash on the way.
///
/// Terraform runs the file at the top level whose name is `terraform-provider-TYPE`, or begins with it
/// and `_` or `.`. Of several such files it takes the first by name. So that file must be executable.
/// Only Windows has no such mode.
///
/// Memory depends on the number of entries and not on their size. It blocks the thread. Afterwards, the
/// file position is undefined.
///
/// # Errors
///
/// [`ArchiveError`], if the archive is invalid or the disk fails.
pub fn inspect_provider(
    file: &mut File,
    provider_type: &ProviderType,
    platform: &Platform,
    limits: &ArchiveLimits,
) -> Result<InspectedProvider, ArchiveError> {
    let mut listing = read(file, Format::Zip, Listing::with_hashes(limits))?;
    // Clients hash either the archive, with its folders, or the unpacked files.
    if let Some(folder) = listing.folder() {
        let problem = "is a folder, so that clients compute different hashes of the archive";
        return Err(ArchiveError::entry(&printable(folder.as_bytes()), problem)
            .or_hint("pack only files, as in `zip -D`"));
    }
    let mut files = listing.take_hashed();
    files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some(file) = files.iter().find(|file| file.name.starts_with("./")) {
        let problem = "begins with `./`, so that clients compute different hashes of the archive";
        return Err(ArchiveError::entry(&printable(file.name.as_bytes()), problem));
    }
    check_executable(&files, provider_type, platform)?;
    Ok(InspectedProvider { h1: h1(&files) })
}

/// Inspects a whole tarball of a release, with the same care for its entries as [`super::inspect`], before
/// a program repacks it to the zip archive of a provider. It blocks the thread. Afterwards, the file
/// position is undefined.
///
/// # Errors
///
/// [`ArchiveError`], if the tarball is invalid or the disk fails.
pub fn inspect_release_tarball(
    file: &mut File,
    limits: &ArchiveLimits,
) -> Result<(), ArchiveError> {
    read(file, Format::TarGz, Listing::new(limits)).map(drop)
}

fn check_executable(
    files: &[HashedFile],
    provider_type: &ProviderType,
    platform: &Platform,
) -> Result<(), ArchiveError> {
    let name = format!("terraform-provider-{provider_type}");
    let is_provider = |file: &&HashedFile| {
        let rest = file.name.strip_prefix(&name);
        !file.name.contains('/')
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', '.']))
    };
    let Some(file) = files.iter().find(is_provider) else {
        return Err(ArchiveError::archive(format_args!(
            "has no file `{name}` or `{name}_…` at the top level"
        ))
        .or_hint("pack the provider's executable itself, and not the folder around it"));
    };
    let is_executable = file.mode.is_some_and(|mode| mode & 0o111 != 0);
    if is_executable || platform.os() == "windows" {
        return Ok(());
    }
    Err(ArchiveError::entry(
        &printable(file.name.as_bytes()),
        "is the file that Terraform runs, and it is not executable",
    )
    .or_hint("run `chmod +x FILE`, and pack it on a system with modes (not Windows)"))
}

/// Returns the hash of files that are in the order of their names (Go's `dirhash.Hash1`).
fn h1(files: &[HashedFile]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(format!("{}  {}\n", hex::encode(file.sha256), file.name));
    }
    format!("h1:{}", STANDARD.encode(hash.finalize()))
}
