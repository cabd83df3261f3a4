//! Mints a token: authenticates the caller, reads its grants, records the single use, and seals.

use secrecy::SecretString;
use stile_protocol::exchange::RequestDocument;
use stile_protocol::region::{Partition, Region};
use stile_protocol::request_id::RequestId;

use super::broker::Broker;
use super::notices::notices;
use super::refused_exchanges::{self, RefusedRequest};
use crate::authn::gateway::GatewayCaller;
use crate::authn::jwt::{Expected, JwtError, JwtRefusal, UnverifiedJwt, find_trust};
use crate::authn::sigv4::proof::{Proof, ProofError};
use crate::authn::sigv4::{AnswerError, FlightRole, Leader, SourceNetwork, StsError};
use crate::tokens::KeyError;
use stile_core::audit::Event;
use stile_core::grants::{Refusal, entitle};
use stile_core::identity::{Authenticated, Identity};
use stile_core::principal::{LocalName, Principal};
use stile_core::token::{Claims, MAX_GROUPS};
use stile_store::{SingleUseOutcome, StoreError};

/// A new token and its claims.
#[derive(Debug)]
pub struct Minted {
    /// The token.
    pub token: SecretString,
    /// The claims.
    pub claims: Claims,
    /// What the caller should know, one sentence each.
    pub notices: Vec<String>,
}

/// The reason why the broker mints no token.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The proof is too old, or from the future.
    #[error(transparent)]
    Proof(ProofError),
    /// The operator did not enable the region.
    #[error("region `{}` is not enabled in this registry", .0.name)]
    RegionNotEnabled(&'static Region),
    /// AWS does not have the region.
    #[error("`region` is not an AWS region")]
    NoRegion,
    /// Too many exchanges are in progress.
    #[error("too many exchanges are in progress")]
    Overloaded,
    /// The proof was already used.
    #[error("this proof was already used")]
    Replayed,
    /// STS does not vouch for the proof.
    #[error(transparent)]
    Sts(StsError),
    /// The caller identity from the gateway is not valid.
    #[error(transparent)]
    Gateway(AnswerError),
    /// The broker does not believe the JWT, or cannot verify it.
    #[error(transparent)]
    Jwt(JwtError),
    /// The caller may not have a token of this scope.
    #[error(transparent)]
    Refused(Refusal),
    /// The store is down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker has no key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Mints a token for the caller that signed the proof.
///
/// The broker checks the time and the region of the proof before it calls any service.
pub async fn by_proof(
    broker: &Broker,
    proof: &Proof,
    source: Option<SourceNetwork>,
    request_id: &RequestId,
    event: &mut Event,
) -> Result<Minted, MintError> {
    let now = broker.clock.now();
    proof.check_time(now).map_err(MintError::Proof)?;
    proof.check_signed_from(broker.store.proofs_from()).map_err(MintError::Proof)?;
    let region = enabled(broker, &proof.unverified_region)?;
    event.region(region);

    let _permit = broker.limits.exchanges.try_acquire().map_err(|_| MintError::Overloaded)?;
    let FlightRole::Leader(leader) = broker.single_flight.join(proof.digest()).await else {
        return Err(MintError::Replayed);
    };
    let authenticated = broker.sts.identify(proof, region, source).await.map_err(MintError::Sts)?;
    event.identity(&authenticated.identity);
    // STS vouches for the document, because the signature covers its digest.
    let document = &proof.unverified_document;
    let request = RefusedRequest { request_id, region: Some(region.name), document };
    let minted = mint(broker, authenticated, request, Some(&leader), now, event).await?;
    broker.sts.minted(proof);
    Ok(minted)
}

/// Mints a token for the caller whose signature a gateway verified.
pub async fn by_gateway(
    broker: &Broker,
    caller: &GatewayCaller,
    document: &RequestDocument,
    request_id: &RequestId,
    event: &mut Event,
) -> Result<Minted, MintError> {
    let now = broker.clock.now();
    let _permit = broker.limits.exchanges.try_acquire().map_err(|_| MintError::Overloaded)?;
    let partitions: Vec<Partition> = broker.regions.iter().map(|region| region.partition).collect();
    let authenticated = caller.identify(&partitions).map_err(MintError::Gateway)?;
    event.identity(&authenticated.identity);
    let request = RefusedRequest { request_id, region: None, document };
    mint(broker, authenticated, request, None, now, event).await
}

/// A request for a token with a JWT.
#[derive(Debug)]
pub struct JwtRequest {
    /// The JWT.
    pub jwt: UnverifiedJwt,
    /// The trust that the caller chooses, if any.
    pub trust: Option<LocalName>,
    /// The requested token. No signature covers it.
    pub document: RequestDocument,
    /// The digest of the whole request, which only copies of it share.
    pub digest: [u8; 32],
}

/// Mints a token for the holder of a JWT that a trust believes.
///
/// The broker checks everything that needs no key before it calls the issuer.
pub async fn by_jwt(
    broker: &Broker,
    request: &JwtRequest,
    request_id: &RequestId,
    event: &mut Event,
) -> Result<Minted, MintError> {
    let now = broker.clock.now();
    let JwtRequest { jwt, trust, document, digest } = request;
    let refused = |refusal: JwtRefusal| MintError::Jwt(refusal.into());
    let trusts = broker.trust_cache.recent(&broker.store, now).await?;
    let expected = Expected {
        host: &broker.audience,
        chosen: trust.as_ref(),
        issued_from: broker.store.proofs_from(),
        now,
    };
    let trust = find_trust(&trusts, jwt, expected).map_err(refused)?;

    // A copy holds no permit while it waits, because all copies together cost one permit.
    let mut leader = match broker.single_flight.join(*digest).await {
        FlightRole::Leader(leader) => leader,
        FlightRole::Replay => return Err(refused(JwtRefusal::Replayed)),
        // The JWT is not used, and the caller can send it again.
        FlightRole::Unused => return Err(MintError::Jwt(JwtError::CopyFailed)),
    };
    let _permit = broker.limits.jwt_exchanges.try_acquire().map_err(|_| MintError::Overloaded)?;
    let authenticated = broker.jwts.verify(jwt, trust, now).await.map_err(MintError::Jwt)?;
    event.identity(&authenticated.identity);
    // The holder of a used JWT can write any number of other requests with it. They cost no call.
    let digests = authenticated.single_use.digests();
    let is_spent = digests.iter().any(|digest| broker.single_flight.is_spent(digest));
    leader.also(digests);
    if is_spent {
        leader.spent();
        return Err(refused(JwtRefusal::Replayed));
    }
    let request = RefusedRequest { request_id, region: None, document };
    let minted = mint(broker, authenticated, request, Some(&leader), now, event).await;
    minted.map_err(|error| match error {
        MintError::Replayed => refused(JwtRefusal::Replayed),
        MintError::Refused(refusal) => {
            // Otherwise every JWT of the trust would fail until the process reads the trusts again.
            if is_of_changed_trust(&refusal) {
                broker.trust_cache.expire(now);
            }
            MintError::Refused(refusal)
        }
        other => other,
    })
}

/// Returns whether the trust is not the one whose keys verified the JWT.
const fn is_of_changed_trust(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::TrustChanged { .. } => true,
        Refusal::Recreated { principal } => matches!(principal, Principal::Trust(_)),
        _ => false,
    }
}

/// Mints a token for an authenticated caller. `leader` guards the proof, if the caller sent one.
///
/// A refusal leaves a record, so that an operator can explain it by the id of the request.
async fn mint(
    broker: &Broker,
    authenticated: Authenticated,
    request: RefusedRequest<'_>,
    leader: Option<&Leader>,
    now: i64,
    event: &mut Event,
) -> Result<Minted, MintError> {
    let Authenticated { identity, single_use } = authenticated;
    let identity = with_groups(broker, identity).await?;
    let (state, fetched) = broker.store.principal_at_mint(identity.principals().to_vec()).await?;
    broker.metrics.revocations_read(now);
    // A key that an operator removed must not mint: no broker could open the token.
    broker.tokens.follow(&state.keyring, &broker.store, now).await?;
    let caller = identity.clone();
    let entitlement = match entitle(identity, request.document, &state, now) {
        Ok(entitlement) => entitlement,
        Err(refusal) => {
            refused_exchanges::keep(broker, request, &caller, &state, &refusal, now).await;
            return Err(MintError::Refused(refusal));
        }
    };
    let key = broker.tokens.minting_key(&broker.store, now).await?;
    let recorded = match broker.store.record(single_use, entitlement.new_pin(), now).await? {
        SingleUseOutcome::Recorded(recorded) => recorded,
        SingleUseOutcome::Replayed => {
            leader.inspect(|leader| leader.spent());
            return Err(MintError::Replayed);
        }
        SingleUseOutcome::PinnedToAnother => {
            let refusal = Refusal::Recreated { principal: caller.principal().clone() };
            refused_exchanges::keep(broker, request, &caller, &state, &refusal, now).await;
            return Err(MintError::Refused(refusal));
        }
    };
    leader.inspect(|leader| leader.spent());
    let (token, claims) = broker.tokens.mint(&key, &entitlement, recorded, now)?;
    event.minted(&claims);
    let notices = notices(broker, &claims, &entitlement, &state, fetched, now).await;
    Ok(Minted { token, claims, notices })
}

/// Adds the groups of a caller with a JWT of AWS that have grants or are revoked. For any other caller
/// it reads nothing.
async fn with_groups(broker: &Broker, identity: Identity) -> Result<Identity, StoreError> {
    let Some(caller) = identity.aws() else { return Ok(identity) };
    let known = broker.store.aws_groups(&caller.group_starts()).await?;
    Ok(identity.in_groups(&known, MAX_GROUPS))
}

/// Returns the enabled region of this name.
///
/// The broker looks the name up in its table, and never builds a host from it.
fn enabled(broker: &Broker, unverified_region: &str) -> Result<&'static Region, MintError> {
    if let Some(region) = broker.region(unverified_region) {
        return Ok(region);
    }
    Err(Region::named(unverified_region).map_or(MintError::NoRegion, MintError::RegionNotEnabled))
}
