//! Archives as objects in an S3 bucket that keeps versions.

mod archives;
mod links;
mod setup;
mod signing;
mod uploads;

use std::sync::Arc;

use aws_config::SdkConfig;

use crate::AwsDeadlines;

/// The bucket. The client is made once; nothing is called before somebody asks.
#[derive(Clone)]
pub struct S3 {
    client: aws_sdk_s3::Client,
    bucket: String,
    /// The KMS key that archives are encrypted under; without one, what the bucket encrypts with by default.
    kms_key: Option<String>,
    signer: Arc<signing::Signer>,
    deadlines: AwsDeadlines,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("S3").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl S3 {
    /// The bucket of that name.
    pub(crate) fn new(
        bucket: &str,
        kms_key: Option<&str>,
        sdk: &SdkConfig,
        deadlines: AwsDeadlines,
    ) -> Self {
        let signer = signing::Signer::new(sdk.credentials_provider(), deadlines.credentials);
        Self {
            client: archives::client(sdk),
            bucket: bucket.to_owned(),
            kms_key: kms_key.map(str::to_owned),
            signer: Arc::new(signer),
            deadlines,
        }
    }

    /// The name of the bucket, for a message.
    pub(crate) fn name(&self) -> String {
        format!("bucket {}", self.bucket)
    }
}
