//! The rules of refused exchanges: how long the store keeps the record of one, and how many.
//!
//! Anyone with an AWS account can be refused. So the broker limits how many records callers leave, and
//! a backend without an expiry of its own keeps only the newest ones.

use stile_core::refused_exchange::{REFUSED_EXCHANGE_RETENTION, RefusedExchange};
use stile_protocol::request_id::RequestId;

use super::Records;
use super::mutation::{Mutation, Outcome};
use crate::StoreError;

/// The number of records that a database keeps. Without it, a flood of refusals would fill the disk.
pub(super) const KEPT_REFUSED_EXCHANGES: i64 = 10_000;

impl Records {
    /// Keeps the record of a refused exchange, in one attempt.
    pub(crate) async fn add_refused_exchange(
        &self,
        refused: RefusedExchange,
    ) -> Result<(), StoreError> {
        let forget_before = refused.at.saturating_sub(REFUSED_EXCHANGE_RETENTION);
        match self.commit(vec![Mutation::AddRefusedExchange { refused, forget_before }]).await? {
            Outcome::Done => Ok(()),
            Outcome::Refused(_) | Outcome::Conflict | Outcome::TooLarge => {
                Err(StoreError::busy("another writer changed the same record"))
            }
        }
    }

    /// Returns the record of a refused exchange. `None` if there is none, or if it is too old.
    pub(crate) async fn refused_exchange(
        &self,
        id: &RequestId,
        now: i64,
    ) -> Result<Option<RefusedExchange>, StoreError> {
        let found = match self {
            Self::Sqlite(sqlite) => sqlite.refused_exchange(id).await?,
            Self::DynamoDb(dynamodb) => dynamodb.refused_exchange(id).await?,
        };
        let Some((at, text)) = found else { return Ok(None) };
        if at < now.saturating_sub(REFUSED_EXCHANGE_RETENTION) {
            return Ok(None);
        }
        let unreadable = || {
            StoreError::corrupt(format!(
                "cannot read the record of request `{id}`: it is damaged, or a newer release wrote it"
            ))
        };
        RefusedExchange::read(id.clone(), at, &text).map(Some).ok_or_else(unreadable)
    }
}
