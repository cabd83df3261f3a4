//! Signs the heads of the chains of events, and removes events that have expired.

use std::time::{Duration, Instant};

use stile_core::audit::{
    Chain, Event, Fault, Head, HeadKey, HeadStatement, Kept, Kind, Outcome, SignedHead, StoredLink,
    Verifier,
};
use stile_core::grants::{Access, CreateGrant, OperatorAccess};

use super::Store;
use super::head_signer::{
    Place, SEGMENT_PAGE, Signed, Unsigned, continues, end_before, end_of_segment,
};
use crate::records::Records;
use crate::{StoreError, StoreErrorKind, StoredSignedHead};

/// The most segments of one chain that one call signs, so that no call is long. The next call goes on.
const SEGMENTS_AT_ONCE: usize = 8;

/// The events of one chain that have expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredEvents {
    /// The chain.
    pub chain: Chain,
    /// The number of the first one.
    pub from: u64,
    /// The number of the last one: the last event of a segment.
    pub to: u64,
    /// The number of segments whose last event is among them.
    pub segments: usize,
    /// When the last segment ended, in Unix seconds: see [`HeadStatement::ended_at`].
    pub ended_at: i64,
}

impl std::fmt::Display for ExpiredEvents {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "audit events {} to {} of {}", self.from, self.to, self.chain)
    }
}

/// The reason why no event of a chain can expire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpiryProblem {
    /// The store has no audit key, so no end of a segment is signed.
    #[error("nothing is signed, and only signed events expire: the store has no audit key")]
    NoKey,
    /// An event under the signature of a segment's end was changed, or is missing.
    #[error(
        "chain `{chain}`: the events up to {seq} are not those that were signed, so nothing of the chain expires; hint: run `stile-admin audit verify`"
    )]
    Differs {
        /// The chain.
        chain: Chain,
        /// The number of the event.
        seq: u64,
    },
}

impl Store {
    /// Creates the audit key of a data folder, if it is missing. Returns whether it did. On AWS, only
    /// an operator creates one.
    pub async fn create_audit_key(&self) -> Result<bool, StoreError> {
        self.head_signer.key.create_if_missing().await
    }

    /// Returns the public half of the audit key. `None` if the store has no audit key.
    pub async fn audit_key(&self) -> Result<Option<HeadKey>, StoreError> {
        self.head_signer.key.public().await
    }

    /// Signs the head of each chain that moved since the last signature, and the end of each segment.
    /// Keeps what it signs, and then gives it to `signed`. It does nothing if the store has no audit
    /// key.
    ///
    /// It signs only what continues the event that it signed last: a signature of a chain that was
    /// written again would take the place of the one that shows it. A chain with a fault has an alarm
    /// in the log, and stops no other one. After the time in `limit`, it begins no further chain, and
    /// the next call goes on.
    pub async fn sign_audit_heads(
        &self,
        now: i64,
        limit: Duration,
        mut signed: impl FnMut(&SignedHead) + Send,
    ) -> Result<(), StoreError> {
        let Some(host) = &self.audience else {
            return Err(StoreError::misconfigured("only the broker of a registry signs heads"));
        };
        let Some(key) = self.audit_key().await? else { return Ok(()) };
        let began = Instant::now();
        let mut state = self.head_signer.state.lock().await;
        let mut heads = self.records.audit_chains().await?;
        if let Some(last) = state.last.take() {
            let start = heads.partition_point(|(chain, _)| *chain <= last);
            heads.rotate_left(start);
        }
        // One read, whether one chain is new to this process or all are.
        let known = &state.signed;
        let is_new = |head: &&Head| !known.contains_key(&head.chain);
        let all = heads.iter().filter_map(|(_, head)| head.as_ref().ok());
        let stored = match all.filter(is_new).collect::<Vec<_>>().as_slice() {
            [] => Vec::new(),
            [one] => self.records.signed_heads(Some(&one.chain)).await?,
            _ => self.records.signed_heads(None).await?,
        };
        for (name, head) in heads {
            let done = match head {
                Ok(head) if head.seq == 0 => continue,
                Ok(head) => {
                    let known = state.signed.get(&head.chain).copied();
                    let so_far = known.unwrap_or_else(|| {
                        Signed::so_far(&stored, &head.chain, host.as_str(), &key)
                    });
                    let place = (host.as_str(), &head, stored.as_slice());
                    let (so_far, done) =
                        Box::pin(self.sign_chain(place, so_far, now, &mut signed)).await;
                    state.signed.insert(head.chain, so_far);
                    done
                }
                Err(error) => Err(error.into()),
            };
            match done {
                Ok(()) => drop(state.reported.remove(&name)),
                Err(Unsigned::Store(error)) if error.kind() != StoreErrorKind::Corrupt => {
                    return Err(error);
                }
                Err(problem) if state.reported.insert(name.clone()) => tracing::error!(
                    alarm = "audit_chain_damaged",
                    chain = name,
                    cause = %problem,
                    "the chain of events does not continue what was signed, so the broker does not \
                     sign it; hint: keep the log, and run `stile-admin audit verify`"
                ),
                Err(_) => {}
            }
            if began.elapsed() >= limit {
                state.last = Some(name);
                break;
            }
        }
        Ok(())
    }

    /// Returns the head of a chain as it is now.
    pub async fn audit_head(&self, chain: &Chain) -> Result<Head, StoreError> {
        self.records.head_of(chain).await
    }

    /// Signs the ends of segments of one chain, and its head. Returns how far it is signed then.
    async fn sign_chain(
        &self,
        (host, head, stored): (&str, &Head, &[StoredSignedHead]),
        mut so_far: Signed,
        now: i64,
        signed: &mut (impl FnMut(&SignedHead) + Send),
    ) -> (Signed, Result<(), Unsigned>) {
        let done = async {
            if so_far.head.seq > head.seq {
                let (last, head) = (head.seq, so_far.head.seq);
                return Err(Fault::EndsBelow { last, head }.into());
            }
            if so_far.head.seq == 0 {
                let links = self.records.audit_page(&head.chain, 0, 1).await?.links;
                let first = links.first().map_or(1, |link| link.seq);
                if let Some(end) = end_before(stored, &head.chain, host, first) {
                    so_far.head = Place::of(&end);
                    (so_far.segment, so_far.segment_end) = (end.segment, so_far.head);
                }
            }
            let mut sealed = Ok(());
            for _ in 0..SEGMENTS_AT_ONCE {
                if so_far.segment.saturating_add(1) >= head.segment.number {
                    break;
                }
                match end_of_segment(&self.records, host, head, &so_far, now).await {
                    Ok(None) => break,
                    Ok(Some(statement)) => {
                        let end = Place::of(&statement);
                        let segment = statement.segment;
                        self.sign(statement, signed).await?;
                        (so_far.segment, so_far.segment_end) = (segment, end);
                        if end.seq > so_far.head.seq {
                            so_far.head = end;
                        }
                    }
                    Err(problem) => {
                        sealed = Err(problem);
                        break;
                    }
                }
            }
            continues(&self.records, so_far.head, head).await?;
            if so_far.head.seq < head.seq {
                self.sign(HeadStatement::of(host, head, now), signed).await?;
                so_far.head = Place { seq: head.seq, hash: head.hash };
            }
            sealed
        }
        .await;
        (so_far, done)
    }

    async fn sign(
        &self,
        statement: HeadStatement,
        signed: &mut (impl FnMut(&SignedHead) + Send),
    ) -> Result<(), StoreError> {
        if let Some(head) = self.head_signer.key.sign(statement).await? {
            self.records.put_signed_head(&head).await?;
            signed(&head);
        }
        Ok(())
    }

    /// Returns the name of each chain that has events, in order, with its head. A head that cannot be
    /// read is an error of its chain only.
    pub async fn audit_chains(
        &self,
    ) -> Result<Vec<(String, Result<Head, StoreError>)>, StoreError> {
        self.records.audit_chains().await
    }

    /// Returns the signed heads of a chain, or of all chains, in order of chain and number.
    pub async fn signed_heads(
        &self,
        chain: Option<&Chain>,
    ) -> Result<Vec<StoredSignedHead>, StoreError> {
        self.records.signed_heads(chain).await
    }

    /// Returns what of a chain has expired: all segments that ended before that time, in Unix seconds.
    /// `None` if there is nothing.
    ///
    /// It counts only segments whose end one of the `trusted` keys signed for this registry, from the
    /// oldest up to the first that is too young. An event that differs from what was signed stops it,
    /// so that no evidence of a change goes.
    pub async fn expired_events(
        &self,
        _: &OperatorAccess,
        trusted: &[HeadKey],
        chain: &Chain,
        before: i64,
    ) -> Result<Result<Option<ExpiredEvents>, ExpiryProblem>, StoreError> {
        self.expired(trusted, chain, before).await
    }

    /// Removes expired events, oldest first. Returns their number.
    ///
    /// Before it removes one, it keeps the event of it in the chain of operators. The signed head of each
    /// segment stays. If the call ends early, the next one goes on.
    pub async fn expire_events(
        &self,
        _: &OperatorAccess,
        expired: &ExpiredEvents,
        kept: &Kept,
    ) -> Result<usize, StoreError> {
        self.delete_expired(expired, kept).await
    }

    async fn delete_expired(
        &self,
        expired: &ExpiredEvents,
        kept: &Kept,
    ) -> Result<usize, StoreError> {
        self.keep_audit(kept, Outcome::Deleted).await?;
        self.records.delete_events(&expired.chain, expired.to).await
    }

    /// Returns at most `limit` kept events of a namespace, the latest first, from the last one before
    /// `before` on. Nobody has verified them.
    pub async fn audit_events(
        &self,
        access: &Access<CreateGrant>,
        before: u64,
        limit: usize,
    ) -> Result<Vec<StoredLink>, StoreError> {
        let chain = Chain::Namespace(access.namespace().clone());
        self.records.audit_page_before(&chain, before, limit).await
    }

    /// Removes all expired events of a data folder. Returns what it removed, and why it did not.
    ///
    /// A store on AWS stays as it is: the role of its brokers may not delete events, so that a stolen
    /// broker cannot hide what it did.
    pub async fn expire_folder_events(
        &self,
        before: i64,
        now: i64,
    ) -> Result<(Vec<ExpiredEvents>, Vec<ExpiryProblem>), StoreError> {
        let (mut done, mut problems) = (Vec::new(), Vec::new());
        let (Records::Sqlite(_), Some(key)) = (&self.records, self.audit_key().await?) else {
            return Ok((done, problems));
        };
        for (name, _) in self.records.audit_chains().await? {
            let Some(chain) = Chain::parse_stored(&name) else { continue };
            match self.expired(std::slice::from_ref(&key), &chain, before).await? {
                Ok(None) => {}
                Ok(Some(expired)) => {
                    let mut event = Event::new(Kind::Expire);
                    event.resource(expired.to_string());
                    self.delete_expired(&expired, &Kept::new(&event, now)).await?;
                    event.outcome(Outcome::Deleted);
                    event.write();
                    done.push(expired);
                }
                Err(problem) => problems.push(problem),
            }
        }
        Ok((done, problems))
    }

    async fn expired(
        &self,
        trusted: &[HeadKey],
        chain: &Chain,
        before: i64,
    ) -> Result<Result<Option<ExpiredEvents>, ExpiryProblem>, StoreError> {
        if trusted.is_empty() {
            return Ok(Err(ExpiryProblem::NoKey));
        }
        let Some(first) =
            self.records.audit_page(chain, 0, 1).await?.links.first().map(|link| link.seq)
        else {
            return Ok(Ok(None));
        };
        let host = match &self.audience {
            Some(host) => Some(host.clone()),
            None => self.records.host().await?,
        };
        let stored = self.records.signed_heads(Some(chain)).await?;
        let ours = |signed: &&SignedHead| {
            let host = host.as_ref().is_some_and(|host| host.as_str() == signed.statement.host);
            host && signed.is_signed_by(trusted)
        };
        let mut ends: Vec<_> = stored
            .iter()
            .filter_map(StoredSignedHead::in_place)
            .filter(ours)
            .filter_map(|signed| Some((&signed.statement, signed.statement.ended_at()?)))
            .collect();
        ends.sort_by_key(|(statement, _)| statement.seq);
        let mut before_it = Place { seq: 0, hash: Head::empty(chain.clone()).hash };
        let mut found: Option<ExpiredEvents> = None;
        for (statement, ended_at) in ends {
            let seq = statement.seq;
            if seq >= first {
                // A segment that ended later keeps all after it: the events are in order.
                if ended_at >= before {
                    break;
                }
                if self.segment_fault(before_it, statement, first).await?.is_some() {
                    // Another expiry can have removed it since the first read.
                    let left = self.records.audit_page(chain, 0, 1).await?.links;
                    if left.first().is_none_or(|link| link.seq != first) {
                        break;
                    }
                    return Ok(Err(ExpiryProblem::Differs { chain: chain.clone(), seq }));
                }
                let segments = found.as_ref().map_or(0, |found| found.segments) + 1;
                let chain = chain.clone();
                found = Some(ExpiredEvents { chain, from: first, to: seq, segments, ended_at });
            }
            before_it = Place::of(statement);
        }
        Ok(Ok(found))
    }

    /// Verifies the events of a chain between the ends of two segments. Returns what is wrong first.
    ///
    /// An expiry that was stopped has removed the beginning of a segment: its events up to `first`
    /// may be missing.
    async fn segment_fault(
        &self,
        from: Place,
        end: &HeadStatement,
        first: u64,
    ) -> Result<Option<Fault>, StoreError> {
        let mut verifier = Verifier::after(from.head(&end.chain));
        verifier.expect(end.seq, end.hash);
        while verifier.last() < end.seq {
            let links =
                self.records.audit_page(&end.chain, verifier.last(), SEGMENT_PAGE).await?.links;
            let mut is_end = true;
            for link in links.iter().filter(|link| link.seq <= end.seq) {
                is_end = false;
                let is_cut = |fault: &Fault| matches!(fault, Fault::Missing { to, .. } if to.saturating_add(1) == first);
                if let Some(fault) = verifier.check(link).into_iter().find(|fault| !is_cut(fault)) {
                    return Ok(Some(fault));
                }
            }
            if is_end {
                break;
            }
        }
        Ok(verifier.finish())
    }
}
