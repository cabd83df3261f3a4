//! The grants that a file is applied to: the operations that `grant apply` needs, and the store as
//! one backend of them.
//!
//! Each change is conditional: it changes a grant only if the grant is still as the plan read it, and
//! if this program still has the lease.

use std::time::{Duration, Instant};

use stile_core::audit::{Event, Kept, Kind, Outcome};
use stile_core::clock::Clock;
use stile_core::grants::{Grant, GrantNamespace, GrantTag, MAX_GRANTS};
use stile_core::principal::Principal;
use stile_protocol::names::{Namespace, Permission};
use stile_store::{
    Change as GrantChange, Created, Deleted, ExpiryChange, GrantLease, LeaseTaken, LeaseWatch,
    Leased, ListedGrants, NewGrant, StoreError, StoreErrorKind, Updated,
};

use super::grant_text::GrantLine;
use super::{OpenStore, event, record};
use crate::error::CommandError;
use crate::grant_file::{Change, WantedGrant};
use crate::output::notice;

/// Why a trust in AWS has no grants.
pub(super) const OF_AWS: &str =
    "the trust believes callers of AWS, which have their own principals, so its name has no grants";

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
    /// Another program has taken the lease. Nothing changed.
    LeaseLost,
}

/// The names that a store knows, apart from those of its grants.
#[derive(Debug, Default)]
pub(super) struct KnownNames {
    /// The namespaces that have a record, a grant or a module.
    pub(super) namespaces: Vec<Namespace>,
    /// The revoked principals.
    pub(super) revoked: Vec<Principal>,
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
pub(super) trait GrantBackend: Sized {
    /// Whether the lease stops all other programs that apply a file.
    const EXCLUSIVE: bool;

    /// Evidence that no other program applies a file at the same time. `()` where nothing can tell.
    type Lease: ApplyLease<Self>;

    /// Returns all grants, and the names of those that cannot be read.
    async fn list(&self) -> Result<ListedGrants, CommandError>;

    /// Returns the other names that the store knows. `None`, if nobody may read them all.
    async fn known_names(&self) -> Result<Option<KnownNames>, CommandError>;

    /// Returns why nobody can make these changes here, if so.
    fn check(&self, _: &[Change]) -> Result<(), CommandError> {
        Ok(())
    }

    /// Returns what the user must know about these changes before confirming them.
    fn warnings(&self, _: &[Change]) -> Vec<String> {
        Vec::new()
    }

    /// Gets ready to make these changes, before the first one. Returns them in their order.
    async fn prepare(&self, changes: Vec<Change>) -> Result<Vec<Change>, CommandError> {
        Ok(changes)
    }

    /// Creates a grant, if there is none.
    ///
    /// A refusal of this and of each other change is an error: the run must not go on, and take
    /// access away that the refused change should have moved.
    async fn create(
        &self,
        lease: &mut Self::Lease,
        wanted: &WantedGrant,
    ) -> Result<Made, CommandError>;

    /// Changes a grant, if it is still as expected. Its creator and its creation stay.
    async fn update(
        &self,
        lease: &mut Self::Lease,
        expected: &Grant,
        wanted: &WantedGrant,
    ) -> Result<Made, CommandError>;

    /// Deletes a grant, if it is still as expected.
    async fn delete(&self, lease: &mut Self::Lease, expected: &Grant)
    -> Result<Made, CommandError>;
}

/// A lease of a backend, which one program at a time has.
pub(super) trait ApplyLease<B>: Sized {
    /// Takes the lease, unless another program has it. `watch` is what this one has seen of it.
    async fn take(backend: &B, watch: &mut LeaseWatch) -> Result<Taken<Self>, CommandError>;

    /// Renews the lease without a change. Returns whether this program still has it.
    async fn renew(&mut self, backend: &B) -> Result<bool, CommandError>;

    /// Ends the lease, if this program still has it.
    async fn end(self, backend: &B) -> Result<(), CommandError>;
}

/// The lease of a backend that has none.
impl<B> ApplyLease<B> for () {
    async fn take(_: &B, _: &mut LeaseWatch) -> Result<Taken<Self>, CommandError> {
        Ok(Taken::Done(()))
    }

    async fn renew(&mut self, _: &B) -> Result<bool, CommandError> {
        Ok(true)
    }

    async fn end(self, _: &B) -> Result<(), CommandError> {
        Ok(())
    }
}

/// Waits until no other program applies a file, and takes the lease.
pub(super) async fn wait_for_lease<B: GrantBackend>(backend: &B) -> Result<B::Lease, CommandError> {
    let mut watch = LeaseWatch::default();
    for attempt in 0..ATTEMPTS {
        match B::Lease::take(backend, &mut watch).await? {
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

    /// Creates the audit event of a change.
    fn event(
        &self,
        principal: &Principal,
        on: &GrantNamespace,
        wanted: Option<&WantedGrant>,
    ) -> Event {
        let mut event = event(Kind::Grant, &self.open.operator);
        event.about(principal);
        event.grant(on, wanted.map(|wanted| wanted.permissions.to_string()));
        if let Some(wanted) = wanted {
            event.grant_end(wanted.expires_at);
        }
        event
    }

    /// Records the audit event of a change.
    ///
    /// A grant that the store cannot read or write must not stop the changes of the others. So it is
    /// a conflict, and only a failure of the whole store is an error.
    fn audited<T>(
        event: Event,
        done: Result<Leased<T>, StoreError>,
        outcome: impl FnOnce(&T) -> Outcome,
    ) -> Result<Result<T, Made>, CommandError> {
        let done = record(event, done, |leased| match leased {
            Leased::Done(done) => outcome(done),
            Leased::Lost => Outcome::Conflict,
        });
        match done {
            Ok(Leased::Done(done)) => Ok(Ok(done)),
            Ok(Leased::Lost) => Ok(Err(Made::LeaseLost)),
            Err(error)
                if matches!(error.kind(), StoreErrorKind::Corrupt | StoreErrorKind::Full) =>
            {
                Ok(Err(Made::Conflict(error.to_string())))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl GrantBackend for StoreBackend<'_> {
    const EXCLUSIVE: bool = true;

    type Lease = GrantLease;

    async fn list(&self) -> Result<ListedGrants, CommandError> {
        Ok(self.open.store.listed_grants(&self.open.operator).await?)
    }

    async fn known_names(&self) -> Result<Option<KnownNames>, CommandError> {
        let OpenStore { store, operator } = self.open;
        let namespaces = store.namespaces(operator).await?;
        let revoked = store.revocations(operator).await?.principals;
        Ok(Some(KnownNames {
            namespaces: namespaces.into_iter().map(|found| found.namespace).collect(),
            revoked: revoked.into_iter().map(|revoked| revoked.principal).collect(),
        }))
    }

    async fn create(
        &self,
        lease: &mut GrantLease,
        wanted: &WantedGrant,
    ) -> Result<Made, CommandError> {
        let now = self.clock.now();
        let access = self.open.operator.grant_access(wanted.namespace.clone());
        let new = NewGrant {
            principal: wanted.principal.clone(),
            permissions: wanted.permissions,
            expires_at: wanted.expires_at,
            pin: None,
        };
        let event = self.event(&wanted.principal, &wanted.namespace, Some(wanted));
        let kept = Kept::new(&event, now);
        let created = self.open.store.create_grant_under(lease, &access, new, &kept).await;
        let created = Self::audited(event, created, |created| match created {
            Created::Done { .. } => Outcome::Created,
            Created::Exists { grant, .. } if wanted.is(grant, now) => Outcome::Unchanged,
            Created::Exists { .. }
            | Created::DiffersByCase(_)
            | Created::PinnedOtherwise(_)
            | Created::NoTrust
            | Created::TrustOfAws => Outcome::Conflict,
            Created::TooMany => Outcome::Full,
        })?;
        let created = match created {
            Ok(created) => created,
            Err(made) => return Ok(made),
        };
        let why = match created {
            Created::Done { .. } => return Ok(Made::Done),
            Created::Exists { grant, .. } if wanted.is(&grant, now) => return Ok(Made::Done),
            // The table no longer lists a grant that ended long ago, and still has it.
            Created::Exists { grant, .. } if grant.expires_at.is_some_and(|end| end <= now) => {
                return self.update(lease, &grant, wanted).await;
            }
            Created::Exists { grant, .. } => differs(&grant),
            Created::DiffersByCase(twin) => {
                format!("its name differs only by case from `{twin}`, which has grants")
            }
            Created::PinnedOtherwise(_) => "the principal has another pin".to_owned(),
            Created::NoTrust => {
                format!("there is no trust `{}`", wanted.principal.name().unwrap_or_default())
            }
            Created::TrustOfAws => OF_AWS.to_owned(),
            Created::TooMany => format!("the principal has the maximum of {MAX_GRANTS} grants"),
        };
        Ok(Made::Conflict(why))
    }

    async fn update(
        &self,
        lease: &mut GrantLease,
        expected: &Grant,
        wanted: &WantedGrant,
    ) -> Result<Made, CommandError> {
        let now = self.clock.now();
        let access = self.open.operator.grant_access(wanted.namespace.clone());
        let change = GrantChange {
            set: wanted.permissions,
            clear: Permission::ALL
                .into_iter()
                .filter(|permission| !wanted.permissions.contains(*permission))
                .collect(),
            expires_at: wanted.expires_at.map_or(ExpiryChange::Never, ExpiryChange::At),
        };
        let tag = GrantTag::of(expected);
        let mut event = self.event(&wanted.principal, &wanted.namespace, Some(wanted));
        let (principal, kept) = (wanted.principal.clone(), Kept::new(&event, now));
        let store = &self.open.store;
        let updated =
            store.update_grant_under(lease, &access, principal, change, &tag, &kept).await;
        if let Ok(Leased::Done(Updated::Done { before, after })) = &updated {
            event.grant_changed(before, after);
        }
        let updated = Self::audited(event, updated, |updated| match updated {
            Updated::Done { .. } => Outcome::Changed,
            Updated::Absent => Outcome::Absent,
            Updated::Differs(grant) if wanted.is(grant, now) => Outcome::Unchanged,
            Updated::Differs(_) | Updated::WouldBeEmpty => Outcome::Conflict,
        })?;
        Ok(match updated {
            Err(made) => made,
            Ok(Updated::Done { .. }) => Made::Done,
            Ok(Updated::Differs(grant)) if wanted.is(&grant, now) => Made::Done,
            Ok(Updated::Differs(grant)) => Made::Conflict(differs(&grant)),
            Ok(Updated::Absent) => Made::Conflict("it was deleted in the meantime".to_owned()),
            Ok(Updated::WouldBeEmpty) => Made::Conflict("it would allow nothing".to_owned()),
        })
    }

    async fn delete(&self, lease: &mut GrantLease, expected: &Grant) -> Result<Made, CommandError> {
        let access = self.open.operator.grant_access(expected.namespace.clone());
        let tag = GrantTag::of(expected);
        let principal = expected.principal.clone();
        let mut event = self.event(&expected.principal, &expected.namespace, None);
        let kept = Kept::new(&event, self.clock.now());
        let store = &self.open.store;
        let deleted = store.delete_grant_under(lease, &access, principal, &tag, &kept).await;
        if let Ok(Leased::Done(Deleted::Done(Some(before)))) = &deleted {
            event.grant_before(before);
        }
        let deleted = Self::audited(event, deleted, |deleted| match deleted {
            Deleted::Done(_) => Outcome::Deleted,
            Deleted::Absent => Outcome::Absent,
            Deleted::Differs(_) => Outcome::Conflict,
        })?;
        Ok(match deleted {
            Err(made) => made,
            Ok(Deleted::Done(_) | Deleted::Absent) => Made::Done,
            Ok(Deleted::Differs(grant)) => Made::Conflict(differs(&grant)),
        })
    }
}

impl ApplyLease<StoreBackend<'_>> for GrantLease {
    async fn take(
        backend: &StoreBackend<'_>,
        watch: &mut LeaseWatch,
    ) -> Result<Taken<Self>, CommandError> {
        let OpenStore { store, operator } = backend.open;
        Ok(match store.take_grant_lease(operator, watch, Instant::now).await? {
            LeaseTaken::Done(lease) => Taken::Done(lease),
            LeaseTaken::Held { by } => Taken::Held(by),
        })
    }

    async fn renew(&mut self, backend: &StoreBackend<'_>) -> Result<bool, CommandError> {
        Ok(backend.open.store.renew_grant_lease(self).await? == Leased::Done(()))
    }

    async fn end(self, backend: &StoreBackend<'_>) -> Result<(), CommandError> {
        Ok(backend.open.store.end_grant_lease(self).await?)
    }
}

/// Returns why a grant was not changed: others have changed it.
pub(super) fn differs(grant: &Grant) -> String {
    format!("it has changed in the meantime: {}", GrantLine(grant))
}
