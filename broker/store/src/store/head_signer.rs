//! The audit key, how far the heads of the chains are signed, and what comes under the next signature.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use stile_core::audit::chain::{Hash, SEGMENT_EVENTS};
use stile_core::audit::{
    Chain, Fault, Head, HeadKey, HeadStatement, Segment, SignedHead, StoredLink, Verifier,
};
use stile_core::clock::parse_rfc3339;
use tokio::sync::Mutex;

use crate::keys::AuditKey;
use crate::records::Records;
use crate::{StoreError, StoredSignedHead};

/// The events that one read gets: those of a segment, and the one after it, which shows that the
/// segment has ended.
pub(super) const SEGMENT_PAGE: usize = 501;

const _: () =
    assert!(SEGMENT_PAGE as u64 == SEGMENT_EVENTS + 1, "a page is a segment and one event");

/// The audit key, and what this process knows to be signed, so that a chain at rest costs no read.
#[derive(Debug, Clone)]
pub(super) struct HeadSigner {
    pub(super) key: AuditKey,
    pub(super) state: Arc<Mutex<SignerState>>,
}

/// What this process knows of all chains.
#[derive(Debug, Default)]
pub(super) struct SignerState {
    pub(super) signed: HashMap<Chain, Signed>,
    /// The chains with an alarm in the log, so that each fault has one alarm.
    pub(super) reported: HashSet<String>,
    /// The last chain of a call that ran out of time. The next call begins after it.
    pub(super) last: Option<String>,
}

/// How far the heads of a chain are signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed {
    /// The last event under a signature.
    pub(super) head: Place,
    /// The last segment whose last event is under a signature, and that event.
    pub(super) segment: u64,
    pub(super) segment_end: Place,
}

/// An event by its number and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

/// The reason why a broker does not sign a chain.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsigned {
    /// The chain does not continue what was signed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The store does not show the chain.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl HeadSigner {
    pub(super) fn new(key: AuditKey) -> Self {
        Self { key, state: Arc::default() }
    }
}

impl Place {
    pub(super) const fn of(statement: &HeadStatement) -> Self {
        Self { seq: statement.seq, hash: statement.hash }
    }

    /// Returns the head after which a verification starts.
    pub(super) fn head(self, chain: &Chain) -> Head {
        let segment = Segment { number: 0, first_seq: 0, started_at: 0 };
        Head { chain: chain.clone(), seq: self.seq, hash: self.hash, segment }
    }
}

impl Signed {
    /// Returns how far the heads of a chain are signed with this key for this registry, as far as the
    /// store shows.
    ///
    /// Every other record counts as none, so that the heads are signed again from the start of the
    /// chain. If that has expired, the start is the end of a segment under any key: after the loss of
    /// the audit key, the chain goes on.
    pub(super) fn so_far(
        stored: &[StoredSignedHead],
        chain: &Chain,
        host: &str,
        key: &HeadKey,
    ) -> Self {
        let of_chain = |signed: &&SignedHead| {
            signed.statement.chain == *chain && signed.statement.host == host && signed.is_intact()
        };
        let heads: Vec<_> =
            stored.iter().filter_map(StoredSignedHead::in_place).filter(of_chain).collect();
        let ends = |ours: bool| {
            let ends = heads.iter().filter(move |head| {
                head.statement.sealed_at.is_some() && (!ours || head.key == *key)
            });
            ends.map(|head| &head.statement).max_by_key(|statement| statement.seq)
        };
        let start = Place { seq: 0, hash: Head::empty(chain.clone()).hash };
        let end = ends(true);
        let segment_end = end.map_or(start, Place::of);
        let last = heads.iter().filter(|head| head.key == *key).map(|head| &head.statement);
        let head = last.max_by_key(|statement| statement.seq).map_or(start, Place::of);
        Self { head, segment: end.map_or(0, |end| end.segment), segment_end }
    }
}

/// Returns the end of an expired segment, directly before the first event of a chain, under any key.
pub(super) fn end_before(
    stored: &[StoredSignedHead],
    chain: &Chain,
    host: &str,
    first: u64,
) -> Option<HeadStatement> {
    let statements = stored.iter().filter_map(StoredSignedHead::in_place);
    let mut ends = statements.filter(|signed| {
        let HeadStatement { seq, sealed_at, .. } = signed.statement;
        signed.statement.chain == *chain
            && signed.statement.host == host
            && sealed_at.is_some()
            && seq.checked_add(1) == Some(first)
            && signed.is_intact()
    });
    ends.next().map(|signed| signed.statement.clone())
}

/// Verifies that a chain goes on from a signed event to its head.
pub(super) async fn continues(records: &Records, from: Place, head: &Head) -> Result<(), Unsigned> {
    let mut verifier = Verifier::after(from.head(&head.chain));
    verifier.expect(head.seq, head.hash);
    if head.seq == from.seq && head.hash != from.hash {
        return Err(Fault::HeadMismatch { seq: head.seq }.into());
    }
    while verifier.last() < head.seq {
        let links = records.audit_page(&head.chain, verifier.last(), SEGMENT_PAGE).await?.links;
        let of = |link: &&StoredLink| link.seq <= head.seq;
        let mut is_end = true;
        for link in links.iter().filter(of) {
            is_end = false;
            if let Some(fault) = verifier.check(link).into_iter().next() {
                return Err(fault.into());
            }
        }
        if is_end {
            break;
        }
    }
    verifier.finish().map_or(Ok(()), |fault| Err(fault.into()))
}

/// Returns the statement about the segment after the last one that is signed. `None` if it has not
/// ended.
pub(super) async fn end_of_segment(
    records: &Records,
    host: &str,
    head: &Head,
    signed: &Signed,
    now: i64,
) -> Result<Option<HeadStatement>, Unsigned> {
    let links = records.audit_page(&head.chain, signed.segment_end.seq, SEGMENT_PAGE).await?.links;
    let Some(first) = links.first() else { return Ok(None) };
    let of = |link: &&StoredLink| link.segment == first.segment && link.seq <= head.seq;
    let count = links.iter().take_while(of).count();
    let ended = links.get(..count).filter(|_| count < links.len()).unwrap_or_default();
    let Some(last) = ended.last().filter(|last| last.seq < head.seq) else { return Ok(None) };
    if first.segment <= signed.segment || first.segment >= head.segment.number {
        return Ok(None);
    }
    let mut verifier = Verifier::after(signed.segment_end.head(&head.chain));
    if signed.head.seq <= last.seq {
        verifier.expect(signed.head.seq, signed.head.hash);
    }
    let mut sealed_at = i64::MIN;
    for link in ended {
        if let Some(fault) = verifier.check(link).into_iter().next() {
            return Err(fault.into());
        }
        let time = time_of(link).ok_or(Fault::Unreadable { seq: link.seq })?;
        sealed_at = sealed_at.max(time);
    }
    let hash = last.hash.as_slice().try_into();
    Ok(Some(HeadStatement {
        host: host.to_owned(),
        chain: head.chain.clone(),
        seq: last.seq,
        hash: hash.map_err(|_| Fault::Unreadable { seq: last.seq })?,
        segment: last.segment,
        sealed_at: Some(sealed_at),
        time: now,
    }))
}

/// Returns the time of an event.
fn time_of(link: &StoredLink) -> Option<i64> {
    let fields: serde_json::Value = serde_json::from_str(link.body.as_deref()?).ok()?;
    parse_rfc3339(fields.get("time")?.as_str()?)
}
