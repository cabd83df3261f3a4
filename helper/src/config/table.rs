//! The table of one registry in `config.toml`, as users write it.

use std::path::PathBuf;

use serde::Deserialize;
use stile_protocol::names::Permissions;

use super::{
    IdTokenSettings, Proof, RegistryConfig, Service, check_jwt_audience, check_region, check_trust,
    check_ttl, check_variable, parse_host, parse_url,
};

/// One table. A text can stand for a list of one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegistryTable {
    region: Option<String>,
    profile: Option<String>,
    service: Option<Service>,
    ttl: Option<i64>,
    permissions: Option<Permissions>,
    url: Option<String>,
    proof: Option<Proof>,
    trust: Option<String>,
    audience: Option<String>,
    id_token_env: Option<OneOrMore>,
    id_token_file: Option<PathBuf>,
}

/// A text, or a list of texts.
#[derive(Deserialize)]
#[serde(untagged, expecting = "invalid type, expected a text or a list of texts")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl RegistryTable {
    /// Returns the keys that the table has.
    pub(super) fn keys(&self) -> Vec<&'static str> {
        let keys = [
            ("region", self.region.is_some()),
            ("profile", self.profile.is_some()),
            ("service", self.service.is_some()),
            ("ttl", self.ttl.is_some()),
            ("permissions", self.permissions.is_some()),
            ("url", self.url.is_some()),
            ("proof", self.proof.is_some()),
            ("trust", self.trust.is_some()),
            ("audience", self.audience.is_some()),
            ("id_token_env", self.id_token_env.is_some()),
            ("id_token_file", self.id_token_file.is_some()),
        ];
        keys.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key).collect()
    }

    /// Checks every value, and returns the settings of the registry.
    pub(super) fn check(self, host: &str) -> Result<RegistryConfig, String> {
        let mut registry =
            RegistryConfig::new(parse_host(host).map_err(|error| error.to_string())?)?;
        if let Some(region) = self.region {
            registry.region = Some(check_region(region)?);
        }
        if self.profile.as_deref() == Some("") {
            return Err("`profile` is empty".to_owned());
        }
        registry.profile = self.profile;
        if let Some(ttl) = self.ttl {
            registry.ttl = check_ttl(ttl)?;
        }
        if let Some(permissions) = self.permissions {
            registry.permissions = permissions;
        }
        if registry.permissions.is_empty() {
            return Err("`permissions` is empty; a token needs at least one".to_owned());
        }
        if let Some(url) = self.url {
            registry.url = parse_url(&url)?;
        }
        registry.service = self.service.unwrap_or_default();
        registry.proof = self.proof.unwrap_or_default();
        registry.trust = self.trust.map(check_trust).transpose()?;
        registry.audience = self.audience.map(check_jwt_audience).transpose()?;
        registry.id_tokens = IdTokenSettings {
            variables: match self.id_token_env {
                None => Vec::new(),
                Some(OneOrMore::One(name)) => vec![check_variable(name)?],
                Some(OneOrMore::More(names)) if names.is_empty() => {
                    return Err("`id_token_env` is empty; name at least one variable".to_owned());
                }
                Some(OneOrMore::More(names)) => {
                    names.into_iter().map(check_variable).collect::<Result<_, _>>()?
                }
            },
            file: self.id_token_file,
        };
        registry.check_proof()?;
        Ok(registry)
    }
}
