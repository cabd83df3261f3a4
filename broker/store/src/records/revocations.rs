//! The rules of revocations: how they are added and lifted, and when the store deletes them.

use serde_json::Value;
use stile_core::audit::{self, Kept};
use stile_core::principal::Principal;
use stile_core::token::TokenId;

use super::Records;
use super::model::RevocationRecords;
use super::mutation::{Mutation, Outcome};
use super::retention::{MARGIN, REVOKED_TOKEN_RETENTION};
use crate::retry::Retry;
use crate::{Revocations, RevokedPrincipal, RevokedToken, StoreError};

impl Records {
    /// Revokes one token, for as long as any token can live.
    pub(crate) async fn revoke_token(&self, id: TokenId, kept: &Kept) -> Result<(), StoreError> {
        let now = kept.at();
        self.change_revocations(kept, audit::Outcome::Revoked, |all| {
            all.tokens.retain(|(token, keep_until)| {
                *keep_until >= now.saturating_sub(MARGIN) && token != id.as_str()
            });
            all.tokens.push((id.as_str().into(), now.saturating_add(REVOKED_TOKEN_RETENTION)));
            true
        })
        .await
        .map(drop)
    }

    /// Revokes a principal until an operator lifts the revocation. Returns false if it was revoked
    /// already.
    pub(crate) async fn revoke_principal(
        &self,
        principal: Principal,
        kept: &Kept,
    ) -> Result<bool, StoreError> {
        self.change_revocations(kept, audit::Outcome::Revoked, |all| {
            if all.principals.iter().any(|(revoked, _)| revoked == principal.as_str()) {
                return false;
            }
            all.principals.push((principal.as_str().into(), kept.at()));
            true
        })
        .await
    }

    /// Lifts the revocation of a principal. Returns whether there was one.
    pub(crate) async fn lift(&self, principal: Principal, kept: &Kept) -> Result<bool, StoreError> {
        self.change_revocations(kept, audit::Outcome::Lifted, |all| {
            let before = all.principals.len();
            all.principals.retain(|(revoked, _)| revoked != principal.as_str());
            all.principals.len() < before
        })
        .await
    }

    /// Returns all revoked tokens and principals.
    pub(crate) async fn revocations(&self) -> Result<Revocations, StoreError> {
        let all = self.revocation_records().await?;
        let mut tokens = readable(&all.tokens, |id, keep_until| {
            Some(RevokedToken { id: TokenId::parse(id)?, keep_until })
        });
        let mut principals = readable(&all.principals, |principal, revoked_at| {
            let principal = Principal::parse_stored(principal).ok()?;
            Some(RevokedPrincipal { principal, revoked_at })
        });
        tokens.sort_by(|one, other| {
            (one.keep_until, one.id.as_str()).cmp(&(other.keep_until, other.id.as_str()))
        });
        principals.sort_by(|one, other| one.principal.cmp(&other.principal));
        Ok(Revocations { tokens, principals })
    }

    /// Applies `change` to the revocations, unless it returns false. Returns whether it changed
    /// them. A damaged chain of events does not stop it.
    async fn change_revocations(
        &self,
        kept: &Kept,
        outcome: audit::Outcome,
        mut change: impl FnMut(&mut RevocationRecords) -> bool,
    ) -> Result<bool, StoreError> {
        let mut retry = Retry::default();
        loop {
            let before = self.revocation_records().await?;
            let mut after = before.clone();
            if !change(&mut after) {
                return Ok(false);
            }
            let change = vec![Mutation::ChangeRevocations { before, after }];
            match self.commit_revocation(change, kept, outcome).await? {
                Outcome::Done => return Ok(true),
                Outcome::TooLarge => {
                    return Err(StoreError::busy(
                        "the token revocation list is full; hint: revoke the principal, or every token with `--all`",
                    ));
                }
                Outcome::Refused(_) | Outcome::Conflict => retry.wait().await?,
            }
        }
    }
}

/// Returns the entries that can be read. Another entry, for example one written by hand, revokes
/// nothing and does not affect the others.
fn readable<T>(entries: &[(Value, i64)], read: impl Fn(&str, i64) -> Option<T>) -> Vec<T> {
    let found: Vec<T> = entries.iter().filter_map(|(name, at)| read(name.as_str()?, *at)).collect();
    if found.len() < entries.len() {
        tracing::error!(
            alarm = "unreadable_revocation",
            "a revocation in the store cannot be read and revokes nothing"
        );
    }
    found
}
