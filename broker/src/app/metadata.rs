//! Reads the metadata of an archive before it is published, and of a published version.

use std::fs::File;

use super::broker::Broker;
use stile_core::grants::{Download, PackageAccess};
use stile_core::package::archive::ArchiveLimits;
use stile_core::package::{SearchText, VerifiedArchive};
use stile_metadata::{Limits, Metadata};
use stile_store::{StoreError, StoreErrorKind};

/// The warning of a publication whose archive could not be read a second time.
const NOT_READ: &str = "the registry could not read the metadata of the archive";

/// A verified archive with its metadata.
pub(super) struct Described {
    /// The archive. It has metadata, if that could be read.
    pub(super) archive: VerifiedArchive,
    /// The text by which the version is found.
    pub(super) search: SearchText,
    /// What could not be read, one sentence each.
    pub(super) warnings: Vec<String>,
}

/// Reads the metadata of an archive.
///
/// A module whose metadata cannot be read is published all the same.
pub(super) async fn describe(archive: VerifiedArchive, limits: ArchiveLimits) -> Described {
    let (path, format) = (archive.path().to_path_buf(), archive.format());
    let read = tokio::task::spawn_blocking(move || {
        let mut file = File::open(path).ok()?;
        let limits = Limits { archive: limits, ..Limits::default() };
        let metadata = stile_metadata::read(&mut file, format, &limits).ok()?;
        Some((metadata.to_json().ok()?, metadata))
    });
    match read.await {
        Ok(Some((json, metadata))) => Described {
            archive: archive.with_metadata(json),
            search: search_text(&metadata),
            warnings: metadata.warnings.iter().map(ToString::to_string).collect(),
        },
        Ok(None) | Err(_) => Described {
            archive,
            search: SearchText::default(),
            warnings: vec![NOT_READ.to_owned()],
        },
    }
}

fn search_text(metadata: &Metadata) -> SearchText {
    let inputs = metadata.root.inputs.iter().map(|input| input.name.as_str());
    let readme = metadata.root.readme.as_deref().unwrap_or_default();
    SearchText::new(metadata.description().as_deref(), inputs, readme)
}

/// Returns the metadata of the archive with this digest, if the registry has it and can read it.
///
/// Metadata that is damaged, or that a newer release wrote, hides nothing else of a version.
pub async fn of_archive(
    broker: &Broker,
    access: &PackageAccess<Download>,
    sha256: &str,
) -> Result<Option<Metadata>, StoreError> {
    let json = match broker.store.metadata(access, sha256).await {
        Ok(json) => json,
        Err(error) if error.kind() == StoreErrorKind::Corrupt => {
            tracing::error!("{error}");
            None
        }
        Err(error) => return Err(error),
    };
    let Some(json) = json else { return Ok(None) };
    let read = Metadata::from_json(&json);
    Ok(read.inspect_err(|error| tracing::error!(archive = sha256, "{error}")).ok())
}
