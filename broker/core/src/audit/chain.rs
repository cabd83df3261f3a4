//! The chain of kept events: each has a hash over itself and the one before it.
//!
//! There is one chain for each namespace, and one for operators. The text in the store is what the hash
//! covers: a reader never writes it again.

use sha2::{Digest as _, Sha256};
use stile_protocol::names::Namespace;

use super::kept::Kept;
use super::names::Outcome;
use crate::grants::GrantNamespace;

/// Separates the hash of an event from every other hash that a program makes. So nobody can pass off
/// another signed or hashed text as an event.
const EVENT_DOMAIN: &[u8] = b"stile-audit-event:v1\0";

/// Separates the start of a chain in the same way. It is different for each chain, so the events of one
/// chain do not verify in another one.
const START_DOMAIN: &[u8] = b"stile-audit-chain:v1\0";

/// The text of the chain of operators. No namespace can have this name.
const OPERATOR: &str = "*";

/// The number of events of a segment. Expiry removes whole segments.
pub const SEGMENT_EVENTS: u64 = 500;

/// The age at which a segment ends, in seconds: 30 days.
pub const SEGMENT_SECONDS: i64 = 30 * 24 * 3600;

/// The hash of an event, or of the start of a chain.
pub type Hash = [u8; 32];

/// The chain that a kept event belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Chain {
    /// Changes of operators that are about no single namespace.
    Operator,
    /// Changes in this namespace.
    Namespace(Namespace),
}

impl Chain {
    /// Returns the text in the store: the namespace, or `*`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Operator => OPERATOR,
            Self::Namespace(namespace) => namespace.as_str(),
        }
    }

    /// Parses the text in the store. `None` if it is neither.
    pub fn parse_stored(text: &str) -> Option<Self> {
        match text {
            OPERATOR => Some(Self::Operator),
            text => Namespace::parse(text).ok().map(Self::Namespace),
        }
    }
}

impl From<&Namespace> for Chain {
    fn from(namespace: &Namespace) -> Self {
        Self::Namespace(namespace.clone())
    }
}

impl From<&GrantNamespace> for Chain {
    /// A grant on all namespaces is a matter of operators.
    fn from(namespace: &GrantNamespace) -> Self {
        match namespace {
            GrantNamespace::One(namespace) => Self::Namespace(namespace.clone()),
            GrantNamespace::All => Self::Operator,
        }
    }
}

impl std::fmt::Display for Chain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A part of a chain. Expiry removes it as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Its number. The first is 1.
    pub number: u64,
    /// The number of its first event.
    pub first_seq: u64,
    /// The time of its first event, in Unix seconds.
    pub started_at: i64,
}

/// The end of a chain: its last event. A writer replaces it together with each change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The chain.
    pub chain: Chain,
    /// The number of the last event. The first event has number 1, and an empty chain 0.
    pub seq: u64,
    /// The hash of the last event.
    pub hash: Hash,
    /// The segment of the last event.
    pub segment: Segment,
}

impl Head {
    /// Returns the head of a chain without events.
    pub fn empty(chain: Chain) -> Self {
        let segment = Segment { number: 0, first_seq: 0, started_at: 0 };
        Self { hash: start_hash(&chain), chain, seq: 0, segment }
    }
}

/// One event of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in the chain.
    pub seq: u64,
    /// The number of its segment.
    pub segment: u64,
    /// The event as JSON.
    pub body: String,
    /// The hash over the body and the hash of the event before it.
    pub hash: Hash,
}

/// One event as a store has it. Somebody may have changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLink {
    /// The number in its key.
    pub seq: u64,
    /// The number of its segment. 0 if the store has none that can be read.
    pub segment: u64,
    /// The event, normally as JSON. `None` if it is no text.
    pub body: Option<String>,
    /// The hash, normally of 32 bytes. Empty if the store has none that can be read.
    pub hash: Vec<u8>,
}

impl From<Link> for StoredLink {
    fn from(link: Link) -> Self {
        let Link { seq, segment, body, hash } = link;
        Self { seq, segment, body: Some(body), hash: hash.to_vec() }
    }
}

/// Appends the event of a change to a chain. Returns the event, and the head after it.
///
/// The head alone decides whether a new segment starts, so all writers agree.
pub fn link(head: &Head, kept: &Kept, outcome: Outcome) -> (Link, Head) {
    let seq = head.seq.saturating_add(1);
    let Segment { number, first_seq, started_at } = head.segment;
    let is_full = seq.saturating_sub(first_seq) >= SEGMENT_EVENTS;
    let is_old = kept.at().saturating_sub(started_at) > SEGMENT_SECONDS;
    let segment = if head.seq == 0 || is_full || is_old {
        Segment { number: number.saturating_add(1), first_seq: seq, started_at: kept.at() }
    } else {
        head.segment
    };
    let body = kept.body(outcome, &head.chain, seq);
    let hash = event_hash(&head.hash, &body);
    let head = Head { chain: head.chain.clone(), seq, hash, segment };
    (Link { seq, segment: segment.number, body, hash }, head)
}

/// Returns the hash of an event after the one with the hash `before`.
pub(super) fn event_hash(before: &Hash, body: &str) -> Hash {
    let hash = Sha256::new().chain_update(EVENT_DOMAIN).chain_update(before);
    hash.chain_update(body).finalize().into()
}

fn start_hash(chain: &Chain) -> Hash {
    Sha256::new().chain_update(START_DOMAIN).chain_update(chain.as_str()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Event, Kind};

    fn head() -> Head {
        Head::empty(Chain::parse_stored("acme").unwrap())
    }

    fn at(at: i64) -> Kept {
        Kept::new(&Event::new(Kind::Publish), at)
    }

    #[test]
    fn a_chain_is_a_namespace_or_that_of_operators() {
        for text in ["", "**", "Acme", "a b", "acme/vpc", "*x"] {
            assert_eq!(Chain::parse_stored(text), None, "{text:?}");
        }
        for text in ["*", "acme"] {
            assert_eq!(Chain::parse_stored(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn two_chains_start_differently() {
        assert_ne!(head().hash, Head::empty(Chain::Operator).hash);
    }

    #[test]
    fn every_event_has_the_next_number_and_a_hash_over_all_before_it() {
        let (first, after) = link(&head(), &at(7), Outcome::Created);
        let (second, end) = link(&after, &at(7), Outcome::Created);
        assert_eq!((first.seq, second.seq, end.seq), (1, 2, 2));
        assert_eq!(first.hash, after.hash);
        assert_eq!(second.hash, event_hash(&first.hash, &second.body));
        let (other, _) = link(&head(), &at(8), Outcome::Created);
        assert_ne!(other.hash, first.hash);
    }

    #[test]
    fn a_segment_ends_after_its_number_of_events() {
        let mut end = head();
        let mut segments = Vec::new();
        for _ in 0..=2 * SEGMENT_EVENTS {
            let (link, head) = link(&end, &at(7), Outcome::Created);
            segments.push(link.segment);
            end = head;
        }
        let of = |number| segments.iter().filter(|segment| **segment == number).count();
        assert_eq!((of(1), of(2), of(3)), (500, 500, 1));
        assert_eq!(end.segment, Segment { number: 3, first_seq: 1001, started_at: 7 });
    }

    #[test]
    fn a_segment_ends_when_it_is_old_and_a_clock_that_was_set_back_does_not_end_it() {
        let (_, after) = link(&head(), &at(1000), Outcome::Created);
        for (then, expected) in
            [(0, 1), (1000 + SEGMENT_SECONDS, 1), (1001 + SEGMENT_SECONDS, 2), (i64::MAX, 2)]
        {
            let (link, _) = link(&after, &at(then), Outcome::Created);
            assert_eq!(link.segment, expected, "{then}");
        }
    }
}
