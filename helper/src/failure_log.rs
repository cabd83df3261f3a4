//! Records why `get` failed, where a user finds it without a terminal: in a private log, and in the
//! step summary of GitHub Actions.
//!
//! For modules Terraform shows only `401 Unauthorized`, and hides the helper's stderr. It calls `get`
//! up to three times in one run.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use terraform_credentials_stile::config::Environment;
use terraform_credentials_stile::message::without_request_ids;
use terraform_credentials_stile::private_file::{self, Durability};

/// Most lines that the log keeps. The oldest go first.
const MAX_LINES: usize = 100;

/// Timeout for the lock of the log. Without the lock, a line of a parallel process may get lost.
const LOCK_LIMIT: Duration = Duration::from_secs(1);

/// Largest step summary that gets another entry, in bytes. GitHub shows none above 1 MiB.
const MAX_SUMMARY: u64 = 900 * 1024;

/// Longest word that is recorded, in bytes. Session tokens and bearer tokens are longer.
const MAX_WORD: usize = 160;

/// What a registry's tokens begin with: those of an exchange, and service tokens.
const TOKEN_PREFIXES: [&str; 2] = ["stile_v", "stile_svc_"];

/// Returns the path of the log, or `None` if the platform has no cache folder.
pub(crate) fn path(environment: &Environment) -> Option<PathBuf> {
    Some(environment.cache_folder.as_ref()?.join("stile").join("get.log"))
}

/// Returns the last line of the log.
pub(crate) fn last(environment: &Environment) -> Option<String> {
    lines(&path(environment)?).pop()
}

/// Records one failure. It ignores write errors, because stderr has the failure, too.
pub(crate) fn record(environment: &Environment, failure: &str, now: DateTime<Utc>) {
    let failure = without_secrets(failure);
    if let Some(path) = path(environment) {
        let line = format!("{} {failure}", now.to_rfc3339_opts(SecondsFormat::Secs, true));
        append_line(&path, line);
    }
    if let Some(path) = &environment.github_step_summary {
        let _written = summarize(path, &failure);
    }
}

fn append_line(path: &Path, line: String) {
    let _lock = private_file::lock(path, LOCK_LIMIT);
    let mut lines = lines(path);
    lines.push(line);
    let first = lines.len().saturating_sub(MAX_LINES);
    let text = format!("{}\n", lines[first..].join("\n"));
    let _written = private_file::write(path, text.as_bytes(), Durability::Cached);
}

/// Reads the lines of the log. A file that other users may access counts as empty.
fn lines(path: &Path) -> Vec<String> {
    let bytes = private_file::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
}

/// Adds the failure to a step summary that does not have it yet, with the id of another request or
/// without one.
fn summarize(path: &Path, failure: &str) -> io::Result<()> {
    // A line cannot end the block of code, because a failure is one line.
    let entry = format!("### Terraform got no token\n\n```text\nstile: {failure}\n```\n\n");
    match std::fs::metadata(path) {
        Ok(file) if !file.is_file() || file.len() > MAX_SUMMARY => return Ok(()),
        Ok(_) => {
            let summary = without_request_ids(&std::fs::read_to_string(path)?);
            if summary.contains(&without_request_ids(&entry)) {
                return Ok(());
            }
        }
        Err(_) => {}
    }
    OpenOptions::new().append(true).create(true).open(path)?.write_all(entry.as_bytes())
}

/// Removes words that may be tokens, for example if a server repeats a request in its error.
fn without_secrets(text: &str) -> String {
    let ends_word = |c: char| !(c.is_ascii_alphanumeric() || "+/=_.~%-".contains(c));
    text.split_inclusive(ends_word)
        .map(|part| {
            let word = part.trim_end_matches(ends_word);
            let is_token = TOKEN_PREFIXES.iter().any(|prefix| word.starts_with(prefix));
            if word.len() > MAX_WORD || is_token {
                format!("[removed]{}", &part[word.len()..])
            } else {
                part.to_owned()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_may_be_tokens_are_removed() {
        let long = "a/B+".repeat(50);
        for (text, expected) in [
            (format!("no token `{long}`; hint: ask"), "no token `[removed]`; hint: ask"),
            (format!("X={long}"), "[removed]"),
            ("sent \"stile_v4.local.a-b\" twice".to_owned(), "sent \"[removed]\" twice"),
            ("sent `stile_svc_a-b`".to_owned(), "sent `[removed]`"),
            ("run `aws sso login --profile a`".to_owned(), "run `aws sso login --profile a`"),
            ("é — …".to_owned(), "é — …"),
            (String::new(), ""),
        ] {
            assert_eq!(without_secrets(&text), expected);
        }
    }

    #[test]
    fn the_log_keeps_the_newest_lines() {
        let folder = tempfile::tempdir().unwrap();
        let environment =
            Environment { cache_folder: Some(folder.path().to_owned()), ..Environment::default() };
        assert_eq!(last(&environment), None);
        for number in 0..=MAX_LINES {
            record(&environment, &format!("failure {number}"), DateTime::UNIX_EPOCH);
        }
        let lines = lines(&path(&environment).unwrap());
        assert_eq!(lines.len(), MAX_LINES);
        assert_eq!(lines[0], "1970-01-01T00:00:00Z failure 1");
        assert_eq!(last(&environment).unwrap(), "1970-01-01T00:00:00Z failure 100");
    }
}
