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

#[cfg(test)]
mod tests {
    use stile_core::principal::Principal;
    use stile_protocol::exchange::Namespaces;
    use stile_protocol::names::{Permission, Permissions};

    use super::super::Sqlite;
    use super::*;
    use crate::EmbeddedDeadlines;

    fn refused(number: i64, at: i64) -> RefusedExchange {
        RefusedExchange {
            request_id: id(number),
            at,
            principal: Principal::parse_stored("aws:111122223333:role/deploy").unwrap(),
            unique_id: None,
            session: None,
            by: "proof".to_owned(),
            region: None,
            namespaces: Namespaces::All,
            permissions: Permissions::NONE.with(Permission::Download),
            code: "no_grant".to_owned(),
            message: "no".to_owned(),
        }
    }

    fn id(number: i64) -> RequestId {
        RequestId::from_bytes(number.to_be_bytes())
    }

    #[tokio::test]
    async fn a_database_keeps_only_the_newest_records_of_seven_days() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stile.sqlite3");
        Sqlite::init(&path, EmbeddedDeadlines::default()).unwrap();
        let sqlite = Sqlite::open(&path, EmbeddedDeadlines::default()).unwrap();
        let records = Records::Sqlite(sqlite);
        let add = |number| Mutation::AddRefusedExchange {
            refused: refused(number, 1000),
            forget_before: 0,
        };
        let all = (0..KEPT_REFUSED_EXCHANGES + 5).map(add).collect();
        assert_eq!(records.commit(all).await.unwrap(), Outcome::Done);
        for (number, kept) in
            [(0, false), (4, false), (5, true), (KEPT_REFUSED_EXCHANGES + 4, true)]
        {
            let found = records.refused_exchange(&id(number), 1000).await.unwrap();
            assert_eq!(found, kept.then(|| refused(number, 1000)), "{number}");
        }
        let week = REFUSED_EXCHANGE_RETENTION;
        for (now, kept) in [(1000 + week, true), (1001 + week, false)] {
            let found = records.refused_exchange(&id(5), now).await.unwrap();
            assert_eq!(found.is_some(), kept, "a reader ignores what is too old");
        }
        // The next write deletes them. The same id replaces its record.
        records.add_refused_exchange(refused(1, 1001 + week)).await.unwrap();
        records.add_refused_exchange(refused(1, 1002 + week)).await.unwrap();
        assert_eq!(records.refused_exchange(&id(5), 1000).await.unwrap(), None);
        let last = records.refused_exchange(&id(1), 1002 + week).await.unwrap();
        assert_eq!(last, Some(refused(1, 1002 + week)));
    }
}
