//! The rules of files that wait for the version of a provider: each is verified by one request at a
//! time, and stays verified for a day, so that a later session need not send it again.

use stile_core::package::provider::ReleaseFile;
use stile_core::package::{PackageAddress, Version};
use stile_protocol::names::Namespace;

use super::Records;
use super::model::Revision;
use super::mutation::{Mutation, Outcome};
use super::retention::MARGIN;
use super::waiting_file::{WaitingBytes, WaitingFile, WaitingKey, WaitingState};
use crate::retry::Retry;
use crate::{QuotaExceeded, StoreError, TakenTurn};

/// The time for which a verified file waits for its version, in seconds. A publisher can repeat a
/// publish that stopped on the day before.
const KEPT_FOR: i64 = 24 * 3600;

/// The time for which one request has the turn to verify a file, in seconds.
///
/// It covers fetching, inspecting and storing 1 GB. A function ends after a minute, and then another
/// request takes the turn only after this time.
const VERIFIED_WITHIN: i64 = 120;

/// The turn to verify a file.
#[derive(Debug)]
pub(crate) enum Turn {
    /// This request has it.
    Taken(WaitingFile),
    /// The file is verified.
    Verified,
    /// Another request has it.
    InProgress,
    /// An earlier request of this session refused the bytes, for this reason.
    Refused(String),
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

    /// Returns the bytes of the verified files that wait for versions of a namespace, without those that
    /// `except` selects by address, version and key.
    ///
    /// They count against the limit of the namespace: otherwise sessions that nobody completes would
    /// fill the disk without one. A table has no index of them. There, only the number of open sessions
    /// limits them.
    pub(crate) async fn waiting_bytes(
        &self,
        namespace: &Namespace,
        except: impl Fn(&WaitingBytes) -> bool,
        now: i64,
    ) -> Result<u64, StoreError> {
        let Self::Sqlite(sqlite) = self else { return Ok(0) };
        let found = sqlite.waiting_bytes(namespace, now).await?;
        let counted = found.iter().filter(|file| !except(file));
        Ok(counted.fold(0, |sum, file| sum.saturating_add(file.bytes)))
    }

    /// Returns the limit of the namespace that a file exceeds which was verified for a version.
    pub(crate) async fn waiting_exceeds(
        &self,
        address: &PackageAddress,
        version: &Version,
        (key, bytes): (&WaitingKey, u64),
        now: i64,
    ) -> Result<Option<QuotaExceeded>, StoreError> {
        let Self::Sqlite(sqlite) = self else { return Ok(None) };
        let namespace = address.namespace();
        let (_, quota) = sqlite.open_uploads(namespace).await?;
        let Some(quota) = quota else { return Ok(None) };
        let (of, version) = (address.to_string(), version.to_string());
        let is_this =
            |file: &WaitingBytes| file.address == of && file.version == version && file.key == *key;
        let waiting = self.waiting_bytes(namespace, is_this, now).await?;
        Ok(quota.with(waiting).exceeded_by_bytes(bytes))
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

    /// Takes the turn to verify a file, unless another request has it. `is_there` says whether a verified
    /// file is at its place. `upload` is the session, if it could have the answer to an earlier request:
    /// it gets the reason of a refusal once, and then the file is verified again.
    pub(crate) async fn take_turn(
        &self,
        address: &PackageAddress,
        version: &Version,
        key: &WaitingKey,
        (upload, is_there): (Option<&str>, impl Fn(&ReleaseFile) -> bool),
        now: i64,
    ) -> Result<Turn, StoreError> {
        let mut retry = Retry::default();
        loop {
            let found = self.waiting_file(address, version, key).await?;
            match &found {
                Some(file) if file.verified(now).is_some_and(&is_there) => {
                    return Ok(Turn::Verified);
                }
                Some(WaitingFile { state: WaitingState::Verifying(until), .. }) if now < *until => {
                    return Ok(Turn::InProgress);
                }
                _ => {}
            }
            let refused = match &found {
                Some(WaitingFile {
                    state: WaitingState::Refused { upload: of, problem }, ..
                }) => (Some(of.as_str()) == upload).then(|| problem.clone()),
                _ => None,
            };
            let before = found.map_or_else(Revision::default, |found| found.revision);
            let until = if refused.is_some() { 0 } else { now.saturating_add(VERIFIED_WITHIN) };
            let taken = WaitingFile {
                revision: Revision(before.0.saturating_add(1)),
                state: WaitingState::Verifying(until),
                keep_until: now.saturating_add(VERIFIED_WITHIN),
            };
            let put = put(address, version, key, before, taken.clone(), now);
            match (self.commit(vec![put]).await?, refused) {
                (Outcome::Done, Some(problem)) => return Ok(Turn::Refused(problem)),
                (Outcome::Done, None) => return Ok(Turn::Taken(taken)),
                _ => retry.wait().await?,
            }
        }
    }

    /// Gives the turn back, if this request still has it. `problem` is why it refused the bytes, for the
    /// next request of the session.
    pub(crate) async fn give_turn_back(
        &self,
        turn: TakenTurn,
        problem: Option<String>,
    ) -> Result<(), StoreError> {
        let TakenTurn { address, version, platform, sha256, upload, revision, keep_until } = turn;
        let before = Revision(revision);
        let state = match problem {
            Some(problem) => WaitingState::Refused { upload, problem },
            None => WaitingState::Verifying(0),
        };
        let ended = WaitingFile { revision: before, state, keep_until };
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
