//! An RSA key of AWS KMS that signs lists of digests. Its private half never leaves KMS.

use rsa::RsaPublicKey;
use stile_core::package::provider::SigningKey;
use stile_store::{AwsDeadlines, ReleaseKms, StoreError};
use tokio::sync::mpsc;

use super::certificate::{self, ElsewhereSigner, certificate};
use super::key_file::detached;
use crate::aws_session;
use crate::error::CommandError;

/// The number of bits that a key must have. Every client accepts it, and KMS has no larger one.
const BITS: usize = 4096;

/// A KMS key with its OpenPGP certificate.
#[derive(Debug)]
pub(crate) struct KmsKey {
    kms: ReleaseKms,
    public_key: RsaPublicKey,
    created_at: i64,
    public: SigningKey,
}

impl KmsKey {
    /// Asks KMS for a key, and makes its certificate. The certificate is always the same.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if KMS does not answer, or if the key is not RSA with 4096 bits for signing.
    pub(crate) async fn load(
        arn: &str,
        profile: Option<&str>,
        deadlines: AwsDeadlines,
        now: i64,
    ) -> Result<Self, CommandError> {
        let session = aws_session::load_for_arn(now, profile).await?;
        let kms = ReleaseKms::new(arn, session.sdk(), deadlines).ok_or_else(|| {
            CommandError::usage(format!("`{arn}` is not the ARN of a KMS key"))
                .hint("use an ARN such as `arn:aws:kms:eu-central-1:111122223333:key/UUID`")
        })?;
        let described = kms.describe().await?;
        let other = || {
            CommandError::refused(format!("KMS key `{arn}` is not an RSA key of {BITS} bits"))
                .hint("create one with usage SIGN_VERIFY and specification RSA_4096")
        };
        let (public_key, bits) =
            certificate::public_key(&described.public_key).ok_or_else(other)?;
        if bits != BITS {
            return Err(other());
        }
        let (created_at, user_id) = (described.created_at, format!("AWS KMS {}", described.arn));
        let signing = sign(&kms, public_key.clone(), created_at, move |signer| {
            certificate(signer, &user_id, created_at)
        });
        let armor = signing.await?;
        let public = SigningKey::parse(&armor, now).map_err(|error| {
            CommandError::failed(format!(
                "the certificate of KMS key `{arn}` is not usable: {error}"
            ))
        })?;
        Ok(Self { kms, public_key, created_at, public })
    }

    /// Returns the public half.
    pub(crate) const fn public(&self) -> &SigningKey {
        &self.public
    }

    /// Signs a text at this time, and returns the binary detached signature.
    pub(super) async fn sign(&self, text: &str, now: i64) -> Result<Vec<u8>, CommandError> {
        let text = text.to_owned();
        let signing = sign(&self.kms, self.public_key.clone(), self.created_at, move |signer| {
            detached(signer, &pgp::types::Password::empty(), &text, now)
        });
        signing.await
    }
}

/// Runs work of OpenPGP on a thread of its own, and lets KMS make its signatures.
async fn sign<T: Send + 'static>(
    kms: &ReleaseKms,
    public_key: RsaPublicKey,
    created_at: i64,
    work: impl FnOnce(&ElsewhereSigner) -> pgp::errors::Result<T> + Send + 'static,
) -> Result<T, CommandError> {
    let (questions, mut asked) = mpsc::channel(1);
    let working = tokio::task::spawn_blocking(move || {
        work(&certificate::signer(public_key, created_at, questions)?)
    });
    let mut failed: Option<StoreError> = None;
    // The work drops its end of the channel when it ends.
    while let Some((digest, answer)) = asked.recv().await {
        match kms.sign(digest).await {
            // The work waits for the answer.
            Ok(signature) => drop(answer.send(signature)),
            Err(error) => failed = Some(error),
        }
    }
    match (working.await, failed) {
        (Ok(Ok(done)), None) => Ok(done),
        (_, Some(error)) => Err(error.into()),
        _ => Err(CommandError::failed("the KMS key made a signature that OpenPGP cannot have")),
    }
}
