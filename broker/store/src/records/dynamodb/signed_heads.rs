//! The items of signed heads, and the deletion of expired events.

use stile_core::audit::{Chain, HeadStatement, SignedHead};

use super::DynamoDb;
use super::attributes::{number, read_number, read_text, text};
use super::audit::{HEADS, padded, partition};
use super::table::{Key, SK, Write};
use crate::StoreError;
use crate::records::mutation::Outcome;
use crate::records::signed_heads::StoredSignedHead;
use crate::retry::Retry;

/// The partition of all signed heads.
const SIGNED: &str = "audit signed heads";

/// The most deletions of one transaction.
const AT_ONCE: usize = 100;

impl DynamoDb {
    pub(crate) async fn audit_chain_names(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        self.query(HEADS, "", |row| {
            // The key of a row of a newer program is not readable here.
            let name = row.as_ref().and_then(|row| read_text(row, SK)).unwrap_or_default();
            names.push(name.to_owned());
            false
        })
        .await?;
        Ok(names)
    }

    pub(crate) async fn put_signed_head(&self, signed: &SignedHead) -> Result<(), StoreError> {
        let HeadStatement { chain, seq, segment, sealed_at, .. } = &signed.statement;
        let key = Key::new(SIGNED, format!("{chain} {}", padded(*segment)));
        let seq = i64::try_from(*seq).unwrap_or(i64::MAX);
        let mut retry = Retry::default();
        loop {
            let row = [("seq", number(seq)), ("record", text(signed.to_json()))];
            // The condition reads it: `record` is a reserved word there.
            let end = sealed_at.map(|_| ("is_end", number(1)));
            // Another broker can have signed a later head of the segment, or its end.
            let condition = match sealed_at {
                Some(_) => "attribute_not_exists(pk) OR seq <= :seq",
                None => {
                    "attribute_not_exists(pk) OR seq < :seq OR \
                     (seq = :seq AND attribute_not_exists(is_end))"
                }
            };
            let put = Write::put(key.clone(), row.into_iter().chain(end))
                .only_if(condition)
                .value(":seq", number(seq));
            match self.transact(vec![put]).await? {
                Outcome::Conflict => retry.wait().await?,
                Outcome::Done | Outcome::Refused(_) | Outcome::TooLarge => return Ok(()),
            }
        }
    }

    pub(crate) async fn signed_heads(
        &self,
        chain: Option<&Chain>,
    ) -> Result<Vec<StoredSignedHead>, StoreError> {
        let mut found = Vec::new();
        let prefix = chain.map(|chain| format!("{chain} ")).unwrap_or_default();
        self.query(SIGNED, &prefix, |row| {
            let Some(row) = row else { return false };
            let chain = read_text(&row, SK).and_then(|key| key.split_once(' '));
            let chain = chain.map(|(chain, _)| chain).unwrap_or_default();
            let seq = read_number(&row, "seq").and_then(|seq| u64::try_from(seq).ok());
            let record = read_text(&row, "record");
            found.push(StoredSignedHead::new(chain, seq.unwrap_or_default(), record));
            false
        })
        .await?;
        Ok(found)
    }

    pub(crate) async fn delete_events(
        &self,
        chain: &Chain,
        up_to: u64,
    ) -> Result<usize, StoreError> {
        let (events, last) = (partition(chain), padded(up_to));
        let mut keys = Vec::new();
        self.query(&events, "", |row| {
            // A row of a newer program has no readable key here. It stays, and all after it.
            let key = row.as_ref().and_then(|row| read_text(row, SK)).map(str::to_owned);
            match key.filter(|key| *key <= last) {
                Some(key) => keys.push(key),
                None => return true,
            }
            false
        })
        .await?;
        for some in keys.chunks(AT_ONCE) {
            let mut retry = Retry::default();
            loop {
                let delete = |key: &String| Write::delete(Key::new(events.as_str(), key.as_str()));
                match self.transact(some.iter().map(delete).collect()).await? {
                    Outcome::Conflict => retry.wait().await?,
                    Outcome::Done | Outcome::Refused(_) | Outcome::TooLarge => break,
                }
            }
        }
        Ok(keys.len())
    }
}
