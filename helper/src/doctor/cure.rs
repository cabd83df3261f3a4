//! The cures of `doctor`: complete commands, with the host and the profile of this run.

use similar::get_close_matches;
use stile_protocol::audience::Audience;
use terraform_credentials_stile::call::{CallError, ProxyProblem, Refusal, is_outside_validity};
use terraform_credentials_stile::config::{DEFAULT_PROFILE, RegistryConfig};
use terraform_credentials_stile::credentials::{
    self, CredentialProvider, CredentialsError, ProfileError, ProfileKind, ProfileSummary,
};
use terraform_credentials_stile::exchange::ExchangeError;
use terraform_credentials_stile::shell::quoted_for_posix;
use terraform_credentials_stile::token::TokenError;

use crate::verb::VerbContext;

/// How similar two names must be, from 0 to 1, so that one may be a misspelling of the other.
const SIMILAR: f32 = 0.6;

/// Most other profiles that a cure lists.
const MAX_LISTED: usize = 5;

/// The cure of a wrong clock.
pub(super) const CLOCK: &str = if cfg!(target_os = "macos") {
    "run `sudo sntp -sS time.apple.com`"
} else if cfg!(windows) {
    "run `w32tm /resync` as administrator"
} else {
    "run `sudo timedatectl set-ntp true`"
};

/// Returns a command of this program, with the flags that the user typed.
pub(super) fn command(typed: &VerbContext, arguments: &str, profile: Option<&str>) -> String {
    let mut command = format!("terraform-credentials-stile {arguments}");
    let config = typed.config.as_ref().map(|path| path.display().to_string());
    for (flag, value) in [
        ("--config", config.as_deref()),
        ("--region", typed.region.as_deref()),
        ("--profile", profile.or(typed.profile.as_deref())),
    ] {
        if let Some(value) = value {
            command = format!("{command} {flag} {}", quoted_for_posix(value));
        }
    }
    format!("`{command}`")
}

/// Returns the command that installs the helper for a host.
pub(super) fn install(typed: &VerbContext, host: Option<&Audience>) -> String {
    let host = host.map_or("HOST", Audience::as_str);
    command(typed, &format!("install --registry-host {host}"), None)
}

/// Returns the configured host that a mistyped one may stand for.
pub(super) fn near_host(context: &VerbContext, mistyped: &Audience) -> Option<String> {
    let config = context.load_config().ok()?;
    let hosts: Vec<&str> = config.registries().map(|registry| registry.host.as_str()).collect();
    let near = get_close_matches(mistyped.as_str(), &hosts, 1, SIMILAR);
    near.first().map(|near| (*near).to_owned())
}

/// Tells whether no trusted authority signed a certificate. Another key with the name of a trusted
/// authority gives a bad signature.
fn is_untrusted(cause: &str) -> bool {
    ["UnknownIssuer", "BadSignature"].iter().any(|name| cause.contains(name))
}

/// Returns the names of the profiles with credentials, except this one.
fn with_credentials<'a>(profiles: &'a [ProfileSummary], except: &str) -> Vec<&'a str> {
    let usable = profiles.iter().filter(|profile| profile.kind != ProfileKind::Empty);
    usable.map(|profile| profile.name.as_str()).filter(|name| *name != except).collect()
}

/// One host under check, which the cures name.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostCheck<'a> {
    /// The environment, and the flags that the user typed.
    pub(super) typed: &'a VerbContext,
    /// The same with the flags in the CLI configuration.
    pub(super) context: &'a VerbContext,
    /// The settings of the host.
    pub(super) registry: &'a RegistryConfig,
}

impl HostCheck<'_> {
    fn own_command(&self, verb: &str, profile: Option<&str>) -> String {
        command(self.typed, &format!("{verb} {}", self.registry.host), profile)
    }

    /// Returns the command that makes the helper use a profile for the host.
    fn use_profile(&self, profile: &str) -> String {
        self.own_command("install --registry-host", Some(profile))
    }

    /// The cure of missing or unusable AWS credentials.
    pub(super) async fn credentials(&self, error: &CredentialsError) -> String {
        let profiles = credentials::list_profiles().await;
        match error {
            CredentialsError::NotFound => self.choose(&profiles),
            CredentialsError::Profile(ProfileError::Missing(name)) => self.correct(name, &profiles),
            CredentialsError::EmptyProfile { profile, .. } => self.fill(profile, &profiles),
            CredentialsError::Blank { profile: Some(profile), .. } => {
                format!("run `aws configure --profile {}`", quoted_for_posix(profile))
            }
            CredentialsError::Failed { provider: CredentialProvider::Environment, .. }
            | CredentialsError::Expired { provider: CredentialProvider::Environment, .. }
            | CredentialsError::Rejected { provider: CredentialProvider::Environment, .. } => {
                let keys = "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN";
                format!("{}; or run `unset {keys}` to use a profile", error.hint())
            }
            other => other.hint(),
        }
    }

    /// Returns how to choose a profile, if nothing names one.
    fn choose(&self, profiles: &[ProfileSummary]) -> String {
        let names = with_credentials(profiles, DEFAULT_PROFILE);
        let Some((first, others)) = names.split_first() else {
            let again = self.own_command("doctor", None);
            return format!("run `aws configure sso --profile {DEFAULT_PROFILE}`, then {again}");
        };
        let listed: Vec<_> =
            others.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect();
        let others = match listed.as_slice() {
            [] => String::new(),
            listed => format!("; other profiles are {}", listed.join(", ")),
        };
        format!("run {}{others}", self.use_profile(first))
    }

    /// Returns how to add credentials to a profile without any, or how to use another profile.
    fn fill(&self, empty: &ProfileSummary, profiles: &[ProfileSummary]) -> String {
        match with_credentials(profiles, &empty.name).first() {
            Some(other) => format!("{}; or run {}", empty.renewal(), self.use_profile(other)),
            None => empty.renewal(),
        }
    }

    /// Returns how to correct the name of a profile that does not exist.
    fn correct(&self, name: &str, profiles: &[ProfileSummary]) -> String {
        let names: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
        let Some(near) = get_close_matches(name, &names, 1, SIMILAR).first().copied() else {
            return format!(
                "run `aws configure sso --profile {}` to create it; `aws configure list-profiles` lists the profiles",
                quoted_for_posix(name)
            );
        };
        if self.typed.profile.is_some() {
            return format!("run {}", self.own_command("doctor", Some(near)));
        }
        if self.registry.profile.is_some() {
            return format!("run {}", self.use_profile(near));
        }
        format!("run `export AWS_PROFILE={}`", quoted_for_posix(near))
    }

    /// The cure of a call without a response.
    pub(super) fn call(&self, error: &CallError) -> Option<String> {
        let (host, url) = (&self.registry.host, self.url());
        match error {
            CallError::Unreachable { cause, .. } if is_untrusted(cause) => {
                Some(match &self.typed.environment.ssl_cert_file {
                    Some(path) => format!(
                        "`SSL_CERT_FILE` is `{}`, without the certificate authority of `{host}`; run `unset SSL_CERT_FILE`, \
                         or add that authority to the file",
                        path.display()
                    ),
                    None => format!(
                        "ask the operator of `{host}` for its certificate authority as PEM, store it as `stile-ca.pem` in your home folder, \
                         and run `export SSL_CERT_FILE=\"$HOME/stile-ca.pem\"`"
                    ),
                })
            }
            CallError::Proxy { problem: ProxyProblem::Unauthenticated, .. } => {
                error.hint().map(str::to_owned)
            }
            CallError::Proxy { proxy, .. } => {
                let variable = proxy.as_deref().map_or("HTTPS_PROXY", |proxy| proxy.variable);
                let name = self.registry.url.host_str().unwrap_or(host.as_str());
                Some(format!(
                    "correct `{variable}`, or run `export NO_PROXY=\"$NO_PROXY,{name}\"` if no proxy is needed"
                ))
            }
            CallError::Unreachable { cause, .. } if is_outside_validity(cause) => Some(format!(
                "compare this computer's clock with the correct time, and {CLOCK}; if it is correct, tell the operator of `{host}`"
            )),
            CallError::Unreachable { .. } | CallError::TimedOut(_) => Some(format!(
                "run `curl -sS {url}/healthz`; if that fails, too, the registry is down, or the network does not reach it{}",
                self.where_url_is_set()
            )),
            CallError::Redirected { url, .. } => Some(format!(
                "run `curl -sI {url}`, and set `url` to the address after `location`{}",
                self.where_url_is_set()
            )),
            other => other.hint().map(str::to_owned),
        }
    }

    /// The cure of a server that is not a registry.
    pub(super) fn wrong_server(&self) -> String {
        format!(
            "run `curl -sS {}/.well-known/terraform.json`; it must list `modules.v1`, or the host is not a registry{}",
            self.url(),
            self.where_url_is_set()
        )
    }

    /// The cure of an error response to a request without a token.
    pub(super) fn response(&self, refusal: &Refusal) -> String {
        if refusal.is_of_gateway() {
            return format!(
                "run `curl -sSi {}/readyz`, and send the output to the operator of `{}`{}",
                self.url(),
                self.registry.host,
                self.where_url_is_set()
            );
        }
        match &refusal.hint {
            Some(hint) => hint.clone(),
            None if refusal.code.is_some() => self.try_again(),
            None => self.wrong_server(),
        }
    }

    /// The cure of a failed exchange.
    pub(super) async fn token(&self, error: &TokenError) -> Option<String> {
        let error = match error {
            TokenError::Credentials(error) => return Some(self.credentials(error).await),
            TokenError::Call(error) | TokenError::Exchange(ExchangeError::Call(error)) => {
                return self.call(error);
            }
            TokenError::IdToken(error) => return Some(error.hint()),
            TokenError::Exchange(error) => error,
        };
        match error {
            ExchangeError::ClockTooFarOff(_) => Some(CLOCK.to_owned()),
            ExchangeError::InvalidReply(_) => Some(self.wrong_server()),
            ExchangeError::Refused(refusal) | ExchangeError::Unavailable(refusal) => {
                Some(self.response(refusal))
            }
            other => other.hint(),
        }
    }

    fn try_again(&self) -> String {
        format!(
            "run {} again in a minute; if it still fails, tell the registry's operator",
            self.own_command("doctor", None)
        )
    }

    fn url(&self) -> &str {
        self.registry.url.as_str().trim_end_matches('/')
    }

    /// Names the setting with the registry's address, if it is not the default one.
    fn where_url_is_set(&self) -> String {
        let host = &self.registry.host;
        let is_default =
            RegistryConfig::new(host.clone()).is_ok_and(|it| it.url == self.registry.url);
        let default = self.context.environment.default_config();
        match self.context.config.clone().or(default) {
            Some(path) if !is_default => {
                format!("; `url` is set in `{}`, `[registry.\"{host}\"]`", path.display())
            }
            _ => String::new(),
        }
    }
}
