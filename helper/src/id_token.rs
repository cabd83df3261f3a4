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

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use stile_protocol::audience::Audience;

pub use crate::id_token::aws::web_identity;
pub use crate::id_token::github::GithubJob;

use crate::call::CallError;
use crate::config::{Environment, Proof, RegistryConfig, secret_variable};
use crate::id_token::used::{UsedIdTokens, UsedLock};
use crate::message::one_line;

/// The variable with the JWT of a job, if no setting names another one. A job with several JWTs has
/// `STILE_ID_TOKEN_2` to `STILE_ID_TOKEN_9`, too.
pub const DEFAULT_VARIABLE: &str = "STILE_ID_TOKEN";

/// The highest number of a default variable.
const LAST_DEFAULT: usize = 9;

/// Longest JWT that the helper sends, in bytes. A registry accepts no longer one.
const MAX_JWT: usize = 16 * 1024;

/// Most characters of an audience that a message shows.
const MAX_SHOWN: usize = 120;

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
    /// Each JWT of the job is for another service. This registry must not see any of them.
    #[error("found no JWT with the audience `{wanted}`: {found}")]
    OtherAudience {
        /// The audience that the registry expects.
        wanted: String,
        /// The audiences that the JWTs have.
        found: String,
    },
    /// Every JWT of the job has got its token.
    #[error(
        "{0}: a registry accepts each JWT once, and the token of this request is not in the cache"
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
            Self::OtherAudience { wanted, .. } => format!(
                "declare a JWT of the job with `aud: {wanted}`; if the trust of the registry has another audience, \
                 set `audience` in `config.toml`, or `--audience`"
            ),
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
    /// Variables or a file: at least one JWT, each for this registry only.
    Fixed(Vec<FixedIdToken>),
}

impl IdTokens {
    /// Finds the JWTs: at the place that the settings name, else at GitHub Actions, else in the
    /// default variables. It sends nothing.
    ///
    /// It leaves out each fixed JWT that is not for this registry. Nothing binds a JWT to its sender,
    /// so a registry that got the JWT of another one could be the job there.
    pub fn find(registry: &RegistryConfig) -> Result<Self, IdTokenError> {
        let settings = &registry.id_tokens;
        if let Some(path) = &settings.file {
            return own(registry, vec![in_file(path)?]);
        }
        if !settings.variables.is_empty() {
            let found = in_variables(settings.variables.iter().map(String::as_str))?;
            if found.is_empty() {
                return Err(IdTokenError::Unset(listed(&settings.variables)));
            }
            return own(registry, found);
        }
        if let Some(job) = GithubJob::of_environment()? {
            return Ok(Self::Github(job));
        }
        let others = (2..=LAST_DEFAULT).map(|number| format!("{DEFAULT_VARIABLE}_{number}"));
        let names: Vec<String> =
            std::iter::once(DEFAULT_VARIABLE.to_owned()).chain(others).collect();
        match in_variables(names.iter().map(String::as_str))? {
            found if found.is_empty() => Err(IdTokenError::NotFound),
            found => own(registry, found),
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
    registry.proof == Proof::Oidc && matches!(IdTokens::find(registry), Ok(IdTokens::Fixed(_)))
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
        IdTokenError::AllUsed(match places[..] {
            [ref first @ .., last] if !first.is_empty() => {
                format!("the JWTs in {} and {last} are used", first.join(", "))
            }
            _ => format!("the JWT in {} is used", places.concat()),
        })
    }

    /// Returns a digest of the registry and of what the issuer signed, which a registry accepts once.
    fn digest(&self, token: &FixedIdToken) -> String {
        let jwt = token.jwt.expose_secret();
        let signed = jwt.rsplit_once('.').map_or(jwt, |(signed, _)| signed);
        hex::encode(Sha256::digest(format!("{}\n{signed}", self.host)))
    }
}

/// Reads the claims of a JWT. Nothing here verifies it.
pub fn unverified_claims(jwt: &SecretString) -> Option<Map<String, Value>> {
    let payload = jwt.expose_secret().split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// Keeps the JWTs whose every audience is the registry, or says which audiences they have.
///
/// A JWT with one more audience is good at another service, so the registry refuses it, too.
fn own(registry: &RegistryConfig, found: Vec<FixedIdToken>) -> Result<IdTokens, IdTokenError> {
    let is_own = |token: &FixedIdToken| match audience_of(token) {
        Some(Value::String(audience)) => registry.is_jwt_audience(&audience),
        Some(Value::Array(list)) => {
            let mut all = list.iter();
            !list.is_empty()
                && all.all(|one| one.as_str().is_some_and(|text| registry.is_jwt_audience(text)))
        }
        _ => false,
    };
    let (own, others): (Vec<_>, Vec<_>) = found.into_iter().partition(is_own);
    if !own.is_empty() {
        return Ok(IdTokens::Fixed(own));
    }
    let described = others.iter().map(|token| match audience_of(token) {
        Some(audience) => {
            let text = audience.as_str().map_or_else(|| audience.to_string(), str::to_owned);
            let text: String = one_line(&text).chars().take(MAX_SHOWN).collect();
            format!("the JWT in {} has the audience `{text}`", token.place)
        }
        None => format!("the JWT in {} has no audience", token.place),
    });
    let found = described.collect::<Vec<_>>().join(", ");
    Err(IdTokenError::OtherAudience { wanted: registry.jwt_audience().to_owned(), found })
}

fn audience_of(token: &FixedIdToken) -> Option<Value> {
    unverified_claims(&token.jwt)?.remove("aud")
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

/// Checks the shape of a JWT: three parts of base64url.
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
    fn a_fixed_jwt_is_only_for_the_registry_that_each_of_its_audiences_names() {
        let registry = |audience: Option<&str>| RegistryConfig {
            audience: audience.map(str::to_owned),
            ..RegistryConfig::new(Audience::parse("registry.example.com").unwrap()).unwrap()
        };
        let found = |payload: &str, audience| {
            let jwt = format!("e30.{}.c", URL_SAFE_NO_PAD.encode(payload));
            own(&registry(audience), vec![checked("`A`".to_owned(), &jwt).unwrap()])
        };
        for aud in [
            r#""staging.example.com""#,
            r#""registry.example.com.""#,
            r#""Registry.example.com""#,
            r#""http://registry.example.com""#,
            r#""https://https://registry.example.com""#,
            r#""https://registry.example.com/""#,
            r#""registry.example.com:8443""#,
            r#""""#,
            "[]",
            r#"["registry.example.com","staging.example.com"]"#,
            r#"["registry.example.com",7]"#,
            r#"[["registry.example.com"]]"#,
            r#"{"registry.example.com":1}"#,
            "null",
            "true",
        ] {
            let error = found(&format!(r#"{{"aud":{aud}}}"#), None).unwrap_err().to_string();
            assert!(
                error.starts_with("found no JWT with the audience `registry.example.com`: "),
                "{aud}"
            );
        }
        for payload in ["{}", "[]", "x", r#""registry.example.com""#] {
            let error = found(payload, None).unwrap_err().to_string();
            assert!(error.ends_with("the JWT in `A` has no audience"), "{payload}: {error}");
        }
        for aud in [
            r#""registry.example.com""#,
            r#""https://registry.example.com""#,
            r#"["registry.example.com"]"#,
            r#"["registry.example.com","https://registry.example.com"]"#,
        ] {
            let payload = format!(r#"{{"aud":{aud}}}"#);
            assert!(found(&payload, None).is_ok(), "{aud}");
            assert!(found(&payload, Some("stile")).is_err(), "the trust takes no host: {aud}");
        }
        for (aud, is_own) in [("stile", true), ("https://stile", false), ("Stile", false)] {
            let payload = format!(r#"{{"aud":"{aud}"}}"#);
            assert_eq!(found(&payload, Some("stile")).is_ok(), is_own, "{aud}");
            assert!(found(&payload, None).is_err(), "{aud}");
        }
    }

    #[test]
    fn a_message_shows_no_control_character_of_an_audience_and_no_more_than_120_characters() {
        let host = Audience::parse("registry.example.com").unwrap();
        let payload = format!(r#"{{"aud":"x\u001b[2J{}"}}"#, "y".repeat(500));
        let jwt = format!("e30.{}.c", URL_SAFE_NO_PAD.encode(payload));
        let tokens = vec![checked("`A`".to_owned(), &jwt).unwrap()];
        let error = own(&RegistryConfig::new(host).unwrap(), tokens).unwrap_err().to_string();
        assert!(!error.contains('\u{1b}') && error.len() < 250, "{error}");
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
