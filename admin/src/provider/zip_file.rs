//! A zip archive of one platform, which passed the same inspection as in the registry.

use std::fs::File;
use std::path::Path;

use stile_core::package::MAX_PROVIDER_FILE;
use stile_core::package::archive::{ArchiveError, ArchiveLimits, inspect_provider};
use stile_core::package::provider::Platform;
use stile_protocol::names::ProviderType;
use terraform_credentials_stile::message::one_line;

use super::folder::{open, unreadable};
use crate::error::CommandError;
use crate::upload::digest;

/// A zip archive that can be published.
#[derive(Debug)]
pub(crate) struct ZipFile {
    /// The file. One that was repacked has no name, so dropping it deletes it.
    pub(crate) file: File,
    /// The name under which clients download it.
    pub(crate) name: String,
    /// The name of the file in the folder.
    pub(crate) from: String,
    /// The size in bytes.
    pub(crate) bytes: u64,
    /// SHA-256 in lower-case hex.
    pub(crate) sha256: String,
}

impl ZipFile {
    /// Opens and inspects a zip archive of a folder.
    pub(crate) fn open(
        path: &Path,
        name: String,
        (provider_type, platform): (&ProviderType, &Platform),
    ) -> Result<Self, CommandError> {
        Self::inspect(open(path)?, path, name, (provider_type, platform))
    }

    /// Inspects a zip archive, which comes from the file at this path or with this name.
    pub(crate) fn inspect(
        mut file: File,
        path: &Path,
        name: String,
        (provider_type, platform): (&ProviderType, &Platform),
    ) -> Result<Self, CommandError> {
        let failed = |error: std::io::Error| unreadable(path, &error);
        let bytes = file.metadata().map_err(failed)?.len();
        if bytes > MAX_PROVIDER_FILE {
            let problem =
                format!("the archive has {bytes} bytes, but the maximum is {MAX_PROVIDER_FILE}");
            return Err(rejected(path, &problem));
        }
        let limits = ArchiveLimits::provider();
        let inspected = inspect_provider(&mut file, provider_type, platform, &limits);
        inspected.map_err(|error| archive_failure(path, &error))?;
        let sha256 = digest(&mut file).map_err(failed)?;
        let from = path.file_name().map(|name| one_line(&name.to_string_lossy()));
        Ok(Self { file, name, from: from.unwrap_or_default(), bytes, sha256 })
    }
}

/// Returns the error for a file that cannot be published.
pub(super) fn rejected(path: &Path, problem: &str) -> CommandError {
    let path = one_line(&path.to_string_lossy());
    CommandError::refused(format!("`{path}` cannot be published: {problem}"))
}

/// Returns the error of an inspection.
pub(super) fn archive_failure(path: &Path, error: &ArchiveError) -> CommandError {
    match error {
        ArchiveError::Unreadable(error) => unreadable(path, error),
        ArchiveError::Rejected { .. } | ArchiveError::TooSlow(_) => {
            let refused = rejected(path, &error.to_string());
            match error.hint() {
                Some(hint) => refused.hint(hint),
                None => refused,
            }
        }
    }
}
