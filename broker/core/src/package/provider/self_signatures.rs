//! Checks the signatures that a key made over its own parts.

use pgp::packet::{
    PublicKey, PublicSubkey, Signature, SignatureType, SignatureVersion, SubpacketData, UserId,
};
use pgp::types::{KeyDetails, Tag};

use super::key_algorithm::KeyAlgorithm;
use super::key_error::KeyError;
use super::packets::{created, expiry, flags_allow_signing, key_id, weak_hash};

/// A subkey that can sign data.
#[derive(Debug, Clone)]
pub(super) struct SigningSubkey {
    pub(super) key: PublicSubkey,
    pub(super) binding: Signature,
    pub(super) expires_at: Option<i64>,
}

/// The newest own signature over a user id.
pub(super) enum NewestOf {
    Valid(Box<Signature>),
    /// All own signatures have a weak hash: the name of one.
    Weak(String),
    /// The key did not sign the user id, or revoked it.
    Absent,
}

/// Returns whether a signature names the primary key as its issuer, or no key. It proves nothing.
fn is_own(primary: &PublicKey, signature: &Signature) -> bool {
    let (ids, fingerprints) = (signature.issuer_key_id(), signature.issuer_fingerprint());
    ids.is_empty() && fingerprints.is_empty()
        || ids.contains(&&primary.legacy_key_id())
        || fingerprints.contains(&&primary.fingerprint())
}

/// Returns whether a signature has the version 4 and a time that is not before its key.
fn is_plausible(primary: &PublicKey, signature: &Signature) -> bool {
    let key_created = i64::from(primary.created_at().as_secs());
    signature.version() == SignatureVersion::V4
        && created(signature).is_some_and(|at| at >= key_created)
}

/// Returns the newest signature over the primary key itself that is not a revocation.
///
/// # Errors
///
/// [`KeyError::Revoked`] for a revocation by any key, even if it is invalid: a designated revoker
/// may have made it. [`KeyError::BrokenSignature`], if an own signature is invalid.
pub(super) fn newest_of(
    primary: &PublicKey,
    signatures: Vec<Signature>,
) -> Result<Option<Signature>, KeyError> {
    if signatures.iter().any(|signature| signature.typ() == Some(SignatureType::KeyRevocation)) {
        return Err(KeyError::Revoked);
    }
    let mut newest = None;
    for signature in signatures {
        if !is_own(primary, &signature) || weak_hash(&signature).is_some() {
            continue;
        }
        if !is_plausible(primary, &signature) || signature.verify_key(primary).is_err() {
            return Err(KeyError::BrokenSignature);
        }
        replace_older(&mut newest, signature);
    }
    newest.map(without_unsigned_data).transpose()
}

/// Removes what a signature does not cover, except for what clients need there.
///
/// Clients read such data, and an attacker can add some that makes them reject the key.
fn without_unsigned_data(mut signature: Signature) -> Result<Signature, KeyError> {
    let unsigned = signature.config().map_or(0, |config| config.unhashed_subpackets.len());
    for index in (0..unsigned).rev() {
        let subpacket = signature.unhashed_subpacket_remove(index);
        let subpacket = subpacket.map_err(|_| KeyError::Malformed)?;
        let is_needed = matches!(
            subpacket.data,
            SubpacketData::IssuerKeyId(_)
                | SubpacketData::IssuerFingerprint(_)
                | SubpacketData::EmbeddedSignature(_)
        );
        if is_needed {
            let put_back = signature.unhashed_subpacket_insert(index, subpacket);
            put_back.map_err(|_| KeyError::Malformed)?;
        }
    }
    Ok(signature)
}

fn replace_older(newest: &mut Option<Signature>, signature: Signature) {
    if newest.as_ref().is_none_or(|newest| created(newest) <= created(&signature)) {
        *newest = Some(signature);
    }
}

/// Returns the newest signature of the key over one of its user ids.
///
/// # Errors
///
/// [`KeyError::BrokenSignature`], if an own signature is invalid. Go's library then rejects the key.
pub(super) fn newest_of_user(
    primary: &PublicKey,
    id: &UserId,
    signatures: Vec<Signature>,
) -> Result<NewestOf, KeyError> {
    let (mut newest, mut weak, mut is_revoked) = (None, None, false);
    for signature in signatures.into_iter().filter(|signature| is_own(primary, signature)) {
        if signature.typ() == Some(SignatureType::CertRevocation) {
            is_revoked = true;
        } else if let Some(hash) = weak_hash(&signature) {
            weak = Some(hash);
        } else if !is_plausible(primary, &signature)
            || signature.verify_certification(primary, Tag::UserId, id).is_err()
        {
            return Err(KeyError::BrokenSignature);
        } else {
            replace_older(&mut newest, signature);
        }
    }
    Ok(match (is_revoked, newest, weak) {
        (false, Some(newest), _) => NewestOf::Valid(Box::new(without_unsigned_data(newest)?)),
        (false, None, Some(hash)) => NewestOf::Weak(hash),
        _ => NewestOf::Absent,
    })
}

/// Returns a subkey if it can sign data.
///
/// A signing subkey must have signed the primary key. Otherwise, an attacker could adopt the subkey
/// of another publisher, and present the signatures of that publisher as their own.
///
/// # Errors
///
/// [`KeyError`], if a signature of the primary key over the subkey is invalid, or if a signing subkey
/// is weak or did not sign the primary key.
pub(super) fn signing_subkey(
    primary: &PublicKey,
    key: PublicSubkey,
    signatures: Vec<Signature>,
) -> Result<Option<SigningSubkey>, KeyError> {
    let is_revocation =
        |signature: &Signature| signature.typ() == Some(SignatureType::SubkeyRevocation);
    if signatures.iter().any(is_revocation) {
        return Ok(None);
    }
    let mut newest = None;
    for signature in signatures {
        if weak_hash(&signature).is_some() {
            continue;
        }
        if !is_plausible(primary, &signature)
            || signature.verify_subkey_binding(primary, &key).is_err()
        {
            return Err(KeyError::BrokenSignature);
        }
        replace_older(&mut newest, signature);
    }
    let Some(binding) = newest.filter(|newest| flags_allow_signing(newest) == Some(true)) else {
        return Ok(None);
    };
    KeyAlgorithm::of(&key)?;
    // Programs choose differently among several such signatures.
    let embedded = binding.config().map_or(0, |config| {
        let is_embedded =
            |data: &SubpacketData| matches!(data, SubpacketData::EmbeddedSignature(_));
        let all = config.hashed_subpackets().chain(config.unhashed_subpackets());
        all.filter(|subpacket| is_embedded(&subpacket.data)).count()
    });
    let back = binding.embedded_signature().filter(|_| embedded == 1);
    let is_crossed = back.is_some_and(|back| {
        back.version() == SignatureVersion::V4
            && weak_hash(back).is_none()
            && back.verify_primary_key_binding(&key, primary).is_ok()
    });
    if !is_crossed {
        let id = key_id(&key.legacy_key_id())?;
        return Err(KeyError::NoBackSignature(id.to_string()));
    }
    let expires_at = expiry(i64::from(key.created_at().as_secs()), &binding);
    Ok(Some(SigningSubkey { key, binding: without_unsigned_data(binding)?, expires_at }))
}
