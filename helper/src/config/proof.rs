//! How a caller proves its identity to a registry, and where the JWT of a job is.

use std::path::PathBuf;

use serde::Deserialize;

use super::{RegistryConfig, Service};

/// Longest name of a trust, in characters.
const MAX_TRUST: usize = 64;

/// Longest audience of a trust, in bytes. A registry accepts no longer one.
const MAX_AUDIENCE: usize = 500;

/// What a caller shows to a registry to get a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// A request that AWS credentials sign
    #[default]
    Sigv4,
    /// A JWT of AWS about the credentials, from `sts:GetWebIdentityToken`
    WebIdentity,
    /// A JWT of the job: GitHub Actions, GitLab, a variable or a file
    Oidc,
}

impl Proof {
    /// Returns the name in `config.toml`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sigv4 => "sigv4",
            Self::WebIdentity => "web-identity",
            Self::Oidc => "oidc",
        }
    }

    /// Tells whether the proof needs AWS credentials.
    pub const fn needs_aws(self) -> bool {
        matches!(self, Self::Sigv4 | Self::WebIdentity)
    }
}

/// Where the JWTs of a job are. Without a place, the helper looks where CI systems put them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdTokenSettings {
    /// Variables, each with one JWT that is good once. The helper uses the first unused one.
    pub variables: Vec<String>,
    /// A file with one JWT that is good once.
    pub file: Option<PathBuf>,
}

impl IdTokenSettings {
    /// Tells whether a setting names a place.
    pub const fn name_a_place(&self) -> bool {
        !self.variables.is_empty() || self.file.is_some()
    }
}

impl RegistryConfig {
    /// Returns the audience to request a JWT for: that of the settings, else the host.
    pub fn jwt_audience(&self) -> &str {
        self.audience.as_deref().unwrap_or_else(|| self.host.as_str())
    }

    /// Tells whether an audience of a JWT is this registry, as the registry itself compares it.
    ///
    /// Without a setting, the audience is the host, with or without `https://`.
    pub fn is_jwt_audience(&self, audience: &str) -> bool {
        match &self.audience {
            Some(own) => audience == own,
            None => audience.strip_prefix("https://").unwrap_or(audience) == self.host.as_str(),
        }
    }

    /// Checks the settings that depend on how the caller proves its identity.
    pub fn check_proof(&self) -> Result<(), String> {
        let proof = self.proof;
        if self.id_tokens.name_a_place() && proof != Proof::Oidc {
            return Err("`id_token_env` and `id_token_file` need `proof = \"oidc\"`".to_owned());
        }
        if !self.id_tokens.variables.is_empty() && self.id_tokens.file.is_some() {
            return Err("only one of `id_token_env` and `id_token_file` can be set".to_owned());
        }
        if self.trust.is_some() && proof == Proof::Sigv4 {
            return Err("`trust` needs `proof = \"oidc\"` or `proof = \"web-identity\"`".to_owned());
        }
        if self.audience.is_some() && proof == Proof::Sigv4 {
            return Err(
                "`audience` needs `proof = \"oidc\"` or `proof = \"web-identity\"`".to_owned()
            );
        }
        if self.service != Service::Sts && proof != Proof::Sigv4 {
            return Err(format!(
                "`service = \"{}\"` needs `proof = \"sigv4\"`: the gateway verifies a signature",
                self.service.as_str()
            ));
        }
        Ok(())
    }
}

/// Checks the name of a trust.
pub fn check_trust(name: String) -> Result<String, String> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if !name.is_empty() && name.len() <= MAX_TRUST && name.bytes().all(allowed) {
        Ok(name)
    } else {
        Err("`trust` must be the name of a trust: lower-case letters, digits and hyphens"
            .to_owned())
    }
}

/// Checks the audience of a trust.
pub fn check_jwt_audience(audience: String) -> Result<String, String> {
    let has_length = (1..=MAX_AUDIENCE).contains(&audience.len());
    if has_length && audience.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(audience)
    } else {
        Err(format!("`audience` must have 1 to {MAX_AUDIENCE} printable characters, and no space"))
    }
}

/// Checks the name of an environment variable.
pub fn check_variable(name: String) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !name.is_empty() && name.bytes().all(allowed) {
        Ok(name)
    } else {
        // The value can be a JWT that a CI system put in place of a name.
        Err("`id_token_env` must name variables: letters, digits and `_`".to_owned())
    }
}
