//! A file that waits for the version of a provider, as the store has it.

use serde_json::{Value, json};
use stile_core::package::provider::{Platform, ReleaseFile};

use super::model::Revision;

/// The file of one platform of a version, which is not published yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaitingKey {
    pub(crate) platform: Platform,
    /// SHA-256 in lower-case hexadecimal.
    pub(crate) sha256: String,
}

/// How far the registry is with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WaitingState {
    /// A request verifies the file until then, in Unix seconds. By default, none does.
    Verifying(i64),
    /// The verification refused the bytes that this upload session sent, after the client had stopped
    /// waiting for it.
    Refused {
        /// The id of the session.
        upload: String,
        /// Why, in one sentence for the publisher.
        problem: String,
    },
    /// The file is verified, and at its place.
    Verified(ReleaseFile),
}

/// A file that waits, as the backend found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WaitingFile {
    pub(crate) revision: Revision,
    pub(crate) state: WaitingState,
    /// Until when the file counts as verified, in Unix seconds.
    pub(crate) keep_until: i64,
}

/// The size of a verified file that waits for a version, which does not have it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WaitingBytes {
    pub(crate) address: String,
    pub(crate) version: String,
    pub(crate) key: WaitingKey,
    pub(crate) bytes: u64,
}

impl WaitingFile {
    /// Returns the text for the store. [`WaitingFile::read`] reads it.
    pub(crate) fn to_text(&self) -> String {
        match &self.state {
            WaitingState::Verifying(until) => json!({ "verifying_until": until }),
            // An earlier release ignores the reason, and verifies again.
            WaitingState::Refused { upload, problem } => {
                json!({ "verifying_until": 0, "refused": { "upload": upload, "problem": problem } })
            }
            WaitingState::Verified(file) => json!({ "verified": file }),
        }
        .to_string()
    }

    /// Reads the text from the store. `None` if it is malformed.
    pub(crate) fn read(revision: Revision, text: &str, keep_until: i64) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        let refused = |field: &str| json.get("refused")?.get(field)?.as_str().map(str::to_owned);
        let state = match (json.get("verified"), json.get("verifying_until")) {
            (Some(file), _) => WaitingState::Verified(serde_json::from_value(file.clone()).ok()?),
            (None, until) => match (refused("upload"), refused("problem")) {
                (Some(upload), Some(problem)) => WaitingState::Refused { upload, problem },
                _ => WaitingState::Verifying(until?.as_i64()?),
            },
        };
        Some(Self { revision, state, keep_until })
    }

    /// Returns the file, if it is verified and still waits.
    pub(crate) fn verified(&self, now: i64) -> Option<&ReleaseFile> {
        match &self.state {
            WaitingState::Verified(file) if now < self.keep_until => Some(file),
            WaitingState::Verified(_)
            | WaitingState::Verifying(_)
            | WaitingState::Refused { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_file_is_read_as_it_was_written_and_counts_until_its_time() {
        let file = ReleaseFile {
            sha256: "ab".repeat(32),
            h1: "h1:x=".to_owned(),
            bytes: 7,
            object_version: Some("v".to_owned()),
        };
        let refused = WaitingState::Refused { upload: "ab".to_owned(), problem: "x".to_owned() };
        for state in [WaitingState::Verifying(7), refused, WaitingState::Verified(file)] {
            let waiting = WaitingFile { revision: Revision(3), state, keep_until: 9 };
            let read = WaitingFile::read(Revision(3), &waiting.to_text(), 9);
            assert_eq!(read.as_ref(), Some(&waiting));
            let is_verified = matches!(waiting.state, WaitingState::Verified(_));
            assert_eq!(waiting.verified(8).is_some(), is_verified);
            assert_eq!(waiting.verified(9), None);
        }
        for bad in ["", "{}", r#"{"verified":{}}"#, r#"{"verifying_until":"x"}"#] {
            assert_eq!(WaitingFile::read(Revision(1), bad, 9), None, "{bad}");
        }
    }
}
