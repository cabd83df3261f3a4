//! Reads a module: its versions, and where the files of each are.

use serde::Deserialize;
use serde_json::Value;
use stile_core::package::source::ModuleSource;
use stile_core::package::{Format, MAX_ARCHIVE, Version, is_sha256};
use stile_protocol::names::ModuleAddress;

use super::{ListedVersion, find, get, leave_out, text, versions_of, wrong};
use crate::api::Api;
use crate::error::CommandError;
use crate::export::model::{Contents, LeftOut, Module, ModuleVersion};

/// The versions document of a module.
#[derive(Deserialize)]
struct Versions {
    modules: Vec<OfModule>,
}

#[derive(Deserialize)]
struct OfModule {
    versions: Vec<ListedVersion>,
}

/// Reads a module. `None` if the registry lists no version of it any more.
pub(super) async fn read(
    api: &Api,
    address: ModuleAddress,
) -> Result<(Option<Module>, Vec<LeftOut>), CommandError> {
    let base = format!("/v1/modules/{address}");
    let listed: Option<Versions> = find(api, &format!("{base}/versions"), &address).await?;
    let listed = listed.into_iter().flat_map(|found| found.modules);
    let listed = listed.flat_map(|module| module.versions).collect();
    let (mut versions, mut left_out) = (Vec::new(), Vec::new());
    for version in versions_of(&address, listed)? {
        let about = format!("{address} {version}");
        let path = format!("{base}/{version}");
        let detail: Option<Value> = find(api, &path, &about).await?;
        let detail = detail.ok_or_else(|| wrong(&about, "the registry lists it and has it not"))?;
        // Its publisher took it back since the list was read.
        if detail["unpublished"].is_object() {
            continue;
        }
        match contents(api, &address, &version, &detail["provenance"]).await? {
            Ok(contents) => versions.push(ModuleVersion { version, contents }),
            Err(why) => left_out.push(leave_out(&address, &version, why)),
        }
    }
    let module = (!versions.is_empty()).then_some(Module { address, versions });
    Ok((module, left_out))
}

/// Returns where the files of a version are, or why the export leaves it out.
async fn contents(
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
