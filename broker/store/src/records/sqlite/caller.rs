//! Reads the state of a caller in one snapshot, for a mint and for the check of a bearer.

use std::collections::HashSet;

use stile_core::grants::{Pin, StateRevisions};
use stile_core::principal::Principal;
use stile_core::token::TokenId;

use super::{Sqlite, database_error, grants, revocations, single, trusts, usage};
use crate::StoreError;
use crate::records::model::CallerRecords;

impl Sqlite {
    /// Reads everything that a decision about a caller depends on. The first of the principals is
    /// the caller's own role or user.
    pub(crate) async fn caller(
        &self,
        principals: Vec<Principal>,
    ) -> Result<CallerRecords, StoreError> {
        self.read(move |connection| {
            // One transaction, so that all rows are of the same moment.
            let snapshot = connection.unchecked_transaction().map_err(database_error)?;
            let mut all = Vec::new();
            let mut revoked = None;
            let revocations = revocations::all(&snapshot)?;
            let is_revoked = |principal: &Principal| {
                revocations.principals.iter().any(|(revoked, _)| revoked == principal.as_str())
            };
            let mut revisions =
                StateRevisions { grants: Vec::new(), revocations: revocations.revision.0 };
            for principal in &principals {
                let (of_principal, revision) = grants::of_principal(&snapshot, principal)?;
                all.extend(of_principal);
                revisions.grants.push((principal.clone(), revision.0));
                if revoked.is_none() && is_revoked(principal) {
                    revoked = Some(principal.clone());
                }
            }
            let pin = match principals.first() {
                None => Pin::Unpinned,
                Some(principal) => grants::pin_of(&snapshot, principal)?,
            };
            let trust = match principals.first() {
                Some(Principal::Trust(local)) => trusts::live(&snapshot, local.name())?,
                _ => None,
            };
            let revoked_tokens: HashSet<TokenId> = revocations
                .tokens
                .iter()
                .filter_map(|(id, _)| TokenId::parse(id.as_str()?))
                .collect();
            let keyring = single::keyring(&snapshot)?;
            let deprecated_download = match principals.first() {
                None => None,
                Some(principal) => usage::deprecated_download(&snapshot, principal)?,
            };
            Ok(CallerRecords {
                grants: all,
                pin,
                trust,
                revoked,
                revoked_tokens,
                keyring,
                revisions,
                deprecated_download,
            })
        })
        .await
    }
}
