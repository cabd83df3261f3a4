//! The text of a service token: a prefix, a public id, a secret and a checksum.
//!
//! The prefix and the checksum let a scanner find a leaked token without a call to the registry.
//! `docs/service-tokens.md` gives the regular expression.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use stile_protocol::exchange::is_base64url;
use zeroize::Zeroizing;

use crate::token::TokenId;

/// The start of every service token. No other token of a registry has it.
pub const PREFIX: &str = "stile_svc_";

/// The random bytes of a secret. The attack: guessing it, with the id from a log. Nobody guesses 256
/// bits.
const SECRET_BYTES: usize = 32;

/// The characters of the id: 16 bytes in base64url.
const ID_LEN: usize = 22;

/// The characters of the secret in base64url.
const SECRET_LEN: usize = 43;

/// The characters of the checksum: 4 bytes in lower-case hexadecimal.
const CHECKSUM_LEN: usize = 8;

/// The SHA-256 of a secret, which the store has in its place.
///
/// The attack: a thief of the table, or of a backup, uses its tokens. A digest of 256 random bits gives
/// nothing back, so it needs no salt and no slow hash.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Parses the output of [`Self::to_hex`].
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_lower = text.bytes().all(|byte| !byte.is_ascii_uppercase());
        let bytes = hex::decode(text).ok().filter(|_| is_lower)?;
        Some(Self(bytes.try_into().ok()?))
    }

    pub(super) fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Returns whether both are the same. The time that it takes says nothing about either.
    pub(super) fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretDigest")
    }
}

/// A service token that a client sent. Nobody has verified its secret yet.
#[derive(Debug, Clone)]
pub struct PresentedToken {
    unverified_id: TokenId,
    digest: SecretDigest,
}

impl PresentedToken {
    /// Returns whether a text claims to be a service token.
    pub fn is_claimed(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Parses a service token. `None` if its form or its checksum is wrong.
    ///
    /// So a mistyped token, a cut one and random text cost no read of the store.
    pub fn parse(text: &str) -> Option<Self> {
        let whole = PREFIX.len() + ID_LEN + SECRET_LEN + CHECKSUM_LEN;
        if text.len() != whole || !text.is_ascii() || !Self::is_claimed(text) {
            return None;
        }
        let (body, check) = text.split_at(whole - CHECKSUM_LEN);
        let (id, secret) = body.strip_prefix(PREFIX)?.split_at(ID_LEN);
        if check != checksum(body) || !is_base64url(secret, SECRET_BYTES) {
            return None;
        }
        Some(Self { unverified_id: TokenId::parse(id)?, digest: SecretDigest::of(secret) })
    }

    /// Returns the id that the text claims.
    pub const fn unverified_id(&self) -> &TokenId {
        &self.unverified_id
    }

    pub(super) const fn digest(&self) -> &SecretDigest {
        &self.digest
    }
}

/// The id and the secret of a new service token.
pub struct NewSecret {
    pub(super) id: TokenId,
    pub(super) digest: SecretDigest,
    text: Zeroizing<String>,
}

impl NewSecret {
    /// Creates a random id and a random secret.
    ///
    /// # Errors
    ///
    /// If the system provides no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        getrandom::fill(bytes.as_mut_slice())?;
        let id = TokenId::random()?;
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
        let mut text = Zeroizing::new(format!("{PREFIX}{}{}", id.as_str(), secret.as_str()));
        let check = checksum(&text);
        text.push_str(&check);
        Ok(Self { id, digest: SecretDigest::of(&secret), text })
    }

    /// Returns the whole token. The caller shows it once, and keeps it nowhere.
    pub fn expose(&self) -> &Zeroizing<String> {
        &self.text
    }
}

impl fmt::Debug for NewSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NewSecret").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Returns the first 4 bytes of the SHA-256 of everything before the checksum.
fn checksum(body: &str) -> String {
    let mut check = hex::encode(Sha256::digest(body));
    check.truncate(CHECKSUM_LEN);
    check
}

/// Returns a well-formed token with this id and this secret.
#[cfg(test)]
pub(super) fn for_test(id: &str, secret: &str) -> String {
    let body = format!("{PREFIX}{id}{secret}");
    format!("{body}{}", checksum(&body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_one_wrong_character_is_no_service_token() {
        let new = NewSecret::random().unwrap();
        let good = new.expose().as_str();
        for at in 0..good.len() {
            for other in ["A", "-", " ", "\u{e9}", ""] {
                let mut text = good.to_owned();
                text.replace_range(at..=at, other);
                assert_eq!(PresentedToken::parse(&text).is_some(), text == good, "{at} {other:?}");
            }
        }
        for text in ["", PREFIX, "stile_v4.local.x", &format!("{good}a"), &good.to_uppercase()] {
            assert!(PresentedToken::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_new_token_has_its_own_id_and_secret_and_nothing_prints_it() {
        let (one, other) = (NewSecret::random().unwrap(), NewSecret::random().unwrap());
        assert_ne!(one.id, other.id);
        let presented = PresentedToken::parse(one.expose()).unwrap();
        assert_eq!(presented.unverified_id(), &one.id);
        assert!(one.digest.is(presented.digest()) && !other.digest.is(presented.digest()));
        let secret = &one.expose()[PREFIX.len() + ID_LEN..][..SECRET_LEN];
        for shown in [format!("{one:?}"), format!("{presented:?}"), format!("{:?}", one.digest)] {
            assert!(!shown.contains(secret) && !shown.contains(&one.digest.to_hex()), "{shown}");
        }
        let digest = SecretDigest::parse(&one.digest.to_hex()).unwrap();
        assert!(digest.is(&one.digest));
        for text in ["", "00", &"0".repeat(63), &"A".repeat(64), &"0".repeat(66)] {
            assert!(SecretDigest::parse(text).is_none(), "{text}");
        }
    }
}
