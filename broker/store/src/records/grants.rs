//! The rules of grants, for every backend: whether a grant can be created, changed and deleted.

use stile_core::audit::{self, Chain, Kept};
use stile_core::grants::{Grant, GrantNamespace, GrantTag, MAX_GRANTS, Pin};
use stile_core::package::source::AllowedSources;
use stile_core::principal::{Principal, UniqueId};

use super::Records;
use super::lease::{GrantLease, Leased};
use super::model::{PrincipalGrants, StoredGrant};
use super::mutation::{GrantsChange, Mutation, Outcome};
use super::namespaces::Known;
use super::retention::EXPIRED_GRANT_RETENTION;
use super::trusts::GrantedTrust;
use crate::retry::Retry;
use crate::{Change, Created, Deleted, NamespaceLimits, NamespaceRecord, StoreError, Updated};

/// All grants of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedGrants {
    /// The grants, in order.
    pub grants: Vec<Grant>,
    /// The grants that this program cannot read: damaged ones, and those of a newer program.
    pub unreadable: Vec<UnreadableGrant>,
}

/// The names of a grant that this program cannot read, so that it allows nothing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableGrant {
    /// The principal as it is stored. Empty if it cannot be read, either.
    pub principal: String,
    /// The namespace as it is stored. Empty if it cannot be read, either.
    pub namespace: String,
}

/// The next step after the grants were read.
enum Step<T> {
    Answer(T),
    Commit(T, Vec<Mutation>, Box<Kept>, audit::Outcome),
}

/// What a new grant is about: its namespace and its principal.
struct NewOf {
    known: Known,
    trust: GrantedTrust,
}

/// The result of an attempt to change grants.
enum Changed<T> {
    Done(T),
    /// The backend cannot hold the result.
    TooLarge,
    LeaseLost,
}

impl<T> Changed<T> {
    /// Returns the result, or this error if the backend cannot hold it.
    fn or_else(self, too_large: impl FnOnce() -> StoreError) -> Result<Leased<T>, StoreError> {
        match self {
            Self::Done(answer) => Ok(Leased::Done(answer)),
            Self::TooLarge => Err(too_large()),
            Self::LeaseLost => Ok(Leased::Lost),
        }
    }
}

impl Records {
    /// Creates a grant. It does not change an existing one.
    pub(crate) async fn create_grant(
        &self,
        grant: Grant,
        pin: Option<Pin>,
        lease: Option<&mut GrantLease>,
        kept: &Kept,
    ) -> Result<Leased<Created>, StoreError> {
        let (principal, on) = (grant.principal.clone(), grant.namespace.clone());
        let created = self.change_grants((&principal, &on), true, lease, |before, about| {
            create_step(before, &grant, pin.as_ref(), about, kept)
        });
        Ok(match created.await? {
            Changed::Done(created) => Leased::Done(created),
            // It has the same remedy as too many grants: one grant on `*`.
            Changed::TooLarge => Leased::Done(Created::TooMany),
            Changed::LeaseLost => Leased::Lost,
        })
    }

    /// Adds and removes the given permissions of a grant, and no others.
    ///
    /// With `expected`, it changes the grant only if its state has that tag at the time of the change.
    pub(crate) async fn update_grant(
        &self,
        principal: Principal,
        namespace: GrantNamespace,
        change: Change,
        expected: Option<&GrantTag>,
        lease: Option<&mut GrantLease>,
        kept: &Kept,
    ) -> Result<Leased<Updated>, StoreError> {
        let updated = self.change_grants((&principal, &namespace), false, lease, |before, _| {
            let Some(grant) = existing(before, &principal, &namespace)? else {
                return Ok(Step::Answer(Updated::Absent));
            };
            if expected.is_some_and(|tag| !tag.is_of(&grant)) {
                return Ok(Step::Answer(Updated::Differs(grant)));
            }
            let after = change.after(&grant);
            if after.permissions.is_empty() {
                return Ok(Step::Answer(Updated::WouldBeEmpty));
            }
            let update = mutation(&principal, before, GrantsChange::Update(after.clone()));
            let kept = kept.with(|event| event.grant_changed(&grant, &after));
            let done = Updated::Done { before: grant, after };
            Ok(Step::Commit(done, vec![update], Box::new(kept), audit::Outcome::Changed))
        });
        updated.await?.or_else(full)
    }

    /// Deletes a grant.
    ///
    /// With `expected`, it deletes the grant only if its state has that tag at the time of the
    /// deletion.
    pub(crate) async fn delete_grant(
        &self,
        principal: Principal,
        namespace: GrantNamespace,
        expected: Option<&GrantTag>,
        lease: Option<&mut GrantLease>,
        kept: &Kept,
    ) -> Result<Leased<Deleted>, StoreError> {
        let on = namespace.to_string();
        let deleted = self.change_grants((&principal, &namespace), false, lease, |before, _| {
            let Some(stored) = before.grants.iter().find(|stored| stored.on == on) else {
                return Ok(Step::Answer(Deleted::Absent));
            };
            if let Some(tag) = expected {
                // Without a tag, an unreadable grant can be deleted, too.
                match existing(before, &principal, &namespace)? {
                    Some(grant) if !tag.is_of(&grant) => {
                        return Ok(Step::Answer(Deleted::Differs(grant)));
                    }
                    _ => {}
                }
            }
            let delete = mutation(&principal, before, GrantsChange::Delete(namespace.clone()));
            let deleted = stored.grant.clone();
            let kept = kept.with(|event| deleted.iter().for_each(|was| event.grant_before(was)));
            let done = Deleted::Done(deleted);
            Ok(Step::Commit(done, vec![delete], Box::new(kept), audit::Outcome::Deleted))
        });
        deleted
            .await?
            .or_else(|| StoreError::corrupt(format!("cannot write the grants of `{principal}`")))
    }

    /// Returns grants in order: all, those of a principal, or those on a namespace.
    pub(crate) async fn grants(
        &self,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
    ) -> Result<Vec<Grant>, StoreError> {
        Ok(understood(self.stored_grants(principal, namespace).await?))
    }

    /// Returns all grants in order, and the names of those that this program cannot read.
    pub(crate) async fn listed_grants(&self) -> Result<ListedGrants, StoreError> {
        let stored = self.stored_grants(None, None).await?;
        let unreadable = stored.iter().filter(|stored| stored.grant.is_none());
        let unreadable = unreadable
            .map(|stored| UnreadableGrant {
                principal: stored.who.clone(),
                namespace: stored.on.clone(),
            })
            .collect();
        Ok(ListedGrants { grants: understood(stored), unreadable })
    }

    /// Reads a principal's grants, and the namespace and the trust of a new grant, and commits the
    /// mutations that `step` returns with their event.
    ///
    /// It tries again after each conflict with another writer. With `lease`, it makes no change if
    /// another program has taken the lease, and each change renews it.
    async fn change_grants<T>(
        &self,
        (principal, on): (&Principal, &GrantNamespace),
        creates: bool,
        lease: Option<&mut GrantLease>,
        mut step: impl FnMut(&PrincipalGrants, NewOf) -> Result<Step<T>, StoreError>,
    ) -> Result<Changed<T>, StoreError> {
        let mut retry = Retry::default();
        loop {
            let before = self.principal_grants(principal).await?;
            let known = match on {
                GrantNamespace::One(namespace) if creates => {
                    self.known_namespace(namespace).await?
                }
                GrantNamespace::One(_) | GrantNamespace::All => Known::Recorded,
            };
            let trust = match creates {
                true => self.granted_trust(principal).await?,
                false => GrantedTrust::NotOne,
            };
            let (answer, mutations, kept, outcome) = match step(&before, NewOf { known, trust })? {
                Step::Answer(answer) => return Ok(Changed::Done(answer)),
                Step::Commit(answer, mutations, kept, outcome) => {
                    (answer, mutations, kept, outcome)
                }
            };
            // The renewal is the first mutation, so its refusal is the one that the commit returns.
            let renewal = lease.as_ref().map(|lease| lease.renewal());
            let is_leased = renewal.is_some();
            let mutations = renewal.into_iter().chain(mutations).collect();
            match self.commit_audited(&Chain::from(on), mutations, &kept, outcome).await? {
                Outcome::Done => {
                    if let Some(lease) = lease {
                        lease.renewed();
                    }
                    return Ok(Changed::Done(answer));
                }
                Outcome::TooLarge => return Ok(Changed::TooLarge),
                Outcome::Refused(0) if is_leased => return Ok(Changed::LeaseLost),
                Outcome::Refused(_) | Outcome::Conflict => retry.wait().await?,
            }
        }
    }
}

/// Returns the next step of creating a grant.
fn create_step(
    before: &PrincipalGrants,
    grant: &Grant,
    pin: Option<&Pin>,
    NewOf { known, trust }: NewOf,
    kept: &Kept,
) -> Result<Step<Created>, StoreError> {
    let principal = &grant.principal;
    if let Some(existing) = existing(before, principal, &grant.namespace)? {
        let pin = before.pin.clone();
        return Ok(Step::Answer(Created::Exists { grant: existing, pin }));
    }
    let other = before.same_name.as_deref().filter(|name| *name != principal.as_str());
    if let Some(other) = other.and_then(|name| Principal::parse_stored(name).ok()) {
        return Ok(Step::Answer(Created::DiffersByCase(other)));
    }
    if matches!(trust, GrantedTrust::Absent) {
        return Ok(Step::Answer(Created::NoTrust));
    }
    // A trust is pinned by its grants, and never otherwise.
    let of_trust = trust.pin().cloned().map(Pin::Pinned);
    let wanted = of_trust.as_ref().or(pin);
    if before.pin != Pin::Unpinned && wanted.is_some_and(|wanted| *wanted != before.pin) {
        return Ok(Step::Answer(Created::PinnedOtherwise(before.pin.clone())));
    }
    let forget = outdated(before, grant.created_at);
    if before.grants.len() - forget.len() >= MAX_GRANTS {
        return Ok(Step::Answer(Created::TooMany));
    }
    let create = GrantsChange::Create { grant: grant.clone(), forget, reserves: true };
    let mut mutations = vec![mutation(principal, before, create)];
    let pin = pin.filter(|_| of_trust.is_none());
    mutations.extend(trust.mutations(principal));
    let id: Option<Option<&UniqueId>> = match pin {
        None | Some(Pin::Unpinned) => None,
        Some(Pin::Disabled) => Some(None),
        Some(Pin::Pinned(id)) => Some(Some(id)),
    };
    // The mutation requires that no other pin is set, because a mint can have set one since the
    // read.
    mutations
        .extend(id.map(|id| Mutation::SetPin { principal: principal.clone(), id: id.cloned() }));
    if let (GrantNamespace::One(namespace), Known::InUse | Known::Unknown) =
        (&grant.namespace, known)
    {
        mutations.push(Mutation::AddNamespace(NamespaceRecord {
            namespace: namespace.clone(),
            created_by: grant.created_by.clone(),
            created_at: grant.created_at,
            limits: NamespaceLimits::default(),
            sources: AllowedSources::default(),
        }));
    }
    let created = Created::Done { grant: grant.clone(), new_namespace: known == Known::Unknown };
    Ok(Step::Commit(created, mutations, Box::new(kept.clone()), audit::Outcome::Created))
}

/// Returns the namespaces of the grants that ended long ago.
pub(super) fn outdated(before: &PrincipalGrants, now: i64) -> Vec<GrantNamespace> {
    before
        .grants
        .iter()
        .filter_map(|stored| stored.grant.as_ref())
        .filter(|held| held.expires_at.is_some_and(|end| ended_long_ago(end, now)))
        .map(|held| held.namespace.clone())
        .collect()
}

/// Returns the grant on that namespace, if any. If the store has one that cannot be read, it
/// returns an error, so that the caller does not overwrite it.
pub(super) fn existing(
    before: &PrincipalGrants,
    principal: &Principal,
    namespace: &GrantNamespace,
) -> Result<Option<Grant>, StoreError> {
    let on = namespace.to_string();
    let Some(stored) = before.grants.iter().find(|stored| stored.on == on) else { return Ok(None) };
    stored.grant.clone().map(Some).ok_or_else(|| {
        alarm();
        StoreError::corrupt(format!(
            "cannot read the grants of `{principal}` in the store, and did not change them"
        ))
    })
}

pub(super) fn mutation(
    principal: &Principal,
    before: &PrincipalGrants,
    change: GrantsChange,
) -> Mutation {
    Mutation::ChangeGrants { principal: principal.clone(), before: before.clone(), change }
}

/// Returns the grants that this program understands. A grant that it does not understand allows
/// nothing, and does not affect the others.
pub(super) fn understood(stored: Vec<StoredGrant>) -> Vec<Grant> {
    let read = stored.into_iter().filter_map(|stored| {
        if stored.grant.is_none() {
            alarm();
        }
        stored.grant
    });
    read.collect()
}

/// Returns the error for a document that cannot hold a change. Only new permissions and ends reach it.
fn full() -> StoreError {
    StoreError::full(
        "the document of the principal's grants is full; hint: replace grants by one on `*`",
    )
}

fn ended_long_ago(end: i64, now: i64) -> bool {
    end.saturating_add(EXPIRED_GRANT_RETENTION) <= now
}

pub(super) fn alarm() {
    tracing::error!(
        alarm = "unreadable_grant",
        "a grant in the store cannot be read and allows nothing"
    );
}
