//! Stores tokens of hosts that are not Stile registries in one private file, for `terraform login`.
//!
//! # Format
//!
//! `tokens.json` contains one JSON object. A key is a host, and its value is the token. A key that
//! starts with `$` is a setting of the file, because no host name contains that character.
//!
//! - `$version` is the format version. It is the string `"1"`, because the release before it
//!   accepts only string values. A file without it has version 1. That release reads a file with
//!   `$version`, and keeps the key when it writes.
//! - `$crit` is a list of the keys that a reader must understand, as in RFC 7515, section 4.1.11.
//!   This program writes none.
//! - A reader ignores other unknown keys and values, and keeps them when it writes.
//!
//! The file is the only copy of its tokens. So `store` and `forget` fail and change nothing if the
//! file has a newer version or an unknown name in `$crit`. `get` then prints a warning and no token.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use stile_protocol::audience::{Audience, AudienceError};
use terraform_credentials_stile::config::bare_host;
use terraform_credentials_stile::message;
use terraform_credentials_stile::private_file::{self, Durability, PrivateFileError};

use crate::terminal;
use crate::verb::{VerbContext, VerbFailure};

/// Timeout for the lock of the file while another process changes it.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// The format version that this program writes, and the newest that it reads.
const VERSION: u64 = 1;

/// The key of the format version.
const VERSION_KEY: &str = "$version";

/// The key of the list of critical keys.
const CRIT_KEY: &str = "$crit";

/// The file of stored tokens.
#[derive(Debug)]
pub(crate) struct StoredTokens {
    path: PathBuf,
}

/// The content of the file: tokens by host, and settings.
type TokenFile = BTreeMap<String, Value>;

/// Why the content of the file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum FormatError {
    #[error("is damaged")]
    Damaged,
    #[error(
        "has format version {0}, and this program ({program}) supports version {VERSION}",
        program = env!("CARGO_PKG_VERSION")
    )]
    NewerVersion(u64),
    #[error(
        "requires support for `{0}`, which this program ({program}) does not have",
        program = env!("CARGO_PKG_VERSION")
    )]
    UnknownCritical(String),
}

/// Why the file cannot be read.
#[derive(Debug)]
enum ReadError {
    File(PrivateFileError),
    Format(FormatError),
}

impl StoredTokens {
    /// Returns the file, or `None` if the platform has no data folder.
    pub(crate) fn of(context: &VerbContext) -> Option<Self> {
        let folder = context.environment.data_folder.as_ref()?;
        Some(Self { path: folder.join("stile").join("tokens.json") })
    }

    /// Returns the token of a host. An untrusted or unreadable file gives none.
    pub(crate) fn token(&self, key: &str) -> Option<String> {
        match self.read() {
            Ok(mut file) => match file.remove(key) {
                Some(Value::String(token)) => Some(token),
                _ => None,
            },
            Err(
                error @ ReadError::Format(
                    FormatError::NewerVersion(_) | FormatError::UnknownCritical(_),
                ),
            ) => {
                terminal::note(&self.failure(error).to_string());
                None
            }
            Err(_) => None,
        }
    }

    /// Stores the token of a host and replaces an earlier one.
    pub(crate) fn store(&self, key: &str, token: &str) -> Result<(), VerbFailure> {
        self.change(|file| {
            let previous = file.insert(key.to_owned(), token.into());
            previous.as_ref().and_then(Value::as_str) != Some(token)
        })
    }

    /// Deletes the token of a host. It succeeds if there is none.
    pub(crate) fn remove(&self, key: &str) -> Result<(), VerbFailure> {
        if !self.path.exists() {
            return Ok(());
        }
        self.change(|file| file.remove(key).is_some())
    }

    fn change(&self, change: impl FnOnce(&mut TokenFile) -> bool) -> Result<(), VerbFailure> {
        let Ok(_lock) = private_file::lock(&self.path, LOCK_LIMIT) else {
            return Err(VerbFailure::new(format!("cannot lock `{}`", self.path.display())));
        };
        let mut file = self.read().map_err(|error| self.failure(error))?;
        if !change(&mut file) {
            return Ok(());
        }
        file.insert(VERSION_KEY.to_owned(), VERSION.to_string().into());
        let bytes =
            serde_json::to_vec(&file).map_err(|error| VerbFailure::new(error.to_string()))?;
        private_file::write(&self.path, &bytes, Durability::Durable)
            .map_err(|error| self.failure(ReadError::File(error)))
    }

    fn read(&self) -> Result<TokenFile, ReadError> {
        match private_file::read(&self.path) {
            Ok(bytes) => parse(&bytes).map_err(ReadError::Format),
            Err(PrivateFileError::NotFound(_)) => Ok(TokenFile::new()),
            Err(error) => Err(ReadError::File(error)),
        }
    }

    fn failure(&self, error: ReadError) -> VerbFailure {
        let path = self.path.display();
        match error {
            ReadError::File(error) => {
                let failure = VerbFailure::new(message::chain(&error));
                match error {
                    PrivateFileError::Untrusted { .. } => {
                        failure.hint(format!("restrict it to its owner: `chmod 600 {path}`"))
                    }
                    _ => failure,
                }
            }
            ReadError::Format(error) => {
                let failure = VerbFailure::new(format!("`{path}` {error}"));
                match error {
                    FormatError::Damaged => {
                        failure.hint("delete it, and run `terraform login` for its hosts again")
                    }
                    FormatError::NewerVersion(_) | FormatError::UnknownCritical(_) => {
                        failure.hint("use the newer version of `terraform-credentials-stile`")
                    }
                }
            }
        }
    }
}

/// Parses the file and checks its version and its critical keys.
fn parse(bytes: &[u8]) -> Result<TokenFile, FormatError> {
    let file: TokenFile = serde_json::from_slice(bytes).map_err(|_| FormatError::Damaged)?;
    let version = match file.get(VERSION_KEY) {
        None => Some(VERSION),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64(),
    };
    match version {
        Some(VERSION) => {}
        Some(newer) if newer > VERSION => return Err(FormatError::NewerVersion(newer)),
        _ => return Err(FormatError::Damaged),
    }
    let critical =
        file.get(CRIT_KEY).map_or(Some(&[][..]), |list| list.as_array().map(Vec::as_slice));
    for name in critical.ok_or(FormatError::Damaged)? {
        let name = name.as_str().ok_or(FormatError::Damaged)?;
        if ![VERSION_KEY, CRIT_KEY].contains(&name) {
            return Err(FormatError::UnknownCritical(message::one_line(name)));
        }
    }
    Ok(file)
}

/// Returns the canonical spelling under which a host's token is stored, or `None` for another text.
///
/// A host without a dot cannot be a Stile registry, but it can be another host with a token.
pub(crate) fn host_key(host: &str) -> Option<String> {
    let host = bare_host(host);
    match Audience::parse(host) {
        Ok(audience) => Some(audience.to_string()),
        Err(AudienceError::NoDot(_)) => Some(host.to_ascii_lowercase()),
        Err(AudienceError::Malformed(_)) => None,
    }
}

/// Returns a host as text that is safe to print.
pub(crate) fn printable(host: &str) -> String {
    message::one_line(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_key_and_other_text_has_none() {
        for (host, expected) in [
            ("", None),
            ("a b", None),
            ("../x", None),
            ("[::1]:8443", None),
            (VERSION_KEY, None),
            (CRIT_KEY, None),
            ("App.Terraform.io", Some("app.terraform.io")),
            ("app.terraform.io:443", Some("app.terraform.io")),
            ("localhost:8080", Some("localhost:8080")),
            ("https://App.Terraform.io/", Some("app.terraform.io")),
            ("https://localhost:8080", Some("localhost:8080")),
            ("https://app.terraform.io/app", None),
        ] {
            assert_eq!(host_key(host).as_deref(), expected, "{host:?}");
        }
    }

    #[test]
    fn an_unknown_key_is_ignored_unless_it_is_critical() {
        for (text, expected) in [
            ("{}", Ok(())),
            (r#"{"a.example":"x"}"#, Ok(())),
            (r#"{"$version":"1","a.example":"x"}"#, Ok(())),
            (r#"{"$version":1}"#, Ok(())),
            (r#"{"$later":{},"a.example":{"token":"x"}}"#, Ok(())),
            (r#"{"$crit":["$version"]}"#, Ok(())),
            (
                r#"{"$later":1,"$crit":["$version","$later"]}"#,
                Err(FormatError::UnknownCritical("$later".to_owned())),
            ),
            (r#"{"$crit":"$later"}"#, Err(FormatError::Damaged)),
            (r#"{"$crit":[1]}"#, Err(FormatError::Damaged)),
            (r#"{"$version":"2"}"#, Err(FormatError::NewerVersion(2))),
            (r#"{"$version":99,"$crit":7}"#, Err(FormatError::NewerVersion(99))),
            (r#"{"$version":"0"}"#, Err(FormatError::Damaged)),
            (r#"{"$version":null}"#, Err(FormatError::Damaged)),
            ("[]", Err(FormatError::Damaged)),
            ("{\"a.exa", Err(FormatError::Damaged)),
        ] {
            assert_eq!(parse(text.as_bytes()).map(drop), expected, "{text}");
        }
    }

    #[test]
    fn the_release_before_versions_reads_a_file_with_a_version() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = StoredTokens { path: folder.path().join("tokens.json") };
        tokens.store("a.example", "x").unwrap();
        let bytes = std::fs::read(&tokens.path).unwrap();
        let before_versions: BTreeMap<String, String> = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(before_versions["a.example"], "x");
        assert_eq!(before_versions[VERSION_KEY], "1");
    }
}
