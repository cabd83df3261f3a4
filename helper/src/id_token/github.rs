//! Gets a JWT from GitHub Actions, for a job with `permissions: { id-token: write }`.

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{IdTokenError, is_jwt};
use crate::call::{self, CallError};
use crate::config::{Environment, is_loopback, secret_variable};
use crate::message;

/// The variable with the address that signs JWTs for this job.
pub(super) const REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";

/// The variable with the secret that this address requires.
const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

/// A job of GitHub Actions that may get JWTs.
#[derive(Debug, Clone)]
pub struct GithubJob {
    url: Url,
    secret: SecretString,
}

/// The response of GitHub Actions.
#[derive(Deserialize)]
struct GithubReply {
    value: String,
}

impl GithubJob {
    /// Returns the job of this process, or `None` if it is not one with `id-token: write`.
    pub(super) fn of_environment() -> Result<Option<Self>, IdTokenError> {
        match (secret_variable(REQUEST_URL), secret_variable(REQUEST_TOKEN)) {
            (Some(url), Some(secret)) => Self::new(url.expose_secret(), secret).map(Some),
            _ => Ok(None),
        }
    }

    /// Plain HTTP would show the job's secret to the network, so only loopback addresses may use it.
    fn new(url: &str, secret: SecretString) -> Result<Self, IdTokenError> {
        let url = Url::parse(url).map_err(|_| IdTokenError::RequestUrl)?;
        let is_private = url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url);
        if !is_private || !url.username().is_empty() || url.password().is_some() {
            return Err(IdTokenError::RequestUrl);
        }
        Ok(Self { url, secret })
    }

    /// Returns a digest of the job, which differs for each job of a computer.
    pub(super) fn identity(&self) -> String {
        let job = format!("{}\n{}", self.url, self.secret.expose_secret());
        hex::encode(Sha256::digest(job))
    }

    /// Returns the host that signs the JWTs.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Gets a JWT for a registry.
    ///
    /// The job's secret goes to the address of the variable only: the client follows no redirect.
    pub async fn fetch(
        &self,
        audience: &str,
        environment: &Environment,
    ) -> Result<SecretString, IdTokenError> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("audience", audience);
        let client = call::client(&url, environment).map_err(|error| self.failed(error))?;
        let request = client.get(url).bearer_auth(self.secret.expose_secret());
        let response =
            call::send(request, environment).await.map_err(|error| self.failed(error))?;
        if !response.status.is_success() {
            return Err(IdTokenError::GithubRefused(response.refusal().message));
        }
        match serde_json::from_slice::<GithubReply>(&response.body) {
            Ok(reply) if is_jwt(&reply.value) => Ok(reply.value.into()),
            _ => Err(IdTokenError::NotAJwt("the response of GitHub Actions".to_owned())),
        }
    }

    /// Removes the query from the address in an error: it says nothing to a user.
    fn failed(&self, error: CallError) -> IdTokenError {
        let mut short = self.url.clone();
        short.set_query(None);
        IdTokenError::Github(match error {
            CallError::TimedOut(_) => CallError::TimedOut(short),
            CallError::Unreachable { cause, .. } => CallError::Unreachable { url: short, cause },
            CallError::Redirected { status, .. } => CallError::Redirected { url: short, status },
            CallError::ResponseTooLarge { limit, .. } => {
                CallError::ResponseTooLarge { url: short, limit }
            }
            CallError::Setup(text) => CallError::Setup(message::one_line(&text)),
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_a_job_goes_only_over_tls_or_to_this_computer() {
        for (url, allowed) in [
            ("https://pipelines.actions.githubusercontent.com/x/idtoken?api-version=2.0", true),
            ("http://127.0.0.1:80/x?a=b", true),
            ("http://pipelines.actions.githubusercontent.com/x", false),
            ("http://10.0.0.1/x", false),
            ("https://user@a.example/x", false),
            ("ftp://a.example", false),
            ("", false),
        ] {
            assert_eq!(GithubJob::new(url, "sekret".into()).is_ok(), allowed, "{url}");
        }
        let job = GithubJob::new("https://a.example/x", "sekret".into()).unwrap();
        assert!(!format!("{job:?}").contains("sekret"));
    }

    #[test]
    fn jobs_differ_by_their_address_and_their_secret() {
        let identity =
            |url: &str, secret: &str| GithubJob::new(url, secret.into()).unwrap().identity();
        let one = identity("https://a.example/1", "a");
        assert_eq!(one, identity("https://a.example/1", "a"));
        assert_ne!(one, identity("https://a.example/2", "a"));
        assert_ne!(one, identity("https://a.example/1", "b"));
    }
}
