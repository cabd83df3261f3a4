//! The chain of kept events: each has a hash over itself and the one before it.
//!
//! There is one chain for each namespace, and one for operators. The text in the store is what the hash
//! covers: a reader never writes it again.

use sha2::{Digest as _, Sha256};
use stile_protocol::names::Namespace;

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

/// One event as a store has it, which nobody has verified.
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
        let acme = Head::empty(Chain::parse_stored("acme").unwrap());
        assert_ne!(acme.hash, Head::empty(Chain::Operator).hash);
    }
}
