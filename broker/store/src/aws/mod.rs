//! What all clients of AWS services share: where they are, how long they wait, and which answers they believe.

mod genuine;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};

pub(crate) use genuine::{Genuine, is_from_aws};

use crate::AwsDeadlines;

/// How often a call is sent at most.
const ATTEMPTS: u32 = 3;

/// What the store is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The DynamoDB table.
    pub table: String,
    /// The S3 bucket, which keeps versions.
    pub bucket: String,
    /// The KMS key of the keyring: its id, ARN or alias.
    pub kms_key: String,
    /// The KMS key that archives are encrypted under; without one, whatever the bucket encrypts with by default.
    pub bucket_kms_key: Option<String>,
}

/// Where, as whom and in which region, from the environment; no call but those that credentials come from.
pub(crate) async fn configuration(emulator: Option<&str>) -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest());
    // Set here, it counts for every service: one that were still asked at AWS itself would be half an emulation.
    match emulator {
        Some(url) => loader.endpoint_url(url).load().await,
        None => loader.load().await,
    }
}

/// The same, with every call bounded.
pub(crate) fn bounded(sdk: &SdkConfig, deadlines: AwsDeadlines) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(deadlines.connect)
        .operation_attempt_timeout(deadlines.attempt)
        .operation_timeout(deadlines.call)
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(Duration::from_millis(50))
        .with_max_backoff(Duration::from_millis(500));
    sdk.to_builder().timeout_config(timeouts).retry_config(retries).build()
}
