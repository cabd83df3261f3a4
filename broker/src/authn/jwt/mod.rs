//! Authenticates the holder of a JWT that a trust believes.
//!
//! `unverified` parses it. `judge` finds the trust that would believe it, without a call.
//! `issuer_keys` and `issuer_client` get the keys of its issuer, and `key_set` verifies it with them.

mod issuer_client;
mod issuer_keys;
mod judge;
mod key_set;
mod unverified;

use std::sync::Arc;

use stile_core::identity::{Authenticated, Identity, SingleUse};
use stile_core::trust::Trust;

pub use issuer_client::{IssuerClient, IssuerError};
pub use judge::{Expected, JwtRefusal, find_trust, is_registry};
pub use unverified::{MAX_JWT, MalformedJwt, UnverifiedJwt};

use issuer_keys::IssuerKeys;
use key_set::KeySet;

/// The reason why the broker does not verify a JWT.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// The broker does not believe it.
    #[error(transparent)]
    Refused(#[from] JwtRefusal),
    /// The broker cannot get the keys of its issuer.
    #[error("the broker cannot read the keys of the issuer of the JWT")]
    Issuer(#[from] IssuerError),
    /// The keys in the trust are not usable.
    #[error("the keys in the trust are not usable")]
    KeysOfTrust,
}

/// Verifies JWTs with the keys of their issuers.
#[derive(Debug)]
pub struct Jwts {
    issuers: IssuerKeys,
}

impl Jwts {
    /// Creates a verifier without any keys.
    pub fn new(client: IssuerClient) -> Self {
        Self { issuers: IssuerKeys::new(client) }
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
            Some(text) => {
                let keys = KeySet::parse(text.as_bytes()).map_err(|_| JwtError::KeysOfTrust)?;
                Some(Arc::new(keys)).filter(|keys| keys.has(key_id))
            }
            None => self.issuers.with_id(&trust.issuer, key_id, now).await?,
        };
        let keys = keys.ok_or(JwtRefusal::UnknownKey)?;
        if !keys.verify(jwt) {
            return Err(JwtRefusal::BadSignature.into());
        }
        // The issuer vouches for every claim from here on.
        let identity = Identity::from_trust(trust, &jwt.unverified_subject);
        let single_use = SingleUse::Record {
            digest: jwt.signed_digest(),
            named: jwt.id_digest(),
            keep_until: judge::last_use(jwt),
        };
        Ok(Authenticated { identity, single_use })
    }
}
