//! The OpenPGP certificate of an RSA key that signs elsewhere. The program makes it from the public key
//! and the time at which the key was created, so that it is the same on every machine.

use pgp::adapter::RsaSigner;
use pgp::composed::{ArmorOptions, SignedKeyDetails, SignedPublicKey};
use pgp::packet::{KeyFlags, PacketTrait as _, SignatureType, Subpacket, SubpacketData, UserId};
use pgp::types::{KeyVersion, PacketHeaderVersion, Password};
use rsa::RsaPublicKey;
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::pkcs8::DecodePublicKey as _;
use rsa::sha2::Sha512;
use rsa::signature::hazmat::PrehashSigner;
use rsa::signature::{Error, Keypair};
use rsa::traits::PublicKeyParts as _;
use tokio::sync::{mpsc, oneshot};

use super::key_file::{config, timestamp};

/// A digest to sign, and where its signature goes.
pub(super) type Question = (Vec<u8>, oneshot::Sender<Vec<u8>>);

/// A signer of OpenPGP whose private key is elsewhere.
pub(super) type ElsewhereSigner = RsaSigner<Elsewhere, Sha512>;

/// Asks for each signature over a channel, and waits for it. So it must not run on the async runtime.
pub(super) struct Elsewhere {
    key: VerifyingKey<Sha512>,
    questions: mpsc::Sender<Question>,
}

impl Keypair for Elsewhere {
    type VerifyingKey = VerifyingKey<Sha512>;

    fn verifying_key(&self) -> Self::VerifyingKey {
        self.key.clone()
    }
}

impl PrehashSigner<Signature> for Elsewhere {
    fn sign_prehash(&self, digest: &[u8]) -> Result<Signature, Error> {
        let (answer, answered) = oneshot::channel();
        let asked = self.questions.blocking_send((digest.to_vec(), answer));
        asked.map_err(|_| Error::new())?;
        let bytes = answered.blocking_recv().map_err(|_| Error::new())?;
        Signature::try_from(bytes.as_slice())
    }
}

/// Parses a public key in DER. Returns it with the number of its bits.
pub(super) fn public_key(der: &[u8]) -> Option<(RsaPublicKey, usize)> {
    let key = RsaPublicKey::from_public_key_der(der).ok()?;
    let bits = key.n().bits();
    Some((key, bits))
}

/// Creates the signer for a public key that was created at this time, in Unix seconds.
pub(super) fn signer(
    key: RsaPublicKey,
    created_at: i64,
    questions: mpsc::Sender<Question>,
) -> pgp::errors::Result<ElsewhereSigner> {
    let elsewhere = Elsewhere { key: VerifyingKey::new(key), questions };
    RsaSigner::new(elsewhere, KeyVersion::V4, timestamp(created_at))
}

/// Makes the armored certificate of a key, with this user id. It asks for one signature.
pub(super) fn certificate(
    signer: &ElsewhereSigner,
    user_id: &str,
    created_at: i64,
) -> pgp::errors::Result<String> {
    let user = UserId::from_str(PacketHeaderVersion::New, user_id)?;
    let mut flags = KeyFlags::default();
    flags.set_certify(true);
    flags.set_sign(true);
    let mut config = config(signer, SignatureType::CertPositive, timestamp(created_at))?;
    config.hashed_subpackets.push(Subpacket::regular(SubpacketData::KeyFlags(flags))?);
    let key = signer.public_key();
    let signed = config.sign_certification(signer, key, &Password::empty(), user.tag(), &user)?;
    let users = vec![user.into_signed(signed)];
    let details = SignedKeyDetails::new(Vec::new(), Vec::new(), users, Vec::new());
    let certificate = SignedPublicKey::new(key.clone(), details, Vec::new());
    certificate.to_armored_string(ArmorOptions::default())
}
