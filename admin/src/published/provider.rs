//! Reads a version of a provider: its signed digests, and the keys that verify them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stile_core::package::provider::{
    KeyId, Platform, ProtocolVersion, Release, ReleaseFile, SignedSums, SigningKey, Sums,
};
use stile_core::package::{MAX_PROVIDER_FILE, Version, is_sha256};
use stile_protocol::names::ProviderAddress;

use super::{find, get, wrong};
use crate::api::Api;
use crate::error::CommandError;

/// A version of a provider, as a registry has it.
#[derive(Debug)]
pub(crate) struct PublishedRelease {
    /// What the version consists of. Its list of digests has a line for each file.
    pub(crate) release: Release,
    /// The whole answer, with the life and the claims of the version.
    pub(crate) details: Value,
}

/// The details of a version.
#[derive(Deserialize)]
struct Details {
    protocols: Vec<String>,
    platforms: Vec<OfPlatform>,
    sha256sums: String,
    signature: String,
    key_id: String,
    #[serde(default)]
    manifest: Option<String>,
}

#[derive(Deserialize)]
struct OfPlatform {
    os: String,
    arch: String,
    sha256: String,
    h1: String,
    bytes: u64,
}

/// The keys in the answer to a client that installs a provider.
#[derive(Deserialize)]
struct Download {
    signing_keys: Keys,
}

#[derive(Deserialize)]
struct Keys {
    gpg_public_keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    key_id: String,
    ascii_armor: String,
}

/// Reads a version of a provider. `None` if the registry does not have it.
///
/// It verifies no signature: see [`keys`].
///
/// # Errors
///
/// [`CommandError`], if the registry refuses or is down, or if it contradicts itself.
pub(crate) async fn release(
    api: &Api,
    address: &ProviderAddress,
    version: &Version,
) -> Result<Option<PublishedRelease>, CommandError> {
    let about = format!("{address} {version}");
    let path = format!("/v1/providers/{address}/{version}");
    let Some(details) = find::<Value>(api, &path, &about).await? else { return Ok(None) };
    let parsed = Details::deserialize(&details);
    let parsed =
        parsed.map_err(|_| wrong(&about, "the registry sent details without their fields"))?;
    let release = parse(address, version, parsed)
        .map_err(|problem| wrong(&about, format_args!("the registry sent {problem}")))?;
    Ok(Some(PublishedRelease { release, details }))
}

/// Returns what a version consists of, or what is wrong with an answer of the registry.
fn parse(
    address: &ProviderAddress,
    version: &Version,
    details: Details,
) -> Result<Release, String> {
    let Details { protocols, platforms, sha256sums, signature, key_id, manifest } = details;
    let protocols = protocols
        .iter()
        .map(|text| text.parse::<ProtocolVersion>().map_err(|error| format!("a bad {error}")))
        .collect::<Result<Vec<_>, _>>()?;
    let mut files = BTreeMap::new();
    for OfPlatform { os, arch, sha256, h1, bytes } in platforms {
        let platform = Platform::new(&os, &arch).map_err(|error| format!("a bad {error}"))?;
        if !is_sha256(&sha256) || bytes == 0 || bytes > MAX_PROVIDER_FILE {
            return Err(format!("no valid digest and size for `{platform}`"));
        }
        files.insert(platform, ReleaseFile { sha256, h1, bytes, object_version: None });
    }
    if protocols.is_empty() || files.is_empty() {
        return Err("no protocol version or no platform".to_owned());
    }
    let sums = Sums::parse(&sha256sums, &address.provider_type, version)
        .map_err(|error| format!("a bad list of digests: {error}"))?;
    let found = manifest.as_ref().map(|text| hex::encode(Sha256::digest(text.as_bytes())));
    if found.is_some() && found.as_deref() != sums.manifest() {
        return Err("a manifest with another digest than in its list".to_owned());
    }
    let signature =
        STANDARD.decode(&signature).map_err(|_| "a signature that is not base64".to_owned())?;
    let key_id = KeyId::parse(&key_id).ok_or("a bad key id")?;
    let signed = SignedSums { text: sha256sums, signature, key_id };
    let release = Release::new(protocols, files, signed, manifest);
    sums.includes(&release).map_err(|error| format!("contradictory digests: {error}"))?;
    Ok(release)
}

/// Returns the keys of a version, or why no client gets it. The first key verifies the list of
/// digests.
///
/// Only an answer to a client that installs the version has them. The answer is `410` if the publisher
/// no longer trusts the key.
pub(crate) async fn keys(
    api: &Api,
    address: &ProviderAddress,
    version: &Version,
    release: &Release,
) -> Result<Result<Vec<Value>, String>, CommandError> {
    let about = format!("{address} {version}");
    let Some(platform) = release.files.keys().next() else {
        return Err(wrong(&about, "it has no platform"));
    };
    let (os, arch) = (platform.os(), platform.arch());
    let path = format!("/v1/providers/{address}/{version}/download/{os}/{arch}");
    let answer = get(api, &path).await.map_err(|error| error.about(&about))?;
    if answer.status == StatusCode::GONE {
        let why = answer.check().err().map(|error| error.message().to_owned());
        return Ok(Err(why.unwrap_or_default()));
    }
    let found: Download = answer.read().map_err(|error| error.about(&about))?;
    let keys = found.signing_keys.gpg_public_keys;
    if keys.first().is_none_or(|key| key.key_id != release.sums.key_id.as_str()) {
        return Err(wrong(&about, "the registry did not send the key that signed it"));
    }
    // One key that a client cannot read makes the whole list unusable.
    for (at, Key { key_id, ascii_armor }) in keys.iter().enumerate() {
        let key = SigningKey::read(ascii_armor)
            .map_err(|error| wrong(&about, format_args!("the registry sent a bad key: {error}")))?;
        if key.key_id().as_str() != key_id {
            return Err(wrong(&about, "the registry sent a key under the id of another"));
        }
        if at == 0 {
            key.verify_as_made(release.sums.text.as_bytes(), &release.sums.signature).map_err(
                |error| wrong(&about, format_args!("the registry sent a bad signature: {error}")),
            )?;
        }
    }
    // Only what clients read, and nothing else of the answer: its URLs are secrets.
    let shown = keys.into_iter().map(|Key { key_id, ascii_armor }| {
        json!({
            "key_id": key_id, "ascii_armor": ascii_armor, "trust_signature": "", "source": "",
            "source_url": null,
        })
    });
    Ok(Ok(shown.collect()))
}
