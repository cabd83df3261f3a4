//! What a mint and a bearer check read and write: the caller's state in one batch, the claim and the pin in one write.

use std::collections::HashSet;

use super::Aws;
use super::grants::{NEVER, grants_key, of, pin_key};
use super::keyring;
use super::retry::Retry;
use super::revocations;
use super::table::{Key, Row, TTL, Write, Written, number, read_text, text};
use crate::{Recorded, SingleUseOutcome, StoreError};
use stile_core::grants::{Pin, PrincipalState};
use stile_core::principal::{Principal, UniqueId};

/// How much longer than needed claims and revocations are kept, in seconds: a clock that jumps ahead and back must not
/// forget what is still good.
pub(super) const MARGIN: i64 = 24 * 3600;

impl Aws {
    pub(crate) async fn principal_state(
        &self,
        principals: Vec<Principal>,
    ) -> Result<PrincipalState, StoreError> {
        let pin_key = principals.first().map(pin_key);
        let (revoked_key, keyring_key) = (revocations::key(), keyring::key());
        let keys: Vec<Key> = principals
            .iter()
            .map(grants_key)
            .chain(pin_key.clone())
            .chain([revoked_key.clone(), keyring_key.clone()])
            .collect();
        let found = self.rows(&keys).await?;

        let revoked = revocations::read(found.get(&revoked_key))?;
        Ok(PrincipalState {
            grants: principals
                .iter()
                .flat_map(|principal| of(principal, found.get(&grants_key(principal))))
                .collect(),
            pin: pin_key.map_or(Ok(Pin::Unpinned), |key| pin(found.get(&key)))?,
            revoked: principals.iter().find(|principal| revoked.has_principal(principal)).cloned(),
            revoked_tokens: revoked.tokens().map(|token| token.id).collect::<HashSet<_>>(),
            keyring: keyring::listed(found.get(&keyring_key))?,
        })
    }

    pub(crate) async fn claim(
        &self,
        signature_digest: [u8; 32],
        keep_until: i64,
        pinned: Option<(Principal, UniqueId)>,
    ) -> Result<SingleUseOutcome, StoreError> {
        let mut retry = Retry::default();
        loop {
            let proof = Key::new(format!("proof {}", hex::encode(signature_digest)), "claim");
            // Nothing about time in the condition: a proof is claimed once, whatever any clock says and whether or not
            // the table has cleared it away, which it does when AWS itself has long refused the signature.
            let mut writes = vec![
                Write::put(proof, [(TTL, number(keep_until.saturating_add(MARGIN)))])
                    .only_if_absent(),
            ];
            writes.extend(pinned.as_ref().map(|(principal, id)| keep_pin(principal, id)));
            match self.transact(writes).await? {
                Written::Done => return Ok(SingleUseOutcome::Recorded(Recorded(()))),
                Written::Refused(0) => return Ok(SingleUseOutcome::Replayed),
                Written::Refused(_) => return Ok(SingleUseOutcome::PinnedToAnother),
                Written::Conflict => retry.again().await?,
            }
        }
    }

    pub(crate) async fn pin(
        &self,
        principal: Principal,
        id: UniqueId,
    ) -> Result<SingleUseOutcome, StoreError> {
        let mut retry = Retry::default();
        loop {
            match self.transact(vec![keep_pin(&principal, &id)]).await? {
                Written::Done => return Ok(SingleUseOutcome::Recorded(Recorded(()))),
                Written::Refused(_) => return Ok(SingleUseOutcome::PinnedToAnother),
                Written::Conflict => retry.again().await?,
            }
        }
    }

    pub(crate) async fn unpin(&self, principal: Principal) -> Result<bool, StoreError> {
        let mut retry = Retry::default();
        loop {
            match self
                .transact(vec![Write::delete(pin_key(&principal)).only_if("attribute_exists(pk)")])
                .await?
            {
                Written::Done => return Ok(true),
                Written::Refused(_) => return Ok(false),
                Written::Conflict => retry.again().await?,
            }
        }
    }
}

/// Pins the id unless something is pinned; what is pinned already decides.
fn keep_pin(principal: &Principal, id: &UniqueId) -> Write {
    let pin = Write::update(pin_key(principal), "SET pin = if_not_exists(pin, :id)");
    let pin = pin.only_if("attribute_not_exists(pin) OR pin = :id OR pin = :never");
    pin.value(":id", text(id.as_str())).value(":never", text(NEVER))
}

/// What a pin's row says.
pub(super) fn pin(row: Option<&Row>) -> Result<Pin, StoreError> {
    let Some(row) = row else { return Ok(Pin::Unpinned) };
    // An id nobody can have is no reason to let everybody in.
    match read_text(row, "pin") {
        Some(NEVER) => Ok(Pin::Disabled),
        other => other
            .and_then(UniqueId::parse)
            .map(Pin::Pinned)
            .ok_or_else(|| StoreError::corrupt("a pinned unique id in the store cannot be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_that_cannot_be_read_is_no_open_one() {
        let row = |value: &str| -> Row { [("pin".to_owned(), text(value))].into() };
        assert_eq!(pin(None).unwrap(), Pin::Unpinned);
        assert_eq!(pin(Some(&row("never"))).unwrap(), Pin::Disabled);
        assert!(matches!(pin(Some(&row("AROAEXAMPLEEXAMPLE222"))), Ok(Pin::Pinned(_))));
        for bad in ["", "NEVER", "x", "arn:aws:iam::111122223333:role/deploy"] {
            assert!(pin(Some(&row(bad))).is_err(), "{bad}");
        }
        assert!(pin(Some(&Row::new())).is_err());
    }
}
