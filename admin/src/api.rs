//! Asks a broker, with a token got as the helper gets one: a token that is no longer good is replaced once, and a broker that is
//! busy is asked once more.

use std::io::ErrorKind;
use std::time::Duration;

use chrono::DateTime;
use reqwest::header::{HeaderMap, RETRY_AFTER, USER_AGENT};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Namespace, Permission, Permissions};
use stile_protocol::reply::ErrorReply;
use terraform_credentials_stile::call::{self, CallError};
use terraform_credentials_stile::clock::Clock;
use terraform_credentials_stile::config::{Environment, RegistryConfig, TokenScope, is_loopback};
use terraform_credentials_stile::message::{one_line, root_cause};
use terraform_credentials_stile::token::{self, Token};

use crate::error::CommandError;
use crate::output::notice;
use crate::target::ApiTarget;

/// Longest answer that is read, in bytes: a module with some hundred thousand versions.
const MAX_RESPONSE_LEN: usize = 8 * 1024 * 1024;

/// Longest wait before a busy broker is asked again, in seconds.
const MAX_RETRY_DELAY: u64 = 5;

/// A broker, and what is asked of it.
#[derive(Debug)]
pub(crate) struct Api {
    registry: RegistryConfig,
    environment: Environment,
    clock: Clock,
    client: Client,
    scope: TokenScope,
}

/// What a broker answered.
#[derive(Debug)]
pub(crate) struct ApiResponse {
    url: Url,
    /// The status; never a redirect.
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Api {
    /// The broker that was named, to be asked for that permission, in one namespace or in all.
    pub(crate) fn new(
        target: &ApiTarget,
        permission: Permission,
        namespace: Option<Namespace>,
        now: i64,
    ) -> Result<Self, CommandError> {
        let environment = Environment { timeout: target.timeout(), ..Environment::read() };
        let registry = target.registry(&environment)?;
        let client = call::client(&registry.url, &environment)?;
        let clock = Clock::starting_at(DateTime::from_timestamp(now, 0).unwrap_or_default());
        let namespaces =
            namespace.map_or(Namespaces::All, |namespace| Namespaces::List(vec![namespace]));
        let scope = TokenScope {
            ttl: registry.ttl,
            namespaces,
            permissions: Permissions::NONE.with(permission),
        };
        Ok(Self { registry, environment, clock, client, scope })
    }

    /// Longest time for a call that only asks.
    pub(crate) fn patience(&self) -> Duration {
        3 * call::timeout(&self.environment)
    }

    /// Where a path of the service is.
    pub(crate) fn at(&self, path: &str) -> Result<Url, CommandError> {
        self.registry.url_for(path).map_err(|error| {
            CommandError::failed_because(format_args!("`{path}` is no path"), &error)
        })
    }

    /// A client for an address that the broker names: the same trust and limits, and no token goes there.
    pub(crate) fn client_for(&self, url: &Url) -> Result<Client, CommandError> {
        let mut url = url.clone();
        url.set_query(None);
        // On this machine anybody may listen, so only a broker that is on it itself may send us there.
        if url.scheme() == "http" && !is_loopback(&self.registry.url) {
            return Err(CallError::UnsupportedScheme(url).into());
        }
        Ok(call::client(&url, &self.environment)?)
    }

    /// Asks, and reads the answer to a "yes".
    pub(crate) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, CommandError> {
        let url = self.at(path)?;
        let answer = self
            .call(async |client: &Client, token: &Token| {
                send(client.get(url.clone()).bearer_auth(token.expose()).timeout(self.patience()))
                    .await
            })
            .await?;
        answer.read()
    }

    /// Makes a call; the request is made anew for each attempt.
    pub(crate) async fn call(
        &self,
        request: impl AsyncFn(&Client, &Token) -> Result<ApiResponse, CommandError>,
    ) -> Result<ApiResponse, CommandError> {
        let mut token = self.token().await?;
        let (mut renewed, mut repeated) = (!token.cached, false);
        loop {
            let outcome = request(&self.client, &token).await;
            // A broker that refuses a token may hang up on whoever is still sending, before the refusal is read.
            let refused =
                outcome.as_ref().map_or_else(CommandError::is_connection_closed, |answer| {
                    answer.status == StatusCode::UNAUTHORIZED
                });
            if refused && !renewed {
                renewed = true;
                token::forget(&self.registry, &self.scope, &self.environment).map_err(|error| {
                    CommandError::failed_because("the old token cannot be dropped", &error)
                })?;
                token = self.token().await?;
                continue;
            }
            if let Some(wait) = outcome.as_ref().ok().and_then(ApiResponse::busy)
                && !repeated
            {
                repeated = true;
                tokio::time::sleep(wait).await;
                continue;
            }
            return outcome;
        }
    }

    async fn token(&self) -> Result<Token, CommandError> {
        let host = &self.registry.host;
        let token =
            token::for_host(&self.registry, &self.scope, &self.environment, self.clock).await;
        let token = token.map_err(|error| {
            CommandError::from(error).context(format_args!("no token for `{host}`"))
        })?;
        if let Some(clock) = token.clock_notice() {
            notice(clock);
        }
        Ok(token)
    }
}

/// Sends one request and reads the whole answer.
pub(crate) async fn send(request: RequestBuilder) -> Result<ApiResponse, CommandError> {
    let request = request.header(USER_AGENT, concat!("stile-admin/", env!("CARGO_PKG_VERSION")));
    let (client, request) = request.build_split();
    let request = request.map_err(|error| CallError::Setup(root_cause(&error)))?;
    let mut url = request.url().clone();
    // A query may be a signature, which is as good as a password: it is in no message.
    url.set_query(None);
    let failed = |error: reqwest::Error| match error.is_timeout() {
        true => CallError::TimedOut(url.clone()),
        false => {
            CallError::Unreachable { url: url.clone(), cause: root_cause(&error.without_url()) }
        }
    };
    let mut response =
        client.execute(request).await.map_err(|error| match is_connection_closed(&error) {
            true => CommandError::from(failed(error)).connection_closed(),
            false => failed(error).into(),
        })?;
    let status = response.status();
    if status.is_redirection() {
        return Err(CallError::Redirected { url, status }.into());
    }
    let (headers, mut body) = (response.headers().clone(), Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_RESPONSE_LEN {
            return Err(CommandError::failed(format!(
                "`{url}` answered with more than {MAX_RESPONSE_LEN} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(ApiResponse { url, status, headers, body })
}

/// Whether whoever was called broke off while it was being sent to; what stops on our side is no such thing.
fn is_connection_closed(error: &reqwest::Error) -> bool {
    let broken = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::ConnectionAborted];
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| broken.contains(&error.kind()))
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The registry routes' errors, each a sentence with its hint.
#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

impl ApiResponse {
    /// The body as it came.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Reads a "yes", or says what was said instead.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, CommandError> {
        if !self.status.is_success() {
            return Err(self.refusal());
        }
        serde_json::from_slice(&self.body).map_err(|_| {
            CommandError::failed(format!("`{}` answered with something else", self.url))
                .hint("look at `url` in the helper's `config.toml`: is that a Stile registry?")
        })
    }

    /// How long to wait, where the broker says that it is down or has too much to do.
    fn busy(&self) -> Option<Duration> {
        if !matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            return None;
        }
        let seconds = self
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(1);
        Some(Duration::from_secs(MAX_RETRY_DELAY.min(seconds)))
    }

    /// "No" and "down" are two things, and an answer that no broker gives is neither.
    fn refusal(&self) -> CommandError {
        let down = self.status.is_server_error()
            || matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        let error = |message: String| match down {
            true => CommandError::failed(format!("the registry could not answer: {message}")),
            false => CommandError::refused(message),
        };
        if let Ok(reply) = serde_json::from_slice::<ErrorReply>(&self.body) {
            let error = error(one_line(&reply.message));
            return reply.hint.map_or(error.clone(), |hint| error.hint(one_line(&hint)));
        }
        match serde_json::from_slice::<Errors>(&self.body) {
            Ok(Errors { errors }) if !errors.is_empty() => error(one_line(&errors.join("; "))),
            _ => error(format!("`{}` answered {}", self.url, self.status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> ApiResponse {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let url = Url::parse("https://registry.example.com/v1/modules").unwrap();
        ApiResponse {
            url,
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_whoever_refused() {
        for (status, body, expected) in [
            (403, r#"{"errors":["a; hint: b"]}"#, "a; hint: b"),
            (
                409,
                r#"{"error":"conflict","message":"a","hint":"b","server_time":"x"}"#,
                "a; hint: b",
            ),
            (404, r#"{"errors":["there\u001b[2J"]}"#, "there [2J"),
            (404, "<html>", "`https://registry.example.com/v1/modules` answered 404 Not Found"),
            (
                400,
                r#"{"errors":[]}"#,
                "`https://registry.example.com/v1/modules` answered 400 Bad Request",
            ),
            (503, r#"{"errors":["a"]}"#, "the registry could not answer: a"),
            (
                502,
                "",
                "the registry could not answer: `https://registry.example.com/v1/modules` answered 502 Bad Gateway",
            ),
        ] {
            assert_eq!(
                answer(status, &[], body).read::<serde_json::Value>().unwrap_err().to_string(),
                expected,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn a_busy_broker_is_waited_for_but_never_long() {
        for (status, headers, seconds) in [
            (503, &[("retry-after", "2")][..], Some(2)),
            (429, &[("retry-after", "0")], Some(0)),
            (503, &[("retry-after", "86400")], Some(5)),
            (503, &[("retry-after", "Fri, 20 Nov 2026 10:11:12 GMT")], Some(1)),
            (503, &[], Some(1)),
            (502, &[("retry-after", "2")], None),
            (409, &[], None),
        ] {
            assert_eq!(
                answer(status, headers, "").busy().map(|wait| wait.as_secs()),
                seconds,
                "{status} {headers:?}"
            );
        }
    }
}
