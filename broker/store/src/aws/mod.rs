//! The store on AWS: one DynamoDB table, archives in S3, the keyring encrypted by KMS. Nothing of it is on this machine.

mod archives;
mod document;
mod genuine;
mod grants;
mod host;
mod init;
mod keyring;
mod location;
mod mint;
mod modules;
mod retry;
mod revocations;
mod table;
mod uploads;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use stile_protocol::audience::Audience;

pub use init::AwsMade;
pub use uploads::PendingUpload;

use super::{AwsDeadlines, StoreError};

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

/// The store on AWS. Clients are made once; nothing is called before something is asked.
#[derive(Clone)]
pub struct Aws {
    place: Arc<Place>,
    audience: Option<Audience>,
    dynamodb: aws_sdk_dynamodb::Client,
    s3: aws_sdk_s3::Client,
    kms: aws_sdk_kms::Client,
    keyring: Arc<keyring::Opened>,
    signer: Arc<location::Signer>,
    deadlines: AwsDeadlines,
}

impl std::fmt::Debug for Aws {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Aws").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Aws {
    /// The store as the SDK's own variables and files let it be reached; `emulator` answers for all of AWS where given.
    ///
    /// `audience` is the registry the keyring is for. Without one, as operators have it, it is what the table says.
    pub async fn connect(
        place: Place,
        audience: Option<Audience>,
        emulator: Option<&str>,
        deadlines: AwsDeadlines,
    ) -> Self {
        Self::over(place, audience, &configuration(emulator).await, deadlines)
    }

    /// The store over a configuration of the SDK's that is there.
    pub fn over(
        place: Place,
        audience: Option<Audience>,
        sdk: &SdkConfig,
        deadlines: AwsDeadlines,
    ) -> Self {
        let sdk = bounded(sdk, deadlines);
        Self {
            place: Arc::new(place),
            audience,
            dynamodb: aws_sdk_dynamodb::Client::from_conf(
                aws_sdk_dynamodb::config::Builder::from(&sdk).interceptor(genuine::Genuine).build(),
            ),
            s3: archives::client(&sdk),
            kms: aws_sdk_kms::Client::from_conf(
                aws_sdk_kms::config::Builder::from(&sdk).interceptor(genuine::Genuine).build(),
            ),
            keyring: Arc::default(),
            signer: Arc::new(location::Signer::new(
                sdk.credentials_provider(),
                deadlines.credentials,
            )),
            deadlines,
        }
    }

    /// Whether the table takes a write and the bucket is there; the key is reached when it is needed.
    pub(super) async fn health_check(&self) -> Result<(), StoreError> {
        tokio::try_join!(self.reach_table(), self.reach_bucket()).map(drop)
    }

    /// Each part, and whether it is as it must be.
    pub(super) async fn diagnose(&self) -> Vec<(String, Result<(), StoreError>)> {
        let (table, bucket, key) =
            tokio::join!(self.look_at_table(), self.look_at_bucket(), self.look_at_key());
        vec![
            (format!("table {}", self.place.table), table),
            (format!("bucket {}", self.place.bucket), bucket),
            (format!("KMS key {}", self.place.kms_key), key),
        ]
    }

    /// Uploads grow where the machine keeps what is temporary; a function has nothing else.
    #[expect(clippy::unused_self, reason = "the same question as to the other store")]
    pub(super) fn incoming(&self) -> PathBuf {
        std::env::temp_dir()
    }
}

/// Where, as whom and in which region, from the environment; no call but those that credentials come from.
async fn configuration(emulator: Option<&str>) -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest());
    // Set here, it counts for every service: one that were still asked at AWS itself would be half an emulation.
    match emulator {
        Some(url) => loader.endpoint_url(url).load().await,
        None => loader.load().await,
    }
}

/// The same, with every call bounded.
fn bounded(sdk: &SdkConfig, deadlines: AwsDeadlines) -> SdkConfig {
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
