//! A private OpenPGP key in a file, which signs lists of digests on this machine.

use std::fmt;
use std::path::Path;

use pgp::composed::{
    ArmorOptions, Deserializable as _, DetachedSignature, SignedSecretKey, SignedSecretSubKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{Password, SecretParams, Timestamp};
use stile_core::package::provider::SigningKey;
use terraform_credentials_stile::message::one_line;

use super::folder::read_small;
use super::passphrase::PassphraseSource;
use crate::error::CommandError;

/// Maximum size of a file with a private key in bytes. A key with many subkeys has 30 KB.
const MAX_KEY: usize = 64 * 1024;

/// The beginning of an armored private key.
const PRIVATE: &str = "-----BEGIN PGP PRIVATE KEY BLOCK-----";

/// The beginning of an armored public key.
const PUBLIC: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// How to make such a file.
const EXPORT: &str = "write it with `gpg --armor --export-secret-keys KEYID`";

/// A private key that can sign. Its `Debug` has the id only.
pub(super) struct KeyFile {
    secret: SignedSecretKey,
    /// The subkey that signs. `None` if the primary key signs.
    subkey: Option<usize>,
    password: Password,
    public: SigningKey,
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KeyFile")
            .field("key_id", &self.public.key_id())
            .finish_non_exhaustive()
    }
}

impl KeyFile {
    /// Reads a private key. The registry makes the same checks with its public half.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if the file has no private key, or one that the registry would refuse.
    /// No error has a part of the key or the passphrase.
    pub(super) fn read(
        path: &Path,
        passphrase: &PassphraseSource,
        now: i64,
    ) -> Result<Self, CommandError> {
        let shown = one_line(&path.to_string_lossy());
        let refused = |problem: &str| CommandError::refused(format!("`{shown}` {problem}"));
        let text = String::from_utf8(read_small(path, MAX_KEY)?)
            .map_err(|_| refused("is not an armored OpenPGP key").hint(EXPORT))?;
        if text.contains(PUBLIC) {
            return Err(refused("has a public key, and only a private key can sign").hint(EXPORT));
        }
        match text.matches(PRIVATE).count() {
            1 => {}
            0 => return Err(refused("is not an armored OpenPGP private key").hint(EXPORT)),
            _ => return Err(refused("has several private keys").hint("export only one of them")),
        }
        // The messages of the library could repeat a part of the key.
        let mut parsed = SignedSecretKey::from_string_many(&text)
            .map_err(|_| refused("has a damaged private key").hint(EXPORT))?
            .0;
        let secret = match (parsed.next(), parsed.next()) {
            (Some(Ok(secret)), None) => secret,
            (_, Some(_)) => {
                return Err(refused("has several private keys").hint("export only one of them"));
            }
            _ => return Err(refused("has a damaged private key").hint(EXPORT)),
        };
        let armor = secret.to_public_key().to_armored_string(ArmorOptions::default());
        let armor = armor.map_err(|_| refused("has a damaged private key").hint(EXPORT))?;
        let public = SigningKey::parse(&armor, now)
            .map_err(|error| refused(&format!("cannot sign a release: {error}")))?;
        let subkey = signer(&secret, now).ok_or_else(|| {
            refused("has no private key that can sign data")
                .hint("export the signing subkey together with its primary key")
        })?;
        let mut key = Self { secret, subkey, password: Password::empty(), public };
        if key.is_locked() {
            key.password = passphrase.read(&shown)?;
        }
        if !key.unlocks() {
            return Err(refused("does not open with this passphrase"));
        }
        Ok(key)
    }

    /// Returns the public half.
    pub(super) const fn public(&self) -> &SigningKey {
        &self.public
    }

    fn is_locked(&self) -> bool {
        match self.subkey {
            None => self.secret.primary_key.secret_params().is_encrypted(),
            Some(at) => self.secret.secret_subkeys[at].key.secret_params().is_encrypted(),
        }
    }

    fn unlocks(&self) -> bool {
        let opened = match self.subkey {
            None => self.secret.primary_key.unlock(&self.password, |_, _| Ok(())),
            Some(at) => self.secret.secret_subkeys[at].key.unlock(&self.password, |_, _| Ok(())),
        };
        matches!(opened, Ok(Ok(())))
    }

    /// Signs a text at this time, and returns the binary detached signature.
    pub(super) fn sign(&self, text: &str, now: i64) -> Result<Vec<u8>, CommandError> {
        let signed = match self.subkey {
            None => detached(&self.secret.primary_key, &self.password, text, now),
            Some(at) => detached(&self.secret.secret_subkeys[at].key, &self.password, text, now),
        };
        // The messages of the library could repeat a part of the key.
        signed.map_err(|_| CommandError::failed("the private key cannot sign"))
    }
}

/// Chooses what signs: the primary key, or else the newest subkey that may sign. The outer `None` means
/// that nothing can.
fn signer(secret: &SignedSecretKey, now: i64) -> Option<Option<usize>> {
    let users = secret.details.users.iter().flat_map(|user| &user.signatures);
    let own = newest(users.chain(&secret.details.direct_signatures));
    // A key without flags is from before they existed, and may do everything.
    let primary_may_sign = own.is_none_or(|own| may_sign(&own.key_flags()));
    if primary_may_sign && is_there(secret.primary_key.secret_params()) {
        return Some(None);
    }
    let usable = |subkey: &&SignedSecretSubKey| {
        let binding = newest(subkey.signatures.iter());
        let revoked = subkey
            .signatures
            .iter()
            .any(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation));
        let ends = binding.and_then(|binding| binding.key_expiration_time()).map(|lasts| {
            let created = pgp::types::KeyDetails::created_at(&subkey.key).as_secs();
            i64::from(created) + i64::from(lasts.as_secs())
        });
        binding.is_some_and(|binding| binding.key_flags().sign())
            && !revoked
            && ends.is_none_or(|ends| ends > now)
            && is_there(subkey.key.secret_params())
    };
    let subkeys = secret.secret_subkeys.iter().enumerate();
    let newest = subkeys
        .filter(|(_, subkey)| usable(subkey))
        .max_by_key(|(_, subkey)| pgp::types::KeyDetails::created_at(&subkey.key).as_secs());
    newest.map(|(at, _)| Some(at))
}

/// Returns the newest signature, which says what a key may do.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Option<&'a Signature> {
    signatures.max_by_key(|signature| signature.created().map(Timestamp::as_secs))
}

fn may_sign(flags: &KeyFlags) -> bool {
    flags.sign() || *flags == KeyFlags::default()
}

/// Returns whether the file has the private half. GnuPG exports a primary key that is kept elsewhere
/// with a placeholder.
fn is_there(params: &SecretParams) -> bool {
    !matches!(
        params,
        SecretParams::Encrypted(params)
            if matches!(params.string_to_key_params(), pgp::types::S2kParams::Cfb { s2k, .. }
                if matches!(s2k, pgp::types::StringToKey::Private { .. }))
    )
}

/// Makes a binary detached signature, of version 4.
pub(super) fn detached(
    key: &impl pgp::types::SigningKey,
    password: &Password,
    text: &str,
    now: i64,
) -> pgp::errors::Result<Vec<u8>> {
    let config = config(key, SignatureType::Binary, timestamp(now))?;
    DetachedSignature::new(config.sign(key, password, text.as_bytes())?).to_bytes()
}

/// Returns the configuration of a signature of version 4, which every client reads, with SHA-512, or
/// SHA-256 or SHA-384 if the curve of the key needs these.
pub(super) fn config(
    key: &impl pgp::types::SigningKey,
    kind: SignatureType,
    at: Timestamp,
) -> pgp::errors::Result<SignatureConfig> {
    let is_rsa = matches!(key.public_params(), pgp::types::PublicParams::RSA(_));
    let hash = if is_rsa { HashAlgorithm::Sha512 } else { key.hash_alg() };
    let mut config = SignatureConfig::v4(kind, key.algorithm(), hash);
    config.hashed_subpackets = vec![
        Subpacket::regular(SubpacketData::SignatureCreationTime(at))?,
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint()))?,
    ];
    config.unhashed_subpackets =
        vec![Subpacket::regular(SubpacketData::IssuerKeyId(key.legacy_key_id()))?];
    Ok(config)
}

/// Returns a time of OpenPGP, which has 32 bits.
pub(super) fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_secs(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX))
}
