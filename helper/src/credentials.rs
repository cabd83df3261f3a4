//! Finds AWS credentials and a region: environment, profile, web identity, container, instance.
//!
//! The order is that of the SDK's default chain. This module tries the providers itself, so that an
//! error can name the provider that failed. If the user names a profile, the helper tries only that
//! profile, as `aws --profile` does: keys in the environment must not replace it.

mod login;
mod profiles;
mod provider;

use std::time::Duration;

use aws_config::imds;
use aws_config::meta::region::ProvideRegion;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError as SdkError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

pub use crate::credentials::login::LoginProblem;
pub use crate::credentials::profiles::{ProfileError, ProfileKind, ProfileSummary, list_profiles};
pub use crate::credentials::provider::CredentialProvider;

use crate::credentials::profiles::ProfileFacts;

use crate::config::{DEFAULT_PROFILE, Environment, RegistryConfig, Service};
use crate::message;

/// Timeout for all providers together. Terraform runs its helper up to three times, without a limit.
///
/// The SDK starts a `credential_process` itself, so a hanging one outlives the helper.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Remaining lifetime below which the helper asks a provider for newer credentials.
///
/// The SDK's `IdentityCache::lazy`, which only its service clients use, has a buffer of 10 s. This
/// one is longer: an exchange may take ten seconds, and credentials expire by the clock of AWS.
const EXPIRY_BUFFER: TimeDelta = TimeDelta::minutes(1);

/// Timeout for newer credentials. It leaves time for a slow first call within [`LOAD_TIMEOUT`].
const REFRESH_TIMEOUT: Duration = Duration::from_secs(3);

/// Credentials and a region to sign with.
#[derive(Debug)]
pub struct LoadedCredentials {
    /// The credentials. Their `Debug` output contains no secret.
    pub credentials: Credentials,
    /// The provider of the credentials.
    pub provider: CredentialProvider,
    /// The region to sign for.
    pub region: String,
    /// Whether the AWS configuration requires FIPS endpoints.
    pub fips: bool,
}

/// Credentials, and how the helper found them.
#[derive(Debug)]
pub struct FoundCredentials {
    /// The credentials and the region.
    pub loaded: LoadedCredentials,
    /// The profile, if the provider is one.
    pub profile: Option<ProfileSummary>,
    /// Where the region comes from.
    pub region_source: RegionSource,
    /// Whether the provider can give another identity without a change of the settings.
    ///
    /// Then the cache uses a token only for the access key that got it.
    pub may_change_identity: bool,
}

/// Why the helper has no credentials to sign with.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// No provider has credentials.
    #[error(
        "found no AWS credentials in the environment, a profile, web identity, a container or instance metadata"
    )]
    NotFound,
    /// The profile does not exist, or its file is damaged.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A key contains a blank or a line end.
    #[error("the {part} from {provider}{} contains a blank or a line end", named(.profile.as_ref()))]
    Blank {
        /// The part of the credentials.
        part: &'static str,
        /// The provider.
        provider: CredentialProvider,
        /// The profile, if the provider is one.
        profile: Option<String>,
    },
    /// The profile has no credentials, and neither has any other provider that the helper tried.
    #[error(
        "the AWS profile `{}` has no credentials: it needs keys, `login_session`, `sso_session`, `credential_process` or `role_arn`{}",
        .profile.name,
        if *.only { "" } else { "; no other provider has any" }
    )]
    EmptyProfile {
        /// The profile.
        profile: ProfileSummary,
        /// Whether the helper tried only this profile, because the user named it.
        only: bool,
    },
    /// The profile is one of `aws login`, and its session gives no credentials.
    #[error("the AWS profile `{}` {problem}", .profile.source)]
    Login {
        /// The profile.
        profile: ProfileSummary,
        /// What is wrong with the session.
        problem: LoginProblem,
    },
    /// A configured provider failed. The helper tries no other provider instead.
    #[error("cannot load AWS credentials from {provider}{}", described(.profile.as_ref()))]
    Failed {
        /// The provider.
        provider: CredentialProvider,
        /// The profile, if the provider is one.
        profile: Option<ProfileSummary>,
        /// The error of the SDK.
        source: Box<SdkError>,
    },
    /// The credentials have expired.
    #[error("the AWS credentials from {provider}{} expired at {expired_at}", described(.profile.as_ref()))]
    Expired {
        /// The provider.
        provider: CredentialProvider,
        /// The profile, if the provider is one.
        profile: Option<ProfileSummary>,
        /// The time of expiry, RFC 3339.
        expired_at: String,
    },
    /// AWS does not accept the credentials.
    #[error("{reason}; the credentials are from {provider}{}", described(.profile.as_ref()))]
    Rejected {
        /// The provider.
        provider: CredentialProvider,
        /// The profile, if the provider is one.
        profile: Option<ProfileSummary>,
        /// What AWS reports, in the words of the registry.
        reason: String,
    },
    /// The providers took longer than the timeout.
    #[error("loading AWS credentials took more than {} seconds", LOAD_TIMEOUT.as_secs())]
    TimedOut,
    /// A proxy would receive the request to a credential endpoint.
    #[error(
        "{provider} is not asked for AWS credentials, because a proxy of the environment would receive the request"
    )]
    Proxied {
        /// The provider.
        provider: CredentialProvider,
    },
    /// No AWS region is configured, and a gateway accepts only signatures for its own.
    #[error("no AWS region is set, and a gateway accepts only signatures for its own region")]
    NoRegion,
}

impl CredentialsError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        let text = match self {
            Self::NotFound => {
                "sign in with `aws login` or `aws sso login`, set `AWS_PROFILE`, or set `profile` in the helper's `config.toml`"
            }
            Self::Profile(error) => error.hint(),
            Self::Blank { .. } => {
                "set the value again without it; `echo` and some editors add a line end"
            }
            Self::EmptyProfile { profile, .. } => return profile.renewal(),
            Self::Login { profile, problem } => return problem.hint(profile),
            Self::Failed { provider, profile, .. }
            | Self::Expired { provider, profile, .. }
            | Self::Rejected { provider, profile, .. } => match profile {
                Some(profile) => return profile.renewal(),
                None => provider.hint(),
            },
            Self::TimedOut => "run `aws sts get-caller-identity`, which uses the same providers",
            Self::Proxied { .. } => {
                "set `NO_PROXY=localhost,127.0.0.0/8,::1,169.254.0.0/16,fd00:ec2::/32`; add the host of a named endpoint"
            }
            Self::NoRegion => {
                "set `AWS_REGION`, `region` in the AWS profile, or `region` in the helper's `config.toml`"
            }
        };
        text.to_owned()
    }
}

/// Returns the name of a profile in backquotes, with a space before it.
fn named(profile: Option<&String>) -> String {
    profile.map_or_else(String::new, |profile| format!(" `{profile}`"))
}

/// Returns the same, and whether the profile names an MFA device.
fn described(profile: Option<&ProfileSummary>) -> String {
    let mfa = profile.is_some_and(|profile| profile.names_mfa);
    let device = if mfa { ", which names an MFA device" } else { "" };
    format!("{}{device}", named(profile.map(|profile| &profile.name)))
}

/// The longest connect timeout of instance metadata, for a user who sets a longer `--timeout`. The SDK's default is 1 s.
///
/// Outside EC2 nothing accepts the connection, and each of two attempts takes this long: together less than
/// [`LOAD_TIMEOUT`], so that the helper still reports that it found no credentials.
const METADATA_CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// The region whose STS verifies proofs if no region is set. Every account can use it.
pub(crate) const DEFAULT_REGION: &str = "us-east-1";

/// Whether the user or the platform chose the region, or the helper had to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegionSource {
    /// A flag, a file, a variable or instance metadata names the region.
    Configured,
    /// Nothing names a region, so the helper signs for `us-east-1`.
    Default,
}

/// Loads the AWS credentials and the region to sign with for a registry.
pub async fn load(
    registry: &RegistryConfig,
    environment: &Environment,
    now: DateTime<Utc>,
) -> Result<LoadedCredentials, CredentialsError> {
    Ok(find(registry, environment, now).await?.loaded)
}

/// Loads the same as [`load`], and tells where the region comes from.
pub async fn load_with_region_source(
    registry: &RegistryConfig,
    environment: &Environment,
    now: DateTime<Utc>,
) -> Result<(LoadedCredentials, RegionSource), CredentialsError> {
    let found = find(registry, environment, now).await?;
    Ok((found.loaded, found.region_source))
}

/// Loads the same as [`load`], and tells what is known about the identity.
pub async fn find(
    registry: &RegistryConfig,
    environment: &Environment,
    now: DateTime<Utc>,
) -> Result<FoundCredentials, CredentialsError> {
    tokio::time::timeout(LOAD_TIMEOUT, resolve(registry, environment, now))
        .await
        .map_err(|_| CredentialsError::TimedOut)?
}

async fn resolve(
    registry: &RegistryConfig,
    environment: &Environment,
    now: DateTime<Utc>,
) -> Result<FoundCredentials, CredentialsError> {
    let profile = registry.profile.as_deref();
    let selected = profile.or_else(|| environment.profile_override());
    let facts = profile_facts(registry, environment).await?;
    // Two attempts only: outside EC2 each one runs into its timeout, and the user waits.
    let mut metadata = imds::Client::builder().max_attempts(2);
    if let Some(timeout) = environment.timeout {
        metadata = metadata.connect_timeout(timeout.min(METADATA_CONNECT_TIMEOUT));
    }
    let metadata = metadata.build();
    let found = match configured_region(registry, environment).await {
        Some((region, _)) => Some(region),
        None => region_of_instance(environment, &metadata).await,
    };
    let (region, region_source) = match found {
        Some(region) => (region, RegionSource::Configured),
        None if registry.service == Service::Sts => {
            (Region::from_static(DEFAULT_REGION), RegionSource::Default)
        }
        None => return Err(CredentialsError::NoRegion),
    };
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).region(region.clone()).no_credentials();
    if let Some(profile) = selected {
        loader = loader.profile_name(profile);
    }
    let fips = loader.load().await.use_fips().unwrap_or(false);
    let settings = ProviderConfig::without_region()
        .with_region(Some(region.clone()))
        .with_use_fips(Some(fips));

    let (provider, credentials) =
        first_credentials(profile, facts.summary.as_ref(), environment, &settings, &metadata, now)
            .await?;
    let summary = facts.summary.filter(|_| provider == CredentialProvider::Profile);
    if let Some(part) = profiles::blank_part(&credentials) {
        let name = profile.or_else(|| environment.aws_profile()).unwrap_or(DEFAULT_PROFILE);
        let profile = (provider == CredentialProvider::Profile).then(|| name.to_owned());
        return Err(CredentialsError::Blank { part, provider, profile });
    }
    if let Some(expiry) = expiry(&credentials).filter(|expiry| *expiry <= now) {
        return Err(CredentialsError::Expired {
            provider,
            profile: summary,
            expired_at: expiry.to_rfc3339_opts(SecondsFormat::Secs, true),
        });
    }
    let may_change_identity = match provider {
        CredentialProvider::Environment | CredentialProvider::WebIdentity => false,
        CredentialProvider::Profile => facts.runs_process,
        CredentialProvider::Container => !environment.identifies_container(),
        CredentialProvider::Instance => true,
    };
    let region = region.to_string();
    let loaded = LoadedCredentials { credentials, provider, region, fips };
    Ok(FoundCredentials { loaded, profile: summary, region_source, may_change_identity })
}

/// Checks that the AWS profile of a registry can give credentials, if it is used. It sends nothing.
///
/// A JWT of a job needs no AWS credentials.
pub async fn check_profile(
    registry: &RegistryConfig,
    environment: &Environment,
) -> Result<(), CredentialsError> {
    if !registry.proof.needs_aws() {
        return Ok(());
    }
    profile_facts(registry, environment).await.map(|_| ())
}

/// Checks the profile. Keys in the environment take precedence over it, unless the user names one.
async fn profile_facts(
    registry: &RegistryConfig,
    environment: &Environment,
) -> Result<ProfileFacts, CredentialsError> {
    let profile = registry.profile.as_deref();
    if profile.is_none() && environment.has_access_key() {
        // A profile that was not checked may run a process, too.
        return Ok(ProfileFacts { runs_process: true, ..ProfileFacts::default() });
    }
    let facts = profiles::check(profile.or_else(|| environment.aws_profile())).await?;
    if facts.uses_endpoint && environment.proxies_endpoints() {
        return Err(CredentialsError::Proxied { provider: CredentialProvider::Profile });
    }
    Ok(facts)
}

/// What names the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegionOrigin {
    /// The settings of the registry: a flag, or `config.toml`.
    Settings,
    /// This variable.
    Variable(&'static str),
    /// The AWS profile.
    Profile,
}

/// Finds the region: the settings of the registry, then a variable, then the profile. It sends
/// nothing.
pub async fn configured_region(
    registry: &RegistryConfig,
    environment: &Environment,
) -> Option<(Region, RegionOrigin)> {
    if let Some(region) = &registry.region {
        return Some((Region::new(region.clone()), RegionOrigin::Settings));
    }
    if let Some((name, region)) = &environment.aws_region {
        return Some((Region::new(region.clone()), RegionOrigin::Variable(name)));
    }
    let mut in_profile = ProfileFileRegionProvider::builder();
    if let Some(profile) = registry.profile.as_deref().or_else(|| environment.profile_override()) {
        in_profile = in_profile.profile_name(profile);
    }
    let region = in_profile.build().region().await.filter(is_set)?;
    Some((region, RegionOrigin::Profile))
}

/// Asks instance metadata for the region.
async fn region_of_instance(environment: &Environment, metadata: &imds::Client) -> Option<Region> {
    check_proxy(CredentialProvider::Instance, environment).ok()?;
    let of_instance =
        imds::region::ImdsRegionProvider::builder().imds_client(metadata.clone()).build();
    of_instance.region().await.filter(is_set)
}

fn is_set(region: &Region) -> bool {
    !region.as_ref().is_empty()
}

async fn first_credentials(
    profile: Option<&str>,
    summary: Option<&ProfileSummary>,
    environment: &Environment,
    settings: &ProviderConfig,
    metadata: &imds::Client,
    now: DateTime<Utc>,
) -> Result<(CredentialProvider, Credentials), CredentialsError> {
    let chain: &[CredentialProvider] =
        if profile.is_some() { &[CredentialProvider::Profile] } else { &CredentialProvider::CHAIN };
    let mut of_profile = None;
    for provider in chain {
        check_proxy(*provider, environment)?;
        let selected = profile.or_else(|| environment.profile_override());
        let built = provider.build(selected, settings, metadata);
        let source = match provide_fresh(&built, now).await {
            Ok(credentials) => return Ok((*provider, credentials)),
            Err(error) => Box::new(error),
        };
        let has_none = matches!(*source, SdkError::CredentialsNotLoaded(_));
        match summary.filter(|_| *provider == CredentialProvider::Profile) {
            // Another provider may have credentials, if the user did not name the profile.
            Some(summary) if has_none && profile.is_none() => {
                of_profile = Some(profile_failure(summary, false, source));
            }
            Some(summary) => return Err(profile_failure(summary, true, source)),
            None if has_none
                && !(*provider == CredentialProvider::Instance && metadata_timed_out(&source)) => {}
            None => {
                let provider = *provider;
                return Err(CredentialsError::Failed { provider, profile: None, source });
            }
        }
    }
    Err(of_profile.unwrap_or(CredentialsError::NotFound))
}

/// Returns why a profile gives no credentials. `only` says whether the helper tries nothing else.
fn profile_failure(
    profile: &ProfileSummary,
    only: bool,
    source: Box<SdkError>,
) -> CredentialsError {
    let profile = profile.clone();
    let problem = LoginProblem::of(&*source).filter(|_| profile.kind == ProfileKind::Login);
    match problem {
        Some(problem) => CredentialsError::Login { profile, problem },
        None if profile.kind == ProfileKind::Empty => {
            CredentialsError::EmptyProfile { profile, only }
        }
        None => CredentialsError::Failed {
            provider: CredentialProvider::Profile,
            profile: Some(profile),
            source,
        },
    }
}

/// Gets credentials from a provider, and asks again if they expire soon: agents refresh on request.
///
/// If the second call gives nothing better in time, the helper uses the first credentials.
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

/// Returns when credentials expire, if they have an expiry.
pub fn expiry(credentials: &Credentials) -> Option<DateTime<Utc>> {
    credentials.expiry().map(DateTime::from)
}

/// The errors after a connection was made. A connection that closes early has one of the last two,
/// if it closes before the client has sent the request.
const METADATA_ACCEPTED: [&str; 4] = [
    "HTTP read timeout",
    "client error (SendRequest)",
    "client error (Canceled)",
    "client error (ChannelClosed)",
];

/// Tells whether instance metadata accepted the request and its response never arrived.
///
/// This happens in a container that is beyond the hop limit. Outside EC2 nothing accepts the request.
/// The SDK reports "not loaded" for both, and only the text of the error differs.
fn metadata_timed_out(error: &SdkError) -> bool {
    let text = message::chain(error);
    METADATA_ACCEPTED.iter().any(|part| text.contains(part))
}

/// Fails if a proxy would receive the provider's request for credentials.
///
/// A container's request contains an authorization token, in plain HTTP.
fn check_proxy(
    provider: CredentialProvider,
    environment: &Environment,
) -> Result<(), CredentialsError> {
    let sends = match provider {
        CredentialProvider::Container => environment.names_container_endpoint(),
        CredentialProvider::Instance => true,
        CredentialProvider::Environment
        | CredentialProvider::Profile
        | CredentialProvider::WebIdentity => false,
    };
    if sends && environment.proxies_endpoints() {
        return Err(CredentialsError::Proxied { provider });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_with_an_endpoint_is_not_asked_through_a_proxy() {
        let proxied = Environment {
            missing_proxy_exemptions: vec![("NO_PROXY", "localhost".to_owned())],
            aws: vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/x".to_owned())],
            ..Environment::default()
        };
        for provider in [CredentialProvider::Container, CredentialProvider::Instance] {
            let error = check_proxy(provider, &proxied).unwrap_err();
            assert!(matches!(error, CredentialsError::Proxied { .. }), "{provider}");
            assert!(error.hint().contains("NO_PROXY"), "{provider}");
            assert!(check_proxy(provider, &Environment::default()).is_ok(), "{provider}");
        }
        for provider in [CredentialProvider::Environment, CredentialProvider::Profile] {
            assert!(check_proxy(provider, &proxied).is_ok(), "{provider}");
        }
        let other = Environment { aws: Vec::new(), ..proxied };
        assert!(
            check_proxy(CredentialProvider::Container, &other).is_ok(),
            "nothing is configured"
        );
    }

    #[test]
    fn only_a_connection_that_was_made_tells_that_metadata_is_out_of_reach() {
        let failed = |text: &'static str| SdkError::not_loaded(text);
        for never_made in ["client error (Connect)", "HTTP connect timeout", "no answer"] {
            assert!(!metadata_timed_out(&failed(never_made)), "{never_made}");
        }
        for made in METADATA_ACCEPTED {
            assert!(metadata_timed_out(&failed(made)), "{made}");
        }
    }
}
