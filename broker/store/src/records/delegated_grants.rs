//! The rules of delegated grants: changes of grants by the bearer of a token, and what it sees.
//!
//! Each change is decided on the grant as it is at the time of the change, and on the records of the
//! bearer as the decision saw them. The commit has the condition that none of them has changed. After a
//! conflict, the caller decides again: these functions never use a decision twice.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use stile_core::audit::{self, Chain, Kept};
use stile_core::grants::{
    DelegatedAccess, DelegatedGrant, DelegationRefusal, Grant, GrantNamespace, MAX_GRANTS, Pin,
    ShownGrant, StateRevisions, VisibleGrants,
};
use stile_core::principal::Principal;

use super::Records;
use super::grants::{alarm, existing, mutation, outdated, understood};
use super::grants_page::{self, GrantsPage, Source};
use super::model::{PrincipalGrants, Revision};
use super::mutation::{GrantsChange, Mutation, Outcome};
use super::trusts::GrantedTrust;
use crate::{
    AfterGrant, Change, ChangeTerms, DelegatedCreation, DelegatedDeletion, DelegatedUpdate,
    StoreError, StoreErrorKind, VisiblePage,
};

/// The grants of one principal that only operators can add, up to [`MAX_GRANTS`].
pub(super) const RESERVED: usize = 100;

/// The grants on one namespace at which bearers create no more.
pub(super) const MAX_ON_NAMESPACE: usize = 2_000;

/// The rows that a list of all grants reads for one page, also if it cannot read some of them.
const MAX_ROWS: usize = 1_000;

/// The most namespaces that one list reads. The cursor of a list over more would name grants that the
/// bearer may not see.
pub const LISTED_NAMESPACES: usize = 16;

/// What to do with an existing grant.
enum Planned<T> {
    Answer(T),
    /// The grant after the change; `None` to delete it.
    Commit(T, Option<Grant>),
}

/// The result of a change of an existing grant.
enum Changed<T> {
    Answer(T),
    /// The backend cannot hold the result.
    TooLarge,
    /// The records of the decision have changed since it.
    Stale,
}

/// Another grant of `create_grant` that covers a namespace for long enough.
enum OtherGiver {
    /// There is none. The longest other one ends then, in Unix seconds.
    None(Option<i64>),
    /// The principal whose grant changes has it. The change has the condition that it stays.
    SamePrincipal,
    /// Another principal has it, and its grants have that revision.
    OtherPrincipal(Principal, Revision),
}

/// The records on which a decision depends, with the revisions that it saw.
pub(super) struct Basis {
    grants: BTreeMap<Principal, Revision>,
    revocations: Revision,
}

impl Basis {
    pub(super) fn of(revisions: &StateRevisions) -> Self {
        let grants = revisions.grants.iter();
        Self {
            grants: grants.map(|(of, revision)| (of.clone(), Revision(*revision))).collect(),
            revocations: Revision(revisions.revocations),
        }
    }

    /// Adds the grants of a principal. Returns false if the decision saw other ones.
    pub(super) fn add(&mut self, principal: &Principal, revision: Revision) -> bool {
        match self.grants.entry(principal.clone()) {
            Entry::Occupied(seen) => *seen.get() == revision,
            Entry::Vacant(entry) => *entry.insert(revision) == revision,
        }
    }

    /// Returns a change of a principal's grants with the condition that nothing else has changed.
    fn change(
        self,
        principal: &Principal,
        before: &PrincipalGrants,
        change: GrantsChange,
    ) -> Vec<Mutation> {
        let mut mutations = self.conditions(Some(principal));
        mutations.push(mutation(principal, before, change));
        mutations
    }

    /// Returns the conditions that nothing has changed, except on the grants of `changed`: their change
    /// has that condition itself, and a commit has one condition on a record.
    pub(super) fn conditions(self, changed: Option<&Principal>) -> Vec<Mutation> {
        let others = self.grants.into_iter().filter(|(other, _)| Some(other) != changed);
        others
            .map(|(principal, before)| Mutation::KeepGrants { principal, before })
            .chain([Mutation::KeepRevocations { before: self.revocations }])
            .collect()
    }
}

impl Records {
    /// Creates a grant. It does not change an existing one, sets no pin but that of a trust, and creates
    /// no record of the namespace, which only operators do.
    pub(crate) async fn create_delegated_grant(
        &self,
        grant: DelegatedGrant,
        kept: &Kept,
    ) -> Result<DelegatedCreation, StoreError> {
        let mut basis = Basis::of(grant.revisions());
        let grant = grant.into_grant();
        let (principal, namespace) = (&grant.principal, &grant.namespace);
        let before = self.principal_grants(principal).await?;
        if !basis.add(principal, before.revision) {
            return Ok(DelegatedCreation::Stale);
        }
        if let Some(existing) = existing(&before, principal, namespace)? {
            return Ok(DelegatedCreation::Exists(existing));
        }
        // Only grants on the same namespace count. So a bearer neither reserves a name for other
        // namespaces, nor finds out who has grants there.
        let on_namespace = self.stored_grants(None, Some(namespace.clone())).await?;
        if on_namespace.len() >= MAX_ON_NAMESPACE {
            return Ok(DelegatedCreation::NamespaceFull(MAX_ON_NAMESPACE));
        }
        let twin = understood(on_namespace).into_iter().find(|other| {
            other.principal != *principal && other.principal.folded() == principal.folded()
        });
        if let Some(twin) = twin {
            return Ok(DelegatedCreation::DiffersByCase(twin.principal));
        }
        let trust = self.granted_trust(principal).await?;
        if matches!(trust, GrantedTrust::Absent) {
            return Ok(DelegatedCreation::NoTrust);
        }
        if matches!(trust, GrantedTrust::OfAws) {
            return Ok(DelegatedCreation::TrustOfAws);
        }
        let of_trust = trust.pin().cloned().map(Pin::Pinned);
        if before.pin != Pin::Unpinned && of_trust.is_some_and(|pin| pin != before.pin) {
            return Ok(DelegatedCreation::TrustRecreated);
        }
        let forget = outdated(&before, grant.created_at);
        let limit = MAX_GRANTS - RESERVED;
        if before.grants.len() - forget.len() >= limit {
            return Ok(DelegatedCreation::PrincipalFull(limit));
        }
        let create = GrantsChange::Create { grant: grant.clone(), forget, reserves: false };
        let mut mutations = basis.change(principal, &before, create);
        mutations.extend(trust.mutations(principal));
        let (chain, created) = (Chain::from(namespace), audit::Outcome::Created);
        Ok(match self.commit_audited(&chain, mutations, kept, created).await? {
            Outcome::Done => DelegatedCreation::Done(grant),
            Outcome::TooLarge => DelegatedCreation::PrincipalFull(limit),
            Outcome::Refused(_) | Outcome::Conflict => DelegatedCreation::Stale,
        })
    }

    /// Changes a grant within the limits of the bearer.
    pub(crate) async fn update_delegated_grant(
        &self,
        access: &DelegatedAccess,
        change: Change,
        terms: &ChangeTerms,
        kept: &Kept,
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
                    after => {
                        let done = DelegatedUpdate::Done { before: grant, after: after.clone() };
                        Planned::Commit(done, Some(after))
                    }
                },
            }
        };
        let changed = self.change_delegated(access, terms, kept, plan, DelegatedUpdate::Refused);
        Ok(match changed.await? {
            Changed::Answer(answer) => answer,
            Changed::TooLarge => DelegatedUpdate::Full,
            Changed::Stale => DelegatedUpdate::Stale,
        })
    }

    /// Deletes a grant within the limits of the bearer.
    pub(crate) async fn delete_delegated_grant(
        &self,
        access: &DelegatedAccess,
        terms: &ChangeTerms,
        kept: &Kept,
    ) -> Result<DelegatedDeletion, StoreError> {
        let plan = |grant: Option<Grant>| {
            let Some(grant) = grant else { return Planned::Answer(DelegatedDeletion::Absent) };
            if terms.differs(&grant) {
                return Planned::Answer(DelegatedDeletion::Differs);
            }
            match access.may_take() {
                Err(refusal) => Planned::Answer(DelegatedDeletion::Refused(refusal)),
                Ok(()) => Planned::Commit(DelegatedDeletion::Done(grant), None),
            }
        };
        let changed = self.change_delegated(access, terms, kept, plan, DelegatedDeletion::Refused);
        match changed.await? {
            Changed::Answer(answer) => Ok(answer),
            Changed::Stale => Ok(DelegatedDeletion::Stale),
            Changed::TooLarge => {
                let whose = access.principal();
                Err(StoreError::corrupt(format!("cannot write the grants of `{whose}`")))
            }
        }
    }

    /// Reads the grant, plans its change, and commits it, if the namespace keeps a grant giver for as
    /// long as before.
    async fn change_delegated<T>(
        &self,
        access: &DelegatedAccess,
        terms: &ChangeTerms,
        kept: &Kept,
        plan: impl Fn(Option<Grant>) -> Planned<T>,
        refused: impl Fn(DelegationRefusal) -> T,
    ) -> Result<Changed<T>, StoreError> {
        let principal = access.principal();
        let namespace = GrantNamespace::One(access.namespace().clone());
        let mut basis = Basis::of(access.revisions());
        let before = self.principal_grants(principal).await?;
        if !basis.add(principal, before.revision) {
            return Ok(Changed::Stale);
        }
        let grant = existing(&before, principal, &namespace)?;
        let (answer, after) = match plan(grant.clone()) {
            Planned::Answer(answer) => return Ok(Changed::Answer(answer)),
            Planned::Commit(answer, after) => (answer, after),
        };
        let gives = |grant: Option<&Grant>| grant?.gives_until(access.now());
        let (gave, will_give) = (gives(grant.as_ref()), gives(after.as_ref()));
        if let Some(needed) = gave.filter(|gave| !terms.force && will_give < Some(*gave)) {
            match self.other_grant_giver(access, &before, needed).await? {
                OtherGiver::None(longest) => {
                    let (namespace, until) = (access.namespace().clone(), longest.max(will_give));
                    let refusal = DelegationRefusal::LastGrantGiver { namespace, until };
                    return Ok(Changed::Answer(refused(refusal)));
                }
                OtherGiver::SamePrincipal => {}
                OtherGiver::OtherPrincipal(other, revision) => {
                    if !basis.add(&other, revision) {
                        return Ok(Changed::Stale);
                    }
                }
            }
        }
        let kept = kept.with(|event| match (&grant, &after) {
            (Some(before), Some(after)) => event.grant_changed(before, after),
            (Some(before), None) => event.grant_before(before),
            (None, _) => {}
        });
        let chain = Chain::from(access.namespace());
        let (change, outcome) = match after {
            Some(after) => (GrantsChange::Update(after), audit::Outcome::Changed),
            None => (GrantsChange::Delete(namespace), audit::Outcome::Deleted),
        };
        let mutations = basis.change(principal, &before, change);
        Ok(match self.commit_audited(&chain, mutations, &kept, outcome).await? {
            Outcome::Done => Changed::Answer(answer),
            Outcome::TooLarge => Changed::TooLarge,
            Outcome::Refused(_) | Outcome::Conflict => Changed::Stale,
        })
    }

    /// Finds another grant of `create_grant` that covers the namespace at least until `needed`.
    ///
    /// The commit needs the condition that it stays: otherwise two editors could each delete the grant
    /// that the other one relies on.
    async fn other_grant_giver(
        &self,
        access: &DelegatedAccess,
        before: &PrincipalGrants,
        needed: i64,
    ) -> Result<OtherGiver, StoreError> {
        let everywhere = |grant: &Grant| {
            let gives = grant.gives_until(access.now());
            gives.filter(|_| grant.namespace == GrantNamespace::All)
        };
        let own = before.grants.iter().filter_map(|stored| stored.grant.as_ref());
        let mut longest = own.filter_map(everywhere).max();
        if longest.is_some_and(|until| until >= needed) {
            return Ok(OtherGiver::SamePrincipal);
        }
        let on = GrantNamespace::One(access.namespace().clone());
        for namespace in [on, GrantNamespace::All] {
            for other in understood(self.stored_grants(None, Some(namespace.clone())).await?) {
                let until = other.gives_until(access.now());
                if other.principal == *access.principal() || until.is_none() {
                    continue;
                }
                if until < Some(needed) {
                    longest = longest.max(until);
                    continue;
                }
                let held = match self.principal_grants(&other.principal).await {
                    // What this program cannot read gives nothing.
                    Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                        alarm();
                        continue;
                    }
                    held => held?,
                };
                let gives = |grant: &Grant| {
                    grant.namespace == namespace && grant.gives_until(access.now()) >= Some(needed)
                };
                if held.grants.iter().filter_map(|stored| stored.grant.as_ref()).any(gives) {
                    return Ok(OtherGiver::OtherPrincipal(other.principal, held.revision));
                }
            }
        }
        Ok(OtherGiver::None(longest))
    }

    /// Returns a page of at most `limit` grants that the bearer may see, in order, after that one.
    ///
    /// It reads only the grants of these namespaces, and of the bearer itself. `None` if these are more
    /// than [`LISTED_NAMESPACES`].
    pub(crate) async fn visible_grants(
        &self,
        visible: &VisibleGrants,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
        after: Option<AfterGrant>,
        limit: usize,
    ) -> Result<Option<VisiblePage>, StoreError> {
        let sources = match (principal, &namespace, visible.namespaces()) {
            (Some(principal), ..) => vec![Source::Principal(principal)],
            (None, Some(namespace), _) => vec![Source::Namespace(namespace.clone())],
            (None, None, Some(on)) if on.len() > LISTED_NAMESPACES => return Ok(None),
            (None, None, Some(on)) => {
                let on = on.into_iter().map(|one| Source::Namespace(GrantNamespace::One(one)));
                on.chain(visible.own_principals().into_iter().map(Source::Principal)).collect()
            }
            (None, None, None) => vec![Source::All],
        };
        let mut found = Vec::new();
        let mut resume = None;
        for source in sources {
            // The others have few rows.
            let rows = if source == Source::All { MAX_ROWS } else { usize::MAX };
            let page = GrantsPage {
                visible: visible.clone(),
                source,
                namespace: namespace.clone(),
                after: after.clone(),
                // One more than a page has, to find out whether another page follows.
                limit: limit + 1,
                rows,
            };
            let (stored, stopped) = self.grants_page(page).await?;
            found.extend(understood(stored));
            resume = resume.or(stopped);
        }
        grants_page::sort(&mut found);
        if found.len() > limit {
            found.truncate(limit);
            resume = found.last().map(grants_page::place);
        }
        let grants: Vec<ShownGrant> =
            found.iter().filter_map(|grant| visible.show(grant)).collect();
        Ok(Some(VisiblePage { grants, next: resume }))
    }
}
