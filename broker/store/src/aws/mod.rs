//! The configuration that all AWS clients share: endpoints, timeouts, and which answers they trust.

mod cause;
mod endpoints;
mod found;
mod genuine;
mod measured;
mod session;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_sdk_dynamodb::config::retry::RetryPartition;

pub use cause::AwsCause;
pub use endpoints::{AwsEndpoints, EndpointsError};
pub use found::{AwsService, region_of_profile, region_of_variables};
pub(crate) use genuine::{Genuine, is_from_aws};
pub(crate) use measured::Measured;
pub use session::AwsSession;

use crate::AwsDeadlines;

/// Maximum number of attempts of one call.
const ATTEMPTS: u32 = 3;

/// The AWS resources of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The DynamoDB table.
    pub table: String,
    /// The S3 bucket. Versioning must be enabled.
    pub bucket: String,
    /// The KMS key that encrypts the keyring: its id, ARN or alias.
    pub kms_key: String,
    /// The KMS key that encrypts archives. Without one, the default encryption of the bucket
    /// applies.
    pub bucket_kms_key: Option<String>,
    /// The asymmetric KMS key that signs the heads of the chains of events. Without one, nothing is
    /// signed.
    pub audit_key: Option<String>,
}

/// Loads endpoints, credentials and region from the environment. It makes only the calls that
/// credentials need.
pub(crate) async fn configuration(emulator: Option<&str>) -> SdkConfig {
    loader(emulator).load().await
}

/// Returns what loads the configuration of the SDK.
fn loader(emulator: Option<&str>) -> ConfigLoader {
    let loader = aws_config::defaults(BehaviorVersion::latest());
    // The URL applies to every service. An emulation is incomplete if a service still uses AWS
    // itself.
    match emulator {
        Some(url) => loader.endpoint_url(url),
        None => loader,
    }
}

/// Returns the quota of retries of one client.
///
/// By default, all clients of a service in a process share one quota. Then the failures of one
/// client would use up the retries of another one, which works with other resources.
pub(crate) fn own_retries(service: &'static str) -> RetryPartition {
    RetryPartition::custom(service).build()
}

/// Returns the same configuration with a time limit for every call.
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
