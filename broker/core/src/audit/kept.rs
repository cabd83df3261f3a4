//! The event of a change as the store keeps it: one JSON object with the fields of the log line,
//! appended to its chain.

use serde_json::{Map, Value, json};

use super::chain::{Chain, Head, Link, SEGMENT_EVENTS, SEGMENT_SECONDS, Segment, event_hash};
use super::event::Event;
use super::names::Outcome;
use crate::clock::rfc3339;

/// The size of a kept event is below this, in bytes. An item of DynamoDB holds 400 KB, and a page of
/// events must stay small.
pub const MAX_BODY: usize = 16 * 1024;

/// The limits for the texts of one event, in bytes. The first that makes the event small enough
/// applies.
const TEXT_LIMITS: [usize; 4] = [4096, 1024, 256, 64];

/// Marks the end of a text that is cut.
const CUT: &str = "…";

/// What a change says of itself before the store makes it: the event without its outcome, and the
/// time.
///
/// The methods of the store that change something take it, so no change is without an event.
#[derive(Debug, Clone)]
pub struct Kept {
    event: Event,
    at: i64,
}

impl Kept {
    /// Creates it from the event of the decision, at this time in Unix seconds.
    pub fn new(event: &Event, at: i64) -> Self {
        Self { event: event.clone(), at }
    }

    /// Returns the time of the change, in Unix seconds.
    pub const fn at(&self) -> i64 {
        self.at
    }

    /// Returns a copy with details that only the store knows, such as the state before the change.
    #[must_use]
    pub fn with(&self, add: impl FnOnce(&mut Event)) -> Self {
        let mut kept = self.clone();
        add(&mut kept.event);
        kept
    }

    /// Returns the text to keep, with this outcome, as the event of this number in the chain.
    ///
    /// It is smaller than `MAX_BODY`: it cuts long texts, and marks them.
    pub fn body(&self, outcome: Outcome, chain: &Chain, seq: u64) -> String {
        let mut fields = self.event.kept_fields(outcome);
        fields.insert("chain".to_owned(), json!(chain.as_str()));
        fields.insert("seq".to_owned(), json!(seq));
        fields.insert("time".to_owned(), json!(rfc3339(self.at)));
        let mut body = text(&fields);
        for limit in TEXT_LIMITS {
            if body.len() < MAX_BODY {
                break;
            }
            fields.values_mut().for_each(|value| cut(value, limit));
            body = text(&fields);
        }
        body
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

fn text(fields: &Map<String, Value>) -> String {
    // The fields are texts and numbers, which JSON can hold.
    serde_json::to_string(fields).unwrap_or_default()
}

/// Cuts a text that is longer than the limit, at the start of a character.
fn cut(value: &mut Value, limit: usize) {
    let Value::String(text) = value else { return };
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit.saturating_sub(CUT.len())));
        text.push_str(CUT);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::Kind;
    use crate::grants::OperatorAccess;

    fn chain() -> Chain {
        Chain::parse_stored("acme").unwrap()
    }

    fn kept(change: impl FnOnce(&mut Event)) -> Kept {
        Kept::new(&Event::new(Kind::Publish), 1_700_000_000).with(change)
    }

    fn read(body: &str) -> Map<String, Value> {
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn a_body_has_the_fields_of_the_event_and_its_place_and_nothing_unknown() {
        let kept = kept(|event| {
            event.request_id("00112233aabbccdd".to_owned());
            event.client("Terraform/1.9.5 (+https://www.terraform.io)");
            event.namespace(&"acme".parse().unwrap());
        });
        let body = read(&kept.body(Outcome::Created, &chain(), 7));
        let expected = json!({
            "v": 1, "chain": "acme", "seq": 7, "time": "2023-11-14T22:13:20Z",
            "event": "publish", "decision": "created", "request_id": "00112233aabbccdd",
            "client": "Terraform/1.9.5", "namespace": "acme",
        });
        assert_eq!(Value::Object(body), expected);
    }

    #[test]
    fn the_outcome_is_that_of_the_commit_and_a_code_of_before_is_gone() {
        let kept = kept(|event| event.refused(stile_protocol::reply::ErrorCode::Conflict));
        let body = read(&kept.body(Outcome::Changed, &chain(), 1));
        assert_eq!((&body["decision"], body.get("code")), (&json!("changed"), None));
    }

    #[test]
    fn a_long_text_is_cut_and_marked_and_the_short_ones_stay() {
        let kept = kept(|event| {
            event.resource("é".repeat(20_000));
            event.namespace(&"acme".parse().unwrap());
        });
        let body = kept.body(Outcome::Created, &chain(), 1);
        let fields = read(&body);
        let package = fields["package"].as_str().unwrap();
        assert!(package.len() <= 4096 && package.ends_with("é…"), "{package}");
        assert_eq!(fields["namespace"], "acme");
        assert!(body.len() < MAX_BODY);
    }

    fn start() -> Head {
        Head::empty(chain())
    }

    fn at(at: i64) -> Kept {
        Kept::new(&Event::new(Kind::Publish), at)
    }

    #[test]
    fn every_event_has_the_next_number_and_a_hash_over_all_before_it() {
        let (first, after) = link(&start(), &at(7), Outcome::Created);
        let (second, end) = link(&after, &at(7), Outcome::Created);
        assert_eq!((first.seq, second.seq, end.seq), (1, 2, 2));
        assert_eq!(first.hash, after.hash);
        assert_eq!(second.hash, event_hash(&first.hash, &second.body));
        let (other, _) = link(&start(), &at(8), Outcome::Created);
        assert_ne!(other.hash, first.hash);
    }

    #[test]
    fn a_segment_ends_after_its_number_of_events() {
        let mut end = start();
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
        let (_, after) = link(&start(), &at(1000), Outcome::Created);
        for (then, expected) in
            [(0, 1), (1000 + SEGMENT_SECONDS, 1), (1001 + SEGMENT_SECONDS, 2), (i64::MAX, 2)]
        {
            let (link, _) = link(&after, &at(then), Outcome::Created);
            assert_eq!(link.segment, expected, "{then}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_body_too_large_or_unreadable(
            texts in prop::collection::vec(any::<String>(), 3), repeated in 1_usize..9_000,
        ) {
            let kept = kept(|event| {
                event.resource(texts[0].repeat(repeated));
                event.operator(&OperatorAccess::for_store_writer(texts[1].repeat(repeated)));
                event.client(&texts[2].repeat(repeated));
                event.request_id(texts[2].repeat(repeated));
            });
            let body = kept.body(Outcome::Created, &chain(), u64::MAX);
            prop_assert!(body.len() < MAX_BODY);
            prop_assert_eq!(&read(&body)["seq"], &json!(u64::MAX));
        }
    }
}
