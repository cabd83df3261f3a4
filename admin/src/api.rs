//! Calls a broker's API with a token from the credentials helper's library.
//!
//! It replaces a rejected token once, and retries once when the broker is busy.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::time::Duration;

use chrono::DateTime;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use stile_protocol::audience::Audience;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Namespace, Permission, Permissions};
use stile_protocol::reply::ErrorReply;
use stile_protocol::request_id;
use terraform_credentials_stile::call::{self, CallError};
use terraform_credentials_stile::clock::Clock;
use terraform_credentials_stile::config::{Environment, RegistryConfig, TokenScope, is_loopback};
use terraform_credentials_stile::message::{one_line, root_cause, with_request_id};
use terraform_credentials_stile::token::{self, Token};

use crate::error::CommandError;
use crate::output::notice;
use crate::target::ApiTarget;

/// Maximum length of a response in bytes: enough for some hundred thousand versions of a module.
///
/// It prevents a hostile server from filling the memory.
const MAX_RESPONSE_LEN: usize = 8 * 1024 * 1024;

/// Maximum delay in seconds before the retry of a request to a busy broker.
const MAX_RETRY_DELAY: u64 = 5;

/// A client for one broker, with the scope of its tokens.
#[derive(Debug)]
pub(crate) struct Api {
    registry: RegistryConfig,
    environment: Environment,
    clock: Clock,
    client: Client,
    scope: TokenScope,
    /// The last token, so that many calls load the credentials once.
    token: RefCell<Option<Token>>,
}

/// A response of a broker or of a bucket.
#[derive(Debug)]
pub(crate) struct ApiResponse {
    url: Url,
    /// The status. Never a redirect.
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Api {
    /// Creates a client for a permission on one namespace, or on all namespaces.
    pub(crate) fn new(
        target: &ApiTarget,
        permission: Permission,
        namespace: Option<Namespace>,
        now: i64,
    ) -> Result<Self, CommandError> {
        let namespaces =
            namespace.map_or(Namespaces::All, |namespace| Namespaces::List(vec![namespace]));
        Self::of_scope(target, namespaces, Permissions::NONE.with(permission), now)
    }

    /// Creates a client whose tokens have these namespaces and permissions.
    pub(crate) fn of_scope(
        target: &ApiTarget,
        namespaces: Namespaces,
        permissions: Permissions,
        now: i64,
    ) -> Result<Self, CommandError> {
        let environment = Environment { timeout: target.timeout(), ..Environment::read() };
        let registry = target.registry(&environment)?;
        let client = call::client(&registry.url, &environment)?;
        let clock = Clock::starting_at(DateTime::from_timestamp(now, 0).unwrap_or_default());
        let scope = TokenScope { ttl: registry.ttl, namespaces, permissions };
        Ok(Self { registry, environment, clock, client, scope, token: RefCell::default() })
    }

    /// Returns the registry's host, as Terraform writes it.
    pub(crate) const fn host(&self) -> &Audience {
        &self.registry.host
    }

    /// Returns the environment of the program.
    pub(crate) const fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Returns the timeout of a request without an archive.
    pub(crate) fn request_timeout(&self) -> Duration {
        3 * call::timeout(&self.environment)
    }

    /// Returns the URL of a path of the service.
    pub(crate) fn at(&self, path: &str) -> Result<Url, CommandError> {
        self.registry.url_for(path).map_err(|error| {
            CommandError::failed_because(format_args!("`{path}` is not a valid path"), &error)
        })
    }

    /// Returns an HTTP client for a URL from the broker. It has the same TLS settings and timeouts.
    ///
    /// The caller must not send the token to that URL.
    pub(crate) fn client_for(&self, url: &Url) -> Result<Client, CommandError> {
        self.check_url(url)?;
        let mut url = url.clone();
        url.set_query(None);
        Ok(call::client(&url, &self.environment)?)
    }

    /// Checks that a URL from the broker is `https`, or of this machine if the broker is.
    pub(crate) fn check_url(&self, url: &Url) -> Result<(), CommandError> {
        // Any local process can listen on a loopback port. So only a local broker may use such a URL.
        let is_local = is_loopback(url) && is_loopback(&self.registry.url);
        if url.scheme() == "https" || url.scheme() == "http" && is_local {
            return Ok(());
        }
        let mut url = url.clone();
        url.set_query(None);
        Err(CallError::UnsupportedScheme(url).into())
    }

    /// Sends a GET request, and parses the response.
    pub(crate) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, CommandError> {
        self.read_from(&self.at(path)?).await
    }

    /// Sends a GET request with a query, and parses the response.
    pub(crate) async fn read_query<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, CommandError> {
        let mut url = self.at(path)?;
        url.query_pairs_mut().extend_pairs(query);
        self.read_from(&url).await
    }

    async fn read_from<T: DeserializeOwned>(&self, url: &Url) -> Result<T, CommandError> {
        let answer = self
            .call(async |client: &Client, token: &Token| {
                let request = client.get(url.clone()).bearer_auth(token.expose());
                self.send(request.timeout(self.request_timeout())).await
            })
            .await?;
        answer.read()
    }

    /// Sends a request with a token. `request` creates the request again for each attempt.
    pub(crate) async fn call(
        &self,
        request: impl AsyncFn(&Client, &Token) -> Result<ApiResponse, CommandError>,
    ) -> Result<ApiResponse, CommandError> {
        let mut token = self.token().await?;
        let (mut renewed, mut repeated) = (!token.cached, false);
        loop {
            let outcome = request(&self.client, &token).await;
            // A broker that rejects a token may close the connection before the client has sent the
            // body. Then the client cannot read the response.
            let refused =
                outcome.as_ref().map_or_else(CommandError::is_connection_closed, |answer| {
                    answer.status == StatusCode::UNAUTHORIZED
                });
            if refused && !renewed {
                renewed = true;
                self.token.replace(None);
                token::forget(&self.registry, &self.scope, &self.environment).map_err(|error| {
                    CommandError::failed_because("cannot delete the rejected token", &error)
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

    /// Sends one request and reads the complete response.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<ApiResponse, CommandError> {
        let request =
            request.header(USER_AGENT, concat!("stile-admin/", env!("CARGO_PKG_VERSION")));
        let (client, request) = request.build_split();
        let request = request.map_err(|error| CallError::Setup(root_cause(&error)))?;
        let mut url = request.url().clone();
        // A query can contain a signature, which is a secret, so messages do not contain the query.
        url.set_query(None);
        let failed = |error: reqwest::Error| call::failure(&url, error, &self.environment);
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
                    "`{url}` responded with more than {MAX_RESPONSE_LEN} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(ApiResponse { url, status, headers, body })
    }

    /// Gets a token, so that a later request fails only for reasons of its own. Returns whose it is.
    pub(crate) async fn authenticate(&self) -> Result<String, CommandError> {
        Box::pin(self.token()).await.map(|token| token.principal)
    }

    /// Sends a request without a body, or with a JSON body, and returns the response.
    pub(crate) async fn send_json(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        body: Option<&Value>,
    ) -> Result<ApiResponse, CommandError> {
        let calling = self.call(async |client: &Client, token: &Token| {
            let request = client.request(method.clone(), url.clone()).bearer_auth(token.expose());
            let request = request.headers(headers.clone()).timeout(self.request_timeout());
            let request = match body {
                Some(body) => {
                    request.header(CONTENT_TYPE, "application/json").body(body.to_string())
                }
                None => request,
            };
            self.send(request).await
        });
        Box::pin(calling).await
    }

    async fn token(&self) -> Result<Token, CommandError> {
        if let Some(token) = self.token.borrow().clone() {
            return Ok(token);
        }
        let host = &self.registry.host;
        let token =
            token::for_host(&self.registry, &self.scope, &self.environment, self.clock).await;
        let token = token.map_err(|error| {
            CommandError::from(error).context(format_args!("no token for `{host}`"))
        })?;
        if let Some(clock) = token.clock_notice() {
            notice(clock);
        }
        let mut later = token.clone();
        later.cached = true;
        self.token.replace(Some(later));
        Ok(token)
    }
}

/// Returns whether the server closed the connection while the program was sending.
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

/// The error response of registry routes: sentences with hints.
#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

impl ApiResponse {
    /// Returns a header, if it is one text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the body.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Checks that the response is a success, or returns its error.
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        if self.status.is_success() { Ok(()) } else { Err(self.refusal()) }
    }

    /// Parses the body of a successful response, or returns the error of the response.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, CommandError> {
        self.check()?;
        serde_json::from_slice(&self.body).map_err(|_| {
            CommandError::failed(format!("`{}` sent an unexpected response", self.url))
                .hint("check that `url` in the helper's `config.toml` is a Stile registry")
        })
    }

    /// Returns the delay before a retry, if the broker is down or busy.
    fn busy(&self) -> Option<Duration> {
        if !matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            return None;
        }
        Some(self.retry_after())
    }

    /// Returns the delay before the next request that the broker asks for, or else a second.
    pub(crate) fn retry_after(&self) -> Duration {
        let seconds = self
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(1);
        Duration::from_secs(MAX_RETRY_DELAY.min(seconds))
    }

    /// Returns the error of an unsuccessful response.
    ///
    /// It distinguishes a refusal from a broker that is down. The message has the id of the request.
    fn refusal(&self) -> CommandError {
        let down = self.status.is_server_error()
            || matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        let error = |message: String| match down {
            // The registry works, except that its disk is full.
            true if self.status == StatusCode::INSUFFICIENT_STORAGE => {
                CommandError::failed(message)
            }
            true => CommandError::failed(format!("the registry is unavailable: {message}")),
            false => CommandError::refused(message),
        };
        if let Ok(reply) = serde_json::from_slice::<ErrorReply>(&self.body) {
            let message = one_line(&reply.message);
            let error = error(with_request_id(&message, reply.request_id.as_deref()));
            return reply.hint.map_or(error.clone(), |hint| error.hint(one_line(&hint)));
        }
        match serde_json::from_slice::<Errors>(&self.body) {
            Ok(Errors { errors }) if !errors.is_empty() => {
                let text = errors.join("; ");
                let (text, id) = request_id::split(&text);
                error(with_request_id(&one_line(text), id))
            }
            _ => error(format!("`{}` responded with {}", self.url, self.status)),
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
    fn the_error_contains_the_message_of_the_server() {
        for (status, body, expected) in [
            (403, r#"{"errors":["a; hint: b"]}"#, "a; hint: b"),
            (
                409,
                r#"{"error":"conflict","message":"a","hint":"b","server_time":"x"}"#,
                "a; hint: b",
            ),
            (404, r#"{"errors":["there\u001b[2J"]}"#, "there [2J"),
            (404, r#"{"errors":["a; request id: 1a"]}"#, "a (request id: 1a)"),
            (403, r#"{"errors":["a; hint: b; request id: 1a"]}"#, "a (request id: 1a); hint: b"),
            (
                503,
                r#"{"errors":["a; request id: 1a"]}"#,
                "the registry is unavailable: a (request id: 1a)",
            ),
            (
                409,
                r#"{"error":"x","message":"a","hint":"b","server_time":"x","request_id":"1a"}"#,
                "a (request id: 1a); hint: b",
            ),
            (409, r#"{"error":"x","message":"a","server_time":"x","request_id":"\u001b[2J"}"#, "a"),
            (
                404,
                "<html>",
                "`https://registry.example.com/v1/modules` responded with 404 Not Found",
            ),
            (
                400,
                r#"{"errors":[]}"#,
                "`https://registry.example.com/v1/modules` responded with 400 Bad Request",
            ),
            (503, r#"{"errors":["a"]}"#, "the registry is unavailable: a"),
            (507, r#"{"errors":["a; hint: b"]}"#, "a; hint: b"),
            (
                502,
                "",
                "the registry is unavailable: `https://registry.example.com/v1/modules` responded with 502 Bad Gateway",
            ),
        ] {
            assert_eq!(
                answer(status, &[], body).read::<Value>().unwrap_err().to_string(),
                expected,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn the_delay_before_a_retry_is_limited() {
        for (status, headers, seconds) in [
            (503, &[("retry-after", "2")][..], Some(2)),
            (429, &[("retry-after", "0")], Some(0)),
            (503, &[("retry-after", "86400")], Some(5)),
            (503, &[("retry-after", "Fri, 20 Nov 2026 10:11:12 GMT")], Some(1)),
            (503, &[], Some(1)),
            (502, &[("retry-after", "2")], None),
            (507, &[("retry-after", "60")], None),
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
