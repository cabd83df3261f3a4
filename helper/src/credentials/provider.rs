//! The providers of AWS credentials, in the order of the SDK's default chain.

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::provider::SharedCredentialsProvider;

/// A provider of AWS credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialProvider {
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    Environment,
    /// A profile of the AWS configuration: keys, SSO, an assumed role, a `credential_process`.
    Profile,
    /// A web identity token file and a role, for example on EKS or in CI.
    WebIdentity,
    /// The container endpoint of ECS, EKS Pod Identity or CloudShell.
    Container,
    /// The EC2 instance metadata service, version 2.
    Instance,
}

impl CredentialProvider {
    /// The providers in the order in which the helper tries them.
    pub(super) const CHAIN: [Self; 5] =
        [Self::Environment, Self::Profile, Self::WebIdentity, Self::Container, Self::Instance];

    /// Builds the provider of the SDK. The profile is the named one, or else that of the environment.
    pub(super) fn build(
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

    /// What the user can do if the provider fails.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Environment => {
                "renew `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, for a role, `AWS_SESSION_TOKEN`"
            }
            Self::Profile => {
                "sign in with `aws login` or `aws sso login`, or check the profile with `aws configure list`"
            }
            Self::WebIdentity => {
                "check `AWS_ROLE_ARN`, `AWS_WEB_IDENTITY_TOKEN_FILE` and the trust policy of the role"
            }
            Self::Container => {
                "check `AWS_CONTAINER_CREDENTIALS_FULL_URI` or `…_RELATIVE_URI`, and the role of the task or pod"
            }
            Self::Instance => {
                "attach a role to the instance; inside a container, set its metadata hop limit to 2"
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
