//! The signed heads of the chains of events: one for each segment, the newest. And the end of events
//! that have expired.

use stile_core::audit::{Chain, Head, HeadStatement, SignedHead, SignedHeadError};

use super::Records;
use super::audit::unreadable_head;
use crate::{StoreError, StoreErrorKind};

/// A signed head as the store has it. Nothing in it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSignedHead {
    /// The chain in its key.
    pub chain: String,
    /// The number in its key, or 0.
    pub seq: u64,
    /// What this program reads there.
    pub read: Result<SignedHead, SignedHeadError>,
}

impl StoredSignedHead {
    /// Reads a record. `None` is no text.
    pub(super) fn new(chain: &str, seq: u64, record: Option<&str>) -> Self {
        let read = record.ok_or(SignedHeadError::Malformed).and_then(SignedHead::parse);
        Self { chain: chain.to_owned(), seq, read }
    }

    /// Returns the signed head, if it is readable, and is that of its key.
    pub fn in_place(&self) -> Option<&SignedHead> {
        let signed = self.read.as_ref().ok()?;
        let HeadStatement { chain, seq, .. } = &signed.statement;
        (chain.as_str() == self.chain && *seq == self.seq).then_some(signed)
    }
}

impl Records {
    /// Returns the name of each chain that has events, in order, with its head. A head that cannot be
    /// read is an error of its chain only.
    pub(crate) async fn audit_chains(
        &self,
    ) -> Result<Vec<(String, Result<Head, StoreError>)>, StoreError> {
        match self.audit_heads().await {
            Ok(heads) => {
                let named = |head: Head| (head.chain.as_str().to_owned(), Ok(head));
                return Ok(heads.into_iter().map(named).collect());
            }
            Err(error) if error.kind() == StoreErrorKind::Corrupt => {}
            Err(error) => return Err(error),
        }
        let names = match self {
            Self::Sqlite(sqlite) => sqlite.audit_chain_names().await?,
            Self::DynamoDb(dynamodb) => dynamodb.audit_chain_names().await?,
        };
        let mut chains = Vec::new();
        for name in names {
            let head = match Chain::parse_stored(&name) {
                Some(chain) => self.head_of(&chain).await,
                None => Err(unreadable_head(&name)),
            };
            match head {
                Err(error) if error.kind() != StoreErrorKind::Corrupt => return Err(error),
                head => chains.push((name, head)),
            }
        }
        Ok(chains)
    }

    /// Returns the head of a chain as it is now.
    pub(crate) async fn head_of(&self, chain: &Chain) -> Result<Head, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.audit_head(chain).await,
            Self::DynamoDb(dynamodb) => dynamodb.audit_head(chain).await,
        }
    }

    /// Keeps a signed head, in place of an older one of the same segment. The signed end of a segment
    /// stays.
    pub(crate) async fn put_signed_head(&self, signed: &SignedHead) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.put_signed_head(signed).await,
            Self::DynamoDb(dynamodb) => dynamodb.put_signed_head(signed).await,
        }
    }

    /// Returns the signed heads of a chain, or of all chains, in order of chain and number.
    pub(crate) async fn signed_heads(
        &self,
        chain: Option<&Chain>,
    ) -> Result<Vec<StoredSignedHead>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.signed_heads(chain).await,
            Self::DynamoDb(dynamodb) => dynamodb.signed_heads(chain).await,
        }
    }

    /// Deletes the events of a chain up to that number, oldest first. Returns their number.
    ///
    /// If it ends early, the rest is a shorter end of the chain, and the next call goes on.
    pub(crate) async fn delete_events(
        &self,
        chain: &Chain,
        up_to: u64,
    ) -> Result<usize, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.delete_events(chain, up_to).await,
            Self::DynamoDb(dynamodb) => dynamodb.delete_events(chain, up_to).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use stile_core::audit::{HeadAlgorithm, HeadKey};

    use super::*;
    use crate::EmbeddedDeadlines;
    use crate::records::Sqlite;

    fn signed(seq: u64, segment: u64, sealed_at: Option<i64>) -> SignedHead {
        let statement = HeadStatement {
            host: "registry.example.com".to_owned(),
            chain: Chain::Operator,
            seq,
            hash: [7; 32],
            segment,
            sealed_at,
            time: 0,
        };
        let key = HeadKey::new(HeadAlgorithm::Ed25519, vec![1; 32]);
        SignedHead { statement, key_id: "k".to_owned(), key, signature: vec![1] }
    }

    #[tokio::test]
    async fn a_head_replaces_older_ones_of_its_segment_and_never_the_signed_end_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("stile.sqlite3");
        Sqlite::init(&database, EmbeddedDeadlines::default()).unwrap();
        let opened = Sqlite::open(&database, EmbeddedDeadlines::default()).unwrap();
        let records = Records::Sqlite(opened);
        let end = signed(5, 1, Some(0));
        // The last one is of a broker that has not seen the end of the segment.
        for head in [signed(4, 1, None), signed(5, 1, None), end.clone(), signed(5, 1, None)] {
            records.put_signed_head(&head).await.unwrap();
        }
        for head in [signed(6, 2, None), signed(8, 2, None)] {
            records.put_signed_head(&head).await.unwrap();
        }
        let stored = records.signed_heads(None).await.unwrap();
        let stored: Vec<_> = stored.iter().filter_map(StoredSignedHead::in_place).collect();
        assert_eq!(stored, [&end, &signed(8, 2, None)]);
    }
}
