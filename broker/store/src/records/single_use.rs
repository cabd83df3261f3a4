//! The rules of an authentication: what a caller is, that it is used once, and that its unique id is pinned.

use stile_core::grants::PrincipalState;
use stile_core::principal::{Principal, UniqueId};
use stile_core::token::KeyringSummary;

use super::Records;
use super::grants::understood;
use super::model::CallerRecords;
use super::mutation::{Mutation, Outcome};
use super::retention::MARGIN;
use crate::{Recorded, SingleUseOutcome, StoreError};

impl Records {
    /// Records that a digest was used, and pins the unique id where one is given: both or neither.
    pub(crate) async fn record_single_use(
        &self,
        digest: [u8; 32],
        keep_until: i64,
        pin: Option<(Principal, UniqueId)>,
        now: i64,
    ) -> Result<SingleUseOutcome, StoreError> {
        let forget_before = now.saturating_sub(MARGIN);
        let mut mutations = vec![Mutation::RecordSingleUse { digest, keep_until, forget_before }];
        mutations.extend(pin.map(|(principal, id)| Mutation::PinFirst { principal, id }));
        Ok(match self.settle(mutations).await? {
            Outcome::Refused(0) => SingleUseOutcome::Replayed,
            other => pinned(other),
        })
    }

    /// Pins the unique id, unless something is pinned; what is pinned already decides.
    pub(crate) async fn pin_first(
        &self,
        principal: Principal,
        id: UniqueId,
    ) -> Result<SingleUseOutcome, StoreError> {
        Ok(pinned(self.settle(vec![Mutation::PinFirst { principal, id }]).await?))
    }

    /// Removes the pin of a role or user; false where nothing was pinned.
    pub(crate) async fn unpin(&self, principal: Principal) -> Result<bool, StoreError> {
        Ok(self.settle(vec![Mutation::ClearPin { principal }]).await? == Outcome::Done)
    }
}

fn pinned(outcome: Outcome) -> SingleUseOutcome {
    match outcome {
        Outcome::Done => SingleUseOutcome::Recorded(Recorded(())),
        Outcome::Refused(_) | Outcome::Conflict | Outcome::TooLarge => {
            SingleUseOutcome::PinnedToAnother
        }
    }
}

/// What a decision is made from, as the records and the keys say it.
pub(crate) fn principal_state(caller: CallerRecords, keyring: KeyringSummary) -> PrincipalState {
    PrincipalState {
        grants: understood(caller.grants),
        pin: caller.pin,
        revoked: caller.revoked,
        revoked_tokens: caller.revoked_tokens,
        keyring,
    }
}
