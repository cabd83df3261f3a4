//! The rules of trusts: each name is used once, a change ends what the trust believed before, and no
//! trust goes while a grant names it.

use stile_core::audit::{self, Chain, Kept};
use stile_core::grants::Pin;
use stile_core::principal::{LocalName, Principal, UniqueId};
use stile_core::trust::{MAX_TRUSTS, Trust};

use super::Records;
use super::model::PrincipalGrants;
use super::mutation::{Mutation, Outcome};
use super::trust_record::{FoundTrust, TrustRecord};
use crate::retry::Retry;
use crate::{StoreError, TrustChange, TrustCreated, TrustDeleted, TrustUpdated};

/// The trust that a new grant names.
#[derive(Debug, Clone)]
pub(super) enum GrantedTrust {
    /// The principal is no trust.
    NotOne,
    /// There is no trust of that name, so a grant would be for a later one that nobody knows yet.
    Absent,
    /// The trust with this id, which the grant is for.
    Live { name: LocalName, id: UniqueId },
}

impl GrantedTrust {
    /// Returns the id that must be pinned.
    pub(super) const fn pin(&self) -> Option<&UniqueId> {
        match self {
            Self::NotOne | Self::Absent => None,
            Self::Live { id, .. } => Some(id),
        }
    }

    /// Returns the mutations that go with a new grant: the condition that the trust is still there, and
    /// its pin.
    pub(super) fn mutations(self, principal: &Principal) -> Vec<Mutation> {
        let Self::Live { name, id } = self else { return Vec::new() };
        let pin = Mutation::SetPin { principal: principal.clone(), id: Some(id.clone()) };
        vec![Mutation::KeepTrust { name, id }, pin]
    }
}

impl Records {
    async fn found_trusts(&self) -> Result<Vec<FoundTrust>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.trusts().await,
            Self::DynamoDb(dynamodb) => dynamodb.trusts().await,
        }
    }

    async fn found_trust(&self, name: &LocalName) -> Result<Option<FoundTrust>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.trust(name).await,
            Self::DynamoDb(dynamodb) => dynamodb.trust(name).await,
        }
    }

    /// Returns all trusts, in order of name. It leaves out one that it cannot read, and raises the
    /// alarm.
    pub(crate) async fn trusts(&self) -> Result<Vec<Trust>, StoreError> {
        let found = self.found_trusts().await?;
        let trusts: Vec<Trust> = found.iter().filter_map(FoundTrust::read).collect();
        if trusts.len() < found.len() {
            tracing::error!(
                alarm = "unreadable_trust",
                "a trust in the store cannot be read, and believes nothing"
            );
        }
        Ok(trusts)
    }

    /// Returns one trust.
    pub(crate) async fn trust(&self, name: &LocalName) -> Result<Option<Trust>, StoreError> {
        let Some(found) = self.found_trust(name).await? else { return Ok(None) };
        found.read().map(Some).ok_or_else(|| unreadable(name))
    }

    /// Returns the names of the trusts that this program cannot read; `None` for one whose name it
    /// cannot read either.
    pub(crate) async fn unreadable_trusts(&self) -> Result<Vec<Option<LocalName>>, StoreError> {
        let found = self.found_trusts().await?;
        let unreadable = found.into_iter().filter(|found| found.read().is_none());
        Ok(unreadable.map(|found| found.name).collect())
    }

    /// Returns the trust that a new grant names, if its principal is one.
    pub(super) async fn granted_trust(
        &self,
        principal: &Principal,
    ) -> Result<GrantedTrust, StoreError> {
        let Some(name) = trust_name(principal) else { return Ok(GrantedTrust::NotOne) };
        let Some(found) = self.found_trust(&name).await? else { return Ok(GrantedTrust::Absent) };
        let id = found.id.ok_or_else(|| unreadable(&name))?;
        Ok(GrantedTrust::Live { name, id })
    }

    /// Creates a trust. It does not change an existing one.
    pub(crate) async fn create_trust(
        &self,
        trust: Trust,
        kept: &Kept,
    ) -> Result<TrustCreated, StoreError> {
        if let Err(error) = trust.terms().check() {
            return Ok(TrustCreated::Refused(error));
        }
        let mut retry = Retry::default();
        loop {
            // One that cannot be read counts, too.
            let found = self.found_trusts().await?;
            if let Some(existing) = found.iter().find(|it| it.name.as_ref() == Some(&trust.name)) {
                let existing = existing.read().ok_or_else(|| unreadable(&trust.name))?;
                return Ok(TrustCreated::Exists(Box::new(existing)));
            }
            if found.len() >= MAX_TRUSTS {
                return Ok(TrustCreated::TooMany);
            }
            let add = vec![Mutation::AddTrust(TrustRecord::of(&trust, None))];
            let created = audit::Outcome::Created;
            match self.commit_audited(&Chain::Operator, add, kept, created).await? {
                Outcome::Done => return Ok(TrustCreated::Done(Box::new(trust))),
                Outcome::TooLarge => return Ok(TrustCreated::TooMany),
                // Another operator was faster.
                Outcome::Refused(_) | Outcome::Conflict => retry.wait().await?,
            }
        }
    }

    /// Changes what a trust believes. Its tokens end, because its revision rises.
    pub(crate) async fn update_trust(
        &self,
        name: &LocalName,
        change: &TrustChange,
        kept: &Kept,
    ) -> Result<TrustUpdated, StoreError> {
        let mut retry = Retry::default();
        loop {
            let Some(found) = self.found_trust(name).await? else {
                return Ok(TrustUpdated::Absent);
            };
            let before = found.read().ok_or_else(|| unreadable(name))?;
            let terms = change.after(before.terms());
            if let Err(error) = terms.check() {
                return Ok(TrustUpdated::Refused(error));
            }
            if terms == before.terms() {
                return Ok(TrustUpdated::Unchanged(Box::new(before)));
            }
            let after = Trust {
                revision: before.revision.saturating_add(1),
                changed_at: kept.at(),
                ..before.clone().with_terms(terms)
            };
            let record = TrustRecord::of(&after, found.text.as_deref());
            let put = vec![Mutation::PutTrust { before: before.revision, after: record }];
            let kept = kept.with(|event| event.trust_changed(&before, &after));
            let changed = audit::Outcome::Changed;
            match self.commit_audited(&Chain::Operator, put, &kept, changed).await? {
                Outcome::Done => {
                    let (before, after) = (Box::new(before), Box::new(after));
                    return Ok(TrustUpdated::Done { before, after });
                }
                Outcome::TooLarge => return Err(StoreError::full("the trust is too large")),
                Outcome::Refused(_) | Outcome::Conflict => retry.wait().await?,
            }
        }
    }

    /// Deletes a trust that no grant names, and its pin.
    pub(crate) async fn delete_trust(
        &self,
        name: &LocalName,
        kept: &Kept,
    ) -> Result<TrustDeleted, StoreError> {
        let principal = Principal::trust(name);
        let mut retry = Retry::default();
        loop {
            let grants = self.principal_grants(&principal).await?;
            let Some(found) = self.found_trust(name).await? else {
                return Ok(match grants.grants.len() {
                    0 => TrustDeleted::Absent,
                    _ => TrustDeleted::HasGrants(namespaces(&grants)),
                });
            };
            if !grants.grants.is_empty() {
                return Ok(TrustDeleted::HasGrants(namespaces(&grants)));
            }
            // Also one that cannot be read, if its id can.
            let trust = found.read();
            let id = found.id.ok_or_else(|| unreadable(name))?;
            // The condition on the grants refuses one that was created since the read.
            let before = grants.revision;
            let mut mutations = vec![
                Mutation::RemoveTrust { name: name.clone(), id },
                Mutation::KeepGrants { principal: principal.clone(), before },
            ];
            if grants.pin != Pin::Unpinned {
                mutations.push(Mutation::ClearPin { principal: principal.clone() });
            }
            let kept = kept.with(|event| trust.iter().for_each(|trust| event.trust_before(trust)));
            let deleted = audit::Outcome::Deleted;
            match self.commit_audited(&Chain::Operator, mutations, &kept, deleted).await? {
                Outcome::Done => return Ok(TrustDeleted::Done(trust.map(Box::new))),
                Outcome::Refused(_) | Outcome::Conflict | Outcome::TooLarge => retry.wait().await?,
            }
        }
    }
}

/// Returns the name of the trust that a principal is, if it is one.
fn trust_name(principal: &Principal) -> Option<LocalName> {
    match principal {
        Principal::Trust(local) => local.name().parse().ok(),
        _ => None,
    }
}

fn namespaces(grants: &PrincipalGrants) -> Vec<String> {
    grants.grants.iter().map(|stored| stored.on.clone()).collect()
}

fn unreadable(name: &LocalName) -> StoreError {
    StoreError::corrupt(format!(
        "cannot read the trust `{name}` in the store, and did not change it; hint: run the newest release"
    ))
}
