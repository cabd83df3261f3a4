//! Keeps tokens in private files, one for each (host, whose credentials, scope), until they are nearly over.
//!
//! A cache that cannot be read or written costs a mint, never a failure.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::{Environment, RegistryConfig, TokenScope};
use crate::private_file::{self, Durability, PrivateFileError};
use crate::token::Token;

/// What must be left of a token for it to be used: a long `terraform init` has no way to get another.
const MIN_REMAINING_LIFE: TimeDelta = TimeDelta::minutes(5);

/// Longest wait for another process that is getting the same token.
const LOCK_LIMIT: Duration = Duration::from_secs(15);

/// Files of no use since that long are removed; no token lives longer than half of it.
const SWEEP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Hex digits of a file's name that tell the host.
const HOST_DIGITS: usize = 16;

/// Hex digits of a file's name that tell the rest: a whole SHA-256.
const KEY_DIGITS: usize = 64;

/// The cache of one token.
#[derive(Debug)]
pub struct CacheSlot {
    path: PathBuf,
    host: String,
    key: String,
}

/// Held while a token is being got, so that parallel processes get one between them.
#[derive(Debug)]
pub struct FetchLock(
    #[expect(dead_code, reason = "holds the lock until it is dropped")] Option<std::fs::File>,
);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CachedToken {
    host: String,
    key: String,
    token: String,
    expires_at: DateTime<Utc>,
    principal: String,
    skew_seconds: i64,
}

impl CacheSlot {
    /// The cache of that token, or none where the platform has no cache folder.
    pub fn of(
        registry: &RegistryConfig,
        scope: &TokenScope,
        environment: &Environment,
    ) -> Option<Self> {
        let folder = folder(environment)?;
        let key = key(registry, scope, environment);
        let path = folder.join(format!("{}-{key}.json", host_digest(registry.host.as_str())));
        Some(Self { path, host: registry.host.to_string(), key })
    }

    /// The token, if there is one that is good for a while yet.
    pub fn read(&self, now: DateTime<Utc>) -> Option<Token> {
        let entry: CachedToken =
            serde_json::from_slice(&private_file::read(&self.path).ok()?).ok()?;
        let skew = TimeDelta::try_seconds(entry.skew_seconds)?;
        let left = entry.expires_at.signed_duration_since(now.checked_add_signed(skew)?);
        if entry.host != self.host || entry.key != self.key || left < MIN_REMAINING_LIFE {
            return None;
        }
        Some(Token {
            secret: entry.token.into(),
            expires_at: entry.expires_at,
            principal: entry.principal,
            skew: None,
            cached: true,
        })
    }

    /// Waits until no other process is getting this token, or has taken too long.
    pub fn lock_fetch(&self) -> FetchLock {
        FetchLock(private_file::lock(&self.path, LOCK_LIMIT))
    }

    /// Keeps a token; a folder that cannot be written keeps none.
    pub fn write(&self, token: &Token) {
        let entry = CachedToken {
            host: self.host.clone(),
            key: self.key.clone(),
            token: token.expose().to_owned(),
            expires_at: token.expires_at,
            principal: token.principal.clone(),
            skew_seconds: token.skew.unwrap_or_default().num_seconds(),
        };
        if let Ok(bytes) = serde_json::to_vec(&entry) {
            let _kept = private_file::write(&self.path, &bytes, Durability::Cached);
        }
    }

    /// Drops the token; one that is not there is dropped already.
    pub fn clear(&self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes what the cache itself left and has been of no use for long, for this host or another.
    ///
    /// On Windows the tokens of `terraform login` lie in the same folder, and what is behind a link is nobody knows whose:
    /// so a file goes by its name, and only out of a folder that is our own.
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
        // A token stands before its lock, which goes after it and never without it.
        names.sort();
        for name in names {
            let path = folder.join(&name);
            match private_file::locked_file_name(&name) {
                None if is_token_file(&name) || private_file::is_temporary(&name) => {
                    drop(std::fs::remove_file(path))
                }
                Some(kept) if is_token_file(kept) && !folder.join(kept).exists() => {
                    private_file::remove_lock(&path)
                }
                _ => {}
            }
        }
    }
}

/// Drops every token of a host, whoever's credentials it came from.
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

/// Whether a file is called as a token's is, whatever host and credentials it is for.
fn is_token_file(name: &str) -> bool {
    let hex = |text: &str, digits| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let parts = name.strip_suffix(".json").and_then(|name| name.split_once('-'));
    parts.is_some_and(|(host, key)| hex(host, HOST_DIGITS) && hex(key, KEY_DIGITS))
}

/// Everything that decides which token it is; what merely decides how to get it is left out.
fn key(registry: &RegistryConfig, scope: &TokenScope, environment: &Environment) -> String {
    let changed: Vec<_> = environment
        .aws_files_changed()
        .into_iter()
        .map(|time| time.map(|time| format!("{time:?}")))
        .collect();
    digest(&serde_json::json!({
        "host": registry.host.as_str(), "url": registry.url.as_str(), "service": registry.service.as_str(),
        "profile": registry.profile, "aws": environment.aws, "changed": changed,
        "ttl": scope.ttl, "namespaces": scope.namespaces, "permissions": scope.permissions,
    }))
}

fn digest(value: &serde_json::Value) -> String {
    hex::encode(Sha256::digest(value.to_string()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stile_protocol::audience::Audience;
    use stile_protocol::exchange::Namespaces;
    use stile_protocol::names::Permission;

    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    fn token(minutes: i64) -> Token {
        let expires_at = now() + TimeDelta::minutes(minutes);
        Token {
            secret: "stile_v4.local.x".into(),
            expires_at,
            principal: "aws:111122223333:role/a".into(),
            skew: None,
            cached: false,
        }
    }

    fn registry(host: &str) -> RegistryConfig {
        RegistryConfig::new(Audience::parse(host).unwrap()).unwrap()
    }

    struct TestCache {
        _folder: tempfile::TempDir,
        environment: Environment,
    }

    impl TestCache {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let environment = Environment {
                cache_folder: Some(folder.path().to_owned()),
                ..Environment::default()
            };
            Self { _folder: folder, environment }
        }

        fn slot(&self, host: &str) -> CacheSlot {
            let registry = registry(host);
            CacheSlot::of(&registry, &registry.scope(), &self.environment).unwrap()
        }
    }

    #[test]
    fn a_token_that_is_nearly_over_is_not_used() {
        let cache = TestCache::new();
        let slot = cache.slot("a.example");
        for (minutes, used) in [(-1, false), (0, false), (4, false), (5, true), (60, true)] {
            slot.write(&token(minutes));
            assert_eq!(slot.read(now()).is_some(), used, "{minutes} minutes left");
        }
        let behind = Token { skew: Some(TimeDelta::minutes(14)), ..token(18) };
        slot.write(&behind);
        assert!(slot.read(now()).is_none(), "by the broker's clock only four minutes are left");
    }

    #[test]
    fn a_file_that_is_not_this_tokens_own_is_ignored_and_rewritten() {
        let cache = TestCache::new();
        let slot = cache.slot("a.example");
        slot.write(&token(60));
        let whole = std::fs::read(&slot.path).unwrap();
        let other = cache.slot("b.example");
        private_file::write(&other.path, &whole, Durability::Cached).unwrap();
        assert!(other.read(now()).is_none(), "another host's");
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            private_file::write(&slot.path, whole.get(..length).unwrap(), Durability::Cached)
                .unwrap();
            assert!(slot.read(now()).is_none(), "cut at {length}");
        }
        slot.write(&token(60));
        assert_eq!(slot.read(now()).unwrap().expose(), "stile_v4.local.x");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_ignored_and_rewritten() {
        use std::os::unix::fs::PermissionsExt as _;
        let cache = TestCache::new();
        let slot = cache.slot("a.example");
        slot.write(&token(60));
        std::fs::set_permissions(&slot.path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(slot.read(now()).is_none());
        slot.write(&token(60));
        assert!(slot.read(now()).is_some());
    }

    #[test]
    fn whose_credentials_they_are_and_what_for_make_another_token() {
        let cache = TestCache::new();
        let plain = registry("a.example");
        let first = cache.slot("a.example").key;
        let mut others = vec![cache.slot("b.example").key];
        for changed in [
            RegistryConfig { profile: Some("ci".to_owned()), ..plain.clone() },
            RegistryConfig { ttl: 900, ..plain.clone() },
            RegistryConfig {
                permissions: plain.permissions.with(Permission::Upload),
                ..plain.clone()
            },
            RegistryConfig { url: url::Url::parse("https://b.example").unwrap(), ..plain.clone() },
        ] {
            others.push(key(&changed, &changed.scope(), &cache.environment));
        }
        let list = Namespaces::List(vec!["acme".parse().unwrap()]);
        others.push(key(
            &plain,
            &TokenScope { namespaces: list, ..plain.scope() },
            &cache.environment,
        ));
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "AKIA1"),
            ("AWS_ACCESS_KEY_ID", "AKIA2"),
            ("AWS_PROFILE", "x"),
            ("AWS_ROLE_ARN", "y"),
        ] {
            let environment =
                Environment { aws: vec![(name, value.to_owned())], ..cache.environment.clone() };
            others.push(key(&plain, &plain.scope(), &environment));
        }
        for (at, other) in others.iter().enumerate() {
            assert!(
                *other != first && !others.iter().take(at).any(|earlier| earlier == other),
                "number {at}"
            );
        }
        assert_eq!(cache.slot("a.example").key, first);
    }

    #[test]
    fn forgetting_a_host_drops_its_tokens_and_no_others() {
        let cache = TestCache::new();
        forget("a.example", &cache.environment).unwrap();
        let (slot, other) = (cache.slot("a.example"), cache.slot("b.example"));
        slot.write(&token(60));
        other.write(&token(60));
        forget("a.example", &cache.environment).unwrap();
        assert!(slot.read(now()).is_none() && other.read(now()).is_some());
    }

    /// When the youngest file in the folder was changed.
    fn changed(folder: &Path) -> DateTime<Utc> {
        let changed = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().metadata().unwrap().modified().unwrap()
        };
        std::fs::read_dir(folder).unwrap().map(changed).max().unwrap().into()
    }

    #[test]
    fn what_has_been_of_no_use_for_long_is_swept_away() {
        let cache = TestCache::new();
        let (slot, other) = (cache.slot("a.example"), cache.slot("b.example"));
        drop((slot.lock_fetch(), other.lock_fetch()));
        slot.write(&token(60));
        other.write(&token(60));
        let folder = slot.path.parent().unwrap();
        std::fs::write(folder.join(".stile-Ab12Cd.tmp"), "cut off").unwrap();
        let count = || std::fs::read_dir(folder).unwrap().count();
        slot.sweep(changed(folder) + TimeDelta::hours(23));
        assert_eq!(count(), 5);
        slot.sweep(changed(folder) + TimeDelta::hours(25));
        assert_eq!(count(), 0);
    }

    #[test]
    fn what_the_helper_did_not_name_is_never_swept_away() {
        let cache = TestCache::new();
        let slot = cache.slot("a.example");
        slot.write(&token(60));
        let (folder, own) =
            (slot.path.parent().unwrap(), slot.path.file_name().unwrap().to_str().unwrap());
        let (host, key) = own.strip_suffix(".json").unwrap().split_once('-').unwrap();
        let mut names = vec![
            "tokens.json".to_owned(),
            "tokens.json.lock".to_owned(),
            "config.toml".to_owned(),
            ".tmpAb12Cd".to_owned(),
            ".stile-".to_owned(),
            "notes.tmp".to_owned(),
            format!("{host}.json"),
            format!("{host}-.json"),
            format!("{host}-{host}.json"),
            format!("{host}-{key}"),
            format!("{host}-{key}.toml"),
            format!(
                "{}-{key}.json",
                host.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A")
            ),
            format!("x{host}-{key}.json"),
            format!("{host}-{key}.json.lock.lock"),
        ];
        for name in &names {
            std::fs::write(folder.join(name), "somebody's").unwrap();
        }
        names.push(format!("{host}-{}.json", "0".repeat(KEY_DIGITS)));
        std::fs::create_dir(folder.join(names.last().unwrap())).unwrap();
        slot.sweep(changed(folder) + TimeDelta::hours(25));
        let mut left: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        names.sort();
        assert_eq!(left, names);
    }

    #[test]
    fn a_lock_that_somebody_holds_or_whose_token_is_there_stays() {
        let cache = TestCache::new();
        let (held, kept) = (cache.slot("a.example"), cache.slot("b.example"));
        let turn = held.lock_fetch();
        drop(kept.lock_fetch());
        kept.write(&token(60));
        let folder = held.path.parent().unwrap();
        let lock = |slot: &CacheSlot| PathBuf::from(format!("{}.lock", slot.path.display()));
        let later = changed(folder) + TimeDelta::hours(25);
        std::fs::File::open(&kept.path).unwrap().set_modified(later.into()).unwrap();
        held.sweep(later);
        assert!(lock(&held).exists() && lock(&kept).exists());
        drop(turn);
        held.sweep(later);
        assert!(!lock(&held).exists() && lock(&kept).exists());
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_swept_away_behind_a_link() {
        let cache = TestCache::new();
        let slot = cache.slot("a.example");
        slot.write(&token(60));
        let folder = slot.path.parent().unwrap();
        let elsewhere = folder.with_file_name("elsewhere");
        std::fs::rename(folder, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder).unwrap();
        slot.sweep(changed(&elsewhere) + TimeDelta::hours(25));
        assert!(slot.path.exists(), "a folder that is a link");
        std::fs::remove_file(folder).unwrap();
        std::fs::rename(&elsewhere, folder).unwrap();
        std::fs::rename(&slot.path, cache.environment.cache_folder.as_ref().unwrap().join("moved"))
            .unwrap();
        std::os::unix::fs::symlink("../moved", &slot.path).unwrap();
        slot.sweep(changed(folder) + TimeDelta::hours(25));
        assert!(
            std::fs::symlink_metadata(&slot.path).is_ok(),
            "a link that is named like a token's file"
        );
    }
}
