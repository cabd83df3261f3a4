//! Loads the AWS credentials and the region of an operator, with the helper's code.
//!
//! The SDK would load them itself, but its errors do not name the provider that failed.

use chrono::DateTime;
use stile_protocol::audience::Audience;
use stile_store::{AwsDeadlines, AwsSession};
use terraform_credentials_stile::config::{Environment, RegistryConfig};
use terraform_credentials_stile::credentials::{RegionSource, load_with_region_source};

use crate::error::CommandError;

/// The host in the settings that the helper's code takes. It has no effect on credentials.
const NO_REGISTRY: &str = "stile.invalid";

/// Loads credentials and a region as AWS tools do: variables, then the profile, and so on.
pub(crate) async fn load(now: i64) -> Result<AwsSession, CommandError> {
    let (session, region) = load_with_source(now, None).await?;
    // The helper signs for the STS of any region, but a table is in one.
    if region == RegionSource::Default {
        return Err(CommandError::failed("no AWS region is set, and a table is in one region")
            .hint("set `AWS_REGION`, or `region` in the AWS profile"));
    }
    Ok(session)
}

/// Loads credentials for a resource whose ARN names its region, of this profile if there is one.
pub(crate) async fn load_for_arn(
    now: i64,
    profile: Option<&str>,
) -> Result<AwsSession, CommandError> {
    load_with_source(now, profile).await.map(|(session, _)| session)
}

async fn load_with_source(
    now: i64,
    profile: Option<&str>,
) -> Result<(AwsSession, RegionSource), CommandError> {
    let mut settings = no_registry()?;
    settings.profile = profile.map(str::to_owned);
    let environment = Environment::read();
    let now = DateTime::from_timestamp(now, 0).unwrap_or_default();
    let (loaded, region) = Box::pin(load_with_region_source(&settings, &environment, now)).await?;
    Ok((Box::pin(AwsSession::new(loaded.credentials, loaded.region)).await, region))
}

/// Returns settings in which only the environment chooses credentials and a region.
pub(crate) fn no_registry() -> Result<RegistryConfig, CommandError> {
    RegistryConfig::new(Audience::parse(NO_REGISTRY)?).map_err(CommandError::failed)
}

/// Returns the ARN of the operator, as STS knows it.
///
/// Without an answer the program changes nothing: a record must not name another operator.
pub(crate) async fn operator_arn(
    session: &AwsSession,
    deadlines: AwsDeadlines,
) -> Result<String, CommandError> {
    let arn = Box::pin(session.caller_arn(deadlines)).await;
    arn.map_err(|error| CommandError::from(error).context("nothing was changed"))
}
