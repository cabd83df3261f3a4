//! Reads the environment and `stile/config.toml`: which hosts are Stile registries, and their settings.
//!
//! The helper signs requests only for the hosts in that file.
//!
//! Users write this file, so an unknown key is an error: a misspelled `profile` must not let other
//! credentials sign. The file may name its format `version`, which is 1 if the key is missing.

mod https_proxy;
mod no_proxy;
mod proof;
mod table;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use directories::BaseDirs;
use secrecy::SecretString;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use stile_protocol::audience::{Audience, AudienceError};
use stile_protocol::exchange::{MAX_TTL, MIN_TTL, Namespaces};
use stile_protocol::names::{Permission, Permissions};
use stile_protocol::region::Region;
use stile_settings::mask::mask;
use stile_settings::{Setting, variables};
use url::Url;

pub use crate::config::https_proxy::HttpsProxy;
pub use crate::config::proof::{
    IdTokenSettings, Proof, check_jwt_audience, check_trust, check_variable,
};

/// The format version of `config.toml` that this program supports.
const VERSION: i64 = 1;

/// What a pasted URL has before its host.
const HTTPS: &str = "https://";

/// The profile that AWS tools use if none is named.
pub const DEFAULT_PROFILE: &str = "default";

/// Default lifetime of a token, in seconds.
pub const DEFAULT_TTL: i64 = 3600;

/// Variables that decide which credentials the AWS chain finds. They are part of the cache key.
const AWS_VARIABLES: [&str; 10] = [
    AWS_ACCESS_KEY,
    AWS_PROFILE,
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    CONTAINER_RELATIVE_URI,
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    AWS_CONFIG_FILE,
    AWS_CREDENTIALS_FILE,
    "AWS_LOGIN_CACHE_DIRECTORY",
];
const AWS_ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
pub(crate) const AWS_PROFILE: &str = "AWS_PROFILE";
const CONTAINER_RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const CONTAINER_TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const CONTAINER_TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// Variables that name the region, in the order in which the SDK reads them.
const AWS_REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
const AWS_CONFIG_FILE: &str = "AWS_CONFIG_FILE";
const AWS_CREDENTIALS_FILE: &str = "AWS_SHARED_CREDENTIALS_FILE";

/// The environment variables and platform folders that the helper uses.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The user's home folder.
    pub home: Option<PathBuf>,
    /// The platform's folder for configuration.
    pub config_folder: Option<PathBuf>,
    /// The platform's folder for caches.
    pub cache_folder: Option<PathBuf>,
    /// The platform's folder for data.
    pub data_folder: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`: the parent of OpenTofu's folder for configuration.
    pub xdg_config_home: Option<PathBuf>,
    /// `APPDATA`: the parent of Terraform's files on Windows.
    pub app_data: Option<PathBuf>,
    /// Timeout of a whole call to a broker, if the user chose one.
    pub timeout: Option<Duration>,
    /// `SSL_CERT_FILE`: root certificates that replace the platform's.
    pub ssl_cert_file: Option<PathBuf>,
    /// `GITHUB_STEP_SUMMARY`: the file with the summary of a step of GitHub Actions.
    pub github_step_summary: Option<PathBuf>,
    /// `TF_CLI_CONFIG_FILE`, or its old name `TERRAFORM_CONFIG`.
    pub terraform_rc: Option<PathBuf>,
    /// `TF_DATA_DIR`: the folder that Terraform uses in place of `.terraform`.
    pub terraform_data: Option<PathBuf>,
    /// Names of the `TF_TOKEN_…` variables. The helper never reads their values.
    pub token_variables: Vec<String>,
    /// The AWS variables that decide which credentials are used. None of them is a secret.
    pub aws: Vec<(&'static str, String)>,
    /// A digest of the secret that a container's agent requires, which differs for each container.
    pub container_secret_digest: Option<String>,
    /// The boot of this computer and its host name, so that computers with one home share no token.
    pub computer: Option<String>,
    /// The first AWS variable of the region with a value. A variable without one hides no other.
    pub aws_region: Option<(&'static str, String)>,
    /// The set variables that decide which identity signs, without their secrets.
    pub identity: Vec<Setting>,
    /// The set variables that name a proxy, without their passwords.
    pub proxies: Vec<Setting>,
    /// Variables that a process must have so that no proxy receives a request for credentials.
    ///
    /// Empty if the environment of this process already has them, or names no proxy.
    pub missing_proxy_exemptions: Vec<(&'static str, String)>,
    /// The proxy for HTTPS, if a variable names one.
    pub https_proxy: Option<HttpsProxy>,
}

impl Environment {
    /// Reads the environment of this process.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the helper reads its environment"
    )]
    pub fn read() -> Self {
        let path =
            |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folders = BaseDirs::new();
        let folder =
            |pick: fn(&BaseDirs) -> &Path| folders.as_ref().map(|folders| pick(folders).to_owned());
        let named = |(name, _)| {
            OsString::into_string(name).ok().filter(|name| name.starts_with("TF_TOKEN_"))
        };
        Self {
            home: folder(BaseDirs::home_dir),
            config_folder: folder(BaseDirs::config_dir),
            cache_folder: folder(BaseDirs::cache_dir),
            data_folder: folder(BaseDirs::data_local_dir),
            xdg_config_home: path("XDG_CONFIG_HOME"),
            app_data: path("APPDATA"),
            timeout: None,
            ssl_cert_file: path("SSL_CERT_FILE"),
            github_step_summary: path("GITHUB_STEP_SUMMARY"),
            terraform_rc: path("TF_CLI_CONFIG_FILE").or_else(|| path("TERRAFORM_CONFIG")),
            terraform_data: path("TF_DATA_DIR"),
            token_variables: std::env::vars_os().filter_map(named).collect(),
            aws: AWS_VARIABLES
                .into_iter()
                .filter_map(|name| std::env::var(name).ok().map(|value| (name, value)))
                .collect(),
            container_secret_digest: container_secret(
                path(CONTAINER_TOKEN_FILE),
                std::env::var_os(CONTAINER_TOKEN),
            )
            .map(|secret| hex::encode(Sha256::digest(secret))),
            computer: computer(Path::new("/proc/sys/kernel")),
            aws_region: AWS_REGIONS
                .into_iter()
                .filter_map(|name| Some((name, std::env::var(name).ok()?.trim().to_owned())))
                .find(|(_, value)| !value.is_empty()),
            identity: variables::identity(|name| std::env::var(name).ok()),
            proxies: variables::proxies(|name| std::env::var(name).ok()),
            missing_proxy_exemptions: no_proxy::missing(|name| std::env::var(name).ok()),
            https_proxy: https_proxy::named(|name| std::env::var(name).ok()),
        }
    }

    /// Returns the default path of `config.toml`.
    pub fn default_config(&self) -> Option<PathBuf> {
        self.config_folder.as_ref().map(|folder| folder.join("stile").join("config.toml"))
    }

    /// Returns the profile that `AWS_PROFILE` names. Keys in the environment take precedence over it.
    pub fn aws_profile(&self) -> Option<&str> {
        self.aws
            .iter()
            .find(|(name, value)| *name == AWS_PROFILE && !value.trim().is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// Returns the profile that providers of the SDK must use, if the SDK itself would use another one.
    ///
    /// To the SDK an `AWS_PROFILE` without a value is a profile without a name.
    pub fn profile_override(&self) -> Option<&'static str> {
        let is_blank =
            |(name, value): &(&str, String)| *name == AWS_PROFILE && value.trim().is_empty();
        self.aws.iter().any(is_blank).then_some(DEFAULT_PROFILE)
    }

    /// Tells whether a proxy would receive the requests of this process for credentials.
    pub fn proxies_endpoints(&self) -> bool {
        !self.missing_proxy_exemptions.is_empty()
    }

    /// Tells whether the environment has an access key.
    pub fn has_access_key(&self) -> bool {
        self.aws.iter().any(|(name, value)| *name == AWS_ACCESS_KEY && !value.trim().is_empty())
    }

    /// Tells whether a variable names a container endpoint.
    pub fn names_container_endpoint(&self) -> bool {
        self.aws.iter().any(|(name, _)| name.starts_with("AWS_CONTAINER_CREDENTIALS_"))
    }

    /// Tells whether the settings distinguish this container from others with the same home.
    ///
    /// A relative address contains an id of the task.
    pub fn identifies_container(&self) -> bool {
        self.container_secret_digest.is_some()
            || self.aws.iter().any(|(name, _)| *name == CONTAINER_RELATIVE_URI)
    }

    /// Replaces a first component `~` with the home folder, as the SDK does.
    fn expand_home(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path.to_owned(),
        }
    }

    /// Returns what the AWS configuration files contain, as digests: a profile may now be another
    /// principal. `None` stands for a file that does not exist.
    pub fn aws_file_versions(&self) -> Vec<Option<String>> {
        let named = |variable| {
            self.aws
                .iter()
                .find(|(name, _)| *name == variable)
                .map(|(_, value)| self.expand_home(Path::new(value)))
        };
        let usual = |name| self.home.as_ref().map(|home| home.join(".aws").join(name));
        let files = [
            named(AWS_CONFIG_FILE).or_else(|| usual("config")),
            named(AWS_CREDENTIALS_FILE).or_else(|| usual("credentials")),
        ];
        files.into_iter().map(|file| file_version(&file?)).collect()
    }
}

/// Reads a variable that contains a secret, such as a JWT of the job. An empty one counts as none.
#[expect(
    clippy::disallowed_methods,
    reason = "a user names the variable, so it is not among those of `Environment`"
)]
pub fn secret_variable(name: &str) -> Option<SecretString> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty()).map(SecretString::from)
}

/// The largest AWS configuration file whose content the helper compares, in bytes.
const MAX_AWS_FILE: u64 = 1 << 20;

/// Returns a digest of a file's content. Its time is not enough: a copy can have the time of its
/// original. For a file that is too large or cannot be read, it returns the time.
fn file_version(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    if metadata.is_file()
        && metadata.len() <= MAX_AWS_FILE
        && let Ok(content) = std::fs::read(path)
    {
        return Some(hex::encode(Sha256::digest(content)));
    }
    metadata.modified().ok().map(|time| format!("{time:?}"))
}

/// Returns the secret for a container's agent. As for the SDK, a file takes precedence.
fn container_secret(file: Option<PathBuf>, value: Option<OsString>) -> Option<Vec<u8>> {
    match file {
        Some(file) => std::fs::read(file).ok(),
        None => value.filter(|value| !value.is_empty()).map(OsString::into_encoded_bytes),
    }
}

/// Returns the boot id and the host name of a Linux computer, from the folder of its kernel.
fn computer(kernel: &Path) -> Option<String> {
    let read = |name| std::fs::read_to_string(kernel.join(name)).ok();
    Some(format!("{} {}", read("random/boot_id")?.trim(), read("hostname")?.trim()))
}

/// Why the helper cannot use its configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The content is invalid.
    #[error("`{}`{place}: {problem}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line or table with the problem, with a space before it.
        place: String,
        /// What is wrong, and which values are valid.
        problem: String,
    },
}

/// The AWS service that verifies the caller's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// The broker sends the signed request to STS
    #[default]
    Sts,
    /// API Gateway verifies the request (`AWS_IAM`)
    ExecuteApi,
    /// A Lambda function URL verifies the request (`AWS_IAM`)
    Lambda,
}

impl Service {
    /// Returns the service name of the SigV4 credential scope.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::ExecuteApi => "execute-api",
            Self::Lambda => "lambda",
        }
    }
}

/// The settings of one registry: its host, and how to get a token for it.
#[derive(Debug, Clone, PartialEq)]
pub struct RegistryConfig {
    /// The host as Terraform writes it: the audience of proofs and tokens.
    pub host: Audience,
    /// The base URL of the broker.
    pub url: Url,
    /// The region to sign for. It overrides the AWS configuration.
    pub region: Option<String>,
    /// The only AWS profile whose credentials may sign.
    pub profile: Option<String>,
    /// The service that verifies the signature.
    pub service: Service,
    /// Lifetime of requested tokens, in seconds.
    pub ttl: i64,
    /// Permissions of requested tokens.
    pub permissions: Permissions,
    /// How the caller proves its identity.
    pub proof: Proof,
    /// The trust of the registry that believes the caller's JWT, if two of them do.
    pub trust: Option<String>,
    /// The audience of the caller's JWT, if the trust does not take the host.
    pub audience: Option<String>,
    /// Where the JWT of a job is, if the settings name a place.
    pub id_tokens: IdTokenSettings,
}

impl RegistryConfig {
    /// Creates a registry with the default settings of its host.
    pub fn new(host: Audience) -> Result<Self, String> {
        let url = parse_url(&format!("https://{host}"))?;
        let permissions = Permissions::NONE.with(Permission::Download);
        Ok(Self {
            host,
            url,
            region: None,
            profile: None,
            service: Service::Sts,
            ttl: DEFAULT_TTL,
            permissions,
            proof: Proof::Sigv4,
            trust: None,
            audience: None,
            id_tokens: IdTokenSettings::default(),
        })
    }

    /// Returns the URL of a path of the broker. The path starts with a slash.
    pub fn url_for(&self, path: &str) -> Result<Url, url::ParseError> {
        Url::parse(&format!("{}{path}", self.url.as_str().trim_end_matches('/')))
    }

    /// Returns the scope of Terraform's tokens: the configured permissions, in every namespace.
    pub fn scope(&self) -> TokenScope {
        TokenScope { ttl: self.ttl, namespaces: Namespaces::All, permissions: self.permissions }
    }
}

/// The lifetime, namespaces and permissions to request for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenScope {
    /// Lifetime, in seconds.
    pub ttl: i64,
    /// The namespaces in which the token is valid.
    pub namespaces: Namespaces,
    /// The permissions of the token.
    pub permissions: Permissions,
}

/// The configuration file: every registry by its host.
#[derive(Debug, Clone, Default)]
pub struct Config {
    registries: BTreeMap<Audience, RegistryConfig>,
    /// The keys that the table of each registry has.
    keys: BTreeMap<Audience, Vec<&'static str>>,
}

impl Config {
    /// Reads the given file or the default one. Only the default file may be missing.
    pub fn load(named: Option<&Path>, environment: &Environment) -> Result<Self, ConfigError> {
        let Some(path) = named.map(Path::to_owned).or_else(|| environment.default_config()) else {
            return Ok(Self::default());
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path),
            // The default folder may also be a file, for example with `HOME=/dev/null`.
            Err(error)
                if named.is_none()
                    && matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
            {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Unreadable { path, source }),
        }
    }

    /// Parses the text of the file. Errors name its `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let invalid = |place: String, problem: String| ConfigError::Invalid {
            path: path.to_owned(),
            place,
            problem,
        };
        // Check the version first: a file of a newer version may have any other keys.
        if let Ok(ConfigVersion { version: Some(version) }) = toml::from_str(text)
            && version != VERSION
        {
            return Err(invalid(
                String::new(),
                format!(
                    "the file has format version {version}, and this program ({}) supports version {VERSION}",
                    env!("CARGO_PKG_VERSION")
                ),
            ));
        }
        let file: ConfigFile = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map_or_else(String::new, |span| format!(" line {}", line_of(text, span.start)));
            invalid(line, crate::message::one_line(error.message()))
        })?;
        let (mut registries, mut keys) = (BTreeMap::new(), BTreeMap::new());
        for (host, table) in file.registry {
            let given = table.keys();
            let registry = table
                .check(&host)
                .map_err(|problem| invalid(format!(" [registry.\"{host}\"]"), problem))?;
            keys.insert(registry.host.clone(), given);
            if let Some(first) = registries.insert(registry.host.clone(), registry) {
                return Err(invalid(String::new(), format!("`{}` has two tables", first.host)));
            }
        }
        Ok(Self { registries, keys })
    }

    /// Tells whether the file sets that key for a registry.
    pub fn sets(&self, host: &Audience, key: &str) -> bool {
        self.keys.get(host).is_some_and(|keys| keys.contains(&key))
    }

    /// Returns the settings of a host, if it is a configured registry.
    pub fn registry(&self, host: &Audience) -> Option<&RegistryConfig> {
        self.registries.get(host)
    }

    /// Iterates over the registries, ordered by host.
    pub fn registries(&self) -> impl Iterator<Item = &RegistryConfig> {
        self.registries.values()
    }
}

/// The key that every format version has in common.
#[derive(Deserialize)]
struct ConfigVersion {
    version: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    #[serde(rename = "version")]
    _version: Option<i64>,
    #[serde(default)]
    registry: BTreeMap<String, table::RegistryTable>,
}

/// Parses a registry host. Users also paste the URL of the registry.
pub fn parse_host(text: &str) -> Result<Audience, AudienceError> {
    Audience::parse(bare_host(text))
}

/// Removes `https://` and a slash after the host. Any other part of a URL stays, and is invalid.
pub fn bare_host(text: &str) -> &str {
    match text.split_at_checked(HTTPS.len()) {
        Some((scheme, host)) if scheme.eq_ignore_ascii_case(HTTPS) => {
            host.strip_suffix('/').unwrap_or(host)
        }
        _ => text,
    }
}

/// Checks the lifetime of a token.
pub fn check_ttl(ttl: i64) -> Result<i64, String> {
    if (MIN_TTL..=MAX_TTL).contains(&ttl) {
        Ok(ttl)
    } else {
        Err(format!("`ttl` must be from {MIN_TTL} to {MAX_TTL} seconds"))
    }
}

/// Checks that an AWS region exists in the region table.
pub fn check_region(name: String) -> Result<String, String> {
    if Region::named(&name).is_some() {
        Ok(name)
    } else {
        Err(format!("`{name}` is not an AWS region such as `eu-central-1`"))
    }
}

/// Parses the URL of a broker.
///
/// Plain HTTP would show proofs and tokens to the network, so only loopback addresses may use it.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|error| format!("`{}` is not a URL: {error}", mask(text)))?;
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err("`url` must not have a user, a query or a fragment".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(format!(
            "`{text}` is plain HTTP, which only loopback addresses may use; use `https`"
        )),
        other => Err(format!("`url` must be `https`, not `{other}`")),
    }
}

/// Tells whether the host of a URL is a loopback address or `localhost`. It resolves no names.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
