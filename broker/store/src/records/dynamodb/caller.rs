//! Reads the state of a caller in one batch, for a mint and for the check of a bearer.

use std::collections::HashSet;

use stile_core::grants::{Pin, StateRevisions};
use stile_core::principal::Principal;
use stile_core::token::TokenId;

use super::DynamoDb;
use super::grants::{grants_key, of_principal, pin_key, read_pin, revision_of};
use super::table::Key;
use super::{revocations, single, trusts, usage};
use crate::StoreError;
use crate::records::model::CallerRecords;

impl DynamoDb {
    /// Reads everything that a decision about a caller depends on. The first of the principals is
    /// the caller's own role or user.
    pub(crate) async fn caller(
        &self,
        principals: Vec<Principal>,
    ) -> Result<CallerRecords, StoreError> {
        let pin_key = principals.first().map(pin_key);
        let trust = principals.first().and_then(|principal| match principal {
            Principal::Trust(local) => Some((local.name(), trusts::key(local.name()))),
            _ => None,
        });
        let deprecated_key = principals.first().map(usage::deprecated_key);
        let (revoked_key, keyring_key) = (revocations::key(), single::keyring_key());
        let keys: Vec<Key> = principals
            .iter()
            .map(grants_key)
            .chain(pin_key.clone())
            .chain(trust.iter().map(|(_, key)| key.clone()))
            .chain(deprecated_key.clone())
            .chain([revoked_key.clone(), keyring_key.clone()])
            .collect();
        let found = self.rows(&keys).await?;

        let all = revocations::read(found.get(&revoked_key))?;
        let pin = match principals.first().zip(pin_key) {
            None => Pin::Unpinned,
            Some((principal, key)) => read_pin(principal, found.get(&key))?,
        };
        let is_revoked = |principal: &&Principal| {
            all.principals.iter().any(|(revoked, _)| revoked == principal.as_str())
        };
        let revisions = StateRevisions {
            grants: principals
                .iter()
                .map(|principal| {
                    let row = found.get(&grants_key(principal));
                    (principal.clone(), revision_of(row).0)
                })
                .collect(),
            revocations: all.revision.0,
        };
        let token = |(id, _): &(serde_json::Value, i64)| TokenId::parse(id.as_str()?);
        Ok(CallerRecords {
            grants: principals
                .iter()
                .flat_map(|principal| of_principal(principal, found.get(&grants_key(principal))))
                .collect(),
            pin,
            trust: match &trust {
                None => None,
                Some((name, key)) => trusts::live(name, found.get(key))?,
            },
            revoked: principals.iter().find(is_revoked).cloned(),
            revoked_tokens: all.tokens.iter().filter_map(token).collect::<HashSet<_>>(),
            keyring: single::read_keyring(found.get(&keyring_key))?,
            revisions,
            deprecated_download: deprecated_key
                .and_then(|key| usage::read_deprecated(found.get(&key)?)),
        })
    }
}
