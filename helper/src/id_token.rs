//! The JWT of a job, which proves to a registry who asks: from GitHub Actions, a variable or a file.
//!
//! GitHub Actions signs a new JWT for each request. A variable or a file has one fixed JWT, and a
//! registry accepts each JWT once. So the helper asks for one token with all permissions of the
//! registry's table, and every call of the job shares it.

mod aws;
mod github;
mod used;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use stile_protocol::audience::Audience;

pub use crate::id_token::aws::web_identity;
pub use crate::id_token::github::GithubJob;

use crate::call::CallError;
use crate::config::{Environment, IdTokenSettings, Proof, RegistryConfig, secret_variable};
use crate::id_token::used::{UsedIdTokens, UsedLock};

/// The variable with the JWT of a job, if no setting names another one. A job with several JWTs has
/// `STILE_ID_TOKEN_2` to `STILE_ID_TOKEN_9`, too.
pub const DEFAULT_VARIABLE: &str = "STILE_ID_TOKEN";

/// The highest number of a default variable.
const LAST_DEFAULT: usize = 9;

/// Longest JWT that the helper sends, in bytes. A registry accepts no longer one.
const MAX_JWT: usize = 16 * 1024;

/// Why there is no JWT to send.
#[derive(Debug, thiserror::Error)]
pub enum IdTokenError {
    /// No CI system and no setting gives a JWT.
    #[error(
        "found no JWT: neither the variables of GitHub Actions nor `{DEFAULT_VARIABLE}` is set"
    )]
    NotFound,
    /// None of the named variables is set.
    #[error("found no JWT: {0} is not set")]
    Unset(String),
    /// The file cannot be read.
    #[error("cannot read the JWT from `{}`", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A variable or a file contains something else.
    #[error("{0} does not contain a JWT")]
    NotAJwt(String),
    /// Every JWT of the job has got its token.
    #[error(
        "{0} is used: a registry accepts each JWT once, and the token of this request is not in the cache"
    )]
    AllUsed(String),
    /// The variable with the address of GitHub Actions is damaged.
    #[error("`{}` is not an `https` URL", github::REQUEST_URL)]
    RequestUrl,
    /// GitHub Actions does not answer.
    #[error("cannot get a JWT from GitHub Actions: {0}")]
    Github(#[source] CallError),
    /// GitHub Actions refuses.
    #[error("GitHub Actions gives no JWT: {0}")]
    GithubRefused(String),
    /// The account's administrator has not switched on the JWTs of AWS.
    #[error(
        "the AWS account gives no JWTs, because outbound web identity federation is not enabled"
    )]
    FederationDisabled,
    /// The AWS identity may not call `sts:GetWebIdentityToken`.
    #[error("the AWS identity may not call `sts:GetWebIdentityToken`: {0}")]
    AwsDenied(String),
    /// STS does not answer, or refuses for another reason.
    #[error("cannot get a JWT from AWS STS: {0}")]
    Aws(String),
}

impl IdTokenError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NotFound => format!(
                "on GitHub Actions, add `permissions: {{ id-token: write }}` to the job; on GitLab, declare \
                 `{DEFAULT_VARIABLE}` below `id_tokens`; elsewhere, set `id_token_env` or `id_token_file`"
            ),
            Self::Unset(_) => {
                "declare it below `id_tokens` of the GitLab job, or correct `id_token_env`".to_owned()
            }
            Self::Unreadable { .. } => "correct `id_token_file`".to_owned(),
            Self::NotAJwt(_) => {
                "a JWT has three parts of base64url with a dot between them; check what writes it"
                    .to_owned()
            }
            Self::AllUsed(_) => format!(
                "declare one more JWT for the job, such as `{DEFAULT_VARIABLE}_2`, and add its variable to \
                 `id_token_env` if that is set; or ask for the permissions of the registry's table in \
                 every namespace, whose token all calls of a job share"
            ),
            Self::RequestUrl => "GitHub Actions sets it; do not change it".to_owned(),
            Self::Github(_) | Self::GithubRefused(_) => {
                "run the job again; if it stays, check the status of GitHub Actions".to_owned()
            }
            Self::FederationDisabled => {
                "an administrator of the account runs `aws iam enable-outbound-web-identity-federation`; or set \
                 `proof = \"sigv4\"`"
                    .to_owned()
            }
            Self::AwsDenied(_) => {
                "allow `sts:GetWebIdentityToken` in the policy of the identity".to_owned()
            }
            Self::Aws(_) => "check the network to STS, and the region".to_owned(),
        }
    }
}

/// A JWT that a variable or a file has: a registry accepts it once.
#[derive(Debug, Clone)]
pub struct FixedIdToken {
    /// Where it is, for messages.
    pub place: String,
    /// The JWT.
    pub jwt: SecretString,
}

/// What gives the JWTs of this job.
#[derive(Debug, Clone)]
pub enum IdTokens {
    /// GitHub Actions: a new JWT for each exchange.
    Github(GithubJob),
    /// Variables or a file: at least one JWT.
    Fixed(Vec<FixedIdToken>),
}

impl IdTokens {
    /// Finds the JWTs: at the place that the settings name, else at GitHub Actions, else in the
    /// default variables. It sends nothing.
    pub fn find(settings: &IdTokenSettings) -> Result<Self, IdTokenError> {
        if let Some(path) = &settings.file {
            return Ok(Self::Fixed(vec![in_file(path)?]));
        }
        if !settings.variables.is_empty() {
            let found = in_variables(settings.variables.iter().map(String::as_str))?;
            if found.is_empty() {
                return Err(IdTokenError::Unset(listed(&settings.variables)));
            }
            return Ok(Self::Fixed(found));
        }
        if let Some(job) = GithubJob::of_environment()? {
            return Ok(Self::Github(job));
        }
        let others = (2..=LAST_DEFAULT).map(|number| format!("{DEFAULT_VARIABLE}_{number}"));
        let names: Vec<String> =
            std::iter::once(DEFAULT_VARIABLE.to_owned()).chain(others).collect();
        match in_variables(names.iter().map(String::as_str))? {
            found if found.is_empty() => Err(IdTokenError::NotFound),
            found => Ok(Self::Fixed(found)),
        }
    }

    /// Returns a digest of the job's identity. A token in the cache belongs to one identity.
    pub fn identity(&self) -> String {
        match self {
            Self::Github(job) => job.identity(),
            Self::Fixed(tokens) => {
                let mut all = Sha256::new();
                for token in tokens {
                    all.update(Sha256::digest(token.jwt.expose_secret()));
                }
                hex::encode(all.finalize())
            }
        }
    }
}

/// Tells whether each JWT of this caller is good for one token only.
pub fn is_fixed(registry: &RegistryConfig) -> bool {
    registry.proof == Proof::Oidc
        && matches!(IdTokens::find(&registry.id_tokens), Ok(IdTokens::Fixed(_)))
}

/// The fixed JWTs of a job, and which of them were used before on this computer.
///
/// While it lives, other processes wait, so that two of them never use the same JWT.
#[derive(Debug)]
pub struct FixedIdTokens<'a> {
    host: &'a Audience,
    tokens: Vec<FixedIdToken>,
    used: UsedIdTokens,
    now: DateTime<Utc>,
    _lock: UsedLock,
}

impl<'a> FixedIdTokens<'a> {
    /// Waits for other processes, at most for the timeout.
    pub fn locked(
        host: &'a Audience,
        tokens: Vec<FixedIdToken>,
        environment: &Environment,
        now: DateTime<Utc>,
        timeout: Duration,
    ) -> Self {
        let used = UsedIdTokens::of(environment);
        let lock = used.lock(timeout);
        Self { host, tokens, used, now, _lock: lock }
    }

    /// Returns the JWTs that this computer has not used at the registry.
    pub fn unused(&self) -> Vec<FixedIdToken> {
        let used = self.used.read(self.now);
        let is_unused = |token: &&FixedIdToken| !used.contains_key(&self.digest(token));
        self.tokens.iter().filter(is_unused).cloned().collect()
    }

    /// Records that the registry has accepted a JWT, or knows it already.
    pub fn record(&self, token: &FixedIdToken) {
        self.used.record(self.digest(token), self.now);
    }

    /// Returns the error of a job without an unused JWT.
    pub fn all_used(&self) -> IdTokenError {
        let places: Vec<&str> = self.tokens.iter().map(|token| token.place.as_str()).collect();
        IdTokenError::AllUsed(format!("the JWT in {}", places.join(", and in ")))
    }

    /// Returns a digest of the registry and of what the issuer signed, which a registry accepts once.
    fn digest(&self, token: &FixedIdToken) -> String {
        let jwt = token.jwt.expose_secret();
        let signed = jwt.rsplit_once('.').map_or(jwt, |(signed, _)| signed);
        hex::encode(Sha256::digest(format!("{}\n{signed}", self.host)))
    }
}

/// Reads the variables that are set.
fn in_variables<'a>(
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<FixedIdToken>, IdTokenError> {
    let set = names.filter_map(|name| Some((name, secret_variable(name)?)));
    set.map(|(name, value)| checked(format!("`{name}`"), value.expose_secret())).collect()
}

fn in_file(path: &Path) -> Result<FixedIdToken, IdTokenError> {
    let failed = |source| IdTokenError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_JWT as u64 + 2).read_to_end(&mut bytes).map_err(failed)?;
    let place = format!("`{}`", path.display());
    match String::from_utf8(bytes) {
        Ok(text) => checked(place, &text),
        Err(_) => Err(IdTokenError::NotAJwt(place)),
    }
}

/// Checks the shape of a JWT: three parts of base64url. Only the registry checks the content.
fn checked(place: String, text: &str) -> Result<FixedIdToken, IdTokenError> {
    let text = text.trim();
    if is_jwt(text) {
        Ok(FixedIdToken { place, jwt: text.into() })
    } else {
        Err(IdTokenError::NotAJwt(place))
    }
}

/// Tells whether a text has the shape of a JWT.
fn is_jwt(text: &str) -> bool {
    let part = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !part.is_empty() && part.bytes().all(allowed)
    };
    text.len() <= MAX_JWT && text.split('.').count() == 3 && text.split('.').all(part)
}

fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_parts_of_base64url_are_a_jwt() {
        let long = format!("a.{}.c", "b".repeat(MAX_JWT));
        for text in ["", "a", "a.b", "a.b.", ".b.c", "a.b.c.d", "a.b c.d", "a.b+.c", &long] {
            let error = checked("`A`".to_owned(), text).unwrap_err();
            assert_eq!(error.to_string(), "`A` does not contain a JWT", "{text}");
        }
        let read = checked("`A`".to_owned(), " eyJ.e-_0.c\n").unwrap();
        assert_eq!(read.jwt.expose_secret(), "eyJ.e-_0.c");
        assert!(!format!("{read:?}").contains("eyJ"));
    }

    #[test]
    fn a_file_that_is_no_jwt_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwt");
        assert!(matches!(in_file(&path), Err(IdTokenError::Unreadable { .. })));
        for content in [&b"\xff.a.b"[..], b"", b"\n", b"sekret"] {
            std::fs::write(&path, content).unwrap();
            let text = in_file(&path).unwrap_err().to_string();
            assert!(text.ends_with("does not contain a JWT") && !text.contains("sekret"), "{text}");
        }
        std::fs::write(&path, "a.b.c\n").unwrap();
        assert_eq!(in_file(&path).unwrap().jwt.expose_secret(), "a.b.c");
    }
}
