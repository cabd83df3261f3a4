//! The configuration of the SDK for one caller, whose credentials a program has loaded.

use std::fmt;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;

use super::bounded;
use crate::{AwsDeadlines, StoreError, StoreErrorKind};

/// The configuration of the SDK with the credentials and the region of one caller.
pub struct AwsSession {
    sdk: SdkConfig,
}

/// The output has no credentials.
impl fmt::Debug for AwsSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AwsSession").finish_non_exhaustive()
    }
}

impl AwsSession {
    /// Creates a session with these credentials and this region. The SDK finds only its other
    /// settings, such as endpoints, in its own variables and files.
    pub async fn new(credentials: Credentials, region: String) -> Self {
        let loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(region))
            .credentials_provider(credentials);
        Self { sdk: loader.load().await }
    }

    /// Returns the configuration of the SDK.
    pub const fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }

    /// Asks STS who the caller is, and returns the ARN. The call needs no permission.
    ///
    /// # Errors
    ///
    /// [`StoreError`], if STS does not answer, rejects the credentials, or names no ARN.
    pub async fn caller_arn(&self, deadlines: AwsDeadlines) -> Result<String, StoreError> {
        let client = aws_sdk_sts::Client::new(&bounded(&self.sdk, deadlines));
        let answer = Box::pin(client.get_caller_identity().send()).await.map_err(|error| {
            StoreError::unavailable("cannot get the operator's identity from STS", error)
        })?;
        answer.arn.filter(|arn| arn.starts_with("arn:")).ok_or_else(|| {
            StoreError::new(
                StoreErrorKind::Unavailable,
                "the answer of STS does not say who the operator is; hint: check the proxy and the endpoint",
            )
        })
    }
}
