//! The manifest of a backup: which registry it is of, and which file is its database.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stile_core::critical;
use stile_core::package::is_sha256;
use stile_protocol::audience::Audience;

use crate::{StoreError, files};

/// The file name of the manifest.
pub(super) const MANIFEST: &str = "backup.json";

/// The format of the manifest. A later one may have more fields.
const VERSION: i64 = 1;

/// The prefix of a database's file name. The digest of the file follows.
pub(super) const DATABASE_PREFIX: &str = "stile-";

/// The content of the manifest. Unknown fields are ignored, unless `crit` names them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: i64,
    /// The registry host, if one was recorded.
    pub(super) host: Option<String>,
    /// The finished backup. The first run writes the manifest before there is one.
    pub(super) database: Option<DatabaseFile>,
    #[serde(default, skip_serializing)]
    crit: Option<Value>,
}

/// The database of a finished backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DatabaseFile {
    /// The SHA-256 of the file, in lower-case hexadecimal. The name of the file contains it.
    pub(super) sha256: String,
    /// The length of the file.
    pub(super) bytes: u64,
    /// The format of the database, for readers of the manifest.
    pub(super) format: i64,
    /// The time of the backup in Unix seconds.
    pub(super) taken_at: i64,
}

impl DatabaseFile {
    /// Returns the file name.
    pub(super) fn name(&self) -> String {
        database_name(&self.sha256)
    }
}

/// Returns the file name of a database with this digest.
pub(super) fn database_name(sha256: &str) -> String {
    format!("{DATABASE_PREFIX}{sha256}.sqlite3")
}

impl Manifest {
    /// Creates a manifest.
    pub(super) fn new(host: Option<&Audience>, database: Option<DatabaseFile>) -> Self {
        Self { version: VERSION, host: host.map(ToString::to_string), database, crit: None }
    }

    /// Reads the manifest of a folder. `None` if the folder has none, or does not exist.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, StoreError> {
        let path = folder.join(MANIFEST);
        match fs::read(&path) {
            Ok(text) => parse(&path, &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(StoreError::unavailable(format!("cannot read `{}`", path.display()), error))
            }
        }
    }

    /// Replaces the manifest of a folder. When this returns, the new one is on disk.
    ///
    /// `unfinished` is an empty temporary file in the same file system.
    pub(super) fn write(
        &self,
        folder: &Path,
        mut unfinished: tempfile::NamedTempFile,
    ) -> Result<(), StoreError> {
        let path: PathBuf = folder.join(MANIFEST);
        let failed = |error: io::Error| {
            StoreError::unavailable(format!("cannot write `{}`", path.display()), error)
        };
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        unfinished
            .write_all(&text)
            .and_then(|()| unfinished.as_file().sync_all())
            .map_err(failed)?;
        unfinished.persist(&path).map_err(|error| failed(error.error))?;
        files::sync_folder(folder).map_err(failed)
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Manifest, StoreError> {
    let malformed =
        || StoreError::corrupt(format!("`{}` is not the manifest of a backup", path.display()));
    // Read the version first, because a newer format can change every other field.
    #[derive(Deserialize)]
    struct Versioned {
        version: i64,
    }
    let Versioned { version } = serde_json::from_slice(text).map_err(|_| malformed())?;
    if version > VERSION {
        return Err(StoreError::corrupt(format!(
            "`{}` has version {version}, and this program reads versions up to {VERSION}; hint: run a newer release",
            path.display()
        )));
    }
    let manifest: Manifest = serde_json::from_slice(text).map_err(|_| malformed())?;
    let known = critical::understood(manifest.crit.as_ref(), &["version", "host", "database"]);
    let whole = manifest.database.as_ref().is_none_or(|database| is_sha256(&database.sha256));
    (known && whole).then_some(manifest).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_a_newer_or_malformed_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            fs::write(folder.path().join(MANIFEST), text).unwrap();
            Manifest::read(folder.path())
        };
        assert!(Manifest::read(folder.path()).unwrap().is_none());
        let sha256 = "ab".repeat(32);
        let database = DatabaseFile { sha256, bytes: 5, format: 7, taken_at: 9 };
        let temporary = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
        Manifest::new(None, Some(database)).write(folder.path(), temporary).unwrap();
        let read_back = Manifest::read(folder.path()).unwrap().unwrap().database.unwrap();
        assert_eq!((read_back.bytes, read_back.format, read_back.taken_at), (5, 7, 9));
        assert_eq!(read_back.name(), format!("stile-{}.sqlite3", "ab".repeat(32)));

        let more = read(r#"{"version":1,"host":"a.example.com","new":2}"#).unwrap().unwrap();
        assert_eq!(more.host.as_deref(), Some("a.example.com"));
        for (text, expected) in [
            ("", "is not the manifest of a backup"),
            ("{}", "is not the manifest of a backup"),
            (r#"{"version":1,"crit":["new"],"new":2}"#, "is not the manifest of a backup"),
            (
                r#"{"version":1,"database":{"sha256":"../x","bytes":1,"format":1,"taken_at":1}}"#,
                "is not the manifest of a backup",
            ),
            (r#"{"version":2}"#, "has version 2, and this program reads versions up to 1; hint: "),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
