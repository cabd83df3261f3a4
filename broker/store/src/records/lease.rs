//! The rules of the lease on files of grants: one program at a time applies a file.
//!
//! Without it, two files at once could end in a mixture of both. A lease ends by itself, so a program
//! that was killed does not exclude others for long.

use super::Records;
use super::model::LeaseRecord;
use super::mutation::{Mutation, Outcome};
use crate::StoreError;
use crate::retry::Retry;

/// The time for which a lease excludes other programs, in seconds, if its holder does not end it.
pub const GRANT_LEASE: i64 = 15;

/// The longest time for which a program respects the lease of another one, in seconds. A longer one
/// comes from a clock that was ahead.
const LONGEST: i64 = 300;

/// The lease on files of grants, which this program holds.
#[derive(Debug)]
pub struct GrantLease {
    revision: i64,
    until: i64,
}

impl GrantLease {
    /// Returns the end of the lease, in Unix seconds.
    pub const fn until(&self) -> i64 {
        self.until
    }
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
        /// The end of the lease, in Unix seconds.
        until: i64,
    },
}

impl LeaseRecord {
    fn excludes_others(&self, now: i64) -> bool {
        (1..=LONGEST).contains(&self.until.saturating_sub(now))
    }

    fn held(revision: i64, holder: &str, now: i64) -> Self {
        Self { revision, holder: holder.to_owned(), until: now.saturating_add(GRANT_LEASE) }
    }
}

impl Records {
    /// Takes the lease, unless another program holds it.
    pub(crate) async fn take_grant_lease(
        &self,
        holder: &str,
        now: i64,
    ) -> Result<LeaseTaken, StoreError> {
        let mut retry = Retry::default();
        loop {
            let before = self.grant_lease().await?;
            if before.excludes_others(now) {
                return Ok(LeaseTaken::Held { by: before.holder, until: before.until });
            }
            let after = LeaseRecord::held(before.revision.saturating_add(1), holder, now);
            let lease = GrantLease { revision: after.revision, until: after.until };
            let put = Mutation::PutGrantLease { before: before.revision, after };
            match self.commit(vec![put]).await? {
                Outcome::Done => return Ok(LeaseTaken::Done(lease)),
                Outcome::Refused(_) | Outcome::Conflict | Outcome::TooLarge => retry.wait().await?,
            }
        }
    }

    /// Extends the lease. Returns `None` if another program has taken it.
    pub(crate) async fn renew_grant_lease(
        &self,
        holder: &str,
        lease: GrantLease,
        now: i64,
    ) -> Result<Option<GrantLease>, StoreError> {
        let after = LeaseRecord::held(lease.revision.saturating_add(1), holder, now);
        let renewed = GrantLease { revision: after.revision, until: after.until };
        let put = Mutation::PutGrantLease { before: lease.revision, after };
        let outcome = self.commit_with_retries(vec![put]).await?;
        Ok((outcome == Outcome::Done).then_some(renewed))
    }

    /// Ends the lease. It changes nothing if another program has taken it.
    pub(crate) async fn end_grant_lease(
        &self,
        holder: &str,
        lease: GrantLease,
    ) -> Result<(), StoreError> {
        let after = LeaseRecord {
            revision: lease.revision.saturating_add(1),
            holder: holder.to_owned(),
            until: 0,
        };
        let put = Mutation::PutGrantLease { before: lease.revision, after };
        self.commit_with_retries(vec![put]).await.map(drop)
    }
}
