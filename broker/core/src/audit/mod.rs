//! Audit: the event of each decision, and the chain of those events that the store keeps.
//!
//! Every event goes to the log. The store keeps the events of changes. Each has a hash over itself and
//! the one before it ([`chain`]), so that a removed or changed event shows ([`Verifier`]).

pub mod chain;
mod event;
mod kept;
mod names;
mod signed_head;
mod verifier;

pub use chain::{Chain, Head, Link, Segment, StoredLink};
pub use event::{Anonymous, Event, Network, VERSION};
pub use kept::{Kept, link};
pub use names::{Kind, Outcome};
pub use signed_head::{
    HeadAlgorithm, HeadKey, HeadStatement, MAX_SIGNED_HEAD, SignedHead, SignedHeadError,
};
pub use verifier::{Fault, Verifier};
