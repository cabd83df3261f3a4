//! The rules of the lease on files of grants: one program at a time applies a file.
//!
//! Without it, two files at once could end in a mixture of both. Each change under the lease also
//! replaces the lease, in one transaction. So a program that lost its lease can change nothing more,
//! however late its change arrives.
//!
//! No clock is in the record, because the clocks of operators differ. A program takes the lease of
//! another one after it has itself seen no change of it for [`GRANT_LEASE`].

use std::time::{Duration, Instant};

use super::Records;
use super::model::LeaseRecord;
use super::mutation::{Mutation, Outcome};
use crate::StoreError;
use crate::retry::Retry;

/// The time for which a lease excludes other programs, if its holder neither changes a grant nor
/// renews it.
pub const GRANT_LEASE: Duration = Duration::from_secs(15);

/// The lease on files of grants, which this program has taken.
#[derive(Debug)]
pub struct GrantLease {
    record: LeaseRecord,
}

impl GrantLease {
    /// Returns the change that replaces the lease by its successor. Its condition is that no other
    /// program has taken the lease.
    pub(super) fn renewal(&self) -> Mutation {
        Mutation::PutGrantLease { before: self.record.revision, after: self.record.successor() }
    }

    /// Records that the store made the change of [`Self::renewal`].
    pub(super) fn renewed(&mut self) {
        self.record = self.record.successor();
    }
}

/// The result of a change under the lease.
#[derive(Debug, PartialEq, Eq)]
pub enum Leased<T> {
    /// The answer.
    Done(T),
    /// Another program has taken the lease. Nothing changed.
    Lost,
}

/// The result of taking the lease on files of grants.
#[derive(Debug)]
pub enum LeaseTaken {
    /// This program holds the lease.
    Done(GrantLease),
    /// Another program holds it.
    Held {
        /// The operator of the other program.
        by: String,
    },
}

/// What a program that waits for the lease has seen of it.
#[derive(Debug, Default)]
pub struct LeaseWatch {
    /// The latest revision, and the time at which the program saw it first.
    seen: Option<(i64, Instant)>,
}

impl LeaseWatch {
    /// Returns whether the lease has had this revision for its whole length. The read of the revision
    /// began and ended at these times of a monotonic clock.
    fn has_ended(&mut self, revision: i64, began: Instant, ended: Instant) -> bool {
        match self.seen {
            Some((seen, since)) if seen == revision => {
                began.saturating_duration_since(since) >= GRANT_LEASE
            }
            _ => {
                self.seen = Some((revision, ended));
                false
            }
        }
    }
}

impl LeaseRecord {
    fn successor(&self) -> Self {
        Self { revision: self.revision.saturating_add(1), holder: self.holder.clone() }
    }
}

impl Records {
    /// Takes the lease, unless another program holds it.
    pub(crate) async fn take_grant_lease(
        &self,
        holder: &str,
        watch: &mut LeaseWatch,
        clock: impl Fn() -> Instant,
    ) -> Result<LeaseTaken, StoreError> {
        let mut retry = Retry::default();
        loop {
            let began = clock();
            let before = self.grant_lease().await?;
            if let Some(by) = &before.holder
                && !watch.has_ended(before.revision, began, clock())
            {
                return Ok(LeaseTaken::Held { by: by.clone() });
            }
            let record = LeaseRecord {
                revision: before.revision.saturating_add(1),
                holder: Some(holder.to_owned()),
            };
            let put = Mutation::PutGrantLease { before: before.revision, after: record.clone() };
            match self.commit(vec![put]).await? {
                Outcome::Done => return Ok(LeaseTaken::Done(GrantLease { record })),
                Outcome::Refused(_) | Outcome::Conflict | Outcome::TooLarge => retry.wait().await?,
            }
        }
    }

    /// Renews the lease without a change of a grant.
    pub(crate) async fn renew_grant_lease(
        &self,
        lease: &mut GrantLease,
    ) -> Result<Leased<()>, StoreError> {
        match self.commit_with_retries(vec![lease.renewal()]).await? {
            Outcome::Done => {
                lease.renewed();
                Ok(Leased::Done(()))
            }
            Outcome::Refused(_) | Outcome::Conflict | Outcome::TooLarge => Ok(Leased::Lost),
        }
    }

    /// Ends the lease. It changes nothing if another program has taken it.
    pub(crate) async fn end_grant_lease(&self, lease: GrantLease) -> Result<(), StoreError> {
        let after = LeaseRecord { holder: None, ..lease.record.successor() };
        let put = Mutation::PutGrantLease { before: lease.record.revision, after };
        self.commit_with_retries(vec![put]).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use stile_core::audit::{Event, Kept, Kind};
    use stile_core::grants::{Grant, GrantTag};
    use stile_core::principal::Principal;
    use stile_protocol::names::{Permission, Permissions};

    use super::super::Sqlite;
    use super::*;
    use crate::{Change, Created, Deleted, EmbeddedDeadlines};

    fn grant(on: &str) -> Grant {
        Grant {
            principal: Principal::parse_stored("aws:111122223333:role/deploy").unwrap(),
            namespace: on.parse().unwrap(),
            permissions: Permissions::NONE.with(Permission::Download),
            expires_at: None,
            created_by: "test".to_owned(),
            created_at: 0,
        }
    }

    #[tokio::test]
    async fn a_lease_is_taken_over_only_after_its_length_without_a_change_and_then_changes_nothing()
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stile.sqlite3");
        Sqlite::init(&path, EmbeddedDeadlines::default()).unwrap();
        let store = &Records::Sqlite(Sqlite::open(&path, EmbeddedDeadlines::default()).unwrap());
        let kept = Kept::new(&Event::new(Kind::Grant), 0);
        let start = Instant::now();
        let take = async |who: &str, watch: &mut LeaseWatch, after: Duration| {
            store.take_grant_lease(who, watch, || start + after).await.map(|taken| match taken {
                LeaseTaken::Done(lease) => Ok(lease),
                LeaseTaken::Held { by } => Err(by),
            })
        };
        let mut watch = LeaseWatch::default();
        let mut first =
            take("a", &mut LeaseWatch::default(), Duration::ZERO).await.unwrap().unwrap();
        assert_eq!(take("b", &mut watch, Duration::ZERO).await.unwrap().unwrap_err(), "a");
        assert_eq!(store.renew_grant_lease(&mut first).await.unwrap(), Leased::Done(()));
        // It has seen the present revision for no time yet.
        assert!(take("b", &mut watch, GRANT_LEASE).await.unwrap().is_err());
        let almost = GRANT_LEASE * 2 - Duration::from_millis(1);
        assert!(take("b", &mut watch, almost).await.unwrap().is_err());
        let other = take("c", &mut LeaseWatch::default(), GRANT_LEASE * 9).await.unwrap();
        assert!(other.is_err(), "who has not waited takes no lease, whatever its clock says");
        let held = grant("acme");
        let created =
            store.create_grant(held.clone(), None, Some(&mut first), &kept).await.unwrap();
        assert!(matches!(created, Leased::Done(Created::Done { .. })), "{created:?}");
        assert!(
            take("b", &mut watch, GRANT_LEASE * 2).await.unwrap().is_err(),
            "a change renews it"
        );
        let mut second = take("b", &mut watch, GRANT_LEASE * 3).await.unwrap().unwrap();

        assert_eq!(store.renew_grant_lease(&mut first).await.unwrap(), Leased::Lost);
        let other = grant("other");
        let created = store.create_grant(other, None, Some(&mut first), &kept).await.unwrap();
        assert_eq!(created, Leased::Lost);
        let (who, on, tag) = (held.principal.clone(), held.namespace.clone(), GrantTag::of(&held));
        let wider = Change { set: Permissions::NONE.with(Permission::Upload), ..Change::default() };
        let late =
            store.update_grant(who.clone(), on.clone(), wider, Some(&tag), Some(&mut first), &kept);
        assert_eq!(late.await.unwrap(), Leased::Lost);
        let late = store.delete_grant(who.clone(), on.clone(), Some(&tag), Some(&mut first), &kept);
        assert_eq!(late.await.unwrap(), Leased::Lost);
        assert_eq!(store.grants(None, None).await.unwrap(), std::slice::from_ref(&held));
        let deleted =
            store.delete_grant(who, on, Some(&tag), Some(&mut second), &kept).await.unwrap();
        assert_eq!(deleted, Leased::Done(Deleted::Done(Some(held))));

        store.end_grant_lease(first).await.unwrap();
        assert!(take("d", &mut LeaseWatch::default(), Duration::ZERO).await.unwrap().is_err());
        store.end_grant_lease(second).await.unwrap();
        assert!(take("d", &mut LeaseWatch::default(), Duration::ZERO).await.unwrap().is_ok());
        let damage = "UPDATE registry_records SET record = 'x' WHERE name = 'grant_lease'";
        rusqlite::Connection::open(&path).unwrap().execute_batch(damage).unwrap();
        let error = take("e", &mut LeaseWatch::default(), Duration::ZERO).await.unwrap_err();
        assert_eq!(error.kind(), crate::StoreErrorKind::Corrupt, "{error}");
    }
}
