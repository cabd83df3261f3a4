//! The rules of files that wait for the version of a provider: each is verified by one request at a
//! time, and stays verified for a day, so that a later session need not send it again.

use stile_core::package::provider::{Platform, ReleaseFile};
use stile_core::package::{PackageAddress, Version};

use serde_json::{Value, json};

use super::Records;
use super::model::Revision;
use super::mutation::{Mutation, Outcome};
use super::retention::MARGIN;
use crate::retry::Retry;
use crate::{StoreError, TakenTurn};

/// The time for which a verified file waits for its version, in seconds. A publisher can repeat a
/// publish that stopped on the day before.
const KEPT_FOR: i64 = 24 * 3600;

/// The time for which one request has the turn to verify a file, in seconds.
///
/// It covers fetching, inspecting and storing 1 GB. A function ends after a minute, and then another
/// request takes the turn only after this time.
const VERIFIED_WITHIN: i64 = 120;

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

impl WaitingFile {
    /// Returns the text for the store. [`WaitingFile::read`] reads it.
    pub(crate) fn to_text(&self) -> String {
        match &self.state {
            WaitingState::Verifying(until) => json!({ "verifying_until": until }),
            WaitingState::Verified(file) => json!({ "verified": file }),
        }
        .to_string()
    }

    /// Reads the text from the store. `None` if it is malformed.
    pub(crate) fn read(revision: Revision, text: &str, keep_until: i64) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        let state = match (json.get("verified"), json.get("verifying_until")) {
            (Some(file), _) => WaitingState::Verified(serde_json::from_value(file.clone()).ok()?),
            (None, until) => WaitingState::Verifying(until?.as_i64()?),
        };
        Some(Self { revision, state, keep_until })
    }

    /// Returns the file, if it is verified and still waits.
    pub(crate) fn verified(&self, now: i64) -> Option<&ReleaseFile> {
        match &self.state {
            WaitingState::Verified(file) if now < self.keep_until => Some(file),
            WaitingState::Verified(_) | WaitingState::Verifying(_) => None,
        }
    }
}

/// The turn to verify a file.
#[derive(Debug)]
pub(crate) enum Turn {
    /// This request has it.
    Taken(WaitingFile),
    /// The file is verified.
    Verified,
    /// Another request has it.
    InProgress,
}

impl Records {
    /// Returns the files that wait for a version.
    pub(crate) async fn waiting_files(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<Vec<(WaitingKey, WaitingFile)>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.waiting_files(address, version).await,
            Self::DynamoDb(dynamodb) => dynamodb.waiting_files(address, version).await,
        }
    }

    async fn waiting_file(
        &self,
        address: &PackageAddress,
        version: &Version,
        key: &WaitingKey,
    ) -> Result<Option<WaitingFile>, StoreError> {
        let found = self.waiting_files(address, version).await?;
        Ok(found.into_iter().find(|(of, _)| of == key).map(|(_, file)| file))
    }

    /// Takes the turn to verify a file, unless another request has it.
    pub(crate) async fn take_turn(
        &self,
        address: &PackageAddress,
        version: &Version,
        key: &WaitingKey,
        now: i64,
    ) -> Result<Turn, StoreError> {
        let mut retry = Retry::default();
        loop {
            let found = self.waiting_file(address, version, key).await?;
            match &found {
                Some(file) if file.verified(now).is_some() => return Ok(Turn::Verified),
                Some(WaitingFile { state: WaitingState::Verifying(until), .. }) if now < *until => {
                    return Ok(Turn::InProgress);
                }
                _ => {}
            }
            let before = found.map_or_else(Revision::default, |found| found.revision);
            let taken = WaitingFile {
                revision: Revision(before.0.saturating_add(1)),
                state: WaitingState::Verifying(now.saturating_add(VERIFIED_WITHIN)),
                keep_until: now.saturating_add(VERIFIED_WITHIN),
            };
            let put = put(address, version, key, before, taken.clone(), now);
            match self.commit(vec![put]).await? {
                Outcome::Done => return Ok(Turn::Taken(taken)),
                _ => retry.wait().await?,
            }
        }
    }

    /// Gives the turn back, if this request still has it.
    pub(crate) async fn give_turn_back(&self, turn: TakenTurn) -> Result<(), StoreError> {
        let TakenTurn { address, version, platform, sha256, revision, keep_until } = turn;
        let before = Revision(revision);
        let ended = WaitingFile { revision: before, state: WaitingState::Verifying(0), keep_until };
        let key = WaitingKey { platform, sha256 };
        let put = put(&address, &version, &key, before, ended, 0);
        self.commit_with_retries(vec![put]).await.map(drop)
    }

    /// Records that a file is verified and at its place. The file stays so for a day.
    ///
    /// It does not need the turn: two requests that verify the same digest find the same.
    pub(crate) async fn put_verified(
        &self,
        address: &PackageAddress,
        version: &Version,
        key: &WaitingKey,
        file: &ReleaseFile,
        now: i64,
    ) -> Result<(), StoreError> {
        let mut retry = Retry::default();
        loop {
            let found = self.waiting_file(address, version, key).await?;
            let before = found.map_or_else(Revision::default, |found| found.revision);
            let verified = WaitingFile {
                revision: before,
                state: WaitingState::Verified(file.clone()),
                keep_until: now.saturating_add(KEPT_FOR),
            };
            match self.commit(vec![put(address, version, key, before, verified, now)]).await? {
                Outcome::Done => return Ok(()),
                // Another request has the turn, or an operator deletes an old object with these bytes.
                _ => retry.wait().await?,
            }
        }
    }
}

fn put(
    address: &PackageAddress,
    version: &Version,
    key: &WaitingKey,
    before: Revision,
    after: WaitingFile,
    now: i64,
) -> Mutation {
    Mutation::PutWaitingFile {
        address: address.clone(),
        version: version.clone(),
        key: key.clone(),
        before,
        after,
        forget_before: now.saturating_sub(MARGIN),
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
        for state in [WaitingState::Verifying(7), WaitingState::Verified(file)] {
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
