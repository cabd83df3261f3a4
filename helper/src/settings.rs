//! The settings of the helper with their sources, for `config show` of this program and of
//! `stile-admin`. It sends nothing.

use std::path::{Path, PathBuf};

use stile_settings::{Setting, Settings, Source};

use crate::call;
use crate::config::{
    AWS_PROFILE, Config, DEFAULT_PROFILE, Environment, Proof, RegistryConfig, Service,
};
use crate::credentials::{DEFAULT_REGION, RegionOrigin, configured_region};
use crate::id_token::DEFAULT_VARIABLE;

/// The region that the output shows if no setting names one, and the program has no default.
pub const NO_REGION: &str = "that of the instance, if it has one";

/// A configuration file that was read, and the flags that override it.
#[derive(Debug)]
pub struct Layers<'a, F: Fn(&str) -> Option<Source>> {
    /// The path of the file.
    pub path: Option<PathBuf>,
    /// The content of the file.
    pub config: &'a Config,
    /// Returns the source of `region` or `profile`, if it overrides the file.
    pub flag: F,
}

/// Returns the setting of the path of `config.toml`.
pub fn file(path: Option<&Path>, source: Source) -> Setting {
    let exists = path.is_some_and(Path::exists);
    let setting = Setting::new("config", path.map(|path| path.display().to_string()), source);
    if exists { setting } else { setting.note("there is no such file") }
}

/// Returns the setting of the timeout of a call, in seconds.
pub fn timeout(environment: &Environment, source: Source) -> Setting {
    Setting::new("timeout", Some(call::timeout(environment).as_secs().to_string()), source)
}

impl<F: Fn(&str) -> Option<Source>> Layers<'_, F> {
    /// Returns what the program uses for a registry. The flags are already in it.
    pub async fn registry(
        &self,
        registry: &RegistryConfig,
        environment: &Environment,
    ) -> Vec<Setting> {
        let from = |key: &'static str| {
            let of_file = || {
                let path = self.path.as_ref()?.display().to_string();
                self.config.sets(&registry.host, key).then_some(Source::File(path))
            };
            (self.flag)(key).or_else(of_file).unwrap_or(Source::Default)
        };
        let unset = match registry.service {
            Service::Sts => format!("that of the instance, or else `{DEFAULT_REGION}`"),
            Service::ExecuteApi | Service::Lambda => NO_REGION.to_owned(),
        };
        let mut rows = vec![
            Setting::new("url", Some(registry.url.as_str()), from("url")),
            Setting::new("service", Some(registry.service.as_str()), from("service")),
            Setting::new("ttl", Some(registry.ttl.to_string()), from("ttl")),
            Setting::new(
                "permissions",
                Some(registry.permissions.to_string()),
                from("permissions"),
            ),
            Setting::new("proof", Some(registry.proof.as_str()), from("proof")),
        ];
        if registry.proof != Proof::Sigv4 {
            rows.push(Setting::new("trust", registry.trust.as_ref(), from("trust")));
            let audience = Some(registry.jwt_audience());
            rows.push(Setting::new("audience", audience, from("audience")));
        }
        if registry.proof == Proof::Oidc {
            rows.extend(id_tokens(registry, from));
            return rows;
        }
        rows.extend([
            profile(registry, environment, from("profile")),
            region(registry, environment, from("region"), unset).await,
        ]);
        rows
    }
}

/// Returns the settings of the JWT of a job, without the JWT.
fn id_tokens(registry: &RegistryConfig, from: impl Fn(&'static str) -> Source) -> Vec<Setting> {
    let places = &registry.id_tokens;
    if let Some(file) = &places.file {
        let value = Some(file.display().to_string());
        return vec![Setting::new("id_token_file", value, from("id_token_file"))];
    }
    if !places.variables.is_empty() {
        let names = Some(places.variables.join(","));
        return vec![Setting::new("id_token_env", names, from("id_token_env"))];
    }
    let note = format!("GitHub Actions, or else `{DEFAULT_VARIABLE}`");
    vec![Setting::new("id_token_env", None::<&str>, Source::Default).note(note)]
}

/// Returns the setting of the AWS profile. `named` is its source, if it is not a variable of AWS.
pub fn profile(registry: &RegistryConfig, environment: &Environment, named: Source) -> Setting {
    let (value, source) = match (&registry.profile, environment.aws_profile()) {
        (Some(profile), _) => return Setting::new("profile", Some(profile), named),
        (None, Some(profile)) => (profile, Source::Variable(AWS_PROFILE.to_owned())),
        (None, None) => (DEFAULT_PROFILE, Source::Default),
    };
    let setting = Setting::new("profile", Some(value), source);
    if environment.has_access_key() {
        setting.note("the keys in the environment take precedence")
    } else {
        setting
    }
}

/// Returns the setting of the region. `named` is its source, if it is not a variable or file of AWS.
/// `unset` says what the program uses if nothing names a region.
pub async fn region(
    registry: &RegistryConfig,
    environment: &Environment,
    named: Source,
    unset: impl Into<String>,
) -> Setting {
    match configured_region(registry, environment).await {
        Some((region, origin)) => {
            let source = match origin {
                RegionOrigin::Settings => named,
                RegionOrigin::Variable(name) => Source::Variable(name.to_owned()),
                RegionOrigin::Profile => Source::File("of the AWS profile".to_owned()),
            };
            Setting::new("region", Some(region.as_ref()), source)
        }
        None => Setting::new("region", None::<&str>, Source::Default).note(unset),
    }
}

/// Returns the hosts that the helper adds to those that no proxy is for.
pub fn exemptions(environment: &Environment) -> Vec<Setting> {
    let missing = environment.missing_proxy_exemptions.iter();
    let row = |(name, list): &(&'static str, String)| {
        Setting::new(format!("own {name}"), Some(list), Source::Default)
            .note("no proxy receives a request for AWS credentials")
    };
    missing.map(row).collect()
}

/// Adds the variables that decide which identity signs, and how the program reaches a registry.
#[must_use]
pub fn with_variables(settings: Settings, environment: &Environment) -> Settings {
    let path = |name: &str, path: &Option<PathBuf>| {
        let value = path.as_ref()?.display().to_string();
        Some(Setting::new(name, Some(value), Source::Variable(name.to_owned())))
    };
    let network: Vec<Setting> = environment
        .proxies
        .iter()
        .cloned()
        .chain(path("SSL_CERT_FILE", &environment.ssl_cert_file))
        .collect();
    let tokens = environment.token_variables.iter();
    let tokens = tokens.map(|name| Setting::secret(name, Source::Variable(name.clone())));
    settings
        .group("AWS", environment.identity.clone())
        .group("network", network)
        .group("tokens that Terraform uses in place of the helper's", tokens.collect())
}
