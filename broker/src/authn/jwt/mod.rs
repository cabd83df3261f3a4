//! Authenticates the holder of a JWT that a trust believes.
//!
//! `unverified` parses it. `judge` finds the trust that would believe it, without a call.
//! `issuer_keys` and `issuer_client` get the keys of its issuer, `unlisted_issuers` those of an account
//! in an organization, and `key_set` verifies it with them.

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod issuer_client;
mod issuer_keys;
mod judge;
mod key_set;
mod unlisted_issuers;
mod unverified;

use std::sync::Arc;

use quick_cache::sync::Cache;
use stile_core::identity::{Authenticated, Identity, SingleUse};
use stile_core::principal::UniqueId;
use stile_core::trust::{AwsAccounts, AwsCaller, MAX_TRUSTS, Trust, TrustStamp};

pub use issuer_client::{IssuerClient, IssuerError};
pub use judge::{Expected, JwtRefusal, find_trust, is_registry};
pub use unverified::{MAX_JWT, MalformedJwt, UnverifiedJwt};

use issuer_keys::IssuerKeys;
use key_set::KeySet;
use unlisted_issuers::UnlistedIssuers;

/// The reason why the broker does not verify a JWT.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// The broker does not believe it.
    #[error(transparent)]
    Refused(#[from] JwtRefusal),
    /// The broker cannot get the keys of its issuer.
    #[error("the broker cannot read the keys of the issuer of the JWT")]
    Issuer(#[from] IssuerError),
    /// A copy of the request was in progress, and failed. The JWT is not used.
    #[error("a copy of this request was in progress, and failed")]
    CopyFailed,
    /// The keys in the trust are not usable.
    #[error("the keys in the trust are not usable")]
    KeysOfTrust,
}

/// Verifies JWTs with the keys of their issuers.
#[derive(Debug)]
pub struct Jwts {
    issuers: IssuerKeys,
    unlisted: UnlistedIssuers,
    /// The keys of trusts that have some of their own, by id and revision. Garbage costs no parsing.
    of_trusts: Cache<(UniqueId, i64), Arc<KeySet>>,
}

impl Jwts {
    /// Creates a verifier without any keys.
    pub fn new(client: IssuerClient) -> Self {
        let unlisted = UnlistedIssuers::new(client.clone());
        let of_trusts = Cache::new(MAX_TRUSTS);
        Self { issuers: IssuerKeys::new(client, MAX_TRUSTS), unlisted, of_trusts }
    }

    /// Returns the keys of a trust, which parses them once.
    fn keys_of(&self, trust: &Trust, text: &str) -> Result<Arc<KeySet>, JwtError> {
        let parse = || KeySet::parse(text.as_bytes()).map(Arc::new);
        let keys = self.of_trusts.get_or_insert_with(&(trust.id.clone(), trust.revision), parse);
        keys.map_err(|_| JwtError::KeysOfTrust)
    }

    /// Verifies the signature of a JWT that the trust believes, if its issuer signed it.
    ///
    /// `trust` must come from [`find_trust`].
    pub async fn verify(
        &self,
        jwt: &UnverifiedJwt,
        trust: &Trust,
        now: i64,
    ) -> Result<Authenticated, JwtError> {
        let key_id = &jwt.unverified_key_id;
        let keys = match &trust.keys {
            Some(text) => Some(self.keys_of(trust, text)?).filter(|keys| keys.has(key_id)),
            None if is_in_organization(trust) => {
                self.unlisted.with_id(&jwt.unverified_issuer, key_id, now).await?
            }
            None => self.issuers.with_id(&trust.issuer, key_id, now, || Ok(())).await?,
        };
        let keys = keys.ok_or(JwtRefusal::UnknownKey)?;
        if !keys.verify(jwt) {
            return Err(JwtRefusal::BadSignature.into());
        }
        // The issuer vouches for every claim from here on.
        let subject = &jwt.unverified_subject;
        let identity = match (&trust.aws, TrustStamp::of(trust)) {
            (Some(aws), Some(stamp)) => {
                let caller = AwsCaller::read(&aws.of, &jwt.unverified_claims)
                    .map_err(JwtRefusal::NoCallerOfAws)?;
                if is_in_organization(trust) {
                    self.unlisted.prove(&jwt.unverified_issuer);
                }
                Identity::from_aws(stamp, caller, subject)
            }
            _ => Identity::from_trust(trust, subject),
        };
        let single_use = SingleUse::Record {
            digest: jwt.signed_digest(),
            named: jwt.id_digest(),
            keep_until: judge::last_use(jwt),
        };
        Ok(Authenticated { identity, single_use })
    }
}

/// Returns whether each account of the trust has an issuer of its own, which no operator listed.
fn is_in_organization(trust: &Trust) -> bool {
    let of = trust.aws.as_ref().map(|aws| &aws.of);
    matches!(of, Some(AwsAccounts::Organization(..)))
}
