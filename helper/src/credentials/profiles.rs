//! Checks the AWS profile before the SDK uses it, so that an error names the true cause.
//!
//! The SDK reports a damaged file without its name and line, and a missing profile as "not loaded".

use aws_config::profile::{self, Profile, ProfileFileLoadError, ProfileSet};
use aws_credential_types::Credentials;

use crate::config::DEFAULT_PROFILE;
use crate::shell::quoted_for_posix;

/// Most profiles that the helper follows through `source_profile`. The SDK reports a loop.
const MAX_SOURCES: usize = 16;

/// Settings that give credentials in another way than [`ProfileKind`] distinguishes, or break off.
const OTHER_SOURCES: [&str; 4] =
    ["role_arn", "credential_source", "web_identity_token_file", "aws_secret_access_key"];

/// Why a profile cannot give credentials.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// No file has the profile.
    #[error("the AWS profile `{0}` does not exist")]
    Missing(String),
    /// An AWS configuration file cannot be read or parsed.
    #[error("cannot read the AWS configuration of the profile `{profile}`")]
    Damaged {
        /// The profile.
        profile: String,
        /// The error of the SDK, which names the file and the line.
        source: ProfileFileLoadError,
    },
}

impl ProfileError {
    /// What the user can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Missing(_) => {
                "check the spelling in `AWS_PROFILE`, `--profile` or `config.toml`; `aws configure list-profiles` lists the profiles"
            }
            Self::Damaged { .. } => "correct that line of the file, or make the file readable",
        }
    }
}

/// How a profile gets its credentials, and so how a user renews them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfileKind {
    /// `aws sso login` signs in.
    Sso,
    /// `aws login` signs in.
    Login,
    /// A `credential_process` prints them.
    Process,
    /// The files contain keys of a user, which do not expire.
    Keys,
    /// The files contain keys of a session, which expires.
    SessionKeys,
    /// In another way: from a container, an instance, the environment or a web identity.
    Other,
    /// Not at all: it has only other settings, such as a region.
    Empty,
}

/// A profile of the AWS configuration, for a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileSummary {
    /// The name.
    pub name: String,
    /// The profile with the credentials: this one, or the last that `source_profile` leads to.
    pub source: String,
    /// How that profile gets its credentials.
    pub kind: ProfileKind,
    /// Whether this profile, or one that it leads to, names an MFA device.
    ///
    /// The SDK cannot ask for a code. It requests the role without one.
    pub names_mfa: bool,
}

impl ProfileSummary {
    /// How to renew the credentials of the profile.
    pub fn renewal(&self) -> String {
        let (name, source) = (quoted_for_posix(&self.name), quoted_for_posix(&self.source));
        if self.names_mfa {
            return format!(
                "run `eval \"$(aws configure export-credentials --profile {name} --format env)\"`, which asks for the MFA code"
            );
        }
        match self.kind {
            ProfileKind::Sso => format!("run `aws sso login --profile {source}`"),
            ProfileKind::Login => format!("run `aws login --profile {source}`"),
            ProfileKind::Process => format!(
                "run `aws configure export-credentials --profile {source}`, which shows why its `credential_process` gives no valid credentials"
            ),
            ProfileKind::Keys => {
                format!("run `aws configure --profile {source}`, and enter both keys again")
            }
            ProfileKind::SessionKeys => format!(
                "get new keys of a session, and write them to the profile `{}`: `aws_access_key_id`, `aws_secret_access_key` and `aws_session_token`",
                self.source
            ),
            ProfileKind::Other | ProfileKind::Empty => format!(
                "run `aws login --profile {source}` or `aws configure sso --profile {source}` to add credentials"
            ),
        }
    }
}

/// Lists the profiles, ordered by name. A damaged configuration has none.
pub async fn list_profiles() -> Vec<ProfileSummary> {
    load().await.map_or_else(|_| Vec::new(), |profiles| summaries(&profiles))
}

fn summaries(profiles: &ProfileSet) -> Vec<ProfileSummary> {
    let mut names: Vec<_> = profiles.profiles().collect();
    names.sort_unstable();
    names.into_iter().filter_map(|name| summary(profiles, name)).collect()
}

fn summary(profiles: &ProfileSet, name: &str) -> Option<ProfileSummary> {
    let chain: Vec<_> = sources(profiles, profiles.get_profile(name)?).collect();
    let source = chain.last()?;
    let has = |name| source.get(name).is_some();
    // The order of the SDK.
    let kind = if has("sso_session") || has("sso_start_url") {
        ProfileKind::Sso
    } else if has("login_session") {
        ProfileKind::Login
    } else if has("credential_process") {
        ProfileKind::Process
    } else if has("aws_session_token") {
        ProfileKind::SessionKeys
    } else if has("aws_access_key_id") {
        ProfileKind::Keys
    } else if OTHER_SOURCES.iter().any(|name| chain.iter().any(|it| it.get(name).is_some())) {
        ProfileKind::Other
    } else {
        ProfileKind::Empty
    };
    Some(ProfileSummary {
        name: name.to_owned(),
        source: source.name().to_owned(),
        kind,
        names_mfa: chain.iter().any(|profile| profile.get("mfa_serial").is_some()),
    })
}

/// Returns a profile, and the profiles that `source_profile` leads to.
fn sources<'a>(
    profiles: &'a ProfileSet,
    first: &'a Profile,
) -> impl Iterator<Item = &'a Profile> + 'a {
    let next = move |profile: &&'a Profile| profiles.get_profile(profile.get("source_profile")?);
    std::iter::successors(Some(first), next).take(MAX_SOURCES)
}

async fn load() -> Result<ProfileSet, ProfileFileLoadError> {
    // The SDK does not export the types of the first three arguments. Their defaults are the real ones.
    profile::load(&Default::default(), &Default::default(), &Default::default(), None).await
}

/// What the helper must know about a profile before the SDK uses it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProfileFacts {
    /// Whether the SDK gets credentials from a container endpoint or from instance metadata.
    pub(super) uses_endpoint: bool,
    /// Whether a `credential_process` chooses the identity. A role of the profile would fix it.
    pub(super) runs_process: bool,
    /// The profile, for an error; `None` if there is no default profile.
    pub(super) summary: Option<ProfileSummary>,
}

/// Checks the named profile, or the default one, which may be missing.
pub(super) async fn check(named: Option<&str>) -> Result<ProfileFacts, ProfileError> {
    let name = named.unwrap_or(DEFAULT_PROFILE);
    let profiles = load()
        .await
        .map_err(|source| ProfileError::Damaged { profile: name.to_owned(), source })?;
    facts(&profiles, named)
}

fn facts(profiles: &ProfileSet, named: Option<&str>) -> Result<ProfileFacts, ProfileError> {
    let name = named.unwrap_or(DEFAULT_PROFILE);
    let Some(profile) = profiles.get_profile(name) else {
        let missing = |name: &str| Err(ProfileError::Missing(name.to_owned()));
        return named.map_or(Ok(ProfileFacts::default()), missing);
    };
    let uses_endpoint = sources(profiles, profile).any(|profile| {
        matches!(profile.get("credential_source"), Some("EcsContainer" | "Ec2InstanceMetadata"))
    });
    let has = |name| profile.get(name).is_some();
    let runs_process = has("credential_process") && !has("role_arn");
    Ok(ProfileFacts { uses_endpoint, runs_process, summary: summary(profiles, name) })
}

/// Returns the name of the part of the credentials that contains a blank or a line end.
///
/// AWS issues none with such a character, so it comes from copying. STS would reject the signature.
pub(super) fn blank_part(credentials: &Credentials) -> Option<&'static str> {
    let is_blank = |c: char| c.is_whitespace() || c.is_control();
    [
        ("access key id", Some(credentials.access_key_id())),
        ("secret access key", Some(credentials.secret_access_key())),
        ("session token", credentials.session_token()),
    ]
    .into_iter()
    .find(|(_, value)| value.is_some_and(|value| value.contains(is_blank)))
    .map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_the_credentials_with_a_blank_is_named() {
        for (key, secret, token, expected) in [
            ("AKIA ", "secret", None, Some("access key id")),
            ("AKIA", "secret\n", None, Some("secret access key")),
            ("AKIA", "sec\r\nret", Some("token"), Some("secret access key")),
            ("AKIA", "secret", Some("to\tken"), Some("session token")),
            ("AKIA", "secret", Some("token"), None),
            ("AKIA", "a/b+c=", None, None),
        ] {
            let token = token.map(str::to_owned);
            let credentials = Credentials::new(key, secret, token, None, "test");
            assert_eq!(blank_part(&credentials), expected, "{key:?} {secret:?}");
        }
    }
}
