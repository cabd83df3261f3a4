//! Mints a token: authenticate the caller, look up its grants, record the single use, seal.

use secrecy::SecretString;
use stile_protocol::exchange::RequestDocument;
use stile_protocol::region::{Partition, Region};

use super::broker::Broker;
use crate::authn::gateway::GatewayCaller;
use crate::authn::sigv4::proof::{Proof, ProofError};
use crate::authn::sigv4::{AnswerError, FlightRole, Leader, StsError};
use crate::tokens::KeyError;
use stile_core::audit::Event;
use stile_core::grants::{Refusal, entitle};
use stile_core::identity::Authenticated;
use stile_core::token::Claims;
use stile_store::{SingleUseOutcome, StoreError};

/// A new token and what it says.
#[derive(Debug)]
pub struct Minted {
    /// The token.
    pub token: SecretString,
    /// What it says.
    pub claims: Claims,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The proof is not of this time.
    #[error(transparent)]
    Proof(ProofError),
    /// The operator did not enable that region.
    #[error("region `{}` is not enabled here", .0.name)]
    RegionNotEnabled(&'static Region),
    /// AWS has no such region.
    #[error("`region` is not an AWS region")]
    NoRegion,
    /// Too many exchanges run at once.
    #[error("too many exchanges are in the works")]
    Overloaded,
    /// The proof was used before.
    #[error("this proof was used already")]
    Replayed,
    /// STS does not vouch for the proof.
    #[error(transparent)]
    Sts(StsError),
    /// What the gateway says of the caller makes no identity.
    #[error(transparent)]
    Gateway(AnswerError),
    /// The caller may not have such a token.
    #[error(transparent)]
    Refused(Refusal),
    /// The store is down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Mints for the caller who signed the proof. No call leaves the broker before the proof's time and region are checked.
pub async fn by_proof(
    broker: &Broker,
    proof: &Proof,
    event: &mut Event,
) -> Result<Minted, MintError> {
    let now = broker.clock.now();
    proof.check_time(now).map_err(MintError::Proof)?;
    let region = enabled(broker, &proof.unverified_region)?;

    let _permit = broker.limits.exchanges.try_acquire().map_err(|_| MintError::Overloaded)?;
    let FlightRole::Leader(leader) = broker.single_flight.join(proof.digest()).await else {
        return Err(MintError::Replayed);
    };
    let authenticated = broker.sts.identify(proof, region).await.map_err(MintError::Sts)?;
    event.identity(&authenticated.identity);
    // STS vouches for every byte of the document: its digest is under the signature.
    mint(broker, authenticated, &proof.unverified_document, Some(&leader), now, event).await
}

/// Mints for the caller whose signature a gateway verified.
pub async fn by_gateway(
    broker: &Broker,
    caller: &GatewayCaller,
    document: &RequestDocument,
    event: &mut Event,
) -> Result<Minted, MintError> {
    let now = broker.clock.now();
    let _permit = broker.limits.exchanges.try_acquire().map_err(|_| MintError::Overloaded)?;
    let partitions: Vec<Partition> = broker.regions.iter().map(|region| region.partition).collect();
    let authenticated = caller.identify(&partitions).map_err(MintError::Gateway)?;
    event.identity(&authenticated.identity);
    mint(broker, authenticated, document, None, now, event).await
}

/// Mints for a caller who authenticated, whichever way. `leader` guards the proof, where there is one.
async fn mint(
    broker: &Broker,
    authenticated: Authenticated,
    document: &RequestDocument,
    leader: Option<&Leader>,
    now: i64,
    event: &mut Event,
) -> Result<Minted, MintError> {
    let Authenticated { identity, single_use } = authenticated;
    let state = broker.store.principal_state(identity.principals().to_vec()).await?;
    // A key that an operator dropped must not mint what nothing will open.
    broker.tokens.follow(&state.keyring, &broker.store, now).await?;
    let entitlement = entitle(identity, document, &state, now).map_err(MintError::Refused)?;
    let key = broker.tokens.minting_key(&broker.store, now).await?;
    let recorded = match broker.store.record(single_use, entitlement.new_pin(), now).await? {
        SingleUseOutcome::Recorded(recorded) => recorded,
        SingleUseOutcome::Replayed => {
            leader.inspect(|leader| leader.spent());
            return Err(MintError::Replayed);
        }
        SingleUseOutcome::PinnedToAnother => {
            let principal = entitlement.caller().principal().clone();
            return Err(MintError::Refused(Refusal::Recreated { principal }));
        }
    };
    leader.inspect(|leader| leader.spent());
    let (token, claims) = broker.tokens.mint(&key, &entitlement, recorded, now)?;
    event.minted(&claims);
    Ok(Minted { token, claims })
}

/// The region of that name, if the operator enabled it: the name is looked up, and never becomes a host.
fn enabled(broker: &Broker, unverified_region: &str) -> Result<&'static Region, MintError> {
    if let Some(region) = broker.region(unverified_region) {
        return Ok(region);
    }
    Err(Region::named(unverified_region).map_or(MintError::NoRegion, MintError::RegionNotEnabled))
}
