//! Reads published providers: the versions with what a user must know, and the download of one file.

use bytes::Bytes;
use serde_json::Value;

use super::authorize::Bearer;
use super::broker::Broker;
use super::catalogue::{self, CatalogueError, url_of};
use super::notices::{ending_soon, service_ending_soon};
use stile_core::audit::Event;
use stile_core::grants::{Download, PackageAccess};
use stile_core::package::Version;
use stile_core::package::provider::{DownloadUrls, Platform, download_document};
use stile_core::principal::Principal;
use stile_store::{ProviderVersion, StoreError};

/// The field of an entry with its warning. The list of all warnings repeats it, and clients read only
/// that.
const WARNING: &str = "warning";

/// Returns the versions document of a provider, as JSON, with a warning if the bearer's grant ends soon.
///
/// Clients print the warnings at every `init`.
pub async fn versions(
    broker: &Broker,
    bearer: &Bearer,
    access: &PackageAccess<Download>,
) -> Result<Bytes, CatalogueError> {
    let stored = catalogue::versions(broker, access).await?;
    let ending = bearer.ending(access.access());
    let now = broker.clock.now();
    let ending = ending.map(|grant| match bearer.principal() {
        service @ Principal::Service(_) => service_ending_soon(service, &grant, now),
        _ => ending_soon(&grant, now),
    });
    // Most documents go out as they are.
    if ending.is_none() && !has_warnings(&stored) {
        return Ok(stored);
    }
    let shown = shown_versions(&stored, ending).ok_or_else(|| {
        StoreError::corrupt(format!("the versions document of `{}` is malformed", access.address()))
    })?;
    Ok(shown.into())
}

fn has_warnings(document: &[u8]) -> bool {
    let field = format!("\"{WARNING}\":");
    document.windows(field.len()).any(|window| window == field.as_bytes())
}

/// Returns the document without the warnings of entries, and with one more warning for the caller.
/// `None` if the document is malformed.
fn shown_versions(document: &[u8], ending: Option<String>) -> Option<String> {
    let mut document: Value = serde_json::from_slice(document).ok()?;
    for entry in document.get_mut("versions")?.as_array_mut()? {
        entry.as_object_mut()?.remove(WARNING);
    }
    if let Some(ending) = ending {
        let warnings = document.as_object_mut()?.entry("warnings").or_insert(Value::Array(vec![]));
        warnings.as_array_mut()?.push(ending.into());
    }
    Some(document.to_string())
}

/// What a client gets for the file of one platform.
#[derive(Debug)]
pub struct ProviderDownload {
    /// The document of Terraform's protocol.
    pub document: Value,
    /// Whether the version is deprecated or taken back.
    pub is_deprecated: bool,
}

/// Returns where a client gets the file of one platform, and what verifies it.
///
/// A version that its publisher took back stays available, because its removal would break every `init`
/// that has it locked.
pub async fn download(
    broker: &Broker,
    access: &PackageAccess<Download>,
    version: &Version,
    platform: &Platform,
    event: &mut Event,
) -> Result<ProviderDownload, CatalogueError> {
    let found = details(broker, access, version, event).await?;
    let address = access.address().provider().ok_or(CatalogueError::Absent)?;
    let release = &found.release;
    if !release.files.contains_key(platform) {
        return Err(CatalogueError::Absent);
    }
    let key_id = &release.sums.key_id;
    let keys = found.keys.for_download(key_id).ok_or_else(|| CatalogueError::CompromisedKey {
        version: format!("`{address}` {version}"),
        key_id: key_id.clone(),
    })?;
    let (now, ttl) = (broker.clock.now(), broker.link_ttl);
    let locations =
        broker.store.provider_locations(access, version, release, platform, now, ttl).await?;
    let urls = DownloadUrls {
        archive: url_of(broker, locations.zip, now).await?,
        sums: url_of(broker, locations.sums, now).await?,
        signature: url_of(broker, locations.signature, now).await?,
    };
    let document =
        download_document(&address.provider_type, version, platform, release, &keys, &urls);
    Ok(ProviderDownload {
        document: document.ok_or(CatalogueError::Absent)?,
        is_deprecated: found.life.deprecated.is_some() || found.life.unpublished.is_some(),
    })
}

/// Returns everything that the store records of a version, with the keys of its namespace.
pub async fn details(
    broker: &Broker,
    access: &PackageAccess<Download>,
    version: &Version,
    event: &mut Event,
) -> Result<ProviderVersion, CatalogueError> {
    event.package(access.address(), Some(version));
    broker.store.provider_release(access, version).await?.ok_or(CatalogueError::Absent)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_warnings_of_entries_are_not_shown_and_an_ending_grant_is_the_last_warning() {
        let entry = |warning: Option<&str>| {
            let mut entry = json!({ "version": "1.0.0", "protocols": ["5.0"], "platforms": [] });
            if let Some(warning) = warning {
                entry[WARNING] = warning.into();
            }
            entry
        };
        let plain = json!({ "versions": [entry(None)] }).to_string();
        let warned = json!({ "versions": [entry(Some("a"))], "warnings": ["a"] }).to_string();
        assert!(!has_warnings(plain.as_bytes()) && has_warnings(warned.as_bytes()));
        for (document, ending, expected) in [
            (&plain, None, None),
            (&plain, Some("b"), Some(json!(["b"]))),
            (&warned, None, Some(json!(["a"]))),
            (&warned, Some("b"), Some(json!(["a", "b"]))),
        ] {
            let shown = shown_versions(document.as_bytes(), ending.map(str::to_owned)).unwrap();
            let shown: Value = serde_json::from_str(&shown).unwrap();
            assert_eq!(shown["versions"], json!([entry(None)]), "{document}");
            assert_eq!(shown.get("warnings"), expected.as_ref(), "{document} {ending:?}");
        }
        for malformed in ["", "[]", "{}", r#"{"versions":{}}"#, r#"{"versions":[1]}"#] {
            assert_eq!(shown_versions(malformed.as_bytes(), None), None, "{malformed}");
        }
    }
}
