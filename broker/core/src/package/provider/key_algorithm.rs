//! The algorithms of keys that the registry accepts: strong ones that clients know.

use std::fmt;

use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::ser::Serialize as _;
use pgp::types::{EcdsaPublicParams, EddsaLegacyPublicParams, KeyDetails, PublicParams};

use super::key_error::KeyError;

/// The shortest RSA key in bits. Shorter ones are within reach of an attacker with much money (NIST
/// SP 800-131A forbids them).
const MIN_RSA_BITS: u16 = 2048;

/// The algorithm of a key that can sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyAlgorithm {
    /// RSA with a modulus of this many bits.
    Rsa(u16),
    /// ECDSA on a curve of NIST.
    Ecdsa(&'static str),
    /// EdDSA on Curve25519, in the form of RFC 4880 (algorithm 22).
    Ed25519,
}

impl KeyAlgorithm {
    /// Returns the algorithm of a key that can sign.
    ///
    /// # Errors
    ///
    /// [`KeyError::WeakRsa`], or [`KeyError::Algorithm`] for an algorithm that is weak (DSA) or that
    /// clients do not know (the numbers 27 and 28 of RFC 9580, and other curves).
    pub(super) fn of(key: &impl KeyDetails) -> Result<Self, KeyError> {
        let other = |name: &str| Err(KeyError::Algorithm(name.to_owned()));
        match key.public_params() {
            PublicParams::RSA(_) if key.algorithm() == PublicKeyAlgorithm::RSAEncrypt => {
                other("RSA only for encryption")
            }
            PublicParams::RSA(key) => {
                let mut bytes = Vec::new();
                key.to_writer(&mut bytes).map_err(|_| KeyError::Malformed)?;
                // The modulus comes first, with its length in bits before it (RFC 9580, section 3.2).
                let [high, low, ..] = bytes[..] else { return Err(KeyError::Malformed) };
                let bits = u16::from_be_bytes([high, low]);
                if bits < MIN_RSA_BITS { Err(KeyError::WeakRsa(bits)) } else { Ok(Self::Rsa(bits)) }
            }
            PublicParams::ECDSA(key) => match key {
                EcdsaPublicParams::P256 { .. } => Ok(Self::Ecdsa("P-256")),
                EcdsaPublicParams::P384 { .. } => Ok(Self::Ecdsa("P-384")),
                EcdsaPublicParams::P521 { .. } => Ok(Self::Ecdsa("P-521")),
                EcdsaPublicParams::Secp256k1 { .. } => other("ECDSA on secp256k1"),
                EcdsaPublicParams::Unsupported { .. } => {
                    other("ECDSA on a curve that is not NIST's")
                }
            },
            PublicParams::EdDSALegacy(EddsaLegacyPublicParams::Ed25519 { .. }) => Ok(Self::Ed25519),
            PublicParams::EdDSALegacy(_) => other("EdDSA on an unknown curve"),
            PublicParams::Ed25519(_) => other("Ed25519 in the form of RFC 9580 (27)"),
            PublicParams::Ed448(_) => other("Ed448"),
            PublicParams::DSA(_) => other("DSA"),
            PublicParams::Elgamal(_) => other("Elgamal"),
            _ => other("that no client verifies"),
        }
    }

    /// Returns whether clients of before 2022 can verify with it.
    pub(super) const fn is_old_client_safe(self) -> bool {
        !matches!(self, Self::Ed25519)
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(formatter, "RSA {bits}"),
            Self::Ecdsa(curve) => write!(formatter, "ECDSA {curve}"),
            Self::Ed25519 => formatter.write_str("Ed25519"),
        }
    }
}
