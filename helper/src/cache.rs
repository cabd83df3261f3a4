//! Caches tokens in private files, one for each host, set of credentials and scope.
//!
//! A cache that cannot be read or written costs a new token, never a failure.
//!
//! # Format
//!
//! A file contains one JSON object with a format `version`. A file without it has version 1.
//!
//! - A reader ignores unknown fields, unless `crit` lists them. `crit` names the fields that a
//!   reader must understand, as in RFC 7515, section 4.1.11. If it lists an unknown name, the
//!   reader fetches a new token and replaces the file.
//! - A later version must use another file name, for example `HOST-KEY.v2.json`. Then two installed
//!   programs do not replace each other's tokens. If a file nevertheless has a newer version, the
//!   reader fetches a new token and does not replace the file. The sweep deletes the file after a
//!   day without a change, as any other.
//! - [`forget`] deletes the files of every version.
//! - `checked_at` is the time when the registry last accepted the token, or did not answer. A file
//!   without it counts as never checked. Earlier programs ignore the field.
//! - `access_key_id` is the only access key that may use the token. The file has it if the settings
//!   do not fix the identity, as with a `credential_process`. It is in `crit`.
//!
//! Programs before the `version` field reject it, so they fetch a new token and replace the file.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::bearer::{self, Token};
use crate::config::{Environment, Proof, RegistryConfig, TokenScope};
use crate::id_token::IdTokens;
use crate::private_file::{self, Durability, NoLock, PrivateFileError};

/// Minimum remaining lifetime of a cached token: `terraform init` may run long and cannot renew it.
const MIN_REMAINING_LIFE: TimeDelta = TimeDelta::minutes(5);

/// Time for which a token needs no further check after one.
const CHECK_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// The field with the time of the last check.
const CHECKED_AT: &str = "checked_at";

/// The field with the only access key that may use the token.
const ACCESS_KEY_ID: &str = "access_key_id";

/// Age at which the sweep deletes unchanged files. No token lives longer than half of it.
const SWEEP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Number of hex digits in a file name that identify the host.
const HOST_DIGITS: usize = 16;

/// Number of hex digits in a file name that identify the cache key: a whole SHA-256.
const KEY_DIGITS: usize = 64;

/// The format version that this program writes, and the newest that it reads.
const VERSION: u64 = 1;

/// The fields that this program understands, so that `crit` may list them.
const FIELDS: [&str; 10] = [
    "version",
    "crit",
    "host",
    "key",
    "token",
    "expires_at",
    "principal",
    "skew_seconds",
    CHECKED_AT,
    ACCESS_KEY_ID,
];

/// The cache file of one token.
#[derive(Debug)]
pub struct CacheSlot {
    path: PathBuf,
    host: String,
    key: String,
}

/// A lock for fetching a token, so that parallel processes share one new token.
#[derive(Debug)]
pub struct FetchLock(Result<std::fs::File, NoLock>);

impl FetchLock {
    /// Tells whether another process still has the lock, and so does the work.
    pub fn is_held_by_another(&self) -> bool {
        matches!(self.0, Err(NoLock::TimedOut))
    }
}

/// The content of a cache file.
#[derive(Serialize, Deserialize)]
struct CachedToken {
    #[serde(default = "first_version")]
    version: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    crit: Vec<String>,
    host: String,
    key: String,
    token: String,
    expires_at: DateTime<Utc>,
    principal: String,
    skew_seconds: i64,
    #[serde(default, deserialize_with = "time_or_none", skip_serializing_if = "Option::is_none")]
    checked_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access_key_id: Option<String>,
}

/// Reads a time. Any other value counts as none.
fn time_or_none<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<DateTime<Utc>>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_str().and_then(|text| text.parse().ok()))
}

/// The field that every version has in common.
#[derive(Deserialize)]
struct CacheVersion {
    #[serde(default = "first_version")]
    version: u64,
}

/// The version of a file without the `version` field.
const fn first_version() -> u64 {
    1
}

impl CacheSlot {
    /// Returns the cache file of a token, or `None` if the platform has no cache folder, or if a job
    /// has no JWT that says whose token it is.
    pub fn of(
        registry: &RegistryConfig,
        scope: &TokenScope,
        environment: &Environment,
    ) -> Option<Self> {
        let folder = folder(environment)?;
        let key = key(registry, scope, environment)?;
        let path = folder.join(format!("{}-{key}.json", host_digest(registry.host.as_str())));
        Some(Self { path, host: registry.host.to_string(), key })
    }

    /// Returns the cached token, if the file is usable and the token does not expire soon.
    pub fn read(&self, now: DateTime<Utc>) -> Option<Token> {
        self.read_with_check(now).map(|(token, _)| token)
    }

    /// Returns the cached token, if it is usable and was checked less than a minute ago.
    ///
    /// Processes can disagree about the time, so a check may be up to a minute in the future. One
    /// that is further ahead does not count: this computer's clock was set back.
    pub fn read_checked(&self, now: DateTime<Utc>) -> Option<Token> {
        let (token, checked_at) = self.read_with_check(now)?;
        let age = now.signed_duration_since(checked_at?);
        (age.abs() < CHECK_INTERVAL).then_some(token)
    }

    /// Returns the usable token, and when it was last checked.
    fn read_with_check(&self, now: DateTime<Utc>) -> Option<(Token, Option<DateTime<Utc>>)> {
        let entry: CachedToken =
            serde_json::from_slice(&private_file::read(&self.path).ok()?).ok()?;
        if entry.version != VERSION
            || !bearer::is_usable(&entry.token)
            || !entry.crit.iter().all(|name| FIELDS.contains(&name.as_str()))
        {
            return None;
        }
        let skew = TimeDelta::try_seconds(entry.skew_seconds)?;
        let left = entry.expires_at.signed_duration_since(now.checked_add_signed(skew)?);
        if entry.host != self.host || entry.key != self.key || left < MIN_REMAINING_LIFE {
            return None;
        }
        let token = Token {
            secret: entry.token.into(),
            expires_at: entry.expires_at,
            principal: entry.principal,
            skew: None,
            shortened_from: None,
            access_key_id: entry.access_key_id,
            more_than_asked: None,
            cached: true,
            notices: Vec::new(),
        };
        Some((token, entry.checked_at))
    }

    /// Records that the token needs no further check for a minute. It ignores write errors.
    ///
    /// It keeps all other fields, and changes nothing if the file now has another token.
    pub fn mark_checked(&self, token: &Token, now: DateTime<Utc>) {
        let Ok(bytes) = private_file::read(&self.path) else { return };
        let Ok(serde_json::Value::Object(mut entry)) = serde_json::from_slice(&bytes) else {
            return;
        };
        if entry.get("token").and_then(serde_json::Value::as_str) != Some(token.expose()) {
            return;
        }
        entry.insert(CHECKED_AT.to_owned(), serde_json::json!(now));
        if let Ok(bytes) = serde_json::to_vec(&entry) {
            let _written = private_file::write(&self.path, &bytes, Durability::Cached);
        }
    }

    /// Waits until no other process fetches this token, or until the timeout.
    pub fn lock_fetch(&self, timeout: Duration) -> FetchLock {
        FetchLock(private_file::lock(&self.path, timeout))
    }

    /// Caches a new token. It ignores write errors and does not replace a file of a newer version.
    pub fn write(&self, token: &Token, now: DateTime<Utc>) {
        if self.has_newer_version() {
            return;
        }
        let entry = CachedToken {
            version: VERSION,
            crit: token.access_key_id.iter().map(|_| ACCESS_KEY_ID.to_owned()).collect(),
            host: self.host.clone(),
            key: self.key.clone(),
            token: token.expose().to_owned(),
            expires_at: token.expires_at,
            principal: token.principal.clone(),
            skew_seconds: token.skew.unwrap_or_default().num_seconds(),
            checked_at: Some(now),
            access_key_id: token.access_key_id.clone(),
        };
        if let Ok(bytes) = serde_json::to_vec(&entry) {
            let _written = private_file::write(&self.path, &bytes, Durability::Cached);
        }
    }

    /// Tells whether a newer version of this program wrote the file.
    fn has_newer_version(&self) -> bool {
        private_file::read(&self.path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<CacheVersion>(&bytes).ok())
            .is_some_and(|file| file.version > VERSION)
    }

    /// Deletes the cached token. It succeeds if there is none.
    pub fn clear(&self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes old files of this cache, for every host.
    ///
    /// On Windows the stored tokens of `terraform login` are in the same folder, and a symbolic link
    /// could lead to another user's files. So the sweep checks file names and the folder's owner.
    pub fn sweep(&self, now: DateTime<Utc>) {
        let is_stale = |entry: &std::fs::DirEntry| {
            let changed = entry
                .metadata()
                .ok()
                .filter(std::fs::Metadata::is_file)
                .and_then(|metadata| metadata.modified().ok());
            changed.is_some_and(|changed| {
                std::time::SystemTime::from(now)
                    .duration_since(changed)
                    .is_ok_and(|age| age > SWEEP_AFTER)
            })
        };
        let Some(folder) =
            self.path.parent().filter(|folder| private_file::is_owned_folder(folder))
        else {
            return;
        };
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        let mut names: Vec<_> = entries
            .flatten()
            .filter(is_stale)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        // Sorting puts a token before its lock file, which is deleted only after the token.
        names.sort();
        for name in names {
            let path = folder.join(&name);
            match private_file::locked_file_name(&name) {
                None if is_token_file(&name) || private_file::is_temporary(&name) => {
                    drop(std::fs::remove_file(path));
                }
                Some(locked) if is_token_file(locked) && !folder.join(locked).exists() => {
                    private_file::remove_lock(&path);
                }
                _ => {}
            }
        }
    }
}

/// Deletes every cached token of a host, for all credentials and format versions.
pub fn forget(host: &str, environment: &Environment) -> Result<(), PrivateFileError> {
    let Some(folder) = folder(environment) else { return Ok(()) };
    let failed = |path: PathBuf| |source| PrivateFileError::Io { path, source };
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed(folder.clone()))?,
    };
    let prefix = format!("{}-", host_digest(host));
    for entry in entries {
        let entry = entry.map_err(failed(folder.clone()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) && name.ends_with(".json") {
            std::fs::remove_file(entry.path()).map_err(failed(entry.path()))?;
        }
    }
    Ok(())
}

fn folder(environment: &Environment) -> Option<PathBuf> {
    Some(environment.cache_folder.as_ref()?.join("stile"))
}

fn host_digest(host: &str) -> String {
    digest(&serde_json::json!(host)).chars().take(HOST_DIGITS).collect()
}

/// Tells whether a name is that of a cache file of this format version, for any host.
fn is_token_file(name: &str) -> bool {
    let hex = |text: &str, digits| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let parts = name.strip_suffix(".json").and_then(|name| name.split_once('-'));
    parts.is_some_and(|(host, key)| hex(host, HOST_DIGITS) && hex(key, KEY_DIGITS))
}

/// Returns the cache key: a digest of every setting that decides which token the broker issues.
fn key(registry: &RegistryConfig, scope: &TokenScope, environment: &Environment) -> Option<String> {
    if registry.proof == Proof::Oidc {
        let mut settings = serde_json::json!({
            "host": registry.host.as_str(), "url": registry.url.as_str(), "proof": "oidc",
            "trust": registry.trust, "job": IdTokens::find(registry).ok()?.identity(),
            "namespaces": scope.namespaces, "permissions": scope.permissions,
        });
        add_audience(&mut settings, registry);
        return Some(digest(&settings));
    }
    let changed = environment.aws_file_versions();
    let mut settings = serde_json::json!({
        "host": registry.host.as_str(), "url": registry.url.as_str(),
        "service": registry.service.as_str(),
        "profile": registry.profile, "aws": environment.aws, "changed": changed,
        "ttl": scope.ttl, "namespaces": scope.namespaces, "permissions": scope.permissions,
    });
    if let Some(digest) = &environment.container_secret_digest {
        settings["container"] = serde_json::json!(digest);
    }
    // Keys in the environment fix the identity on every computer.
    if (registry.profile.is_some() || !environment.has_access_key())
        && let Some(computer) = &environment.computer
    {
        settings["computer"] = serde_json::json!(computer);
    }
    // A token of another proof can belong to another principal.
    if registry.proof != Proof::Sigv4 {
        settings["proof"] = serde_json::json!([registry.proof.as_str(), registry.trust]);
    }
    add_audience(&mut settings, registry);
    Some(digest(&settings))
}

/// Another audience can be that of another trust, and so of another principal.
fn add_audience(settings: &mut serde_json::Value, registry: &RegistryConfig) {
    if let Some(audience) = &registry.audience {
        settings["audience"] = serde_json::json!(audience);
    }
}

fn digest(value: &serde_json::Value) -> String {
    hex::encode(Sha256::digest(value.to_string()))
}

#[cfg(test)]
mod tests;
