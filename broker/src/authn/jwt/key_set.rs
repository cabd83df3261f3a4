//! The public keys of an issuer: a JWK set (RFC 7517, section 5).

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::unverified::UnverifiedJwt;

/// The most keys that the broker reads from a set. The rest is left out.
const MAX_KEYS: usize = 100;

/// The text is not a set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a JWK set with a key for RS256, ES256, ES384 or EdDSA")]
pub struct KeySetError;

/// A key that can verify signatures of one algorithm.
#[derive(Debug)]
struct NamedKey {
    id: String,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The keys of an issuer that can verify a JWT.
#[derive(Debug)]
pub struct KeySet(Vec<NamedKey>);

impl KeySet {
    /// Parses a set. It leaves out every key that is not for signatures of an allowed algorithm, or
    /// has no id.
    ///
    /// # Errors
    ///
    /// [`KeySetError`], if no key is left.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeySetError> {
        let set: Value = serde_json::from_slice(bytes).map_err(|_| KeySetError)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(KeySetError)?;
        let keys: Vec<_> = keys.iter().take(MAX_KEYS).filter_map(usable).collect();
        if keys.is_empty() { Err(KeySetError) } else { Ok(Self(keys)) }
    }

    /// Returns whether it has a key of that id.
    pub fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    /// Returns whether one of the keys signed the JWT: one with its `kid`, for its algorithm.
    ///
    /// The algorithm comes from the key. So a public RSA key never becomes the secret of an HMAC.
    pub fn verify(&self, jwt: &UnverifiedJwt) -> bool {
        let fits = |key: &&NamedKey| {
            key.id == jwt.unverified_key_id && key.algorithm == jwt.unverified_algorithm
        };
        let signed = |key: &NamedKey| {
            let signature = jwt.signature().expose_secret();
            crypto::verify(signature, jwt.signed().as_bytes(), &key.key, key.algorithm)
        };
        self.0.iter().filter(fits).any(|key| signed(key).unwrap_or(false))
    }
}

/// Returns the key of a set, if the broker can use it.
fn usable(key: &Value) -> Option<NamedKey> {
    let key: Jwk = serde_json::from_value(key.clone()).ok()?;
    let (algorithm, name) = match &key.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
            (Algorithm::ES384, KeyAlgorithm::ES384)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let common = &key.common;
    let is_for_signatures =
        common.public_key_use.as_ref().is_none_or(|its_use| *its_use == PublicKeyUse::Signature);
    let verifies = common
        .key_operations
        .as_ref()
        .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let is_for_algorithm = common.key_algorithm.is_none_or(|its_own| its_own == name);
    if !(is_for_signatures && verifies && is_for_algorithm) {
        return None;
    }
    let id = common.key_id.clone()?;
    Some(NamedKey { id, algorithm, key: DecodingKey::from_jwk(&key).ok()? })
}
