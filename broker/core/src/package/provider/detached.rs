//! Detached OpenPGP signatures of lists of digests.

use pgp::packet::{
    Packet, PacketParser, PacketTrait as _, Signature, SignatureType, SignatureVersion,
    SubpacketData,
};
use pgp::ser::Serialize;
use pgp::types::{Fingerprint, KeyDetails, PacketLength, VerifyingKey};

use super::KeyId;
use super::key_error::KeyError;
use super::packets::{CLOCK_SKEW, created, key_id, weak_hash};

/// Maximum size of a signature in bytes. One of RSA with 8192 bits has about 1,100.
///
/// The limit is checked before the signature is parsed.
pub const MAX_SIGNATURE: usize = 8 * 1024;

/// The error for a signature that clients would not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The signature is too long.
    #[error("the signature is larger than 8 KiB")]
    TooLarge,
    /// The signature is armored.
    #[error(
        "the signature is ASCII-armored; make it with `gpg --detach-sign` and without `--armor`"
    )]
    Armored,
    /// The bytes are not a signature.
    #[error("the signature is not a detached OpenPGP signature")]
    Malformed,
    /// There are several signatures.
    #[error("the signature file must have exactly one signature")]
    Several,
    /// The signature is of a text, or of something else.
    #[error(
        "the signature must be of the type `binary`; make it with `gpg --detach-sign` and without `--textmode`"
    )]
    NotBinary,
    /// The signature has another version.
    #[error("the signature must have the version 4")]
    Version,
    /// The hash is weak, or clients do not know it.
    #[error("the signature has {0}; sign with SHA-256, SHA-384 or SHA-512")]
    WeakHash(String),
    /// Clients read some data of the signature differently.
    #[error("the signature has data that it does not cover, or that clients do not know")]
    Ambiguous,
    /// The signature does not name one key.
    #[error("the signature must name exactly one key that made it")]
    Issuer,
    /// The signature expires, so clients would later reject the version.
    #[error("the signature has a time of expiry; make one that does not expire")]
    Expires,
    /// The signature is from the future.
    #[error("the signature has a time in the future")]
    FromFuture,
    /// The signature is older than its key.
    #[error("the signature has a time before the creation of its key")]
    BeforeKey,
    /// The subkey is expired, or was when it signed.
    #[error("the subkey that made the signature is expired")]
    SubkeyExpired,
    /// The key is not valid now.
    #[error(transparent)]
    Key(KeyError),
    /// Another key made the signature.
    #[error("the signature is by the key `{0}`, which is another one")]
    OtherKey(KeyId),
    /// The signature is not over this text.
    #[error("the signature does not match `SHA256SUMS`")]
    Mismatch,
}

/// One detached binary signature, not verified.
#[derive(Debug, Clone)]
pub(super) struct DetachedSignature {
    signature: Signature,
    issuer: KeyId,
    created_at: i64,
}

impl DetachedSignature {
    /// Parses a signature, and checks everything in it that needs no key.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, SignatureError> {
        if bytes.len() > MAX_SIGNATURE {
            return Err(SignatureError::TooLarge);
        }
        if bytes.starts_with(b"-----BEGIN") {
            return Err(SignatureError::Armored);
        }
        let mut packets = PacketParser::new(bytes);
        let Some(Ok(Packet::Signature(signature))) = packets.next() else {
            return Err(SignatureError::Malformed);
        };
        // Programs disagree about packets without a length, and about data after the packet.
        if !matches!(signature.packet_header().packet_length(), PacketLength::Fixed(_)) {
            return Err(SignatureError::Malformed);
        }
        // So do they about numbers whose length in bits is wrong.
        let body = signature.to_bytes().map_err(|_| SignatureError::Malformed)?;
        let rest = packets.into_inner();
        let read = bytes.len().saturating_sub(rest.len());
        if !bytes[..read].ends_with(&body) {
            return Err(SignatureError::Malformed);
        }
        if !rest.is_empty() {
            let next = PacketParser::new(rest).next();
            let is_signature = matches!(next, Some(Ok(Packet::Signature(_))));
            return Err(if is_signature {
                SignatureError::Several
            } else {
                SignatureError::Malformed
            });
        }
        if signature.version() != SignatureVersion::V4 {
            return Err(SignatureError::Version);
        }
        if signature.typ() != Some(SignatureType::Binary) {
            return Err(SignatureError::NotBinary);
        }
        if let Some(hash) = weak_hash(&signature) {
            return Err(SignatureError::WeakHash(hash));
        }
        if signature.signature_expiration_time().is_some_and(|lifetime| lifetime.as_secs() > 0) {
            return Err(SignatureError::Expires);
        }
        if !is_unambiguous(&signature) {
            return Err(SignatureError::Ambiguous);
        }
        let created_at = created(&signature).ok_or(SignatureError::Malformed)?;
        let issuer = issuer(&signature).ok_or(SignatureError::Issuer)?;
        Ok(Self { signature, issuer, created_at })
    }

    /// Returns the key that the signature names. It proves nothing.
    pub(super) fn issuer(&self) -> KeyId {
        self.issuer.clone()
    }

    /// Returns the time of the signature in Unix seconds. The signature covers it.
    pub(super) const fn created_at(&self) -> i64 {
        self.created_at
    }

    /// Checks that the signature is not from the future.
    pub(super) const fn check_time(&self, now: i64) -> Result<(), SignatureError> {
        if self.created_at > now.saturating_add(CLOCK_SKEW) {
            return Err(SignatureError::FromFuture);
        }
        Ok(())
    }

    /// Returns whether the signature names a key. It proves nothing.
    pub(super) fn is_by(&self, key: &impl KeyDetails) -> bool {
        key_id(&key.legacy_key_id()).is_ok_and(|id| id == self.issuer)
            && self.signature.issuer_fingerprint().iter().all(|one| **one == key.fingerprint())
    }

    /// Verifies the signature with a key that is valid until `expires_at`.
    pub(super) fn check(
        &self,
        key: &(impl VerifyingKey + Serialize),
        expires_at: Option<i64>,
        data: &[u8],
        now: i64,
    ) -> Result<(), SignatureError> {
        if self.created_at < i64::from(key.created_at().as_secs()) {
            return Err(SignatureError::BeforeKey);
        }
        if expires_at.is_some_and(|at| at <= now || at <= self.created_at) {
            return Err(SignatureError::SubkeyExpired);
        }
        self.signature.verify(key, data).map_err(|_| SignatureError::Mismatch)
    }
}

/// Returns whether all clients read the subpackets of a signature in the same way.
///
/// Some reject a critical subpacket that they do not know. Outside the area that the signature covers,
/// anyone can add subpackets, so only the issuer can be there.
fn is_unambiguous(signature: &Signature) -> bool {
    let Some(config) = signature.config() else { return false };
    let is_issuer = |data: &SubpacketData| {
        matches!(data, SubpacketData::IssuerKeyId(_) | SubpacketData::IssuerFingerprint(_))
    };
    let is_time = |data: &SubpacketData| {
        matches!(
            data,
            SubpacketData::SignatureCreationTime(_) | SubpacketData::SignatureExpirationTime(_)
        )
    };
    config.unhashed_subpackets().all(|subpacket| is_issuer(&subpacket.data))
        && config.hashed_subpackets().all(|subpacket| {
            !subpacket.is_critical || is_issuer(&subpacket.data) || is_time(&subpacket.data)
        })
}

/// Returns the only key that a signature names.
///
/// Go's library rejects a signature that names none, and takes the last of several.
fn issuer(signature: &Signature) -> Option<KeyId> {
    let fingerprints = signature.issuer_fingerprint();
    let of_fingerprints = fingerprints.iter().map(|fingerprint| match fingerprint {
        Fingerprint::V4(bytes) => bytes.last_chunk::<8>().copied().map(pgp::types::KeyId::new),
        _ => None,
    });
    let ids = signature.issuer_key_id();
    let mut all = ids.into_iter().map(|id| Some(*id)).chain(of_fingerprints);
    let first = all.next()??;
    all.all(|other| other == Some(first)).then(|| key_id(&first).ok())?
}
