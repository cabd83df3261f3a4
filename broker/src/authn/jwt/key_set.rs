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
#[derive(Debug, Default)]
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const X: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn a_document_without_a_usable_key_is_no_set() {
        let ec = json!({"kty": "EC", "crv": "P-256", "kid": "k", "x": X, "y": X});
        let with = |name: &str, value: Value| {
            let mut key = ec.clone();
            key[name] = value;
            key
        };
        for document in [
            json!(null),
            json!([]),
            json!({}),
            json!({"keys": {}}),
            json!({"keys": []}),
            json!({"keys": [7, null, "k"]}),
            json!({"keys": [{"kty": "oct", "kid": "k", "k": X}]}),
            json!({"keys": [{"kty": "EC", "crv": "P-256", "x": X, "y": X}]}),
            json!({"keys": [with("use", json!("enc"))]}),
            json!({"keys": [with("key_ops", json!(["sign"]))]}),
            json!({"keys": [with("alg", json!("ES384"))]}),
            json!({"keys": [with("alg", json!("HS256"))]}),
            json!({"keys": [with("crv", json!("P-521"))]}),
            json!({"keys": [with("crv", json!("secp256k1"))]}),
            json!({"keys": [{"kty": "RSA", "kid": "k", "n": "!", "e": "AQAB"}]}),
            json!({"keys": [{"kty": "RSA", "kid": "k", "n": X, "e": "AQAB", "alg": "RS512"}]}),
            json!({"keys": [{"kty": "OKP", "crv": "X25519", "kid": "k", "x": X}]}),
        ] {
            let parsed = KeySet::parse(document.to_string().as_bytes());
            assert!(parsed.is_err(), "{document}");
        }
        assert!(KeySet::parse(b"<html>").is_err());
    }

    #[test]
    fn a_key_that_is_not_usable_does_not_affect_the_others() {
        let set = json!({"keys": [
            {"kty": "future", "kid": "a"},
            {"kty": "EC", "crv": "P-256", "kid": 7, "x": X, "y": X},
            {"kty": "OKP", "crv": "Ed25519", "kid": "b", "x": X, "use": "sig", "alg": "EdDSA"},
            {"kty": "RSA", "kid": "c", "n": X, "e": "AQAB"},
        ], "more": 1});
        let set = KeySet::parse(set.to_string().as_bytes()).unwrap();
        assert_eq!(
            ["a", "b", "c", "B", ""].map(|id| set.has(id)),
            [false, true, true, false, false]
        );
    }

    #[test]
    fn a_set_is_read_up_to_a_hundred_keys() {
        let key = |n: usize| json!({"kty": "RSA", "kid": n.to_string(), "n": X, "e": "AQAB"});
        let set = json!({"keys": (0..=MAX_KEYS).map(key).collect::<Vec<_>>()});
        let set = KeySet::parse(set.to_string().as_bytes()).unwrap();
        assert_eq!(["0", "99", "100"].map(|id| set.has(id)), [true, true, false]);
    }
}
