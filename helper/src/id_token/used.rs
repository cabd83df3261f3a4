//! Remembers which fixed JWTs this computer has used, because a registry accepts each JWT once.
//!
//! The file `stile/used-id-tokens` in the platform's cache folder has a digest of each, and when it
//! was used: a JSON object with `version` and `used`. A reader ignores other fields. If the file has
//! a newer version, the program leaves it as it is. Without the file it still works: the registry
//! refuses a used JWT, and then the program tries the next one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::config::Environment;
use crate::private_file::{self, Durability};

/// The format version that this program writes, and the newest that it reads.
const VERSION: u64 = 1;

/// Time after which a JWT is forgotten. No registry accepts one that is older than a day.
const KEEP: TimeDelta = TimeDelta::hours(25);

/// Most JWTs that are remembered. The oldest go first.
const MAX_USED: usize = 1000;

/// The content of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct UsedFile {
    version: u64,
    used: BTreeMap<String, DateTime<Utc>>,
}

/// A lock, or the lack of one: then two processes may use the same JWT, and one tries the next.
pub(super) type UsedLock = Option<std::fs::File>;

/// The file of used JWTs.
#[derive(Debug)]
pub(super) struct UsedIdTokens {
    path: Option<PathBuf>,
}

impl UsedIdTokens {
    /// Returns the file of this user.
    pub(super) fn of(environment: &Environment) -> Self {
        let folder = environment.cache_folder.as_ref();
        Self { path: folder.map(|folder| folder.join("stile").join("used-id-tokens")) }
    }

    /// Waits until no other process uses a JWT, or until the timeout.
    pub(super) fn lock(&self, timeout: Duration) -> UsedLock {
        private_file::lock(self.path.as_ref()?, timeout).ok()
    }

    /// Returns the digests of used JWTs, and when each was used.
    pub(super) fn read(&self, now: DateTime<Utc>) -> BTreeMap<String, DateTime<Utc>> {
        let mut file = self.file().filter(|file| file.version == VERSION).unwrap_or_default();
        file.used.retain(|_, at| now.signed_duration_since(at) < KEEP);
        file.used
    }

    /// Records that a JWT was used. It ignores write errors.
    pub(super) fn record(&self, digest: String, now: DateTime<Utc>) {
        let Some(path) = &self.path else { return };
        if self.file().is_some_and(|file| file.version > VERSION) {
            return;
        }
        let mut used = self.read(now);
        used.insert(digest, now);
        while used.len() > MAX_USED {
            let oldest = used.iter().min_by_key(|(_, at)| **at).map(|(digest, _)| digest.clone());
            oldest.map(|digest| used.remove(&digest));
        }
        if let Ok(bytes) = serde_json::to_vec(&UsedFile { version: VERSION, used }) {
            let _written = private_file::write(path, &bytes, Durability::Cached);
        }
    }

    fn file(&self) -> Option<UsedFile> {
        serde_json::from_slice(&private_file::read(self.path.as_ref()?).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    fn used(folder: &tempfile::TempDir) -> UsedIdTokens {
        UsedIdTokens::of(&Environment {
            cache_folder: Some(folder.path().to_owned()),
            ..Environment::default()
        })
    }

    #[test]
    fn a_damaged_file_counts_as_none_and_one_of_a_newer_version_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = used(&folder);
        let path = file.path.clone().unwrap();
        for text in ["", "{", r#"{"version":1}"#, r#"{"version":1,"used":{"a":"soon"}}"#] {
            private_file::write(&path, text.as_bytes(), Durability::Cached).unwrap();
            assert!(file.read(now()).is_empty(), "{text}");
            file.record("b".to_owned(), now());
            assert!(file.read(now()).contains_key("b"), "{text}");
        }
        let newer = r#"{"version":2,"used":{"a":"2026-11-20T09:59:00Z"}}"#;
        private_file::write(&path, newer.as_bytes(), Durability::Cached).unwrap();
        file.record("b".to_owned(), now());
        assert!(file.read(now()).is_empty());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
    }

    #[test]
    fn a_used_jwt_is_remembered_for_longer_than_a_registry_accepts_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = used(&folder);
        file.record("a".to_owned(), now());
        file.record("b".to_owned(), now() + TimeDelta::hours(2));
        for (hours, expected) in [(24, 2), (25, 1), (27, 0)] {
            assert_eq!(file.read(now() + TimeDelta::hours(hours)).len(), expected, "{hours} h");
        }
    }

    #[test]
    fn the_oldest_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let file = used(&folder);
        let many = (0..MAX_USED as i64).map(|at| (format!("{at}"), now() + TimeDelta::seconds(at)));
        let content = UsedFile { version: VERSION, used: many.collect() };
        let bytes = serde_json::to_vec(&content).unwrap();
        private_file::write(file.path.as_ref().unwrap(), &bytes, Durability::Cached).unwrap();
        file.record("new".to_owned(), now() + TimeDelta::hours(1));
        let read = file.read(now() + TimeDelta::hours(1));
        assert!(read.len() == MAX_USED && read.contains_key("new") && !read.contains_key("0"));
    }
}
