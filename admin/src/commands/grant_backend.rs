//! The grants that a file is applied to: the operations that `grant apply` needs, and the store as
//! one backend of them.
//!
//! Each change is conditional: it changes a grant only if the grant is still as the plan read it.

use std::time::Duration;

use stile_core::audit::{Kind, Outcome};
use stile_core::clock::Clock;
use stile_core::grants::{Grant, GrantNamespace, GrantTag, MAX_GRANTS};
use stile_core::principal::Principal;
use stile_protocol::names::{Permission, Permissions};
use stile_store::{
    Change, Created, Deleted, ExpiryChange, GRANT_LEASE, GrantLease, LeaseTaken, NewGrant, Updated,
};

use super::grant_text::GrantLine;
use super::{OpenStore, event, record};
use crate::error::CommandError;
use crate::grant_file::WantedGrant;
use crate::output::notice;

/// The time between two attempts to take a lease that another program holds.
const BETWEEN: Duration = Duration::from_millis(500);

/// The most attempts to take a lease: five minutes.
const ATTEMPTS: u32 = 600;

/// The result of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Made {
    /// The grant is as wanted.
    Done,
    /// The grant is not as the plan read it, or cannot be. Nothing changed. This is the reason.
    Conflict(String),
}

/// The result of an attempt to take the lease.
#[derive(Debug)]
pub(super) enum Taken<L> {
    /// This program has it.
    Done(L),
    /// The program of this operator has it.
    Held(String),
}

/// Grants that a file can be applied to.
pub(super) trait GrantBackend {
    /// Evidence that no other program applies a file at the same time.
    type Lease;

    /// Returns all grants.
    async fn list(&self) -> Result<Vec<Grant>, CommandError>;

    /// Creates a grant, if there is none.
    async fn create(&self, wanted: &WantedGrant) -> Result<Made, CommandError>;

    /// Changes a grant, if it is still as expected. Its creator and its creation stay.
    async fn update(&self, expected: &Grant, wanted: &WantedGrant) -> Result<Made, CommandError>;

    /// Deletes a grant, if it is still as expected.
    async fn delete(&self, expected: &Grant) -> Result<Made, CommandError>;

    /// Takes the lease, unless another program has it.
    async fn take_lease(&self) -> Result<Taken<Self::Lease>, CommandError>;

    /// Extends the lease, if it ends soon. Returns `None` if another program has taken it.
    async fn keep_lease(&self, lease: Self::Lease) -> Result<Option<Self::Lease>, CommandError>;

    /// Ends the lease.
    async fn end_lease(&self, lease: Self::Lease) -> Result<(), CommandError>;
}

/// Waits until no other program applies a file, and takes the lease.
pub(super) async fn wait_for_lease<B: GrantBackend>(backend: &B) -> Result<B::Lease, CommandError> {
    for attempt in 0..ATTEMPTS {
        match backend.take_lease().await? {
            Taken::Done(lease) => return Ok(lease),
            Taken::Held(by) if attempt == 0 => {
                notice(format_args!("waiting for the end of another `grant apply`, of `{by}`"));
            }
            Taken::Held(_) => {}
        }
        tokio::time::sleep(BETWEEN).await;
    }
    Err(CommandError::failed("another `grant apply` has not ended for five minutes")
        .hint("run the command again later"))
}

/// The grants of an open store.
pub(super) struct StoreBackend<'a> {
    open: &'a OpenStore,
    clock: &'a Clock,
}

impl<'a> StoreBackend<'a> {
    /// Creates the backend of an open store.
    pub(super) const fn new(open: &'a OpenStore, clock: &'a Clock) -> Self {
        Self { open, clock }
    }

    /// Records the audit event of a change.
    fn audited<T>(
        &self,
        (principal, namespace, permissions): (&Principal, &GrantNamespace, Option<Permissions>),
        done: Result<T, stile_store::StoreError>,
        outcome: impl FnOnce(&T) -> Outcome,
    ) -> Result<T, CommandError> {
        let mut event = event(Kind::Grant, &self.open.operator);
        event.about(principal);
        event.grant(namespace, permissions.map(|permissions| permissions.to_string()));
        Ok(record(event, done, outcome)?)
    }
}

impl GrantBackend for StoreBackend<'_> {
    type Lease = GrantLease;

    async fn list(&self) -> Result<Vec<Grant>, CommandError> {
        Ok(self.open.store.grants(&self.open.operator, None, None).await?)
    }

    async fn create(&self, wanted: &WantedGrant) -> Result<Made, CommandError> {
        let now = self.clock.now();
        let access = self.open.operator.grant_access(wanted.namespace.clone());
        let new = NewGrant {
            principal: wanted.principal.clone(),
            permissions: wanted.permissions,
            expires_at: wanted.expires_at,
            pin: None,
        };
        let created = self.open.store.create_grant(&access, new, now).await;
        let about = (&wanted.principal, &wanted.namespace, Some(wanted.permissions));
        let created = self.audited(about, created, |created| match created {
            Created::Done { .. } => Outcome::Created,
            Created::Exists { grant, .. } if wanted.is(grant, now) => Outcome::Unchanged,
            Created::Exists { .. } | Created::DiffersByCase(_) | Created::PinnedOtherwise(_) => {
                Outcome::Conflict
            }
            Created::TooMany => Outcome::Full,
        })?;
        let why = match created {
            Created::Done { .. } => return Ok(Made::Done),
            Created::Exists { grant, .. } if wanted.is(&grant, now) => return Ok(Made::Done),
            // The table no longer lists a grant that ended long ago, and still has it.
            Created::Exists { grant, .. } if grant.expires_at.is_some_and(|end| end <= now) => {
                return self.update(&grant, wanted).await;
            }
            Created::Exists { grant, .. } => differs(&grant),
            Created::DiffersByCase(twin) => {
                format!("its name differs only by case from `{twin}`, which has grants")
            }
            Created::PinnedOtherwise(_) => "the principal has another pin".to_owned(),
            Created::TooMany => format!("the principal has the maximum of {MAX_GRANTS} grants"),
        };
        Ok(Made::Conflict(why))
    }

    async fn update(&self, expected: &Grant, wanted: &WantedGrant) -> Result<Made, CommandError> {
        let now = self.clock.now();
        let access = self.open.operator.grant_access(wanted.namespace.clone());
        let change = Change {
            set: wanted.permissions,
            clear: Permission::ALL
                .into_iter()
                .filter(|permission| !wanted.permissions.contains(*permission))
                .collect(),
            expires_at: wanted.expires_at.map_or(ExpiryChange::Never, ExpiryChange::At),
        };
        let tag = GrantTag::of(expected);
        let updated = self
            .open
            .store
            .update_grant(&access, wanted.principal.clone(), change, Some(&tag))
            .await;
        let about = (&wanted.principal, &wanted.namespace, Some(wanted.permissions));
        let updated = self.audited(about, updated, |updated| match updated {
            Updated::Done(_) => Outcome::Changed,
            Updated::Absent => Outcome::Absent,
            Updated::Differs(grant) if wanted.is(grant, now) => Outcome::Unchanged,
            Updated::Differs(_) | Updated::WouldBeEmpty => Outcome::Conflict,
        })?;
        Ok(match updated {
            Updated::Done(_) => Made::Done,
            Updated::Differs(grant) if wanted.is(&grant, now) => Made::Done,
            Updated::Differs(grant) => Made::Conflict(differs(&grant)),
            Updated::Absent => Made::Conflict("it was deleted in the meantime".to_owned()),
            Updated::WouldBeEmpty => Made::Conflict("it would allow nothing".to_owned()),
        })
    }

    async fn delete(&self, expected: &Grant) -> Result<Made, CommandError> {
        let access = self.open.operator.grant_access(expected.namespace.clone());
        let tag = GrantTag::of(expected);
        let deleted =
            self.open.store.delete_grant(&access, expected.principal.clone(), Some(&tag)).await;
        let about = (&expected.principal, &expected.namespace, None);
        let deleted = self.audited(about, deleted, |deleted| match deleted {
            Deleted::Done => Outcome::Deleted,
            Deleted::Absent => Outcome::Absent,
            Deleted::Differs(_) => Outcome::Conflict,
        })?;
        Ok(match deleted {
            Deleted::Done | Deleted::Absent => Made::Done,
            Deleted::Differs(grant) => Made::Conflict(differs(&grant)),
        })
    }

    async fn take_lease(&self) -> Result<Taken<GrantLease>, CommandError> {
        let taken = self.open.store.take_grant_lease(&self.open.operator, self.clock.now()).await?;
        Ok(match taken {
            LeaseTaken::Done(lease) => Taken::Done(lease),
            LeaseTaken::Held { by, .. } => Taken::Held(by),
        })
    }

    async fn keep_lease(&self, lease: GrantLease) -> Result<Option<GrantLease>, CommandError> {
        let now = self.clock.now();
        if lease.until().saturating_sub(now) > GRANT_LEASE * 2 / 3 {
            return Ok(Some(lease));
        }
        Ok(self.open.store.renew_grant_lease(&self.open.operator, lease, now).await?)
    }

    async fn end_lease(&self, lease: GrantLease) -> Result<(), CommandError> {
        Ok(self.open.store.end_grant_lease(&self.open.operator, lease).await?)
    }
}

fn differs(grant: &Grant) -> String {
    format!("it has changed in the meantime: {}", GrantLine(grant))
}
