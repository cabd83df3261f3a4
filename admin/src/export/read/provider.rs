//! Reads a provider: its versions, their signed digests, and the keys that verify them.

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

use super::{ListedVersion, find, get, leave_out, versions_of, wrong};
use crate::api::Api;
use crate::error::CommandError;
use crate::export::model::{LeftOut, Provider, ProviderVersion};

/// The versions document of a provider.
#[derive(Deserialize)]
struct Versions {
    versions: Vec<ListedVersion>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
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

/// Reads a provider. `None` if the registry lists no version of it any more.
pub(super) async fn read(
    api: &Api,
    address: ProviderAddress,
) -> Result<(Option<Provider>, Vec<LeftOut>), CommandError> {
    let base = format!("/v1/providers/{address}");
    let listed: Option<Versions> = find(api, &format!("{base}/versions"), &address).await?;
    let Some(listed) = listed else { return Ok((None, Vec::new())) };
    let (mut versions, mut left_out) = (Vec::new(), Vec::new());
    for version in versions_of(&address, listed.versions)? {
        let about = format!("{address} {version}");
        let details: Option<Details> = find(api, &format!("{base}/{version}"), &about).await?;
        let details =
            details.ok_or_else(|| wrong(&about, "the registry lists it and has it not"))?;
        let release = release(&address, &version, details)
            .map_err(|problem| wrong(&about, format_args!("the registry sent {problem}")))?;
        match keys(api, &address, &version, &release).await? {
            Ok(keys) => versions.push(ProviderVersion { version, release, keys }),
            Err(why) => left_out.push(LeftOut {
                distrusted: Some(address.clone()),
                ..leave_out(&address, &version, why)
            }),
        }
    }
    let warnings = warnings(&address, &versions, listed.warnings.unwrap_or_default());
    let provider = (!versions.is_empty()).then_some(Provider { address, versions, warnings });
    Ok((provider, left_out))
}

/// Returns what a version consists of, or what is wrong with an answer of the registry.
fn release(
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

/// Returns the keys of a version, or why the export leaves it out. The first key verifies the list of
/// digests.
///
/// Only an answer to a client that installs the version has them. The answer is `410` if the publisher
/// no longer trusts the key.
async fn keys(
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

/// Returns the warnings about versions that the export has, and the number of further ones.
///
/// The registry also warns the caller about its own grant. That is not for the users of the export.
fn warnings(
    address: &ProviderAddress,
    versions: &[ProviderVersion],
    warnings: Vec<String>,
) -> Vec<String> {
    let starts: Vec<String> =
        versions.iter().map(|of| format!("{address} {} ", of.version)).collect();
    let is_ours = |warning: &String| {
        let more = warning.strip_prefix("and ").and_then(|rest| rest.strip_suffix(" more"));
        starts.iter().any(|start| warning.starts_with(start))
            || more.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    warnings.into_iter().filter(is_ours).collect()
}
