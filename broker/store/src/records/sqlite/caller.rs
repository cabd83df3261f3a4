//! Reads the state of a caller in one snapshot, for a mint and for the check of a bearer.

use std::collections::HashSet;

use rusqlite::Connection;
use stile_core::grants::Pin;
use stile_core::principal::Principal;
use stile_core::token::TokenId;

use super::{Sqlite, database_error, grants, rows, single, text, usage};
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
            for principal in &principals {
                all.extend(grants::of_principal(&snapshot, principal)?);
                if revoked.is_none() && is_revoked(&snapshot, principal)? {
                    revoked = Some(principal.clone());
                }
            }
            let pin = match principals.first() {
                None => Pin::Unpinned,
                Some(principal) => grants::pin_of(&snapshot, principal)?,
            };
            let tokens = rows(&snapshot, "SELECT jti FROM revoked_tokens", [])?;
            let revoked_tokens: HashSet<TokenId> =
                tokens.iter().filter_map(|row| TokenId::parse(text(row.first())?)).collect();
            let keyring = single::keyring(&snapshot)?;
            let deprecated_download = match principals.first() {
                None => None,
                Some(principal) => usage::deprecated_download(&snapshot, principal)?,
            };
            Ok(CallerRecords {
                grants: all,
                pin,
                revoked,
                revoked_tokens,
                keyring,
                deprecated_download,
            })
        })
        .await
    }
}

fn is_revoked(connection: &Connection, principal: &Principal) -> Result<bool, StoreError> {
    connection
        .prepare_cached("SELECT 1 FROM revoked_principals WHERE principal = ?1")
        .and_then(|mut statement| statement.exists([principal.as_str()]))
        .map_err(database_error)
}
