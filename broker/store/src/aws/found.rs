//! Tells what the SDK finds in its variables and files, without a request.

use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::ProvideRegion as _;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{Region, SdkConfig};
use aws_types::service_config::ServiceConfigKey;
use stile_settings::{Setting, Source};

use super::{AwsEndpoints, loader};

/// The region of a client that needs none, because it sends nothing.
const NO_REGION: &str = "us-east-1";

/// Returns the region that the SDK finds in a variable.
pub async fn region_of_variables() -> Option<String> {
    EnvironmentVariableRegionProvider::new().region().await.map(|region| region.to_string())
}

/// Returns the region that the SDK finds in the selected profile.
pub async fn region_of_profile() -> Option<String> {
    ProfileFileRegionProvider::new().region().await.map(|region| region.to_string())
}

/// A service of AWS, and how its variables, flags and files name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwsService {
    /// DynamoDB.
    DynamoDb,
    /// S3.
    S3,
    /// KMS.
    Kms,
    /// STS.
    Sts,
    /// EventBridge.
    EventBridge,
}

impl AwsService {
    /// Returns the id of the service in the AWS configuration.
    const fn id(self) -> &'static str {
        match self {
            Self::DynamoDb => "DynamoDB",
            Self::S3 => "S3",
            Self::Kms => "KMS",
            Self::Sts => "STS",
            Self::EventBridge => "EventBridge",
        }
    }

    /// Returns the hidden flag of the endpoint, without dashes.
    const fn flag(self) -> &'static str {
        match self {
            Self::DynamoDb => "aws-endpoint-dynamodb",
            Self::S3 => "aws-endpoint-s3",
            Self::Kms => "aws-endpoint-kms",
            Self::Sts => "aws-endpoint-sts",
            Self::EventBridge => "aws-endpoint-eventbridge",
        }
    }
}

impl AwsEndpoints {
    /// Returns a setting for the endpoint of each service, as the clients of the SDK resolve it.
    ///
    /// `emulator` is the URL that replaces all of AWS. `source` tells where the value of a flag comes
    /// from, by the name of the flag without dashes.
    pub async fn settings(
        &self,
        services: &[AwsService],
        emulator: Option<&str>,
        source: impl Fn(&str) -> Source,
    ) -> Vec<Setting> {
        let sdk = loader(emulator).region(Region::from_static(NO_REGION)).no_credentials();
        let sdk = Box::pin(sdk.load()).await;
        let setting = |service: &AwsService| {
            let name = format!("endpoint of {}", service.id());
            let Some(url) = emulator.map(str::to_owned).or_else(|| endpoint(&sdk, *service)) else {
                let unset = Setting::new(name, None::<&str>, Source::Default);
                return unset.note(format!("that of {} in the region", service.id()));
            };
            let source = if self.only(*service).is_some() && emulator.is_none() {
                source(service.flag())
            } else if self.every_service.is_some() {
                source("aws-endpoint")
            } else {
                Source::File("of the AWS configuration".to_owned())
            };
            Setting::new(name, Some(url), source)
        };
        let ignored = self.ignored.as_ref().map(|ignored| {
            let name = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS";
            Setting::new(name, Some(ignored), source("aws-ignore-endpoints"))
        });
        services.iter().map(setting).chain(ignored).collect()
    }

    fn only(&self, service: AwsService) -> Option<&String> {
        match service {
            AwsService::DynamoDb => self.only_dynamodb.as_ref(),
            AwsService::S3 => self.only_s3.as_ref(),
            AwsService::Kms => self.only_kms.as_ref(),
            AwsService::Sts => self.only_sts.as_ref(),
            AwsService::EventBridge => self.only_eventbridge.as_ref(),
        }
    }
}

/// Returns the endpoint of a service, with the lookup that the client of the service makes.
fn endpoint(sdk: &SdkConfig, service: AwsService) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id(service.id())
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()?;
    let own = sdk.service_config().and_then(|configured| configured.load_config(key));
    own.or_else(|| sdk.endpoint_url().map(str::to_owned))
}
