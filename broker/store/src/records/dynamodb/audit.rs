//! Audit events, one item for each, and an item for the head of each chain.
//!
//! The items of a chain are in one partition, in order. The heads of all chains are in one partition,
//! so one query lists the chains.

use stile_core::audit::{Chain, Head, Link, Segment, StoredLink};

use super::DynamoDb;
use super::attributes::{Row, bytes, number, read_bytes, read_number, read_text, text};
use super::table::{Key, SK, Write};
use crate::StoreError;
use crate::records::audit::{AuditPage, STRAYS, unreadable_head};

/// The partition of the heads. No partition of events has this name.
pub(super) const HEADS: &str = "audit heads";

impl DynamoDb {
    /// Returns the head of a chain.
    pub(crate) async fn audit_head(&self, chain: &Chain) -> Result<Head, StoreError> {
        match self.row(&head_key(chain)).await? {
            None => Ok(Head::empty(chain.clone())),
            Some(row) => read_head(&row).ok_or_else(|| unreadable_head(chain.as_str())),
        }
    }

    /// Returns the heads of all chains that have events, in order of chain.
    pub(crate) async fn audit_heads(&self) -> Result<Vec<Head>, StoreError> {
        let mut heads = Vec::new();
        self.query(HEADS, "", |row| {
            heads.push(row.ok_or_else(|| unreadable_head("a newer program")).and_then(|row| {
                let chain = read_text(&row, SK).unwrap_or_default();
                read_head(&row).ok_or_else(|| unreadable_head(chain))
            }));
            false
        })
        .await?;
        heads.into_iter().collect()
    }

    /// Returns at most `limit` events of a chain, in order, from the first one after `after` on, and
    /// the keys of other rows up to the last one. The page after 0 starts before every key.
    pub(crate) async fn audit_page(
        &self,
        chain: &Chain,
        after: u64,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        let mut page = Page::new(limit);
        let last = if after == 0 { String::new() } else { padded(after) };
        self.query_after(&partition(chain), &last, limit, |row| page.add(row.as_ref())).await?;
        page.finish(chain)
    }

    /// Returns at most `limit` events of a chain, the latest first, from the last one before `before`
    /// on.
    pub(crate) async fn audit_page_before(
        &self,
        chain: &Chain,
        before: u64,
        limit: usize,
    ) -> Result<Vec<StoredLink>, StoreError> {
        let mut page = Page::new(limit);
        self.query_back(&partition(chain), &padded(before), limit, |row| page.add(row.as_ref()))
            .await?;
        Ok(page.finish(chain)?.links)
    }
}

/// The events of one page so far.
struct Page {
    limit: usize,
    found: AuditPage,
    /// The number of strays before the last event.
    before_last: usize,
    of_newer_program: bool,
}

impl Page {
    const fn new(limit: usize) -> Self {
        Self {
            limit,
            found: AuditPage { links: Vec::new(), strays: Vec::new() },
            before_last: 0,
            of_newer_program: false,
        }
    }

    /// Adds a row. Returns whether the page is full. Only events fill it, so the next page starts
    /// after a number, and a row without one cannot make a reader read it again.
    fn add(&mut self, row: Option<&Row>) -> bool {
        let AuditPage { links, strays } = &mut self.found;
        match row.map(|row| (row, read_text(row, SK).unwrap_or_default())) {
            None => self.of_newer_program = true,
            Some((row, key)) => match read_padded(key) {
                Some(seq) => {
                    links.push(stored(seq, row));
                    self.before_last = strays.len();
                }
                None if strays.len() < STRAYS => strays.push(key.to_owned()),
                None => {}
            },
        }
        links.len() >= self.limit
    }

    /// Returns the events. Without those of a newer program, a list would have a gap.
    fn finish(mut self, chain: &Chain) -> Result<AuditPage, StoreError> {
        if self.of_newer_program {
            return Err(StoreError::corrupt(format!(
                "an audit event of `{chain}` has a newer format; hint: run a newer release"
            )));
        }
        // Those after the last event are in the next page, too.
        if !self.found.links.is_empty() {
            self.found.strays.truncate(self.before_last);
        }
        Ok(self.found)
    }
}

/// Returns the write that replaces the head of a chain, if it is still `before`. [`read_head`] reads
/// it.
pub(super) fn put_head(before: &Head, after: &Head) -> Write {
    let set = "SET seq = :next, event_hash = :hash, segment_number = :segment, \
               segment_first = :first, segment_started = :started";
    let write = Write::update(head_key(&after.chain), set)
        .value(":next", counter(after.seq))
        .value(":hash", bytes(after.hash))
        .value(":segment", counter(after.segment.number))
        .value(":first", counter(after.segment.first_seq))
        .value(":started", number(after.segment.started_at));
    if before.seq == 0 {
        write.only_if_absent()
    } else {
        write
            .only_if("seq = :before AND event_hash = :hash_before")
            .value(":before", counter(before.seq))
            .value(":hash_before", bytes(before.hash))
    }
}

/// Returns the write that adds an event. It replaces none. [`stored`] reads it.
pub(super) fn add(chain: &Chain, link: &Link) -> Write {
    let row = [
        ("segment_number", counter(link.segment)),
        ("body", text(link.body.as_str())),
        ("event_hash", bytes(link.hash)),
    ];
    Write::put(Key::new(partition(chain), padded(link.seq)), row).only_if_absent()
}

fn head_key(chain: &Chain) -> Key {
    Key::new(HEADS, chain.as_str())
}

pub(super) fn partition(chain: &Chain) -> String {
    format!("audit events {chain}")
}

/// Returns a number of an event with as many digits as the largest one has, so that the keys are in
/// the order of the numbers.
pub(super) fn padded(seq: u64) -> String {
    format!("{seq:020}")
}

/// Returns the number in the key of an event. `None` if the key is not exactly one that a writer
/// makes. So no two keys have the same number, and keys and numbers have the same order.
fn read_padded(key: &str) -> Option<u64> {
    let seq = key.parse().ok()?;
    (seq > 0 && padded(seq) == key).then_some(seq)
}

fn counter(value: u64) -> aws_sdk_dynamodb::types::AttributeValue {
    number(i64::try_from(value).unwrap_or(i64::MAX))
}

fn read_counter(row: &Row, name: &str) -> Option<u64> {
    read_number(row, name)?.try_into().ok()
}

fn read_head(row: &Row) -> Option<Head> {
    Some(Head {
        chain: Chain::parse_stored(read_text(row, SK)?)?,
        seq: read_counter(row, "seq")?,
        hash: read_bytes(row, "event_hash")?.try_into().ok()?,
        segment: Segment {
            number: read_counter(row, "segment_number")?,
            first_seq: read_counter(row, "segment_first")?,
            started_at: read_number(row, "segment_started")?,
        },
    })
}

fn stored(seq: u64, row: &Row) -> StoredLink {
    StoredLink {
        seq,
        segment: read_counter(row, "segment_number").unwrap_or_default(),
        body: read_text(row, "body").map(str::to_owned),
        hash: read_bytes(row, "event_hash").unwrap_or_default().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use stile_core::audit::{Event, Kept, Kind, Outcome, link};

    use super::*;

    fn first() -> (Head, Link, Head) {
        let before = Head::empty(Chain::parse_stored("acme").unwrap());
        let kept = Kept::new(&Event::new(Kind::Publish), 7);
        let (link, after) = link(&before, &kept, Outcome::Created);
        (before, link, after)
    }

    #[test]
    fn an_event_is_read_as_it_was_written_and_a_damaged_one_has_its_number() {
        let (_, link, after) = first();
        let write = add(&after.chain, &link);
        assert_eq!(write.condition(), Some("attribute_not_exists(pk)"));
        let mut row = write.row().unwrap().clone();
        assert_eq!(stored(1, &row), link.clone().into());
        row.insert("body".to_owned(), number(1));
        row.remove("event_hash");
        row.remove("segment_number");
        let damaged = StoredLink { seq: link.seq, segment: 0, body: None, hash: Vec::new() };
        assert_eq!(stored(1, &row), damaged);
    }

    #[test]
    fn a_head_changes_only_if_it_is_the_one_that_the_writer_saw() {
        let (before, _, after) = first();
        assert_eq!(put_head(&before, &after).condition(), Some("attribute_not_exists(pk)"));
        let condition = "seq = :before AND event_hash = :hash_before";
        assert_eq!(put_head(&after, &after).condition(), Some(condition));
    }

    #[test]
    fn a_key_that_no_writer_makes_has_no_number_and_fills_no_page() {
        let row = |key: &str| Some(Row::from([(SK.to_owned(), text(key))]));
        let mut page = Page::new(2);
        let last = "18446744073709551616";
        let longer = format!("0{}", padded(5));
        let signed = "+0000000000000000005";
        let strays = ["", "!", "x", "5", signed, &padded(0), &longer, last];
        for key in strays {
            assert_eq!(read_padded(key), None, "{key:?}");
            assert!(!page.add(row(key).as_ref()));
        }
        assert!(!page.add(row(&padded(5)).as_ref()));
        assert!(!page.add(row("the next page has it").as_ref()));
        let found = page.finish(&Chain::Operator).unwrap();
        assert_eq!((found.links[0].seq, found.strays), (5, strays.map(str::to_owned).into()));
        assert_eq!(read_padded(&padded(u64::MAX)), Some(u64::MAX));
    }

    #[test]
    fn the_keys_of_events_are_in_the_order_of_their_numbers() {
        let keys: Vec<_> = [0, 9, 10, 99, 100, u64::MAX].map(padded).into();
        assert!(keys.is_sorted() && keys.iter().all(|key| key.len() == 20), "{keys:?}");
    }
}
