//! The documents of an export, as the registry protocols of Terraform and `OpenTofu` define them.

use serde_json::{Value, json};
use stile_core::package::provider::{
    DownloadUrls, Platform, download_document, signature_name, sums_name, zip_name,
};
use stile_core::package::versions_document;
use stile_protocol::names::ProviderAddress;

use super::model::{Module, ModuleVersion, Provider, ProviderVersion};
use super::path::SumsId;
use crate::published::Contents;

/// Returns the discovery document. The paths end in `/`, because some clients do not add it.
pub(super) fn discovery() -> String {
    let services = json!({ "modules.v1": "/v1/modules/", "providers.v1": "/v1/providers/" });
    line(&services)
}

/// Returns the versions of a provider, with the platforms of each and the warnings.
pub(super) fn provider_versions(provider: &Provider) -> String {
    let entry = |ProviderVersion { version, release, .. }: &ProviderVersion| {
        let platform =
            |platform: &Platform| json!({ "os": platform.os(), "arch": platform.arch() });
        json!({
            "version": version.to_string(),
            "protocols": release.protocols.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "platforms": release.files.keys().map(platform).collect::<Vec<_>>(),
        })
    };
    let versions: Vec<Value> = provider.versions.iter().map(entry).collect();
    line(&json!({ "versions": versions, "warnings": provider.warnings }))
}

/// Returns the download document of a platform. Its three URLs are relative to the document, so the tree
/// works at any host.
///
/// `None` if the release has no such platform.
pub(super) fn provider_download(
    address: &ProviderAddress,
    of: &ProviderVersion,
    platform: &Platform,
) -> Option<String> {
    let (provider_type, version) = (&address.provider_type, &of.version);
    // The document is `VERSION/download/OS/ARCH`.
    let pair = SumsId::of(&of.release.sums);
    let signed = |name: &str| format!("../../sums/{pair}/{name}");
    let urls = DownloadUrls {
        archive: format!("../../files/{}", zip_name(provider_type, version, platform)),
        sums: signed(&sums_name(provider_type, version)),
        signature: signed(&signature_name(provider_type, version)),
    };
    let mut document =
        download_document(provider_type, version, platform, &of.release, &[], &urls)?;
    document["signing_keys"] = json!({ "gpg_public_keys": of.keys });
    Some(line(&document))
}

/// Returns the versions of a module.
pub(super) fn module_versions(module: &Module) -> String {
    let mut text = versions_document(module.versions.iter().map(|of| &of.version));
    text.push('\n');
    text
}

/// Returns the download document of a module, which `OpenTofu` reads. Terraform reads only the header that
/// the snippets add.
pub(super) fn module_download(of: &ModuleVersion) -> String {
    line(&json!({ "location": module_location(of) }))
}

/// Returns where clients get a module: its archive, relative to the download document, or its source.
///
/// With `checksum`, clients verify the archive before they unpack it.
pub(super) fn module_location(of: &ModuleVersion) -> String {
    match &of.contents {
        Contents::Archive { format, sha256, .. } => {
            format!("./archive.{}?checksum=sha256:{sha256}", format.extension())
        }
        Contents::Source(source) => source.to_string(),
    }
}

/// Returns a document as one line, so that a change of it is a change of its bytes.
fn line(document: &Value) -> String {
    format!("{document}\n")
}
