//! Archives as objects in an S3 bucket with versioning.

mod archives;
mod links;
mod metadata;
mod provider_files;
mod setup;
mod signing;
mod uploads;

use std::sync::Arc;

use aws_config::SdkConfig;

pub(super) use archives::client;
pub(crate) use archives::{key, parse_key};
pub(super) use links::presigned_get;
pub(crate) use provider_files::sums_keys;
pub(super) use signing::Signer;

use crate::{AwsDeadlines, ServiceCalls};

/// An S3 bucket. The client is created once, and makes no call before the first operation.
#[derive(Clone)]
pub struct S3 {
    client: aws_sdk_s3::Client,
    bucket: String,
    /// The KMS key that encrypts archives. Without one, the default encryption of the bucket
    /// applies.
    kms_key: Option<String>,
    signer: Arc<Signer>,
    deadlines: AwsDeadlines,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("S3").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl S3 {
    /// Creates a client for the bucket with this name.
    pub(crate) fn new(
        bucket: &str,
        kms_key: Option<&str>,
        sdk: &SdkConfig,
        deadlines: AwsDeadlines,
        calls: &ServiceCalls,
    ) -> Self {
        let signer = Signer::new(sdk.credentials_provider(), deadlines.credentials);
        Self {
            client: client(sdk, calls),
            bucket: bucket.to_owned(),
            kms_key: kms_key.map(str::to_owned),
            signer: Arc::new(signer),
            deadlines,
        }
    }

    /// Returns whether this is the name of the bucket.
    pub(crate) fn is_named(&self, bucket: &str) -> bool {
        self.bucket == bucket
    }

    /// Returns the name of the bucket, for messages.
    pub(crate) fn name(&self) -> String {
        format!("bucket {}", self.bucket)
    }
}
