//! A KMS key with which a publisher signs providers. It is a key of the publisher, not of the registry.

use aws_config::{Region, SdkConfig};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyUsageType, MessageType, SigningAlgorithmSpec};

use crate::aws::{Genuine, bounded, own_retries};
use crate::{AwsDeadlines, StoreError, StoreErrorKind};

/// An RSA key of KMS that makes signatures of PKCS #1 v1.5 with SHA-512.
#[derive(Clone)]
pub struct ReleaseKms {
    client: aws_sdk_kms::Client,
    key: String,
}

/// What does not change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseKmsKey {
    /// The ARN of the key itself, also if an alias was asked for.
    pub arn: String,
    /// The time at which KMS created the key, in Unix seconds.
    pub created_at: i64,
    /// The public key in DER (`SubjectPublicKeyInfo`).
    pub public_key: Vec<u8>,
}

impl std::fmt::Debug for ReleaseKms {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ReleaseKms").field("key", &self.key).finish_non_exhaustive()
    }
}

impl ReleaseKms {
    /// Creates a client for the key with this ARN, in the region of the ARN. `None` if the text is not
    /// an ARN of KMS.
    pub fn new(arn: &str, sdk: &SdkConfig, deadlines: AwsDeadlines) -> Option<Self> {
        let mut parts = arn.split(':');
        let is_kms = parts.next() == Some("arn") && parts.nth(1) == Some("kms");
        let region = parts.next().filter(|region| is_kms && !region.is_empty())?;
        let is_key = |part: &str| part.starts_with("key/") || part.starts_with("alias/");
        parts.nth(1).filter(|part| is_key(part))?;
        let config = aws_sdk_kms::config::Builder::from(&bounded(sdk, deadlines))
            .region(Region::new(region.to_owned()))
            .interceptor(Genuine)
            .retry_partition(own_retries("kms release"));
        let client = aws_sdk_kms::Client::from_conf(config.build());
        Some(Self { client, key: arn.to_owned() })
    }

    /// Asks for the public key and the time of its creation.
    ///
    /// # Errors
    ///
    /// [`StoreError`], if KMS does not answer, or if the key cannot make such signatures.
    pub async fn describe(&self) -> Result<ReleaseKmsKey, StoreError> {
        let asked = self.client.describe_key().key_id(&self.key).send();
        let described = Box::pin(asked).await.map_err(|error| {
            let missing =
                error.as_service_error().is_some_and(|error| error.is_not_found_exception());
            self.unusable(missing, error)
        })?;
        let described = described.key_metadata.ok_or_else(|| self.incomplete("key"))?;
        let asked = self.client.get_public_key().key_id(&self.key).send();
        let answer = Box::pin(asked).await.map_err(|error| {
            let missing =
                error.as_service_error().is_some_and(|error| error.is_not_found_exception());
            self.unusable(missing, error)
        })?;
        let usable = answer.key_usage == Some(KeyUsageType::SignVerify)
            && answer.signing_algorithms().contains(&SigningAlgorithmSpec::RsassaPkcs1V15Sha512);
        if !usable {
            return Err(StoreError::misconfigured(format!(
                "KMS key `{}` cannot sign releases; hint: create one with usage SIGN_VERIFY and specification RSA_4096",
                self.key
            )));
        }
        let created = described.creation_date.ok_or_else(|| self.incomplete("creation date"))?;
        let public_key = answer.public_key.map(Blob::into_inner);
        Ok(ReleaseKmsKey {
            arn: described.arn.ok_or_else(|| self.incomplete("ARN"))?,
            created_at: created.secs(),
            public_key: public_key.ok_or_else(|| self.incomplete("public key"))?,
        })
    }

    /// Signs a SHA-512 digest.
    ///
    /// # Errors
    ///
    /// [`StoreError`], if KMS does not answer or the caller may not use the key.
    pub async fn sign(&self, digest: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let asked = self
            .client
            .sign()
            .key_id(&self.key)
            .message(Blob::new(digest))
            .message_type(MessageType::Digest)
            .signing_algorithm(SigningAlgorithmSpec::RsassaPkcs1V15Sha512);
        let answer = Box::pin(asked.send()).await.map_err(|error| {
            StoreError::unavailable(format!("KMS key `{}` cannot sign", self.key), error)
        })?;
        let signature = answer.signature.map(Blob::into_inner);
        signature.ok_or_else(|| self.incomplete("signature"))
    }

    fn unusable(
        &self,
        missing: bool,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> StoreError {
        let kind = match missing {
            true => StoreErrorKind::Misconfigured,
            false => StoreErrorKind::Unavailable,
        };
        let what = format!("cannot read the public key of KMS key `{}`", self.key);
        StoreError::new(kind, what).caused_by(error)
    }

    fn incomplete(&self, missing: &str) -> StoreError {
        let what = format!("the answer of KMS for key `{}` contains no {missing}", self.key);
        StoreError::new(StoreErrorKind::Unavailable, what)
    }
}
