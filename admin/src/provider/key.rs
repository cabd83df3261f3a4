//! The key of a publisher: in a file on this machine, or in AWS KMS.

use std::path::PathBuf;

use stile_core::package::provider::SigningKey;
use stile_store::AwsDeadlines;

use super::key_file::KeyFile;
use super::kms_key::KmsKey;
use super::passphrase::PassphraseSource;
use crate::error::CommandError;

/// Where the key of a publisher is.
#[derive(Debug)]
pub(crate) enum KeySource {
    /// In a file, with a passphrase if the file is locked.
    File(PathBuf, PassphraseSource),
    /// In AWS KMS.
    Kms {
        /// The ARN of the key.
        arn: String,
        /// The AWS profile whose credentials may use the key.
        profile: Option<String>,
    },
}

/// The key that signs lists of digests.
#[derive(Debug)]
pub(crate) struct PublisherKey(Inner);

#[derive(Debug)]
enum Inner {
    File(Box<KeyFile>),
    Kms(Box<KmsKey>),
}

impl PublisherKey {
    /// Reads the key, or asks KMS for it.
    pub(crate) async fn load(
        source: &KeySource,
        deadlines: AwsDeadlines,
        now: i64,
    ) -> Result<Self, CommandError> {
        Ok(Self(match source {
            KeySource::File(path, passphrase) => {
                Inner::File(Box::new(KeyFile::read(path, passphrase, now)?))
            }
            KeySource::Kms { arn, profile } => {
                let loading = KmsKey::load(arn, profile.as_deref(), deadlines, now);
                Inner::Kms(Box::new(Box::pin(loading).await?))
            }
        }))
    }

    /// Returns the public half.
    pub(crate) const fn public(&self) -> &SigningKey {
        match &self.0 {
            Inner::File(key) => key.public(),
            Inner::Kms(key) => key.public(),
        }
    }

    /// Signs a list of digests, and verifies the signature as the registry does.
    pub(crate) async fn sign(&self, text: &str, now: i64) -> Result<Vec<u8>, CommandError> {
        let signature = match &self.0 {
            Inner::File(key) => key.sign(text, now)?,
            Inner::Kms(key) => Box::pin(key.sign(text, now)).await?,
        };
        self.public().verify(text.as_bytes(), &signature, now).map_err(|error| {
            CommandError::failed(format!("the key made a signature that is not valid: {error}"))
        })?;
        Ok(signature)
    }
}
