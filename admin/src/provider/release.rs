//! A release on this machine, and how it joins what the registry already published of its version.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stile_core::package::Version;
use stile_core::package::provider::{
    KeyId, Manifest, Platform, ProtocolVersion, Release, Sums, SumsError, sums_name, zip_name,
};
use stile_protocol::names::{ProviderAddress, ProviderType};
use terraform_credentials_stile::message::one_line;

use super::ReleaseFolder;
use super::folder::{Archives, ManifestFile};
use super::key::PublisherKey;
use super::repack::repack;
use super::zip_file::ZipFile;
use crate::claims::Claims;
use crate::error::CommandError;

/// The files of one version on this machine, each inspected.
#[derive(Debug)]
pub(crate) struct LocalRelease {
    provider_type: ProviderType,
    version: Version,
    zips: BTreeMap<Platform, ZipFile>,
    /// The list of digests of the folder, which has a line for each zip archive.
    sums: Option<Sums>,
    signature: Option<Vec<u8>>,
    manifest: Option<String>,
    /// What the manifest or the publisher says. `None`: what the published version has.
    protocols: Option<Vec<ProtocolVersion>>,
}

/// What the registry says of a published version.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Published {
    /// The list of digests.
    sha256sums: String,
    /// Its signature in base64.
    signature: String,
    key_id: String,
    #[serde(default)]
    manifest: Option<String>,
    /// The versions of the plugin protocol.
    #[serde(default)]
    protocols: Value,
}

/// What the program sends to the registry, except the archives.
#[derive(Debug)]
pub(crate) struct ToPublish {
    /// The list of digests.
    pub(crate) sums: Sums,
    /// The detached signature of its text.
    pub(crate) signature: Vec<u8>,
    manifest: Option<String>,
    protocols: Vec<ProtocolVersion>,
    /// The platforms whose archives the registry does not have published.
    pub(crate) new: Vec<Platform>,
}

impl LocalRelease {
    /// Reads and inspects the files of a folder. It repacks tarballs.
    ///
    /// `wanted` are the protocol versions that the publisher names, and `manifest` is the file.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if the files cannot be published.
    pub(crate) fn read(
        folder: &Path,
        address: &ProviderAddress,
        version: &Version,
        (wanted, manifest): (&[ProtocolVersion], Option<&Path>),
    ) -> Result<Self, CommandError> {
        let provider_type = &address.provider_type;
        let found = ReleaseFolder::read(folder, provider_type, version, manifest)?;
        let text = found.manifest.as_ref().map(|manifest| manifest.text.as_str());
        let protocols = protocols(text, wanted)?;
        let sums = found.sums.map(|text| Sums::parse(&text, provider_type, version));
        let sums = sums.transpose().map_err(|error| invalid_sums(&error))?;
        if let Some(sums) = &sums {
            let name = sums_name(provider_type, version);
            check_manifest(sums, found.manifest.as_ref(), &name)?;
        }
        // A list without a line for a manifest is of a release without a manifest.
        let manifest = found.manifest.map(|manifest| manifest.text);
        let manifest =
            manifest.filter(|_| sums.as_ref().is_none_or(|sums| sums.manifest().is_some()));
        let mut zips = BTreeMap::new();
        match found.archives {
            Archives::Zips(paths) => {
                for (platform, path) in paths {
                    let name = zip_name(provider_type, version, &platform);
                    let zip = ZipFile::open(&path, name, (provider_type, &platform))?;
                    zips.insert(platform, zip);
                }
            }
            Archives::Tarballs(paths) => {
                for (platform, path) in paths {
                    let name = zip_name(provider_type, version, &platform);
                    let of = (provider_type, &platform);
                    let zip = ZipFile::inspect(repack(&path)?, &path, name, of)?;
                    zips.insert(platform, zip);
                }
            }
        }
        let local = Self {
            provider_type: provider_type.clone(),
            version: version.clone(),
            zips,
            sums,
            signature: found.signature,
            manifest,
            protocols,
        };
        local.check_digests()?;
        Ok(local)
    }

    /// Creates the release that another registry published. `zips` are those of its archives that are to
    /// be sent.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if an archive has another digest than in the list.
    pub(crate) fn of_registry(
        address: &ProviderAddress,
        version: &Version,
        release: &Release,
        zips: BTreeMap<Platform, ZipFile>,
    ) -> Result<Self, CommandError> {
        let sums = Sums::parse(&release.sums.text, &address.provider_type, version)
            .map_err(|error| CommandError::refused(error.to_string()))?;
        let manifest = release.manifest.clone().filter(|_| sums.manifest().is_some());
        let local = Self {
            provider_type: address.provider_type.clone(),
            version: version.clone(),
            zips,
            sums: Some(sums),
            signature: Some(release.sums.signature.clone()),
            manifest,
            protocols: Some(release.protocols.clone()),
        };
        local.check_digests()?;
        Ok(local)
    }

    /// Checks that the list of digests of the folder has the digest of each archive.
    fn check_digests(&self) -> Result<(), CommandError> {
        let Some(sums) = &self.sums else { return Ok(()) };
        let name = sums_name(&self.provider_type, &self.version);
        for (platform, zip) in &self.zips {
            let problem = match sums.files().get(platform) {
                Some(sha256) if *sha256 == zip.sha256 => continue,
                Some(_) => "has another digest for",
                None => "has no line for",
            };
            return Err(CommandError::refused(format!("`{name}` {problem} `{}`", zip.name))
                .hint("build the release again, so that its files and its list belong together"));
        }
        Ok(())
    }

    /// Returns the archives by platform.
    pub(crate) const fn zips(&self) -> &BTreeMap<Platform, ZipFile> {
        &self.zips
    }

    /// Returns the versions of the plugin protocol, if the manifest or the publisher says them.
    pub(crate) fn protocols(&self) -> Option<&[ProtocolVersion]> {
        self.protocols.as_deref()
    }

    /// Returns whether the folder has a signed list of digests.
    pub(crate) const fn is_signed(&self) -> bool {
        self.sums.is_some() && self.signature.is_some()
    }

    /// Checks that there is a signature or a key that makes one.
    ///
    /// # Errors
    ///
    /// [`CommandError`] with the flag that is missing.
    pub(crate) fn check_signed(&self, has_key: bool) -> Result<(), CommandError> {
        if has_key || self.is_signed() {
            return Ok(());
        }
        Err(CommandError::usage("the folder has no signed `SHA256SUMS`, and there is no key")
            .hint("use `--key FILE` or `--kms-key ARN`"))
    }

    /// Joins these files with what the registry has published, and signs the list of all of them.
    ///
    /// A list that the registry already has keeps its signature, so that a repeated publish changes
    /// nothing.
    ///
    /// The key signs a line that only the registry says only if it signed that line before. Otherwise,
    /// a hostile registry, or a thief of an earlier key, could get a signature for their own files.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if a published platform has other bytes, if a list that is signed already
    /// lacks a published platform, or if another key signed a platform that is not here.
    pub(crate) async fn join(
        &self,
        published: Option<&Published>,
        key: Option<&PublisherKey>,
        now: i64,
    ) -> Result<ToPublish, CommandError> {
        let before = published.map(|published| self.published_sums(published)).transpose()?;
        let by_this_key = published.is_some_and(|published| published.is_signed_by(key, now));
        if let (Some(sums), Some(_), false) = (&before, key, by_this_key) {
            self.check_all_here(sums)?;
        }
        let protocols = self.joined_protocols(published, before.as_ref())?;
        let mut files: BTreeMap<Platform, String> =
            before.as_ref().map(|sums| sums.files().clone()).unwrap_or_default();
        let mut new = Vec::new();
        for (platform, zip) in &self.zips {
            match files.insert(platform.clone(), zip.sha256.clone()) {
                None => new.push(platform.clone()),
                Some(sha256) if sha256 == zip.sha256 => {}
                Some(_) => return Err(self.different(platform)),
            }
        }
        let manifest = match (&self.manifest, published, &before) {
            (None, Some(published), Some(sums)) => published.checked_manifest(sums)?,
            (own, ..) => own.clone(),
        };
        let manifest_sha256 = manifest.as_deref().map(sha256_of);
        let text = match (&self.sums, &before) {
            // Its lines can have another order, and its signature is of this order.
            (Some(sums), _) if has(sums, &files, manifest_sha256.as_deref()) => sums.text(),
            (_, Some(sums)) if has(sums, &files, manifest_sha256.as_deref()) => sums.text(),
            (Some(_), _) if key.is_none() => return Err(self.incomplete(&files)),
            _ => {
                &Sums::write(&self.provider_type, &self.version, &files, manifest_sha256.as_deref())
            }
        };
        let sums = Sums::parse(text, &self.provider_type, &self.version)
            .map_err(|error| CommandError::refused(error.to_string()))?;
        let published = published.filter(|_| by_this_key);
        let signature = self.signature_of(&sums, published, key, now).await?;
        Ok(ToPublish { sums, signature, manifest, protocols, new })
    }

    /// Checks that each file of a list is here too, so that only this machine says what is signed.
    fn check_all_here(&self, published: &Sums) -> Result<(), CommandError> {
        let missing = published.files().keys().filter(|platform| !self.zips.contains_key(platform));
        let missing: Vec<_> = missing.map(|platform| format!("`{platform}`")).collect();
        let problem = "is published with a signature that the key of this publish did not make";
        if !missing.is_empty() {
            return Err(CommandError::refused(format!(
                "version {} {problem}, and the folder has no archive for {}",
                self.version,
                missing.join(", ")
            ))
            .hint("publish a folder with all platforms of the version, or a new version if you did not build one of them"));
        }
        if published.manifest().is_some() && self.manifest.is_none() {
            return Err(CommandError::refused(format!(
                "version {} {problem}, and the folder has no manifest",
                self.version
            ))
            .hint("add the manifest of the version with `--manifest FILE`"));
        }
        Ok(())
    }

    /// Returns the protocol versions of the joined version. Those of a platform that is not here stay.
    fn joined_protocols(
        &self,
        published: Option<&Published>,
        sums: Option<&Sums>,
    ) -> Result<Vec<ProtocolVersion>, CommandError> {
        let before = published.and_then(|published| Manifest::protocols(&published.protocols).ok());
        let Some(own) = &self.protocols else {
            return before.ok_or_else(|| {
                CommandError::usage(
                    "the folder has no manifest, so nothing says which plugin protocol the provider has",
                )
                .hint("use `--protocol 5.0`, `--protocol 6.0` or `--manifest FILE`")
            });
        };
        let is_here = |platform| self.zips.contains_key(platform);
        let all_here = sums.is_none_or(|sums| {
            sums.files().keys().all(is_here)
                && (sums.manifest().is_none() || self.manifest.is_some())
        });
        match before {
            Some(before) if before != *own && !all_here => Err(CommandError::refused(format!(
                "version {} is published with the protocol versions {}, and this publish has {}",
                self.version,
                listed(&before),
                listed(own)
            ))
            .hint("publish a folder with all platforms of the version and its manifest to change them")),
            _ => Ok(own.clone()),
        }
    }

    /// Returns the signature of a list. `published` is signed by the same key.
    async fn signature_of(
        &self,
        sums: &Sums,
        published: Option<&Published>,
        key: Option<&PublisherKey>,
        now: i64,
    ) -> Result<Vec<u8>, CommandError> {
        let of_folder = self.sums.as_ref().filter(|own| own.text() == sums.text());
        let Some(key) = key else {
            let signature = self.signature.clone().filter(|_| of_folder.is_some());
            return signature.ok_or_else(|| self.incomplete(sums.files()));
        };
        let before = published.filter(|published| published.sha256sums == sums.text());
        match before.and_then(|published| STANDARD.decode(&published.signature).ok()) {
            Some(signature) => Ok(signature),
            None => key.sign(sums.text(), now).await,
        }
    }

    fn published_sums(&self, published: &Published) -> Result<Sums, CommandError> {
        Sums::parse(&published.sha256sums, &self.provider_type, &self.version).map_err(|error| {
            CommandError::failed(format!("the registry sent an invalid list of digests: {error}"))
        })
    }

    fn different(&self, platform: &Platform) -> CommandError {
        CommandError::refused(format!(
            "version {} is published with other bytes for `{platform}`",
            self.version
        ))
        .hint("lock files have the digest of a version, so publish a new version")
    }

    fn incomplete(&self, files: &BTreeMap<Platform, String>) -> CommandError {
        let missing = files.keys().filter(|platform| !self.zips.contains_key(platform));
        let missing: Vec<_> = missing.map(|platform| format!("`{platform}`")).collect();
        CommandError::refused(format!(
            "the registry has more files of the version ({}), and the signed `SHA256SUMS` of the folder has no lines for them",
            missing.join(", ")
        ))
        .hint("sign the list of all files with `--key FILE` or `--kms-key ARN`")
    }
}

/// Returns whether a list has exactly these digests.
fn has(sums: &Sums, files: &BTreeMap<Platform, String>, manifest: Option<&str>) -> bool {
    sums.files() == files && sums.manifest() == manifest
}

/// Returns the error for the list of digests of a folder.
fn invalid_sums(error: &SumsError) -> CommandError {
    let refused = CommandError::refused(error.to_string());
    match error.hint() {
        Some(hint) => refused.hint(hint),
        None => refused,
    }
}

fn sha256_of(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// Checks that the manifest is the one that a list names.
fn check_manifest(
    sums: &Sums,
    manifest: Option<&ManifestFile>,
    name: &str,
) -> Result<(), CommandError> {
    match (manifest, sums.manifest()) {
        (Some(ManifestFile { path, text }), Some(sha256)) if sha256_of(text) != sha256 => {
            let path = one_line(&path.to_string_lossy());
            Err(CommandError::refused(format!("`{name}` has another digest for `{path}`"))
                .hint("use `--manifest FILE` with the manifest of this version"))
        }
        (None, Some(_)) => Err(CommandError::refused(format!(
            "`{name}` has a line for a manifest, and neither the folder nor its parent has the file"
        ))
        .hint("use `--manifest FILE`")),
        _ => Ok(()),
    }
}

/// Returns protocol versions for a message.
fn listed(protocols: &[ProtocolVersion]) -> String {
    protocols.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Returns the protocol versions of the manifest and the flags, which must agree. `None` if nothing
/// says them.
fn protocols(
    manifest: Option<&str>,
    wanted: &[ProtocolVersion],
) -> Result<Option<Vec<ProtocolVersion>>, CommandError> {
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let Some(text) = manifest else {
        return Ok(Some(wanted).filter(|wanted| !wanted.is_empty()));
    };
    let found = Manifest::parse(text).map_err(|error| CommandError::refused(error.to_string()))?;
    if wanted.is_empty() || wanted == found {
        return Ok(Some(found));
    }
    Err(CommandError::usage(format!(
        "the manifest has the protocol versions {}, and `--protocol` has others",
        listed(&found)
    )))
}

impl ToPublish {
    /// Returns the body of the request that begins an upload.
    ///
    /// It announces each archive of the folder. The registry asks for those that it does not have, or has
    /// lost.
    pub(crate) fn body(&self, local: &LocalRelease, claims: Option<&Claims>) -> Value {
        let files = local.zips.values().map(|zip| json!({ "name": zip.name, "bytes": zip.bytes }));
        let mut body = json!({
            "sha256sums": self.sums.text(),
            "signature": STANDARD.encode(&self.signature),
            "protocols": self.protocols.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "files": files.collect::<Vec<_>>(),
        });
        if let Some(manifest) = &self.manifest {
            body["manifest"] = manifest.as_str().into();
        }
        if let Some(claims) = claims {
            body["claimed"] = json!(claims);
        }
        body
    }

    /// Returns the SHA-256 of the list of digests, which covers every file.
    pub(crate) fn sha256(&self) -> String {
        sha256_of(self.sums.text())
    }
}

impl Published {
    /// Returns whether the list of digests is another one than before.
    pub(crate) fn differs(&self, before: Option<&Self>) -> bool {
        before.is_none_or(|before| {
            (&before.sha256sums, &before.signature) != (&self.sha256sums, &self.signature)
        })
    }

    /// Returns whether this key signed the list of digests.
    fn is_signed_by(&self, key: Option<&PublisherKey>, now: i64) -> bool {
        let (Some(key), Ok(signature)) = (key, STANDARD.decode(&self.signature)) else {
            return false;
        };
        key.public().verify(self.sha256sums.as_bytes(), &signature, now).is_ok()
    }

    /// Returns the manifest, whose digest the list has.
    fn checked_manifest(&self, sums: &Sums) -> Result<Option<String>, CommandError> {
        if self.manifest.as_deref().map(sha256_of).as_deref() == sums.manifest() {
            return Ok(self.manifest.clone());
        }
        Err(CommandError::failed("the registry sent another manifest than its list of digests has"))
    }

    /// Returns the id of the key, for a message.
    pub(crate) fn key_id(&self) -> String {
        KeyId::parse(&self.key_id).map_or_else(|| one_line(&self.key_id), |id| id.to_string())
    }
}
