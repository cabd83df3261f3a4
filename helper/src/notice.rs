//! Prints at most one notice of a registry a day to the terminal, because Terraform asks for a token
//! many times.
//!
//! The file `stile/notice` in the platform's cache folder has the time of the last one: a JSON object
//! with `version` and `shown_at`. A reader ignores other fields. If the file has a newer version, the
//! program prints no notice and leaves the file as it is. It replaces any other file that it cannot
//! use. Without the file it cannot keep the promise of one notice a day, so it prints none if it
//! cannot write it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use terraform_credentials_stile::config::Environment;
use terraform_credentials_stile::private_file::{self, Durability};

use crate::terminal;

/// The format version that this program writes, and the newest that it reads.
const VERSION: u64 = 1;

/// Time in which only one notice appears.
const INTERVAL: TimeDelta = TimeDelta::days(1);

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Shown {
    version: u64,
    shown_at: String,
}

/// Shows a notice on the terminal, unless one was shown in the last day. Of several notices, the day
/// decides which one, so that the first does not hide the others for weeks.
///
/// It never fails, and it writes nothing if there is no terminal.
pub(crate) fn show_daily(environment: &Environment, notices: &[String], now: DateTime<Utc>) {
    if let (Some(notice), Some(path)) = (of_the_day(notices, now), path(environment)) {
        terminal::show_notice(notice, || take_turn(&path, now));
    }
}

fn of_the_day(notices: &[String], now: DateTime<Utc>) -> Option<&String> {
    let day = usize::try_from(now.date_naive().num_days_from_ce()).unwrap_or_default();
    notices.get(day.checked_rem(notices.len())?)
}

fn path(environment: &Environment) -> Option<PathBuf> {
    Some(environment.cache_folder.as_ref()?.join("stile").join("notice"))
}

/// Records that a notice is shown now. Returns whether it may be shown.
fn take_turn(path: &Path, now: DateTime<Utc>) -> bool {
    // A process that holds the lock shows its notice.
    let Ok(_lock) = private_file::lock(path, Duration::ZERO) else { return false };
    let bytes = private_file::read(path).unwrap_or_default();
    if let Ok(shown) = serde_json::from_slice::<Shown>(&bytes) {
        let shown_at = shown.shown_at.parse::<DateTime<Utc>>().ok();
        // A time further ahead does not count: this computer's clock was set back.
        let is_recent =
            shown_at.is_some_and(|time| now.signed_duration_since(time).abs() < INTERVAL);
        if shown.version > VERSION || is_recent {
            return false;
        }
    }
    let shown = Shown { version: VERSION, shown_at: now.to_rfc3339() };
    serde_json::to_vec(&shown)
        .is_ok_and(|bytes| private_file::write(path, &bytes, Durability::Cached).is_ok())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn put(path: &Path, text: &str) {
        private_file::write(path, text.as_bytes(), Durability::Cached).unwrap();
    }

    #[test]
    fn without_a_file_that_can_be_written_there_is_no_notice() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("stile"), "").unwrap();
        assert!(!take_turn(&folder.path().join("stile/notice"), time("2026-11-20T10:00:00Z")));
        let path = folder.path().join("folder");
        fs::create_dir(&path).unwrap();
        assert!(!take_turn(&path, time("2026-11-20T10:00:00Z")));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_replaced_but_not_one_of_a_newer_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notice");
        let now = time("2026-11-20T10:00:00Z");
        for text in [
            "",
            "{",
            "[]",
            r#"{"version":1}"#,
            r#"{"version":1,"shown_at":"yesterday"}"#,
            r#"{"version":"1","shown_at":"2026-11-20T09:00:00Z"}"#,
            r#"{"version":1,"shown_at":"2099-01-01T00:00:00Z"}"#,
        ] {
            put(&path, text);
            assert!(take_turn(&path, now), "{text}");
            assert!(!take_turn(&path, now), "{text}");
        }
        put(&path, r#"{"version":1,"shown_at":"2026-11-20T09:00:00Z"}"#);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(take_turn(&path, now), "another user may have written the file");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let newer = r#"{"version":2,"shown_at":"2020-01-01T00:00:00Z","kinds":[]}"#;
        put(&path, newer);
        assert!(!take_turn(&path, now));
        assert_eq!(fs::read_to_string(&path).unwrap(), newer);
    }

    #[test]
    fn of_several_notices_each_has_its_day() {
        assert_eq!(of_the_day(&[], time("2026-11-20T10:00:00Z")), None);
        let notices = ["a", "b", "c"].map(str::to_owned);
        let days = ["2026-11-20T23:59:59Z", "2026-11-21T00:00:00Z", "2026-11-22T10:00:00Z"];
        let mut shown = days.map(|day| of_the_day(&notices, time(day)).unwrap().as_str());
        shown.sort_unstable();
        assert_eq!(shown, ["a", "b", "c"]);
    }

    #[test]
    fn there_is_one_notice_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stile/notice");
        for (now, expected) in [
            ("2026-11-20T10:00:00Z", true),
            ("2026-11-20T10:00:00Z", false),
            ("2026-11-20T09:59:00Z", false),
            ("2026-11-21T09:59:59Z", false),
            ("2026-11-21T10:00:00Z", true),
            ("2026-11-21T10:00:01Z", false),
            ("2026-11-19T10:00:00Z", true),
        ] {
            assert_eq!(take_turn(&path, time(now)), expected, "{now}");
        }
    }
}
