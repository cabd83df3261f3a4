//! The rules of grants: whether one can be created, changed and removed, whichever backend holds them.

use stile_core::grants::{Grant, GrantNamespace, MAX_GRANTS, Pin};
use stile_core::principal::{Principal, UniqueId};
use stile_protocol::names::Permissions;

use super::Records;
use super::model::{PrincipalGrants, StoredGrant};
use super::mutation::{GrantsChange, Mutation, Outcome};
use super::namespaces::Known;
use super::retention::LISTED_FOR;
use crate::retry::Retry;
use crate::{Change, Created, NamespaceRecord, StoreError, Updated};

/// What the grants that were read lead to.
enum Step<T> {
    Answer(T),
    Commit(T, Vec<Mutation>),
}

impl Records {
    /// Creates a grant; one that exists is not touched.
    pub(crate) async fn create_grant(
        &self,
        grant: Grant,
        pin: Option<Pin>,
    ) -> Result<Created, StoreError> {
        let principal = grant.principal.clone();
        let created = self.change_grants(&principal, Some(&grant.namespace), |before, known| {
            create(before, &grant, pin.as_ref(), known)
        });
        // A document that is full is cured as too many grants are: by one on `*`.
        Ok(created.await?.unwrap_or(Created::TooMany))
    }

    /// Changes the permissions that are named, and no others.
    pub(crate) async fn update_grant(
        &self,
        principal: Principal,
        namespace: GrantNamespace,
        change: Change,
    ) -> Result<Updated, StoreError> {
        let updated = self.change_grants(&principal, None, |before, _| {
            let Some(mut grant) = existing(before, &principal, &namespace)? else {
                return Ok(Step::Answer(Updated::Absent));
            };
            grant.permissions =
                change.clear.iter().fold(grant.permissions.union(change.set), Permissions::without);
            if grant.permissions.is_empty() {
                return Ok(Step::Answer(Updated::WouldBeEmpty));
            }
            grant.expires_at = change.expires_at.or(grant.expires_at);
            let update = mutation(&principal, before, GrantsChange::Update(grant.clone()));
            Ok(Step::Commit(Updated::Done(grant), vec![update]))
        });
        updated.await?.ok_or_else(|| {
            StoreError::busy(
                "the principal's grants are too many for one document; hint: grant on `*`",
            )
        })
    }

    /// Removes a grant; false where there was none.
    pub(crate) async fn delete_grant(
        &self,
        principal: Principal,
        namespace: GrantNamespace,
    ) -> Result<bool, StoreError> {
        let on = namespace.to_string();
        let deleted = self.change_grants(&principal, None, |before, _| {
            if !before.grants.iter().any(|stored| stored.on == on) {
                return Ok(Step::Answer(false));
            }
            let delete = mutation(&principal, before, GrantsChange::Delete(namespace.clone()));
            Ok(Step::Commit(true, vec![delete]))
        });
        deleted.await?.ok_or_else(|| {
            StoreError::corrupt(format!("the grants of `{principal}` cannot be written"))
        })
    }

    /// Every grant, or those of a principal, or those on a namespace; in order.
    pub(crate) async fn grants(
        &self,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
    ) -> Result<Vec<Grant>, StoreError> {
        Ok(understood(self.stored_grants(principal, namespace).await?))
    }

    /// Reads a principal's grants, and the namespace on which a grant is created, and commits what `step` makes of them.
    /// It tries again as often as somebody else was faster; `None` where the backend could not hold the result.
    async fn change_grants<T>(
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
                Outcome::Refused(_) | Outcome::Conflict => retry.again().await?,
            }
        }
    }
}

fn create(
    before: &PrincipalGrants,
    grant: &Grant,
    pin: Option<&Pin>,
    known: Known,
) -> Result<Step<Created>, StoreError> {
    let principal = &grant.principal;
    if let Some(existing) = existing(before, principal, &grant.namespace)? {
        return Ok(Step::Answer(Created::Exists(existing)));
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
        .filter(|held| held.expires_at.is_some_and(|end| long_ended(end, grant.created_at)))
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
    // On the condition that it is not pinned otherwise: a mint may have pinned since it was read.
    mutations
        .extend(id.map(|id| Mutation::SetPin { principal: principal.clone(), id: id.cloned() }));
    if let (GrantNamespace::One(namespace), Known::InUse | Known::Unknown) =
        (&grant.namespace, known)
    {
        mutations.push(Mutation::AddNamespace(NamespaceRecord {
            namespace: namespace.clone(),
            created_by: grant.created_by.clone(),
            created_at: grant.created_at,
        }));
    }
    let created = Created::Done { grant: grant.clone(), new_namespace: known == Known::Unknown };
    Ok(Step::Commit(created, mutations))
}

/// The grant on that namespace. One that cannot be read is there all the same, and is not written over.
fn existing(
    before: &PrincipalGrants,
    principal: &Principal,
    namespace: &GrantNamespace,
) -> Result<Option<Grant>, StoreError> {
    let on = namespace.to_string();
    let Some(stored) = before.grants.iter().find(|stored| stored.on == on) else { return Ok(None) };
    stored.grant.clone().map(Some).ok_or_else(|| {
        alarm();
        StoreError::corrupt(format!(
            "the grants of `{principal}` in the store cannot be read, and are not written over"
        ))
    })
}

fn mutation(principal: &Principal, before: &PrincipalGrants, change: GrantsChange) -> Mutation {
    Mutation::ChangeGrants { principal: principal.clone(), before: before.clone(), change }
}

/// The grants that this program understands; one that it does not allows nothing, and the others work.
pub(super) fn understood(stored: Vec<StoredGrant>) -> Vec<Grant> {
    let read = stored.into_iter().filter_map(|stored| {
        if stored.grant.is_none() {
            alarm();
        }
        stored.grant
    });
    read.collect()
}

fn long_ended(end: i64, now: i64) -> bool {
    end.saturating_add(LISTED_FOR) <= now
}

fn alarm() {
    tracing::error!(
        alarm = "unreadable_grant",
        "a grant in the store cannot be read and allows nothing"
    );
}
