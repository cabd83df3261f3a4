//! What a mint and a bearer check read and write: the caller's state, the pin, and the claim of a proof.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Embedded, database_error, grants, keyring_file};
use crate::{Recorded, SingleUseOutcome, StoreError};
use stile_core::grants::{Pin, PrincipalState};
use stile_core::principal::{Principal, UniqueId};
use stile_core::token::{KeyringSummary, TokenId};

/// How much longer than needed claims and revocations are kept, in seconds.
pub(super) const MARGIN: i64 = 24 * 3600;

impl Embedded {
    pub(crate) async fn principal_state(
        &self,
        principals: Vec<Principal>,
    ) -> Result<PrincipalState, StoreError> {
        let keyring = self.keyring_path();
        self.read(move |connection| {
            // One transaction, so that what is read belongs together.
            let snapshot = connection.unchecked_transaction().map_err(database_error)?;
            let mut all = Vec::new();
            let mut revoked = None;
            for principal in &principals {
                all.extend(grants::of(&snapshot, principal)?);
                let found = snapshot
                    .prepare_cached("SELECT 1 FROM revoked_principals WHERE principal = ?1")
                    .and_then(|mut statement| statement.exists([principal.as_str()]))
                    .map_err(database_error)?;
                if found && revoked.is_none() {
                    revoked = Some(principal.clone());
                }
            }
            let pin = match principals.first() {
                None => Pin::Unpinned,
                Some(principal) => pin_of(&snapshot, principal)?,
            };
            let revoked_tokens = snapshot
                .prepare_cached("SELECT jti FROM revoked_tokens")
                .and_then(|mut statement| {
                    statement
                        .query_map([], |row| row.get::<_, String>(0))?
                        .collect::<rusqlite::Result<Vec<_>>>()
                })
                .map_err(database_error)?
                .iter()
                .filter_map(|text| TokenId::parse(text))
                .collect::<HashSet<_>>();
            let keyring = KeyringSummary::from(&keyring_file::read(&keyring)?);
            Ok(PrincipalState { grants: all, pin, revoked, revoked_tokens, keyring })
        })
        .await
    }

    pub(crate) async fn claim(
        &self,
        signature_digest: [u8; 32],
        keep_until: i64,
        pinned: Option<(Principal, UniqueId)>,
        now: i64,
    ) -> Result<SingleUseOutcome, StoreError> {
        self.write(move |transaction| {
            // With a day to spare: a clock that jumps ahead and back must not forget what is still good.
            let long_over = now.saturating_sub(MARGIN);
            transaction
                .execute("DELETE FROM proofs WHERE keep_until < ?1", [long_over])
                .map_err(database_error)?;
            // Nothing about time in the condition: a proof is claimed once, whatever any clock says.
            let claimed = transaction
                .execute(
                    "INSERT OR IGNORE INTO proofs (signature_digest, keep_until) VALUES (?1, ?2)",
                    params![signature_digest, keep_until],
                )
                .map_err(database_error)?;
            if claimed == 0 {
                return Ok(SingleUseOutcome::Replayed);
            }
            match &pinned {
                Some((principal, id)) => keep_pin(transaction, principal, id),
                None => Ok(SingleUseOutcome::Recorded(Recorded(()))),
            }
        })
        .await
    }

    pub(crate) async fn pin(
        &self,
        principal: Principal,
        id: UniqueId,
    ) -> Result<SingleUseOutcome, StoreError> {
        self.write(move |transaction| keep_pin(transaction, &principal, &id)).await
    }
}

/// Pins the id unless something is pinned; what is pinned already decides.
fn keep_pin(
    transaction: &Transaction<'_>,
    principal: &Principal,
    id: &UniqueId,
) -> Result<SingleUseOutcome, StoreError> {
    transaction
        .execute(
            "INSERT OR IGNORE INTO pins (principal, unique_id) VALUES (?1, ?2)",
            params![principal.as_str(), id.as_str()],
        )
        .map_err(database_error)?;
    Ok(match pin_of(transaction, principal)? {
        Pin::Pinned(kept) if kept != *id => SingleUseOutcome::PinnedToAnother,
        _ => SingleUseOutcome::Recorded(Recorded(())),
    })
}

/// The pin of a role or user.
pub(super) fn pin_of(connection: &Connection, principal: &Principal) -> Result<Pin, StoreError> {
    let row = connection
        .query_row("SELECT unique_id FROM pins WHERE principal = ?1", [principal.as_str()], |row| {
            row.get::<_, Option<String>>(0)
        })
        .optional()
        .map_err(database_error)?;
    match row {
        None => Ok(Pin::Unpinned),
        Some(None) => Ok(Pin::Disabled),
        // An id nobody can have is no reason to let everybody in.
        Some(Some(text)) => UniqueId::parse(&text)
            .map(Pin::Pinned)
            .ok_or_else(|| StoreError::corrupt("a pinned unique id in the store cannot be read")),
    }
}
