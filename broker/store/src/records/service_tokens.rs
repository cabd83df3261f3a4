//! The rules of service tokens: a token and the grants that it needs are one commit.

use stile_core::audit::{self, Chain, Kept};
use stile_core::grants::{
    Access, CreateGrant, DelegatedAccess, DelegationRefusal, Grant, GrantNamespace, MAX_GRANTS,
};
use stile_core::package::source::AllowedSources;
use stile_core::principal::Principal;
use stile_core::service_token::{
    ServiceToken, ServiceTokenTerms, TokenIssuer, TooManyTokens, check_room, forgotten, widened,
};
use stile_core::token::TokenId;
use stile_protocol::exchange::Namespaces;

use super::Records;
use super::delegated_grants::{Basis, MAX_ON_NAMESPACE, RESERVED};
use super::grants::{existing, mutation, outdated};
use super::model::PrincipalGrants;
use super::mutation::{GrantsChange, Mutation, Outcome};
use super::namespaces::Known;
use crate::retry::Retry;
use crate::{
    IssuedServiceToken, ListedServiceTokens, NamespaceLimits, NamespaceRecord, ServiceTokenChanged,
    ServiceTokenIssued, StoreError, StoredServiceToken,
};

/// A record as the backend found it: the text, and the day of the last use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceTokenRecord {
    pub(crate) id: TokenId,
    pub(crate) text: String,
    pub(crate) last_used: Option<i64>,
}

/// The grants that a new token needs, before and after.
struct NeededGrants {
    before: PrincipalGrants,
    /// The grants that are new or wider.
    changed: Vec<Grant>,
    /// The namespaces of grants that ended long ago.
    forget: Vec<GrantNamespace>,
}

/// The token that a new one replaces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replaced<'a> {
    pub(crate) token: &'a ServiceToken,
    /// When it ends, in Unix seconds, unless it ends before.
    pub(crate) ends_at: i64,
}

impl Records {
    async fn service_token_record(
        &self,
        id: &TokenId,
    ) -> Result<Option<ServiceTokenRecord>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.service_token(id).await,
            Self::DynamoDb(dynamodb) => dynamodb.service_token(id).await,
        }
    }

    async fn service_token_records(&self) -> Result<Vec<ServiceTokenRecord>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.service_tokens().await,
            Self::DynamoDb(dynamodb) => dynamodb.service_tokens().await,
        }
    }

    /// Returns a service token. `None` if there is none, or if this program cannot read it, so that it
    /// allows nothing.
    pub(crate) async fn service_token(
        &self,
        id: &TokenId,
    ) -> Result<Option<StoredServiceToken>, StoreError> {
        Ok(self.service_token_record(id).await?.and_then(|record| {
            let read = readable(&record);
            if read.is_none() {
                alarm();
            }
            read
        }))
    }

    /// Returns all service tokens.
    pub(crate) async fn listed_service_tokens(&self) -> Result<ListedServiceTokens, StoreError> {
        let mut listed = ListedServiceTokens::default();
        for record in self.service_token_records().await? {
            match readable(&record) {
                Some(token) => listed.tokens.push(token),
                None => listed.unreadable.push(record.id),
            }
        }
        let place = |stored: &StoredServiceToken| {
            let token = &stored.token;
            (token.name().clone(), token.created_at(), token.id().clone())
        };
        listed.tokens.sort_by_key(place);
        Ok(listed)
    }

    /// Records the day of a token's last use.
    pub(crate) async fn record_service_token_use(
        &self,
        id: &TokenId,
        day: i64,
    ) -> Result<(), StoreError> {
        let used = Mutation::RecordServiceTokenUse { id: id.clone(), day };
        self.commit(vec![used]).await.map(drop)
    }

    /// Forgets tokens that have ended, and checks whether there is room for a new one.
    async fn make_room(
        &self,
        token: &ServiceToken,
    ) -> Result<Result<(), TooManyTokens>, StoreError> {
        let ListedServiceTokens { tokens, unreadable } = self.listed_service_tokens().await?;
        let tokens = || tokens.iter().map(|stored| &stored.token);
        let now = token.created_at();
        let room = check_room(token, tokens(), unreadable.len(), now);
        let forgotten = forgotten(tokens(), now);
        if room.is_ok() && !forgotten.is_empty() {
            let delete = forgotten.into_iter().map(Mutation::DeleteServiceToken).collect();
            // If another program was faster, the next issue forgets the rest.
            self.commit(delete).await?;
        }
        Ok(room)
    }

    /// Issues a token of an operator, and makes or widens the grants that it needs.
    ///
    /// With `replaces`, it changes that token in the same commit.
    pub(crate) async fn issue_service_token(
        &self,
        token: ServiceToken,
        replaces: Option<Replaced<'_>>,
        kept: &Kept,
    ) -> Result<ServiceTokenIssued, StoreError> {
        let mut retry = Retry::default();
        loop {
            // A token that takes the place of another one always has room, so that an operator can
            // replace one that leaked.
            if replaces.is_none()
                && let Err(limit) = self.make_room(&token).await?
            {
                return Ok(ServiceTokenIssued::TooMany(limit));
            }
            let needed = self.needed_grants(&token, MAX_GRANTS, |existing, on| {
                Ok(existing
                    .map_or_else(|| new_grant(&token, on), |grant| widened(grant, token.terms())))
            });
            let needed = match needed.await? {
                Ok(needed) => needed,
                Err(answer) => return Ok(answer),
            };
            let (mut mutations, mut new_namespaces) = (Vec::new(), Vec::new());
            for grant in &needed.changed {
                let GrantNamespace::One(namespace) = &grant.namespace else { continue };
                let known = self.known_namespace(namespace).await?;
                if known == Known::Unknown {
                    new_namespaces.push(namespace.clone());
                }
                if known != Known::Recorded {
                    mutations.push(Mutation::AddNamespace(NamespaceRecord {
                        namespace: namespace.clone(),
                        created_by: grant.created_by.clone(),
                        created_at: grant.created_at,
                        limits: NamespaceLimits::default(),
                        sources: AllowedSources::default(),
                    }));
                }
            }
            mutations.extend(needed.change(&token));
            if let Some(replaced) = replaces {
                let id = replaced.token.id();
                let record = self.service_token_record(id).await?;
                let is_same = |record: &ServiceTokenRecord| {
                    readable(record).is_some_and(|stored| stored.token == *replaced.token)
                };
                let Some(record) = record.filter(is_same) else {
                    return Ok(ServiceTokenIssued::Absent);
                };
                let after = replaced.token.replaced(token.id(), replaced.ends_at).to_text();
                let (id, before) = (id.clone(), record.text);
                mutations.push(Mutation::ChangeServiceToken { id, before, after });
            }
            mutations.push(Mutation::AddServiceToken(Box::new(token.clone())));
            let chains = chains(token.namespaces());
            let issued = audit::Outcome::Created;
            match self.commit_audited_in(&chains, mutations, kept, issued).await? {
                Outcome::Done => {
                    return Ok(ServiceTokenIssued::Done(Box::new(IssuedServiceToken {
                        token,
                        grants: needed.changed,
                        new_namespaces,
                    })));
                }
                Outcome::TooLarge => return Ok(ServiceTokenIssued::TooManyGrants),
                Outcome::Refused(_) | Outcome::Conflict => retry.wait().await?,
            }
        }
    }

    /// Issues a token of a bearer, who has an access for each of its namespaces. It makes or widens the
    /// grants that the token needs, within the rights of the bearer.
    pub(crate) async fn issue_delegated_service_token(
        &self,
        token: ServiceToken,
        accesses: &[DelegatedAccess],
        kept: &Kept,
    ) -> Result<ServiceTokenIssued, StoreError> {
        if let Err(limit) = self.make_room(&token).await? {
            return Ok(ServiceTokenIssued::TooMany(limit));
        }
        let terms = token.terms();
        let needed = self.needed_grants(&token, MAX_GRANTS - RESERVED, |existing, on| {
            let for_it = |access: &&DelegatedAccess| {
                *access.principal() == terms.principal()
                    && GrantNamespace::One(access.namespace().clone()) == *on
            };
            let access = accesses.iter().find(for_it);
            let access = access.ok_or(DelegationRefusal::AllNamespaces)?;
            // The bearer must be able to give the whole of the token, also where a grant is there.
            let new = access.create(terms.permissions(), Some(terms.expires_at()))?;
            let Some(before) = existing else { return Ok(new.into_grant()) };
            let after = widened(before, terms);
            if after == *before {
                return Ok(after);
            }
            let changed = access.change(before, after.permissions, after.expires_at)?;
            Ok(changed.into_grant())
        });
        let needed = match needed.await? {
            Ok(needed) => needed,
            Err(answer) => return Ok(answer),
        };
        for grant in &needed.changed {
            let is_new = !needed.had(&grant.namespace);
            let on = Some(grant.namespace.clone());
            if is_new && self.stored_grants(None, on).await?.len() >= MAX_ON_NAMESPACE {
                return Ok(ServiceTokenIssued::NamespaceFull(MAX_ON_NAMESPACE));
            }
        }
        let Some(access) = accesses.first() else { return Ok(ServiceTokenIssued::Stale) };
        let mut basis = Basis::of(access.revisions());
        if accesses.iter().any(|other| other.revisions() != access.revisions())
            || !basis.add(&terms.principal(), needed.before.revision)
        {
            return Ok(ServiceTokenIssued::Stale);
        }
        let mut mutations = match needed.change(&token) {
            Some(_) => basis.conditions(Some(&terms.principal())),
            None => basis.conditions(None),
        };
        mutations.extend(needed.change(&token));
        mutations.push(Mutation::AddServiceToken(Box::new(token.clone())));
        let (chains, issued) = (chains(token.namespaces()), audit::Outcome::Created);
        Ok(match self.commit_audited_in(&chains, mutations, kept, issued).await? {
            Outcome::Done => ServiceTokenIssued::Done(Box::new(IssuedServiceToken {
                token,
                grants: needed.changed,
                new_namespaces: Vec::new(),
            })),
            Outcome::TooLarge => ServiceTokenIssued::TooManyGrants,
            Outcome::Refused(_) | Outcome::Conflict => ServiceTokenIssued::Stale,
        })
    }

    /// Reads the grants of the service, and finds what the token needs there. `after` returns the grant
    /// on a namespace as the token needs it, from the one that is there.
    async fn needed_grants(
        &self,
        token: &ServiceToken,
        limit: usize,
        after: impl Fn(Option<&Grant>, &GrantNamespace) -> Result<Grant, DelegationRefusal>,
    ) -> Result<Result<NeededGrants, ServiceTokenIssued>, StoreError> {
        let principal = token.terms().principal();
        let before = self.principal_grants(&principal).await?;
        let forget = outdated(&before, token.created_at());
        let (mut changed, mut new) = (Vec::new(), 0);
        for on in token.terms().grant_namespaces() {
            let stored = existing(&before, &principal, &on)?;
            let is_kept = stored.is_some() && !forget.contains(&on);
            // A grant that has ended must not give its permissions again.
            let current =
                |grant: &Grant| grant.expires_at.is_none_or(|end| end > token.created_at());
            let held = stored.filter(current);
            let grant = match after(held.as_ref(), &on) {
                Ok(grant) => grant,
                Err(refusal) => return Ok(Err(ServiceTokenIssued::Refused(refusal))),
            };
            if held.as_ref() != Some(&grant) {
                new += usize::from(!is_kept);
                changed.push(grant);
            }
        }
        if before.grants.len() - forget.len() + new > limit {
            return Ok(Err(ServiceTokenIssued::TooManyGrants));
        }
        Ok(Ok(NeededGrants { before, changed, forget }))
    }

    /// Revokes a token: deletes its record. The grants of the service stay.
    ///
    /// A damaged chain of events does not stop it.
    pub(crate) async fn revoke_service_token(
        &self,
        id: &TokenId,
        kept: &Kept,
    ) -> Result<ServiceTokenChanged, StoreError> {
        let Some(record) = self.service_token_record(id).await? else {
            return Ok(ServiceTokenChanged::Absent);
        };
        let token = readable(&record).map(|stored| stored.token);
        let chains =
            token.as_ref().map_or(vec![Chain::Operator], |token| chains(token.namespaces()));
        let kept = kept.with(|event| {
            if let Some(token) = &token {
                event.service_token(token);
            }
        });
        let delete = vec![Mutation::DeleteServiceToken(id.clone())];
        let revoked = audit::Outcome::Revoked;
        Ok(match self.commit_revocation_in(&chains, delete, &kept, revoked).await? {
            Outcome::Done => ServiceTokenChanged::Done(token.map(Box::new)),
            // Another program was faster.
            _ => ServiceTokenChanged::Absent,
        })
    }

    /// Makes an operator the issuer of a token, so that it depends on nobody's rights.
    pub(crate) async fn adopt_service_token(
        &self,
        id: &TokenId,
        operator: &str,
        kept: &Kept,
    ) -> Result<ServiceTokenChanged, StoreError> {
        let mut retry = Retry::default();
        loop {
            let record = self.service_token_record(id).await?;
            let Some(token) = record.as_ref().and_then(readable).map(|stored| stored.token) else {
                return Ok(ServiceTokenChanged::Absent);
            };
            if matches!(token.issuer(), TokenIssuer::Operator(_)) {
                return Ok(ServiceTokenChanged::Unchanged(Box::new(token)));
            }
            let after = token.adopted(operator);
            let kept = kept.with(|event| event.service_token(&after));
            let before = record.map(|record| record.text).unwrap_or_default();
            let adopt =
                Mutation::ChangeServiceToken { id: id.clone(), before, after: after.to_text() };
            let (chains, changed) = (chains(token.namespaces()), audit::Outcome::Changed);
            match self.commit_audited_in(&chains, vec![adopt], &kept, changed).await? {
                Outcome::Done => return Ok(ServiceTokenChanged::Done(Some(Box::new(after)))),
                _ => retry.wait().await?,
            }
        }
    }
}

impl NeededGrants {
    fn had(&self, namespace: &GrantNamespace) -> bool {
        let on = namespace.to_string();
        self.before.grants.iter().any(|stored| stored.on == on)
    }

    /// Returns the change of the grants, if there is one.
    fn change(&self, token: &ServiceToken) -> Option<Mutation> {
        if self.changed.is_empty() {
            return None;
        }
        let (grants, forget) = (self.changed.clone(), self.forget.clone());
        let principal: Principal = token.terms().principal();
        Some(mutation(&principal, &self.before, GrantsChange::Give { grants, forget }))
    }
}

/// Returns whether a bearer with `create_grant` on these namespaces may revoke the token: it must have
/// the right on all namespaces of the token.
pub(crate) fn may_revoke(token: &ServiceToken, accesses: &[Access<CreateGrant>]) -> bool {
    match token.namespaces() {
        // Only an operator issues and revokes such a token.
        Namespaces::All => false,
        Namespaces::List(list) => list
            .iter()
            .all(|namespace| accesses.iter().any(|access| access.namespace() == namespace)),
    }
}

/// Returns a new grant that ends with the token.
fn new_grant(token: &ServiceToken, on: &GrantNamespace) -> Grant {
    let terms: &ServiceTokenTerms = token.terms();
    Grant {
        principal: terms.principal(),
        namespace: on.clone(),
        permissions: terms.permissions(),
        expires_at: Some(terms.expires_at()),
        created_by: match token.issuer() {
            TokenIssuer::Operator(operator) => operator.clone(),
            TokenIssuer::Delegate { principal, .. } => principal.to_string(),
        },
        created_at: token.created_at(),
    }
}

/// Returns the chains of events that a change of a token belongs to.
fn chains(namespaces: &Namespaces) -> Vec<Chain> {
    match namespaces {
        Namespaces::All => vec![Chain::Operator],
        Namespaces::List(list) => list.iter().map(Chain::from).collect(),
    }
}

fn readable(record: &ServiceTokenRecord) -> Option<StoredServiceToken> {
    let token = ServiceToken::read(&record.id, &record.text)?;
    Some(StoredServiceToken { token, last_used: record.last_used })
}

fn alarm() {
    tracing::error!(
        alarm = "unreadable_service_token",
        "a service token in the store cannot be read and allows nothing"
    );
}
