//! The public OpenPGP key of a publisher: which keys the registry accepts, and in which form it
//! gives them to clients.
//!
//! Clients verify with other programs than the registry, and one key that a client cannot read makes
//! it drop all keys of a version. So the registry accepts only keys that every client reads, and
//! writes each key again: the primary key, its user ids and its signing subkeys, each with its newest
//! own signature. Signatures of other keys, photos and encryption subkeys are left out.

use std::collections::BTreeSet;
use std::io::Read as _;

use pgp::armor::{BlockType, Dearmor, DearmorOptions};
use pgp::composed::{ArmorOptions, SignedKeyDetails, SignedPublicKey, SignedPublicSubKey};
use pgp::packet::{Packet, PacketParser, PublicKey, PublicSubkey, Signature, UserId};
use pgp::types::{KeyDetails as _, KeyVersion, SignedUser};

use super::KeyId;
use super::detached::{DetachedSignature, SignatureError};
use super::key_algorithm::KeyAlgorithm;
use super::key_error::KeyError;
use super::packets::{CLOCK_SKEW, created, expiry, flags_allow_signing, key_id};
use super::self_signatures::{NewestOf, SigningSubkey, newest_of, newest_of_user, signing_subkey};
use super::shown::shown;

/// Maximum size of an armored key in bytes.
///
/// The limit is checked before the key is parsed. It stops a key with thousands of signatures, each
/// of which costs a verification.
pub const MAX_ARMOR: usize = 32 * 1024;

/// Maximum size of the armored key that clients get. Each download answer has the keys of a
/// namespace, and the store keeps all of them in one record of at most 400 KB.
const MAX_WRITTEN_ARMOR: usize = 16 * 1024;

/// A public OpenPGP key that can sign the lists of digests of providers.
#[derive(Debug, Clone)]
pub struct SigningKey {
    armor: String,
    primary: PublicKey,
    key_id: KeyId,
    algorithm: KeyAlgorithm,
    user_id: String,
    created_at: i64,
    expires_at: Option<i64>,
    /// The time of the newest own signature of the key.
    signed_at: i64,
    primary_signs: bool,
    subkeys: Vec<SigningSubkey>,
}

/// The packets of a key, in groups.
struct Parts {
    primary: PublicKey,
    direct: Vec<Signature>,
    users: Vec<(UserId, Vec<Signature>)>,
    subkeys: Vec<(PublicSubkey, Vec<Signature>)>,
}

impl SigningKey {
    /// Parses an armored public key, and checks every signature of the key over itself.
    ///
    /// `now` is the current time in Unix seconds.
    ///
    /// # Errors
    ///
    /// [`KeyError`], if a client could not verify with the key, or if the key is not valid now.
    pub fn parse(armor: &str, now: i64) -> Result<Self, KeyError> {
        let key = Self::read(armor)?;
        key.check_time(now)?;
        Ok(key)
    }

    /// Reads a key without regard to time, as the registry keeps it after it expired.
    ///
    /// # Errors
    ///
    /// [`KeyError`], if a client could not verify with the key.
    pub fn read(armor: &str) -> Result<Self, KeyError> {
        let Parts { primary, direct, users, subkeys } = Parts::read(&dearmor(armor)?)?;
        if primary.version() != KeyVersion::V4 {
            return Err(KeyError::Version);
        }
        let algorithm = KeyAlgorithm::of(&primary)?;
        let direct = newest_of(&primary, direct)?;
        let (mut kept, mut weak) = (Vec::new(), None);
        for (id, signatures) in users {
            match newest_of_user(&primary, &id, signatures)? {
                NewestOf::Valid(signature) => kept.push(SignedUser::new(id, vec![*signature])),
                NewestOf::Weak(hash) => weak = Some(hash),
                NewestOf::Absent => {}
            }
        }
        let main = kept
            .iter()
            .max_by_key(|user| (user.is_primary(), user.signatures.first().and_then(created)));
        let Some((user_id, of_main)) =
            main.and_then(|user| Some((user.id.clone(), user.signatures.first()?.clone())))
        else {
            return Err(weak.map_or(KeyError::NoUserId, KeyError::WeakHash));
        };
        let created_at = i64::from(primary.created_at().as_secs());
        let own = kept.iter().flat_map(|user| &user.signatures).chain(&direct);
        // If two own signatures give different times, the earlier one is safe.
        let expires_at = own.clone().filter_map(|own| expiry(created_at, own)).min();
        let signed_at = own.filter_map(created).max().unwrap_or(created_at);
        let primary_signs = flags_allow_signing(&of_main)
            .or_else(|| direct.as_ref().and_then(flags_allow_signing))
            .unwrap_or(true);
        let subkeys = subkeys
            .into_iter()
            .map(|(key, signatures)| signing_subkey(&primary, key, signatures))
            .filter_map(Result::transpose)
            .collect::<Result<Vec<_>, _>>()?;
        if !primary_signs && subkeys.is_empty() {
            return Err(KeyError::CannotSign);
        }
        let armor = written(&primary, direct, kept, &subkeys)?;
        Ok(Self {
            armor,
            key_id: key_id(&primary.legacy_key_id())?,
            algorithm,
            user_id: shown(&String::from_utf8_lossy(user_id.id())),
            created_at,
            expires_at,
            signed_at,
            primary_signs,
            subkeys,
            primary,
        })
    }

    /// Checks that the key is valid at a time.
    pub(super) fn check_time(&self, now: i64) -> Result<(), KeyError> {
        let latest = now.saturating_add(CLOCK_SKEW);
        if self.created_at > latest || self.signed_at > latest {
            return Err(KeyError::FromFuture);
        }
        match self.expires_at {
            Some(at) if at <= now => Err(KeyError::Expired(at)),
            _ => Ok(()),
        }
    }

    /// Returns the id of the primary key, which Terraform shows also for a signature of a subkey.
    pub const fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// Returns the fingerprint of the primary key, as 40 upper-case hex digits.
    pub fn fingerprint(&self) -> String {
        hex::encode_upper(self.primary.fingerprint().as_bytes())
    }

    /// Returns the algorithm of the primary key in words, for example `RSA 4096`.
    pub fn algorithm(&self) -> String {
        self.algorithm.to_string()
    }

    /// Returns the main user id, in one line of at most 120 characters.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// Returns the time of creation, in Unix seconds.
    pub const fn created_at(&self) -> i64 {
        self.created_at
    }

    /// Returns the time at which the key expires in Unix seconds, if it does.
    pub const fn expires_at(&self) -> Option<i64> {
        self.expires_at
    }

    /// Returns the key as one armored block with only the parts that clients need.
    pub fn armor(&self) -> &str {
        &self.armor
    }

    /// Returns whether old clients can verify with each part of the key that can sign.
    ///
    /// Clients of before 2022 do not know Ed25519 ("unsupported feature: public key algorithm 22").
    pub fn is_old_client_safe(&self) -> bool {
        let subkeys = self.subkeys.iter().map(|subkey| KeyAlgorithm::of(&subkey.key));
        self.algorithm.is_old_client_safe()
            && subkeys.flatten().all(KeyAlgorithm::is_old_client_safe)
    }

    /// Verifies a detached binary signature of this key over data, at the time `now` in Unix seconds.
    ///
    /// # Errors
    ///
    /// [`SignatureError`], if the signature is not of this key and this data, is weak, or if it or
    /// the key is not valid now.
    pub fn verify(&self, data: &[u8], signature: &[u8], now: i64) -> Result<(), SignatureError> {
        self.check(&DetachedSignature::parse(signature)?, data, now)
    }

    /// Verifies a parsed signature like [`Self::verify`].
    pub(super) fn check(
        &self,
        signature: &DetachedSignature,
        data: &[u8],
        now: i64,
    ) -> Result<(), SignatureError> {
        signature.check_time(now)?;
        self.check_time(now).map_err(SignatureError::Key)?;
        self.check_part(signature, data, now)
    }

    /// Verifies a detached binary signature of this key over data, as of the time of the signature. So
    /// it stays valid after the key expired.
    ///
    /// # Errors
    ///
    /// [`SignatureError`], if the signature is not of this key and this data, is weak, or if the key
    /// was not valid when it signed.
    pub fn verify_as_made(&self, data: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let signature = DetachedSignature::parse(signature)?;
        let at = signature.created_at();
        if let Some(expired) = self.expires_at.filter(|expires| *expires <= at) {
            return Err(SignatureError::Key(KeyError::Expired(expired)));
        }
        self.check_part(&signature, data, at)
    }

    /// Verifies a signature with the part of the key that it names.
    fn check_part(
        &self,
        signature: &DetachedSignature,
        data: &[u8],
        now: i64,
    ) -> Result<(), SignatureError> {
        if self.primary_signs && signature.is_by(&self.primary) {
            return signature.check(&self.primary, self.expires_at, data, now);
        }
        let subkey = self.subkeys.iter().find(|subkey| signature.is_by(&subkey.key));
        let subkey = subkey.ok_or_else(|| SignatureError::OtherKey(signature.issuer()))?;
        signature.check(&subkey.key, subkey.expires_at, data, now)
    }

    /// Returns the fingerprints of the keys in it that can sign: the primary key, and subkeys.
    pub(super) fn signers(&self) -> BTreeSet<Vec<u8>> {
        let primary = self.primary_signs.then(|| self.primary.fingerprint());
        let subkeys = self.subkeys.iter().map(|subkey| subkey.key.fingerprint());
        primary.into_iter().chain(subkeys).map(|of| of.as_bytes().to_vec()).collect()
    }

    /// Returns whether the signature names this key or one of its signing subkeys. It proves nothing.
    pub(super) fn is_named_by(&self, signature: &DetachedSignature) -> bool {
        signature.is_by(&self.primary)
            || self.subkeys.iter().any(|subkey| signature.is_by(&subkey.key))
    }
}

impl Parts {
    fn read(bytes: &[u8]) -> Result<Self, KeyError> {
        /// The part that the next signatures belong to.
        enum Over {
            Primary,
            User,
            Attribute,
            Subkey,
        }
        let mut packets = PacketParser::new(bytes);
        let primary = match packets.next() {
            Some(Ok(Packet::PublicKey(primary))) => primary,
            Some(Ok(Packet::SecretKey(_))) => return Err(KeyError::Private),
            _ => return Err(KeyError::Malformed),
        };
        let mut parts =
            Self { primary, direct: Vec::new(), users: Vec::new(), subkeys: Vec::new() };
        let mut over = Over::Primary;
        for packet in packets {
            match packet.map_err(|_| KeyError::Malformed)? {
                Packet::PublicKey(_) => return Err(KeyError::Several),
                Packet::SecretKey(_) | Packet::SecretSubkey(_) => return Err(KeyError::Private),
                Packet::UserId(id) => {
                    parts.users.push((id, Vec::new()));
                    over = Over::User;
                }
                Packet::UserAttribute(_) => over = Over::Attribute,
                Packet::PublicSubkey(key) => {
                    parts.subkeys.push((key, Vec::new()));
                    over = Over::Subkey;
                }
                Packet::Signature(signature) => match over {
                    Over::Primary => parts.direct.push(signature),
                    Over::User => {
                        parts.users.last_mut().ok_or(KeyError::Malformed)?.1.push(signature);
                    }
                    Over::Attribute => {}
                    Over::Subkey => {
                        parts.subkeys.last_mut().ok_or(KeyError::Malformed)?.1.push(signature);
                    }
                },
                _ => return Err(KeyError::Malformed),
            }
        }
        Ok(parts)
    }
}

/// Returns the content of exactly one armored block.
fn dearmor(armor: &str) -> Result<Vec<u8>, KeyError> {
    if armor.len() > MAX_ARMOR {
        return Err(KeyError::TooLarge);
    }
    let block = armor.trim();
    if block.contains("PRIVATE KEY") {
        return Err(KeyError::Private);
    }
    if block.matches("-----BEGIN PGP PUBLIC KEY BLOCK-----").count() > 1 {
        return Err(KeyError::Several);
    }
    if !block.contains("-----BEGIN PGP PUBLIC KEY BLOCK-----") {
        return Err(KeyError::NotArmored);
    }
    let is_whole = block.starts_with("-----BEGIN") && block.matches("-----").count() == 4;
    if !is_whole || !block.ends_with("-----END PGP PUBLIC KEY BLOCK-----") {
        return Err(KeyError::TextAround);
    }
    let options = DearmorOptions::default().set_limit(MAX_ARMOR);
    let mut reader = Dearmor::with_options(block.as_bytes(), options);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|_| KeyError::Malformed)?;
    if reader.typ == Some(BlockType::PublicKey) { Ok(bytes) } else { Err(KeyError::NotArmored) }
}

/// Writes a key as one armored block.
fn written(
    primary: &PublicKey,
    direct: Option<Signature>,
    users: Vec<SignedUser>,
    subkeys: &[SigningSubkey],
) -> Result<String, KeyError> {
    let subkeys = subkeys
        .iter()
        .map(|subkey| SignedPublicSubKey::new(subkey.key.clone(), vec![subkey.binding.clone()]));
    let details =
        SignedKeyDetails::new(Vec::new(), direct.into_iter().collect(), users, Vec::new());
    let key = SignedPublicKey::new(primary.clone(), details, subkeys.collect());
    let armor = key.to_armored_string(ArmorOptions::default()).map_err(|_| KeyError::Malformed)?;
    if armor.len() > MAX_WRITTEN_ARMOR { Err(KeyError::TooLarge) } else { Ok(armor) }
}
