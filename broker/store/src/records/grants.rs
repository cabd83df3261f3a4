//! The rules of grants, for every backend: whether a grant can be created, changed and deleted.

use stile_core::grants::{Grant, GrantNamespace, GrantTag, MAX_GRANTS, Pin};
use stile_core::package::source::AllowedSources;
use stile_core::principal::{Principal, UniqueId};

use super::Records;
use super::model::{PrincipalGrants, StoredGrant};
use super::mutation::{GrantsChange, Mutation, Outcome};
use super::namespaces::Known;
use super::retention::EXPIRED_GRANT_RETENTION;
use crate::retry::Retry;
use crate::{Change, Created, Deleted, NamespaceLimits, NamespaceRecord, StoreError, Updated};

/// The next step after the grants were read.
pub(super) enum Step<T> {
    Answer(T),
    Commit(T, Vec<Mutation>),
}

impl Records {
    /// Creates a grant. It does not change an existing one.
    pub(crate) async fn create_grant(
        &self,
        grant: Grant,
        pin: Option<Pin>,
    ) -> Result<Created, StoreError> {
        let principal = grant.principal.clone();
        let created = self.change_grants(&principal, Some(&grant.namespace), |before, known| {
            create_step(before, &grant, pin.as_ref(), known)
        });
        // A full document has the same remedy as too many grants: one grant on `*`.
        Ok(created.await?.unwrap_or(Created::TooMany))
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
    ) -> Result<Updated, StoreError> {
        let updated = self.change_grants(&principal, None, |before, _| {
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
            Ok(Step::Commit(Updated::Done(after), vec![update]))
        });
        updated.await?.ok_or_else(full)
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
    ) -> Result<Deleted, StoreError> {
        let on = namespace.to_string();
        let deleted = self.change_grants(&principal, None, |before, _| {
            if !before.grants.iter().any(|stored| stored.on == on) {
                return Ok(Step::Answer(Deleted::Absent));
            }
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
            Ok(Step::Commit(Deleted::Done, vec![delete]))
        });
        deleted
            .await?
            .ok_or_else(|| StoreError::corrupt(format!("cannot write the grants of `{principal}`")))
    }

    /// Returns grants in order: all, those of a principal, or those on a namespace.
    pub(crate) async fn grants(
        &self,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
    ) -> Result<Vec<Grant>, StoreError> {
        Ok(understood(self.stored_grants(principal, namespace).await?))
    }

    /// Reads a principal's grants, and the namespace of a new grant, and commits the mutations that
    /// `step` returns.
    ///
    /// It tries again after each conflict with another writer. It returns `None` if the backend
    /// cannot hold the result.
    pub(super) async fn change_grants<T>(
        &self,
        principal: &Principal,
        creates_on: Option<&GrantNamespace>,
        mut step: impl FnMut(&PrincipalGrants, Known) -> Result<Step<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut retry = Retry::default();
        loop {
            let before = self.principal_grants(principal).await?;
            let known = match creates_on {
                Some(GrantNamespace::One(namespace)) => self.known_namespace(namespace).await?,
                Some(GrantNamespace::All) | None => Known::Recorded,
            };
            let (answer, mutations) = match step(&before, known)? {
                Step::Answer(answer) => return Ok(Some(answer)),
                Step::Commit(answer, mutations) => (answer, mutations),
            };
            match self.commit(mutations).await? {
                Outcome::Done => return Ok(Some(answer)),
                Outcome::TooLarge => return Ok(None),
                Outcome::Refused(_) | Outcome::Conflict => retry.wait().await?,
            }
        }
    }
}

/// Returns the next step of creating a grant.
pub(super) fn create_step(
    before: &PrincipalGrants,
    grant: &Grant,
    pin: Option<&Pin>,
    known: Known,
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
    if before.pin != Pin::Unpinned && pin.is_some_and(|wanted| *wanted != before.pin) {
        return Ok(Step::Answer(Created::PinnedOtherwise(before.pin.clone())));
    }
    let forget: Vec<GrantNamespace> = before
        .grants
        .iter()
        .filter_map(|stored| stored.grant.as_ref())
        .filter(|held| held.expires_at.is_some_and(|end| ended_long_ago(end, grant.created_at)))
        .map(|held| held.namespace.clone())
        .collect();
    if before.grants.len() - forget.len() >= MAX_GRANTS {
        return Ok(Step::Answer(Created::TooMany));
    }
    let create = GrantsChange::Create { grant: grant.clone(), forget };
    let mut mutations = vec![mutation(principal, before, create)];
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
    Ok(Step::Commit(created, mutations))
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
    StoreError::busy(
        "the document of the principal's grants is full; hint: replace grants by one on `*`",
    )
}

fn ended_long_ago(end: i64, now: i64) -> bool {
    end.saturating_add(EXPIRED_GRANT_RETENTION) <= now
}

fn alarm() {
    tracing::error!(
        alarm = "unreadable_grant",
        "a grant in the store cannot be read and allows nothing"
    );
}
