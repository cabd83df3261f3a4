//! Service tokens: operators and bearers issue and revoke them, and brokers look them up.

use stile_core::audit::Kept;
use stile_core::grants::{
    Access, CreateGrant, DelegatedAccess, OperatorAccess, PermittedNamespaces,
};
use stile_core::service_token::{NewSecret, ServiceToken, ServiceTokenTerms, TokenIssuer};
use stile_core::token::TokenId;
use stile_protocol::exchange::Namespaces;

use super::Store;
use crate::records::service_tokens::{Replaced, may_revoke};
use crate::{
    ListedServiceTokens, ServiceTokenChanged, ServiceTokenIssued, StoreError, StoredServiceToken,
};

impl Store {
    /// Returns the service token of an id, and the day of its last use, in one read. `None` if there is
    /// none, or if it cannot be read.
    pub async fn service_token(
        &self,
        id: &TokenId,
    ) -> Result<Option<StoredServiceToken>, StoreError> {
        self.records.service_token(id).await
    }

    /// Records the day of a token's last use, in days since 1970.
    pub async fn record_service_token_use(
        &self,
        token: &ServiceToken,
        day: i64,
    ) -> Result<(), StoreError> {
        self.records.record_service_token_use(token.id(), day).await
    }

    /// Returns all service tokens.
    pub async fn service_tokens(
        &self,
        _: &OperatorAccess,
    ) -> Result<ListedServiceTokens, StoreError> {
        self.records.listed_service_tokens().await
    }

    /// Returns the service tokens that are for no namespace outside of these, which are those in which
    /// the bearer may create grants.
    pub async fn visible_service_tokens(
        &self,
        of: &PermittedNamespaces,
    ) -> Result<Vec<StoredServiceToken>, StoreError> {
        let mut tokens = self.records.listed_service_tokens().await?.tokens;
        tokens.retain(|stored| match stored.token.namespaces() {
            Namespaces::All => *of == PermittedNamespaces::All,
            Namespaces::List(list) => list.iter().all(|namespace| of.permits(namespace)),
        });
        Ok(tokens)
    }

    /// Issues a service token, and makes or widens the grants that it needs, in one commit.
    pub async fn issue_service_token(
        &self,
        operator: &OperatorAccess,
        secret: &NewSecret,
        terms: ServiceTokenTerms,
        kept: &Kept,
    ) -> Result<ServiceTokenIssued, StoreError> {
        let issuer = TokenIssuer::Operator(operator.operator().to_owned());
        let token = ServiceToken::new(secret, terms, issuer, kept.at());
        let kept = kept.with(|event| event.service_token(&token));
        self.records.issue_service_token(token, None, &kept).await
    }

    /// Issues a token in place of another one, which then ends at `ends_at`, in one commit.
    pub async fn rotate_service_token(
        &self,
        _: &OperatorAccess,
        (replaced, ends_at): (&ServiceToken, i64),
        secret: &NewSecret,
        terms: ServiceTokenTerms,
        kept: &Kept,
    ) -> Result<ServiceTokenIssued, StoreError> {
        // The new token depends on the same rights, until an operator adopts it.
        let token = ServiceToken::new(secret, terms, replaced.issuer().clone(), kept.at());
        let kept = kept.with(|event| event.service_token(&token));
        let replaced = Replaced { token: replaced, ends_at };
        self.records.issue_service_token(token, Some(replaced), &kept).await
    }

    /// Issues a service token within the rights of a bearer, which has an access for each of its
    /// namespaces. The commit has the condition that these rights have not changed.
    pub async fn issue_delegated_service_token(
        &self,
        accesses: &[DelegatedAccess],
        issuer: TokenIssuer,
        secret: &NewSecret,
        terms: ServiceTokenTerms,
        kept: &Kept,
    ) -> Result<ServiceTokenIssued, StoreError> {
        let token = ServiceToken::new(secret, terms, issuer, kept.at());
        let kept = kept.with(|event| event.service_token(&token));
        self.records.issue_delegated_service_token(token, accesses, &kept).await
    }

    /// Revokes a service token. It takes effect within ten seconds in every process.
    pub async fn revoke_service_token(
        &self,
        _: &OperatorAccess,
        id: &TokenId,
        kept: &Kept,
    ) -> Result<ServiceTokenChanged, StoreError> {
        self.records.revoke_service_token(id, kept).await
    }

    /// Revokes a service token, if the bearer may create grants on all of its namespaces. To everyone
    /// else, it does not exist.
    pub async fn revoke_delegated_service_token(
        &self,
        accesses: &[Access<CreateGrant>],
        id: &TokenId,
        kept: &Kept,
    ) -> Result<ServiceTokenChanged, StoreError> {
        match self.records.service_token(id).await? {
            Some(stored) if may_revoke(&stored.token, accesses) => {
                self.records.revoke_service_token(id, kept).await
            }
            _ => Ok(ServiceTokenChanged::Absent),
        }
    }

    /// Makes the operator the issuer of a token, so that it depends on nobody's rights.
    pub async fn adopt_service_token(
        &self,
        operator: &OperatorAccess,
        id: &TokenId,
        kept: &Kept,
    ) -> Result<ServiceTokenChanged, StoreError> {
        self.records.adopt_service_token(id, operator.operator(), kept).await
    }
}
