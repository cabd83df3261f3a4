//! OpenPGP keys of publishers. The same name and time make the same key, so a test can make it again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgp::composed::{ArmorOptions, SignedKeyDetails, SignedPublicKey};
use pgp::crypto::ed25519::{Mode, SecretKey as Ed25519Key};
use pgp::crypto::eddsa_legacy;
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{
    KeyFlags, PacketTrait as _, PubKeyInner, PublicKey, SecretKey, SignatureConfig, SignatureType,
    Subpacket, SubpacketData, UserId,
};
use pgp::types::{
    Duration, KeyDetails as _, KeyVersion, PacketHeaderVersion, Password, PlainSecretParams,
    PublicParams, SecretParams, Timestamp,
};
use sha2::{Digest as _, Sha256};

/// A publisher with an Ed25519 key of version 4.
pub struct TestSigner {
    key: SecretKey,
    user: String,
    created_at: i64,
    /// When the key expires, in Unix seconds.
    expires_at: Option<i64>,
}

impl TestSigner {
    /// Creates the key of that name, which was created at that time in Unix seconds.
    pub fn new(name: &str, created_at: i64) -> Self {
        let seed: [u8; 32] = Sha256::digest(name).into();
        let secret = Ed25519Key::try_from_bytes(seed, Mode::EdDSALegacy).unwrap();
        let public = PublicParams::EdDSALegacy((&secret).into());
        let public = PubKeyInner::new(
            KeyVersion::V4,
            PublicKeyAlgorithm::EdDSALegacy,
            timestamp(created_at),
            None,
            public,
        );
        let public = PublicKey::from_inner(public.unwrap()).unwrap();
        let secret = PlainSecretParams::EdDSALegacy(eddsa_legacy::SecretKey::Ed25519(secret));
        let key = SecretKey::new(public, SecretParams::Plain(secret)).unwrap();
        let user = format!("{name} <{name}@example.com>");
        Self { key, user, created_at, expires_at: None }
    }

    /// Lets the key expire at that time in Unix seconds.
    pub fn expiring(self, at: i64) -> Self {
        Self { expires_at: Some(at), ..self }
    }

    /// Returns the public key as an armored block.
    pub fn armor(&self) -> String {
        let user = UserId::from_str(PacketHeaderVersion::New, &self.user).unwrap();
        let mut flags = KeyFlags::default();
        flags.set_certify(true);
        flags.set_sign(true);
        let mut config = self.config(SignatureType::CertPositive, self.created_at);
        let flags = Subpacket::regular(SubpacketData::KeyFlags(flags)).unwrap();
        config.hashed_subpackets.push(flags);
        if let Some(at) = self.expires_at {
            let lifetime = Duration::from_secs((at - self.created_at).try_into().unwrap());
            let lifetime = SubpacketData::KeyExpirationTime(lifetime);
            config.hashed_subpackets.push(Subpacket::regular(lifetime).unwrap());
        }
        let public = self.key.public_key();
        let signed = config
            .sign_certification(&self.key, public, &Password::empty(), user.tag(), &user)
            .unwrap();
        let users = vec![user.into_signed(signed)];
        let details = SignedKeyDetails::new(Vec::new(), Vec::new(), users, Vec::new());
        let certificate = SignedPublicKey::new(public.clone(), details, Vec::new());
        certificate.to_armored_string(ArmorOptions::default()).unwrap()
    }

    /// Returns the id of the key, as 16 upper-case digits.
    pub fn key_id(&self) -> String {
        hex::encode_upper(self.key.public_key().legacy_key_id())
    }

    /// Signs a text at that time. Returns the detached binary signature as base64.
    pub fn sign(&self, text: &str, at: i64) -> String {
        let config = self.config(SignatureType::Binary, at);
        let signature = config.sign(&self.key, &Password::empty(), text.as_bytes()).unwrap();
        let mut packet = Vec::new();
        signature.to_writer_with_header(&mut packet).unwrap();
        STANDARD.encode(packet)
    }

    fn config(&self, kind: SignatureType, at: i64) -> SignatureConfig {
        let public = self.key.public_key();
        let mut config =
            SignatureConfig::v4(kind, PublicKeyAlgorithm::EdDSALegacy, HashAlgorithm::Sha512);
        config.hashed_subpackets = vec![
            Subpacket::regular(SubpacketData::SignatureCreationTime(timestamp(at))).unwrap(),
            Subpacket::regular(SubpacketData::IssuerFingerprint(public.fingerprint())).unwrap(),
        ];
        config.unhashed_subpackets =
            vec![Subpacket::regular(SubpacketData::IssuerKeyId(public.legacy_key_id())).unwrap()];
        config
    }
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds.try_into().unwrap())
}
