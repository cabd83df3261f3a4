//! The rules of an authentication: the state of a caller, the single use of a proof, and the pin of
//! a unique id.

use stile_core::audit::{self, Chain, Kept};
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
    /// Records that these digests were used, and pins the unique id, if one is given. It does all of
    /// it or nothing: one digest that is known rejects them all.
    pub(crate) async fn record_single_use(
        &self,
        digests: Vec<[u8; 32]>,
        keep_until: i64,
        pin: Option<(Principal, UniqueId)>,
        now: i64,
    ) -> Result<SingleUseOutcome, StoreError> {
        let forget_before = now.saturating_sub(MARGIN);
        let record = |digest| Mutation::RecordSingleUse { digest, keep_until, forget_before };
        let mut mutations: Vec<_> = digests.into_iter().map(record).collect();
        let recorded = mutations.len();
        mutations.extend(pin.map(|(principal, id)| Mutation::PinFirst { principal, id }));
        Ok(match self.commit_with_retries(mutations).await? {
            Outcome::Refused(at) if at < recorded => SingleUseOutcome::Replayed,
            other => pin_outcome(other),
        })
    }

    /// Pins the unique id, unless the principal has a pin. An existing pin decides the result.
    pub(crate) async fn pin_first(
        &self,
        principal: Principal,
        id: UniqueId,
    ) -> Result<SingleUseOutcome, StoreError> {
        Ok(pin_outcome(self.commit_with_retries(vec![Mutation::PinFirst { principal, id }]).await?))
    }

    /// Removes the pin of a role or user. Returns whether there was one.
    pub(crate) async fn unpin(
        &self,
        principal: Principal,
        kept: &Kept,
    ) -> Result<bool, StoreError> {
        let (clear, cleared) = (vec![Mutation::ClearPin { principal }], audit::Outcome::Cleared);
        let done = self.commit_audited(&Chain::Operator, clear, kept, cleared).await?;
        Ok(done == Outcome::Done)
    }
}

fn pin_outcome(outcome: Outcome) -> SingleUseOutcome {
    match outcome {
        Outcome::Done => SingleUseOutcome::Recorded(Recorded(())),
        Outcome::Refused(_) | Outcome::Conflict | Outcome::TooLarge => {
            SingleUseOutcome::PinnedToAnother
        }
    }
}

/// Combines the records and the keyring into the state that decisions use.
pub(crate) fn principal_state(caller: CallerRecords, keyring: KeyringSummary) -> PrincipalState {
    PrincipalState {
        grants: understood(caller.grants),
        pin: caller.pin,
        trust: caller.trust,
        revoked: caller.revoked,
        revoked_tokens: caller.revoked_tokens,
        keyring,
        revisions: caller.revisions,
    }
}
