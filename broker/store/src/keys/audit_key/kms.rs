//! The audit key in KMS: an asymmetric key that signs. Its private half never leaves KMS.

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyUsageType, MessageType, SigningAlgorithmSpec};
use stile_core::audit::{HeadAlgorithm, HeadKey, HeadStatement, SignedHead};
use tokio::sync::OnceCell;

use crate::aws::{Genuine, own_retries};
use crate::{StoreError, StoreErrorKind};

/// An asymmetric KMS key. The process asks for its public half once.
#[derive(Clone)]
pub(crate) struct AuditKms {
    client: aws_sdk_kms::Client,
    key_id: String,
    known: Arc<OnceCell<Known>>,
}

/// What does not change of a key.
#[derive(Clone)]
struct Known {
    arn: String,
    key: HeadKey,
}

impl std::fmt::Debug for AuditKms {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AuditKms").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl AuditKms {
    /// Creates a client for the key with this id, ARN or alias.
    pub(crate) fn new(key_id: &str, sdk: &SdkConfig) -> Self {
        let config = aws_sdk_kms::config::Builder::from(sdk)
            .interceptor(Genuine)
            // Signing must not use up the retries of the keyring.
            .retry_partition(own_retries("kms audit"));
        Self {
            client: aws_sdk_kms::Client::from_conf(config.build()),
            key_id: key_id.to_owned(),
            known: Arc::default(),
        }
    }

    pub(super) async fn sign(&self, statement: HeadStatement) -> Result<SignedHead, StoreError> {
        let Known { arn, key } = self.known().await?;
        let asked = self
            .client
            .sign()
            // An alias can be moved to another key after the public half was read.
            .key_id(arn)
            .message(Blob::new(statement.bytes()))
            .message_type(MessageType::Raw)
            .signing_algorithm(SigningAlgorithmSpec::EcdsaSha256);
        let answer = Box::pin(asked.send()).await.map_err(|error| {
            StoreError::unavailable(format!("KMS key `{}` cannot sign", self.key_id), error)
        })?;
        let signature = answer.signature.map(Blob::into_inner);
        let signature = signature.ok_or_else(|| incomplete("signature"))?;
        let (key_id, key) = (arn.clone(), key.clone());
        let signed = SignedHead { statement, key_id, key, signature };
        if signed.is_intact() {
            return Ok(signed);
        }
        Err(incomplete("signature of this key"))
    }

    pub(super) async fn public(&self) -> Result<HeadKey, StoreError> {
        Ok(self.known().await?.key.clone())
    }

    async fn known(&self) -> Result<&Known, StoreError> {
        self.known.get_or_try_init(|| self.ask()).await
    }

    async fn ask(&self) -> Result<Known, StoreError> {
        let asked = self.client.get_public_key().key_id(&self.key_id).send();
        let answer = Box::pin(asked).await.map_err(|error| {
            let missing =
                error.as_service_error().is_some_and(|error| error.is_not_found_exception());
            let kind = match missing {
                true => StoreErrorKind::Misconfigured,
                false => StoreErrorKind::Unavailable,
            };
            let what = format!("cannot read the public key of KMS key `{}`", self.key_id);
            StoreError::new(kind, what).caused_by(error)
        })?;
        // A key of `ECC_SECG_P256K1` has the same algorithm, and the check of each signature fails.
        let usable = answer.key_usage == Some(KeyUsageType::SignVerify)
            && answer.signing_algorithms().contains(&SigningAlgorithmSpec::EcdsaSha256);
        if !usable {
            return Err(StoreError::misconfigured(format!(
                "KMS key `{}` cannot be an audit key; hint: create one with usage SIGN_VERIFY and specification ECC_NIST_P256",
                self.key_id
            )));
        }
        // The answer for an alias has the ARN of its key. The ARN of a key stays as it was given.
        let arn = match self.key_id.contains(":key/") {
            true => self.key_id.clone(),
            false => answer.key_id.ok_or_else(|| incomplete("key id"))?,
        };
        let public = answer.public_key.map(Blob::into_inner);
        let public = public.ok_or_else(|| incomplete("public key"))?;
        Ok(Known { arn, key: HeadKey::new(HeadAlgorithm::EcdsaP256Sha256, public) })
    }
}

fn incomplete(missing: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, format!("the answer of KMS contains no {missing}"))
}
