//! Checks the files of cached tokens. The helper ignores a file that it cannot use.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use terraform_credentials_stile::message::{chain, one_line};
use terraform_credentials_stile::private_file::{self, PrivateFileError};
use terraform_credentials_stile::shell::quoted_for_posix;

use crate::verb::{VerbContext, VerbFailure};

/// The file of `terraform login`, which on Windows is in the same folder.
const STORED_TOKENS: &str = "tokens.json";

/// Checks that every file in the cache is private and readable.
pub(super) fn check(context: &VerbContext) -> Result<String, VerbFailure> {
    let Some(folder) = context.environment.cache_folder.as_ref().map(|it| it.join("stile")) else {
        return Ok("the platform has no cache folder, so each call gets a new token".to_owned());
    };
    let shown = folder.display();
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(format!("`{shown}` does not exist yet"));
        }
        Err(error) => {
            let text = one_line(&error.to_string());
            let failure = VerbFailure::new(format!("cannot read `{shown}`: {text}"));
            return Err(failure.hint(format!("run {}", removal(&[folder]))));
        }
        Ok(entries) => entries,
    };
    let is_token = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "json")
            && !path.ends_with(STORED_TOKENS)
    };
    let mut paths: Vec<_> = entries.flatten().map(|it| it.path()).filter(is_token).collect();
    paths.sort();
    let (mut usable, mut expired, mut damaged) = (0, 0, Vec::new());
    for path in paths {
        match read(&path) {
            Ok(Some(end)) if end <= context.clock.now() => expired += 1,
            Ok(_) => usable += 1,
            Err(None) => {}
            Err(Some(problem)) => damaged.push((path, problem)),
        }
    }
    if let Some((_, problem)) = damaged.first() {
        let problem = format!("{problem}, so the helper does not use it");
        let paths: Vec<_> = damaged.iter().map(|(path, _)| path.clone()).collect();
        return Err(VerbFailure::new(problem).hint(format!("run {}", removal(&paths))));
    }
    let stale = match expired {
        0 => String::new(),
        expired => format!(", and {expired} expired, which the helper replaces"),
    };
    Ok(format!("`{shown}` has {usable} token(s){stale}"))
}

/// Reads the expiry of a cached token. `Err(None)` stands for a file that is gone by now.
fn read(path: &Path) -> Result<Option<DateTime<Utc>>, Option<String>> {
    let bytes = private_file::read(path).map_err(|error| match error {
        PrivateFileError::NotFound(_) => None,
        error => Some(chain(&error)),
    })?;
    let file: Map<String, Value> = serde_json::from_slice(&bytes)
        .map_err(|_| Some(format!("`{}` is damaged", path.display())))?;
    Ok(file.get("expires_at").and_then(|end| end.as_str()?.parse().ok()))
}

/// Returns the command that deletes files.
fn removal(paths: &[PathBuf]) -> String {
    let quoted: Vec<_> =
        paths.iter().map(|path| quoted_for_posix(&path.display().to_string())).collect();
    format!("`rm -f {}`", quoted.join(" "))
}
