//! Values in OpenPGP packets, as the registry uses them.

use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SubpacketData};

use super::KeyId;
use super::key_error::KeyError;

/// How far a time in a key or a signature can be in the future, in seconds: clocks differ.
pub(super) const CLOCK_SKEW: i64 = 300;

/// Returns the id of a key as the registry writes it.
pub(super) fn key_id(id: &pgp::types::KeyId) -> Result<KeyId, KeyError> {
    KeyId::parse(&hex::encode_upper(id)).ok_or(KeyError::Malformed)
}

/// Returns the time of a signature in Unix seconds. The signature covers it.
pub(super) fn created(signature: &Signature) -> Option<i64> {
    signature.created().map(|at| i64::from(at.as_secs()))
}

/// Returns when a key of this time of creation expires by a signature over it, if it does.
pub(super) fn expiry(key_created_at: i64, signature: &Signature) -> Option<i64> {
    let lifetime = i64::from(signature.key_expiration_time()?.as_secs());
    (lifetime > 0).then(|| key_created_at.saturating_add(lifetime))
}

/// Returns whether a signature lets its key sign data. `None` if it does not limit the usage.
pub(super) fn flags_allow_signing(signature: &Signature) -> Option<bool> {
    let mut subpackets = signature.config()?.hashed_subpackets();
    subpackets.find_map(|subpacket| match &subpacket.data {
        SubpacketData::KeyFlags(flags) => Some(flags.sign()),
        _ => None,
    })
}

/// Returns the name of the hash of a signature if it is weak, or if clients do not know it.
///
/// With MD5 and SHA-1, an attacker can make two texts that have one signature. Old clients know only
/// SHA-2.
pub(super) fn weak_hash(signature: &Signature) -> Option<String> {
    match signature.hash_alg() {
        Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512) => None,
        Some(hash @ (HashAlgorithm::Md5 | HashAlgorithm::Sha1)) => Some(format!("the weak {hash}")),
        Some(hash) => Some(hash.to_string()),
        None => Some("an unknown hash".to_owned()),
    }
}
