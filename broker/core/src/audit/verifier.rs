//! Verifies a stored chain, and names every event that was removed, changed or moved.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::chain::{Chain, Hash, Head, StoredLink, event_hash};

/// The most moved events whose hashes the verifier remembers, so that a damaged chain needs little
/// memory.
const REMEMBERED: usize = 10_000;

/// Something that is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Events are missing before one that exists.
    #[error("the events {from} to {to} are missing")]
    Missing {
        /// The number of the first one.
        from: u64,
        /// The number of the last one.
        to: u64,
    },
    /// The hash of an event does not match its text and the hash of the event before it.
    #[error("event {seq} was changed, or the hash of the one before it")]
    Changed {
        /// The number in its key.
        seq: u64,
    },
    /// An event says that it belongs to another place: it was moved, or is of another chain.
    #[error("event {seq} was moved: its text is of another place")]
    Reordered {
        /// The number in its key.
        seq: u64,
    },
    /// An event, or its hash, cannot be read.
    #[error("event {seq} cannot be read")]
    Unreadable {
        /// The number in its key.
        seq: u64,
    },
    /// A row among the events has a key that no writer makes, so it is no event.
    #[error("the row {key:?} is no event: no writer makes such a key")]
    Stray {
        /// The key.
        key: String,
    },
    /// The chain ends before an event that a head proves: its tail was cut off.
    #[error("the chain ends at event {last}, and a head proves event {head}: its tail was cut off")]
    EndsBelow {
        /// The number of the last event. 0 if the chain is empty.
        last: u64,
        /// The number of the event of the head.
        head: u64,
    },
    /// The hash of an event differs from that in a head: the chain was written again.
    #[error("event {seq} is not the one that a head proves")]
    HeadMismatch {
        /// The number in its key.
        seq: u64,
    },
}

/// Verifies the events of one chain in the order of their keys. It goes on after a fault.
///
/// An event directly after a missing, moved or unreadable one has no known hash before it. The verifier
/// then checks only its place. It goes on from its stored hash.
#[derive(Debug)]
pub struct Verifier {
    chain: Chain,
    next: u64,
    /// The hash of the event before the next one, unless it is not known.
    before: Option<Hash>,
    /// The hashes of moved events, by the number in their texts.
    moved: HashMap<u64, Hash>,
    /// The hashes that heads prove.
    heads: BTreeMap<u64, Vec<Hash>>,
}

impl Verifier {
    /// Starts after this head: [`Head::empty`] for a whole chain, or the head of what has expired.
    pub fn after(head: Head) -> Self {
        Self {
            chain: head.chain,
            next: head.seq.saturating_add(1),
            before: Some(head.hash),
            moved: HashMap::new(),
            heads: BTreeMap::new(),
        }
    }

    /// Adds what a head proves: the event of that number has that hash. Add all heads before the first
    /// event.
    ///
    /// A head before the start proves nothing here: its event has expired.
    pub fn expect(&mut self, seq: u64, hash: Hash) {
        if seq >= self.next {
            self.heads.entry(seq).or_default().push(hash);
        }
    }

    /// Returns the number of the last event so far, or where the chain starts.
    pub const fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Verifies the next stored event. Returns what is wrong up to it.
    pub fn check(&mut self, link: &StoredLink) -> Vec<Fault> {
        let mut faults = Vec::new();
        let seq = link.seq;
        if seq == 0 {
            return vec![Fault::Unreadable { seq }];
        }
        if seq < self.next {
            return vec![Fault::Reordered { seq }];
        }
        if seq > self.next {
            faults.push(Fault::Missing { from: self.next, to: seq - 1 });
            // A head can prove one that is missing. That it is missing says enough.
            self.heads = self.heads.split_off(&seq);
            self.before = None;
        }
        let before = self.before.take();
        let stored = Hash::try_from(link.hash.as_slice()).ok();
        let fault = match (link.body.as_deref(), stored) {
            (Some(body), Some(stored)) => self.fault_of(seq, body, before, stored),
            _ => Some(Fault::Unreadable { seq }),
        };
        if !matches!(fault, Some(Fault::Reordered { .. })) {
            self.before = stored;
        }
        faults.extend(fault);
        for proved in self.heads.remove(&seq).unwrap_or_default() {
            if stored.is_some_and(|stored| stored != proved) {
                faults.push(Fault::HeadMismatch { seq });
            }
        }
        self.next = seq.saturating_add(1);
        faults
    }

    /// Returns what is wrong at the end of the chain: a head proves an event after its last one.
    pub fn finish(self) -> Option<Fault> {
        let (head, _) = self.heads.last_key_value()?;
        Some(Fault::EndsBelow { last: self.last(), head: *head })
    }

    fn fault_of(
        &mut self,
        seq: u64,
        body: &str,
        before: Option<Hash>,
        stored: Hash,
    ) -> Option<Fault> {
        let Some((chain, place)) = place_of(body) else { return Some(Fault::Unreadable { seq }) };
        if chain != self.chain.as_str() || place != seq {
            if chain == self.chain.as_str() && self.moved.len() < REMEMBERED {
                self.moved.insert(place, stored);
            }
            return Some(Fault::Reordered { seq });
        }
        let before = before.or_else(|| self.moved.get(&seq.checked_sub(1)?).copied())?;
        (event_hash(&before, body) != stored).then_some(Fault::Changed { seq })
    }
}

/// Returns the chain and the number that an event says it has.
fn place_of(body: &str) -> Option<(String, u64)> {
    let fields: Value = serde_json::from_str(body).ok()?;
    Some((fields.get("chain")?.as_str()?.to_owned(), fields.get("seq")?.as_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Event, Kept, Kind, Outcome, link};

    fn chain() -> Chain {
        Chain::parse_stored("acme").unwrap()
    }

    /// Returns a chain of that many events.
    fn events(count: u64) -> (Vec<StoredLink>, Head) {
        let mut head = Head::empty(chain());
        let mut links = Vec::new();
        for at in 0..count {
            let mut event = Event::new(Kind::Publish);
            event.resource(format!("package {at}"));
            let kept = Kept::new(&event, 1_700_000_000);
            let (link, after) = link(&head, &kept, Outcome::Created);
            links.push(link.into());
            head = after;
        }
        (links, head)
    }

    fn faults(links: &[StoredLink], heads: &[&Head]) -> Vec<Fault> {
        let mut verifier = Verifier::after(Head::empty(chain()));
        heads.iter().for_each(|head| verifier.expect(head.seq, head.hash));
        let mut faults: Vec<_> = links.iter().flat_map(|link| verifier.check(link)).collect();
        faults.extend(verifier.finish());
        faults
    }

    fn replaced(link: &StoredLink) -> StoredLink {
        let body = link.body.as_ref().map(|body| body.replace("created", "changed"));
        StoredLink { body, ..link.clone() }
    }

    #[test]
    fn one_run_names_each_removed_changed_and_moved_event() {
        let (mut links, head) = events(20);
        links[3] = replaced(&links[3]);
        for (left, right) in [(7, 12), (15, 16)] {
            let (one, other) = (links[left].clone(), links[right].clone());
            links[left] = StoredLink { seq: one.seq, ..other.clone() };
            links[right] = StoredLink { seq: other.seq, ..one };
        }
        links.remove(5);
        let found = faults(&links, &[&head]);
        let expected = [
            Fault::Changed { seq: 4 },
            Fault::Missing { from: 6, to: 6 },
            Fault::Reordered { seq: 8 },
            Fault::Reordered { seq: 13 },
            Fault::Reordered { seq: 16 },
            Fault::Reordered { seq: 17 },
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_cut_tail_shows_only_with_a_head_from_before_it() {
        let (links, head) = events(20);
        let cut = &links[..18];
        let hash = cut[17].hash.clone().try_into().unwrap();
        let rewritten = Head { seq: 18, hash, ..head.clone() };
        assert_eq!(faults(cut, &[&rewritten]), []);
        assert_eq!(faults(cut, &[&rewritten, &head]), [Fault::EndsBelow { last: 18, head: 20 }]);
        assert_eq!(faults(&[], &[&head]), [Fault::EndsBelow { last: 0, head: 20 }]);
    }

    #[test]
    fn a_chain_that_was_written_again_does_not_match_a_head_from_before_it() {
        let (_, head) = events(5);
        let mut other = Head::empty(chain());
        let mut links = Vec::new();
        for _ in 0..6 {
            let kept = Kept::new(&Event::new(Kind::Restore), 0);
            let (link, after) = link(&other, &kept, Outcome::Changed);
            links.push(link.into());
            other = after;
        }
        assert_eq!(faults(&links, &[&head, &other]), [Fault::HeadMismatch { seq: 5 }]);
    }

    #[test]
    fn unreadable_events_do_not_hide_the_faults_after_them() {
        let (whole, head) = events(6);
        for (body, hash) in [
            (None, whole[1].hash.clone()),
            (Some(String::new()), whole[1].hash.clone()),
            (Some("{}".to_owned()), whole[1].hash.clone()),
            (Some(r#"{"chain":"acme","seq":-1}"#.to_owned()), whole[1].hash.clone()),
            (whole[1].body.clone(), Vec::new()),
            (whole[1].body.clone(), vec![0; 33]),
        ] {
            let mut links = whole.clone();
            links[1] = StoredLink { body, hash, ..links[1].clone() };
            links[4] = replaced(&links[4]);
            let expected = [Fault::Unreadable { seq: 2 }, Fault::Changed { seq: 5 }];
            assert_eq!(faults(&links, &[&head]), expected);
        }
    }

    #[test]
    fn an_event_of_another_chain_is_out_of_place() {
        let (mut links, head) = events(3);
        let (other, _) = link(
            &Head::empty(Chain::Operator),
            &Kept::new(&Event::new(Kind::Key), 0),
            Outcome::Dropped,
        );
        links[0] = other.into();
        assert_eq!(faults(&links, &[&head]), [Fault::Reordered { seq: 1 }]);
    }

    #[test]
    fn what_has_expired_is_not_missing_and_a_head_of_it_proves_nothing() {
        let (links, head) = events(10);
        let hash = |seq: usize| links[seq - 1].hash.clone().try_into().unwrap();
        let expired = Head { seq: 4, hash: hash(4), ..head };
        let mut verifier = Verifier::after(expired);
        verifier.expect(2, [0; 32]);
        verifier.expect(10, hash(10));
        let found: Vec<_> = links[4..].iter().flat_map(|link| verifier.check(link)).collect();
        assert_eq!((found, verifier.last(), verifier.finish()), (vec![], 10, None));
    }

    #[test]
    fn an_event_before_the_first_one_is_unreadable_and_moves_nothing() {
        let (mut links, head) = events(2);
        links.insert(0, StoredLink { seq: 0, ..links[0].clone() });
        assert_eq!(faults(&links, &[&head]), [Fault::Unreadable { seq: 0 }]);
    }

    #[test]
    fn an_event_that_comes_twice_is_out_of_place() {
        let (links, _) = events(2);
        let again = [links[0].clone(), links[1].clone(), links[0].clone()];
        assert_eq!(faults(&again, &[]), [Fault::Reordered { seq: 1 }]);
    }
}
