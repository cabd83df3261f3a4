//! Finds AWS credentials and a region as every AWS tool does: environment, profile, web identity, container, instance.
//!
//! The order is that of the SDK's default chain; it is walked here so that an error can name the provider that failed.
//! A profile that somebody named is used alone, as with `aws --profile`: keys in the environment must not stand in for it.

use std::time::Duration;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::{
    EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider,
};
use aws_config::imds;
use aws_config::meta::region::ProvideRegion;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError as SdkError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::config::{Environment, RegistryConfig};
use crate::message;

/// Longest time to look: Terraform runs its helper up to three times, and waits for it without a limit.
///
/// The SDK starts a `credential_process` itself, so one that hangs is left behind.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What must be left of credentials for whoever gave them not to be asked once more.
///
/// The buffer of the SDK's identity cache (`IdentityCache::lazy`, 10 s), which only its service clients have: longer, since
/// an exchange may take ten seconds, and credentials end by AWS's clock and not by ours.
const EXPIRY_BUFFER: TimeDelta = TimeDelta::minutes(1);

/// How long is waited for better ones: less than what is left of the time for all providers after a slow first answer.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(3);

/// What signs.
#[derive(Debug)]
pub struct LoadedCredentials {
    /// The credentials; their `Debug` shows no secret.
    pub credentials: Credentials,
    /// Who gave them.
    pub provider: CredentialProvider,
    /// The region to sign for.
    pub region: String,
    /// Whether the AWS configuration allows FIPS endpoints only.
    pub fips: bool,
}

/// Why there is nothing to sign with.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Nobody has credentials.
    #[error(
        "no AWS credentials were found: not in the environment, a profile, web identity, a container or instance metadata"
    )]
    NotFound,
    /// The profile that was named has none.
    #[error("the AWS profile `{profile}` gave no credentials")]
    EmptyProfile {
        /// The profile.
        profile: String,
        /// What the SDK says.
        source: Box<SdkError>,
    },
    /// A provider is set up and failed; no other is asked in its place.
    #[error("AWS credentials from {provider} could not be loaded")]
    Failed {
        /// The provider.
        provider: CredentialProvider,
        /// What the SDK says.
        source: Box<SdkError>,
    },
    /// They are over.
    #[error("the AWS credentials from {provider} expired at {expired_at}")]
    Expired {
        /// The provider.
        provider: CredentialProvider,
        /// When, RFC 3339.
        expired_at: String,
    },
    /// Looking took too long.
    #[error("no AWS credentials came within {} seconds", LOAD_TIMEOUT.as_secs())]
    TimedOut,
    /// Nothing says which region's STS to use.
    #[error("no AWS region is set")]
    NoRegion,
}

impl CredentialsError {
    /// The next step.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotFound => {
                "sign in with `aws sso login`, set `AWS_PROFILE`, or name a `profile` in the helper's `config.toml`"
            }
            Self::EmptyProfile { .. } => {
                "look at the profile with `aws configure list --profile NAME`, and sign in with `aws sso login`"
            }
            Self::Failed { provider, .. } | Self::Expired { provider, .. } => provider.hint(),
            Self::TimedOut => "try `aws sts get-caller-identity`, which looks in the same places",
            Self::NoRegion => {
                "set `AWS_REGION`, a `region` in the AWS profile, or `region` in the helper's `config.toml`"
            }
        }
    }
}

/// Finds what signs for a registry.
pub async fn load(
    registry: &RegistryConfig,
    environment: &Environment,
    now: DateTime<Utc>,
) -> Result<LoadedCredentials, CredentialsError> {
    tokio::time::timeout(LOAD_TIMEOUT, resolve(registry, environment, now))
        .await
        .map_err(|_| CredentialsError::TimedOut)?
}

async fn resolve(
    registry: &RegistryConfig,
    environment: &Environment,
    now: DateTime<Utc>,
) -> Result<LoadedCredentials, CredentialsError> {
    let profile = registry.profile.as_deref();
    // Two tries: off EC2 nobody answers, and a person waits for each.
    let metadata = imds::Client::builder().max_attempts(2).build();
    let region = match &registry.region {
        Some(region) => Region::new(region.clone()),
        None => region(profile, &metadata).await.ok_or(CredentialsError::NoRegion)?,
    };
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).region(region.clone()).no_credentials();
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    let fips = loader.load().await.use_fips().unwrap_or(false);
    let settings = ProviderConfig::without_region()
        .with_region(Some(region.clone()))
        .with_use_fips(Some(fips));

    let (provider, credentials) =
        first_credentials(profile, environment, &settings, &metadata, now).await?;
    if let Some(expiry) = expiry(&credentials).filter(|expiry| *expiry <= now) {
        return Err(CredentialsError::Expired {
            provider,
            expired_at: expiry.to_rfc3339_opts(SecondsFormat::Secs, true),
        });
    }
    Ok(LoadedCredentials { credentials, provider, region: region.to_string(), fips })
}

async fn region(profile: Option<&str>, metadata: &imds::Client) -> Option<Region> {
    let mut in_profile = ProfileFileRegionProvider::builder();
    if let Some(profile) = profile {
        in_profile = in_profile.profile_name(profile);
    }
    let of_instance =
        imds::region::ImdsRegionProvider::builder().imds_client(metadata.clone()).build();
    let chain: [Box<dyn ProvideRegion>; 3] = [
        Box::new(EnvironmentVariableRegionProvider::new()),
        Box::new(in_profile.build()),
        Box::new(of_instance),
    ];
    for provider in chain {
        // A variable that is set to nothing says nothing.
        if let Some(region) = provider.region().await.filter(|region| !region.as_ref().is_empty()) {
            return Some(region);
        }
    }
    None
}

async fn first_credentials(
    profile: Option<&str>,
    environment: &Environment,
    settings: &ProviderConfig,
    metadata: &imds::Client,
    now: DateTime<Utc>,
) -> Result<(CredentialProvider, Credentials), CredentialsError> {
    let chain: &[CredentialProvider] =
        if profile.is_some() { &[CredentialProvider::Profile] } else { &CredentialProvider::CHAIN };
    for provider in chain {
        match (provide_fresh(&provider.build(profile, settings, metadata), now).await, profile) {
            (Ok(credentials), _) => return Ok((*provider, credentials)),
            (Err(source @ SdkError::CredentialsNotLoaded(_)), Some(profile)) => {
                return Err(CredentialsError::EmptyProfile {
                    profile: profile.to_owned(),
                    source: Box::new(source),
                });
            }
            (Err(source @ SdkError::CredentialsNotLoaded(_)), None)
                if *provider == CredentialProvider::Instance && metadata_timed_out(&source) =>
            {
                return Err(CredentialsError::Failed {
                    provider: *provider,
                    source: Box::new(source),
                });
            }
            (Err(source @ SdkError::CredentialsNotLoaded(_)), None) => {
                match environment.aws_profile() {
                    Some(profile)
                        if *provider == CredentialProvider::Profile
                            && is_missing_profile(&source, environment) =>
                    {
                        return Err(CredentialsError::EmptyProfile {
                            profile: profile.to_owned(),
                            source: Box::new(source),
                        });
                    }
                    _ => {}
                }
            }
            (Err(source), _) => {
                return Err(CredentialsError::Failed {
                    provider: *provider,
                    source: Box::new(source),
                });
            }
        }
    }
    Err(CredentialsError::NotFound)
}

/// Asks a provider, and once more where what it gives is over or nearly: agents refresh when they are asked.
///
/// What is nearly over still signs where nothing better comes, or not soon.
async fn provide_fresh(
    provider: &SharedCredentialsProvider,
    now: DateTime<Utc>,
) -> Result<Credentials, SdkError> {
    let credentials = provider.provide_credentials().await?;
    if expiry(&credentials).is_none_or(|expiry| expiry.signed_duration_since(now) > EXPIRY_BUFFER) {
        return Ok(credentials);
    }
    match tokio::time::timeout(REFRESH_TIMEOUT, provider.provide_credentials()).await {
        Ok(Ok(second)) if expiry(&second).is_none_or(|end| Some(end) > expiry(&credentials)) => {
            Ok(second)
        }
        _ => Ok(credentials),
    }
}

/// When credentials end, where they say.
pub fn expiry(credentials: &Credentials) -> Option<DateTime<Utc>> {
    credentials.expiry().map(DateTime::from)
}

/// Whether instance metadata took the call and its answer never came, as in a container that its hop limit does not reach.
///
/// Elsewhere than on EC2 nobody is there at all; the SDK says "not loaded" of both, and tells them apart in words alone.
fn metadata_timed_out(error: &SdkError) -> bool {
    let said = message::chain(error);
    ["HTTP read timeout", "client error (SendRequest)"].iter().any(|words| said.contains(words))
}

/// Whether there is no such profile; one that is there may name a region alone, and then others are asked for credentials.
///
/// The SDK gives a reason for the former only, and none where there is no file that could have any profile.
fn is_missing_profile(error: &SdkError, environment: &Environment) -> bool {
    std::error::Error::source(error).is_some()
        || environment.aws_files_changed().iter().all(Option::is_none)
}

/// Who gives credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialProvider {
    /// `AWS_ACCESS_KEY_ID` and its companions.
    Environment,
    /// A profile of the AWS configuration: keys, SSO, an assumed role, a `credential_process`.
    Profile,
    /// A token file and a role, as on EKS and in CI.
    WebIdentity,
    /// The endpoint of ECS, EKS Pod Identity or CloudShell.
    Container,
    /// EC2's metadata service, version 2.
    Instance,
}

impl CredentialProvider {
    /// The order in which they are asked.
    const CHAIN: [Self; 5] =
        [Self::Environment, Self::Profile, Self::WebIdentity, Self::Container, Self::Instance];

    fn build(
        self,
        profile: Option<&str>,
        settings: &ProviderConfig,
        metadata: &imds::Client,
    ) -> SharedCredentialsProvider {
        match self {
            Self::Environment => {
                SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new())
            }
            Self::Profile => {
                let mut builder = ProfileFileCredentialsProvider::builder().configure(settings);
                if let Some(profile) = profile {
                    builder = builder.profile_name(profile);
                }
                SharedCredentialsProvider::new(builder.build())
            }
            Self::WebIdentity => SharedCredentialsProvider::new(
                WebIdentityTokenCredentialsProvider::builder().configure(settings).build(),
            ),
            Self::Container => SharedCredentialsProvider::new(
                EcsCredentialsProvider::builder().configure(settings).build(),
            ),
            Self::Instance => SharedCredentialsProvider::new(
                imds::credentials::ImdsCredentialsProvider::builder()
                    .configure(settings)
                    .imds_client(metadata.clone())
                    .build(),
            ),
        }
    }

    const fn hint(self) -> &'static str {
        match self {
            Self::Environment => {
                "set `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, for a role, `AWS_SESSION_TOKEN` anew"
            }
            Self::Profile => {
                "sign in with `aws sso login`, or look at the profile with `aws configure list`"
            }
            Self::WebIdentity => {
                "look at `AWS_ROLE_ARN`, `AWS_WEB_IDENTITY_TOKEN_FILE` and the trust policy of the role"
            }
            Self::Container => {
                "look at `AWS_CONTAINER_CREDENTIALS_FULL_URI` or `…_RELATIVE_URI` and the role of the task or pod"
            }
            Self::Instance => {
                "give the instance a role; from inside a container its metadata hop limit must be 2"
            }
        }
    }
}

impl std::fmt::Display for CredentialProvider {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Environment => "the environment",
            Self::Profile => "the AWS profile",
            Self::WebIdentity => "web identity",
            Self::Container => "the container endpoint",
            Self::Instance => "instance metadata",
        })
    }
}
