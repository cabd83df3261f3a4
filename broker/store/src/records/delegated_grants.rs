//! The rules of delegated grants: changes of grants by the bearer of a token, and what it sees.
//!
//! Each change is decided on the grant as it is at the time of the change. So no other editor can
//! change it between the decision and the commit.

use stile_core::grants::{
    DelegatedAccess, DelegatedGrant, DelegationRefusal, Grant, GrantNamespace, VisibleGrants,
};
use stile_core::principal::Principal;

use super::Records;
use super::grants::{create_step, existing, mutation, understood};
use super::grants_page::GrantsPage;
use super::model::PrincipalGrants;
use super::mutation::{GrantsChange, Mutation, Outcome};
use super::namespaces::Known;
use crate::retry::Retry;
use crate::{
    AfterGrant, Change, ChangeTerms, Created, DelegatedDeletion, DelegatedUpdate, StoreError,
};

/// What to do with an existing grant.
enum Planned<T> {
    Answer(T),
    /// The grant after the change; `None` to delete it.
    Commit(T, Option<Grant>),
}

/// Another grant of `create_grant` that covers a namespace.
enum OtherGiver {
    /// There is none.
    None,
    /// The principal whose grant changes has it. The change has the condition that it stays.
    SamePrincipal,
    /// Another principal has it. This is the condition that it stays.
    OtherPrincipal(Mutation),
}

impl Records {
    /// Creates a grant. It does not change an existing one, sets no pin, and creates no record of the
    /// namespace, which only operators do.
    pub(crate) async fn create_delegated_grant(
        &self,
        grant: DelegatedGrant,
    ) -> Result<Created, StoreError> {
        let grant = grant.into_grant();
        let created = self.change_grants(&grant.principal, None, |before, _| {
            create_step(before, &grant, None, Known::Recorded)
        });
        Ok(created.await?.unwrap_or(Created::TooMany))
    }

    /// Changes a grant within the limits of the bearer.
    pub(crate) async fn update_delegated_grant(
        &self,
        access: &DelegatedAccess,
        change: Change,
        terms: &ChangeTerms,
    ) -> Result<DelegatedUpdate, StoreError> {
        let plan = |grant: Option<Grant>| {
            let Some(grant) = grant else { return Planned::Answer(DelegatedUpdate::Absent) };
            if terms.differs(&grant) {
                return Planned::Answer(DelegatedUpdate::Differs);
            }
            let after = change.after(&grant);
            if after.permissions.is_empty() {
                return Planned::Answer(DelegatedUpdate::WouldBeEmpty);
            }
            match access.change(&grant, after.permissions, after.expires_at) {
                Err(refusal) => Planned::Answer(DelegatedUpdate::Refused(refusal)),
                Ok(after) => match after.into_grant() {
                    after if after == grant => Planned::Answer(DelegatedUpdate::Unchanged(grant)),
                    after => Planned::Commit(DelegatedUpdate::Done(after.clone()), Some(after)),
                },
            }
        };
        let last = || DelegatedUpdate::Refused(last_grant_giver(access));
        let updated = self.change_delegated(access, terms, plan, last);
        Ok(updated.await?.unwrap_or(DelegatedUpdate::Full))
    }

    /// Deletes a grant within the limits of the bearer.
    pub(crate) async fn delete_delegated_grant(
        &self,
        access: &DelegatedAccess,
        terms: &ChangeTerms,
    ) -> Result<DelegatedDeletion, StoreError> {
        let plan = |grant: Option<Grant>| {
            let Some(grant) = grant else { return Planned::Answer(DelegatedDeletion::Absent) };
            if terms.differs(&grant) {
                return Planned::Answer(DelegatedDeletion::Differs);
            }
            match access.may_take() {
                Err(refusal) => Planned::Answer(DelegatedDeletion::Refused(refusal)),
                Ok(()) => Planned::Commit(DelegatedDeletion::Done, None),
            }
        };
        let last = || DelegatedDeletion::Refused(last_grant_giver(access));
        let deleted = self.change_delegated(access, terms, plan, last).await?;
        deleted.ok_or_else(|| {
            StoreError::corrupt(format!("cannot write the grants of `{}`", access.principal()))
        })
    }

    /// Reads the grant, plans its change, and commits it, if the namespace keeps a grant giver.
    ///
    /// It tries again after each conflict with another writer. It returns `None` if the backend cannot
    /// hold the result.
    async fn change_delegated<T>(
        &self,
        access: &DelegatedAccess,
        terms: &ChangeTerms,
        plan: impl Fn(Option<Grant>) -> Planned<T>,
        last: impl Fn() -> T,
    ) -> Result<Option<T>, StoreError> {
        let principal = access.principal();
        let namespace = GrantNamespace::One(access.namespace().clone());
        let mut retry = Retry::default();
        loop {
            let before = self.principal_grants(principal).await?;
            let grant = existing(&before, principal, &namespace)?;
            let (answer, after) = match plan(grant.clone()) {
                Planned::Answer(answer) => return Ok(Some(answer)),
                Planned::Commit(answer, after) => (answer, after),
            };
            let gives = |grant: Option<&Grant>| {
                grant.is_some_and(|grant| grant.is_grant_giver(access.now()))
            };
            let mut mutations = Vec::new();
            if !terms.force && gives(grant.as_ref()) && !gives(after.as_ref()) {
                match self.other_grant_giver(access, &before).await? {
                    OtherGiver::None => return Ok(Some(last())),
                    OtherGiver::SamePrincipal => {}
                    OtherGiver::OtherPrincipal(condition) => mutations.push(condition),
                }
            }
            let change = match after {
                Some(after) => GrantsChange::Update(after),
                None => GrantsChange::Delete(namespace.clone()),
            };
            mutations.push(mutation(principal, &before, change));
            match self.commit(mutations).await? {
                Outcome::Done => return Ok(Some(answer)),
                Outcome::TooLarge => return Ok(None),
                Outcome::Refused(_) | Outcome::Conflict => retry.wait().await?,
            }
        }
    }

    /// Finds another grant of `create_grant` that covers the namespace.
    ///
    /// The commit needs the condition that it stays: otherwise two editors could each delete the grant
    /// that the other one relies on.
    async fn other_grant_giver(
        &self,
        access: &DelegatedAccess,
        before: &PrincipalGrants,
    ) -> Result<OtherGiver, StoreError> {
        let on = GrantNamespace::One(access.namespace().clone());
        let everywhere = |grant: &Grant| {
            grant.namespace == GrantNamespace::All && grant.is_grant_giver(access.now())
        };
        if before.grants.iter().filter_map(|stored| stored.grant.as_ref()).any(everywhere) {
            return Ok(OtherGiver::SamePrincipal);
        }
        for namespace in [on, GrantNamespace::All] {
            let others = understood(self.stored_grants(None, Some(namespace.clone())).await?);
            for other in others {
                if other.principal == *access.principal() || !other.is_grant_giver(access.now()) {
                    continue;
                }
                let held = self.principal_grants(&other.principal).await?;
                let is_current = |grant: &Grant| {
                    grant.namespace == namespace && grant.is_grant_giver(access.now())
                };
                if held.grants.iter().filter_map(|stored| stored.grant.as_ref()).any(is_current) {
                    let (principal, before) = (other.principal, held.revision);
                    let condition = Mutation::KeepGrants { principal, before };
                    return Ok(OtherGiver::OtherPrincipal(condition));
                }
            }
        }
        Ok(OtherGiver::None)
    }

    /// Returns at most `limit` grants that the bearer may see, in order, after that one.
    pub(crate) async fn visible_grants(
        &self,
        visible: &VisibleGrants,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
        after: Option<AfterGrant>,
        limit: usize,
    ) -> Result<Vec<Grant>, StoreError> {
        let page = GrantsPage { visible: visible.clone(), principal, namespace, after, limit };
        Ok(understood(self.grants_page(page).await?))
    }
}

fn last_grant_giver(access: &DelegatedAccess) -> DelegationRefusal {
    DelegationRefusal::LastGrantGiver(access.namespace().clone())
}
