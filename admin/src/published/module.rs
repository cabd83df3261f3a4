//! Reads where the files of a version of a module are.

use serde_json::Value;
use stile_core::package::source::ModuleSource;
use stile_core::package::{Format, MAX_ARCHIVE, Version, is_sha256};
use stile_protocol::names::ModuleAddress;

use super::{get, text, wrong};
use crate::api::Api;
use crate::error::CommandError;

/// Where the files of a version are.
#[derive(Debug)]
pub(crate) enum Contents {
    /// In an archive.
    Archive {
        /// The format.
        format: Format,
        /// The SHA-256 in lower-case hex.
        sha256: String,
        /// The size in bytes.
        bytes: u64,
        /// Whether it is an object in a bucket of the publisher, which can become unreadable.
        is_object: bool,
    },
    /// At another server.
    Source(ModuleSource),
}

/// Returns where the files of a version are, or why no client gets them.
pub(crate) async fn contents(
    api: &Api,
    address: &ModuleAddress,
    version: &Version,
    provenance: &Value,
) -> Result<Result<Contents, String>, CommandError> {
    let about = format!("{address} {version}");
    let source = text(&provenance["source"]);
    if let Some(sha256) = text(&provenance["sha256"]) {
        let format = text(&provenance["format"]).and_then(Format::from_extension);
        let bytes = provenance["bytes"].as_u64().filter(|bytes| *bytes <= MAX_ARCHIVE);
        let (Some(format), Some(bytes), true) = (format, bytes, is_sha256(sha256)) else {
            return Err(wrong(&about, "the registry sent no valid digest, format and size"));
        };
        let is_object = source.is_some_and(|source| source.starts_with("s3://"));
        return Ok(Ok(Contents::Archive { format, sha256: sha256.to_owned(), bytes, is_object }));
    }
    let Some(source) = source else {
        return Err(wrong(&about, "the registry sent neither a digest nor a source"));
    };
    let parsed = ModuleSource::parse(source)
        .map_err(|error| wrong(&about, format_args!("the registry sent a bad source: {error}")))?;
    // The namespace may no longer allow the source.
    let answer = get(api, &format!("/v1/modules/{address}/{version}/download")).await?;
    match answer.check() {
        Ok(()) if answer.header("x-terraform-get") == Some(parsed.as_str()) => {
            Ok(Ok(Contents::Source(parsed)))
        }
        Ok(()) => Err(wrong(&about, "the registry sent two different sources")),
        Err(error) if error.is_refusal() => Ok(Err(error.message().to_owned())),
        Err(error) => Err(error.about(&about)),
    }
}
