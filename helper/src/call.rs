//! Sends one HTTP request to a broker: root certificates, timeouts, a size limit, no redirects.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{DATE, HeaderMap};
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use stile_protocol::reply::ErrorReply;
use stile_protocol::request_id;

use crate::config::{Environment, HttpsProxy, is_loopback};
use crate::message;

/// Default timeout of a whole call. Terraform itself waits for its helper without a limit.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The timeouts that a user may choose, in seconds.
pub const TIMEOUT_SECONDS: RangeInclusive<u64> = 1..=600;

/// Longest response body that the helper reads, in bytes. A broker sends a few hundred.
pub const MAX_RESPONSE: usize = 64 * 1024;

/// Why a call got no response.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The helper cannot load the root certificates that `SSL_CERT_FILE` names.
    #[error("cannot load root certificates from `{}` (set by `SSL_CERT_FILE`)", .path.display())]
    BadTrustRoots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The helper cannot build the client or the request, for example without root certificates.
    #[error("cannot set up the HTTP client: {0}")]
    Setup(String),
    /// The URL is neither `https` nor plain HTTP to a loopback address.
    #[error("`{0}` is neither an `https` URL nor a loopback address")]
    UnsupportedScheme(Url),
    /// The connection failed, or the certificate is not trusted.
    #[error("cannot reach `{url}`: {cause}")]
    Unreachable {
        /// The URL that the helper called.
        url: Url,
        /// The innermost cause.
        cause: String,
    },
    /// A proxy of the environment does not connect to the registry.
    #[error("cannot reach `{url}` through {}: {problem}", named(.proxy.as_deref()))]
    Proxy {
        /// The URL that the helper called.
        url: Url,
        /// The proxy, if a variable names it in a form that can be shown.
        proxy: Option<Box<HttpsProxy>>,
        /// What the proxy did.
        problem: ProxyProblem,
    },
    /// The response took longer than the timeout.
    #[error("`{0}` did not respond in time")]
    TimedOut(Url),
    /// The response is a redirect.
    #[error("`{url}` responded with a redirect ({status}), and proofs and tokens never follow one")]
    Redirected {
        /// The URL that the helper called.
        url: Url,
        /// The status.
        status: StatusCode,
    },
    /// The response body is longer than the limit.
    #[error("`{url}` responded with more than {limit} bytes")]
    ResponseTooLarge {
        /// The URL that the helper called.
        url: Url,
        /// The limit, in bytes.
        limit: usize,
    },
}

/// What a proxy did instead of a connection to the registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyProblem {
    /// It demands a user and a password.
    #[error("407 Proxy Authentication Required")]
    Unauthenticated,
    /// It accepts no connection.
    #[error("the proxy does not answer: {0}")]
    Unreachable(String),
    /// It answers with another refusal, or closes the connection.
    #[error("the proxy refuses the connection")]
    Refused,
}

impl ProxyProblem {
    /// Finds the problem in the chain of an error, if a proxy is the cause.
    ///
    /// The HTTP client does not export the type of this error, so only its texts are there.
    fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut causes = std::iter::successors(Some(error), |error| error.source());
        let text = causes.find_map(|cause| {
            cause.to_string().strip_prefix("tunnel error: ").map(str::to_owned)
        })?;
        Some(match text.as_str() {
            "proxy authorization required" => Self::Unauthenticated,
            "failed to create underlying connection" => {
                Self::Unreachable(message::root_cause(error))
            }
            _ => Self::Refused,
        })
    }
}

/// Returns the proxy as an error names it.
fn named(proxy: Option<&HttpsProxy>) -> String {
    proxy.map_or_else(|| "the proxy of an environment variable".to_owned(), ToString::to_string)
}

/// Tells whether the cause of a failed call is the time: before or after a certificate is valid.
pub fn is_outside_validity(cause: &str) -> bool {
    ["certificate expired", "certificate not valid yet"].iter().any(|text| cause.contains(text))
}

impl CallError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::BadTrustRoots { .. } => Some(
                "set `SSL_CERT_FILE` to a PEM file of root certificates, or unset it to use the platform's",
            ),
            Self::Unreachable { cause, .. } if cause.contains("UnknownIssuer") => Some(
                "if the registry uses a private certificate authority, set `SSL_CERT_FILE` to its PEM file",
            ),
            Self::Unreachable { cause, .. } if is_outside_validity(cause) => Some(
                "set this computer's clock; if it is correct, the registry's certificate has ended or is not valid yet",
            ),
            Self::Proxy { problem: ProxyProblem::Unauthenticated, .. } => Some(
                "put a user and a password into that variable: `http://USER:PASSWORD@HOST:PORT`",
            ),
            Self::Proxy { .. } => Some(
                "correct that variable, or add the host of the URL to `NO_PROXY` if no proxy is needed",
            ),
            Self::Unreachable { .. } | Self::TimedOut(_) => {
                Some("check the network, and `url` in the helper's `config.toml`")
            }
            Self::Redirected { .. } => {
                Some("set `url` in the helper's `config.toml` to the registry's final address")
            }
            Self::Setup(_) | Self::UnsupportedScheme(_) | Self::ResponseTooLarge { .. } => None,
        }
    }
}

/// Returns the timeout of a whole call.
pub fn timeout(environment: &Environment) -> Duration {
    environment.timeout.unwrap_or(CALL_TIMEOUT)
}

/// Builds an HTTP client for one URL.
///
/// It follows no redirects: a response must not decide where a proof or a token goes.
pub fn client(url: &Url, environment: &Environment) -> Result<Client, CallError> {
    build(client_builder(url, environment)?)
}

/// Builds an HTTP client.
pub fn build(builder: ClientBuilder) -> Result<Client, CallError> {
    builder.build().map_err(|error| CallError::Setup(message::root_cause(&error)))
}

/// Returns the settings of [`client`]: which roots it trusts, whether it uses a proxy, its timeouts.
pub fn client_builder(url: &Url, environment: &Environment) -> Result<ClientBuilder, CallError> {
    let plain = url.scheme() == "http";
    if plain && !is_loopback(url) || !plain && url.scheme() != "https" {
        return Err(CallError::UnsupportedScheme(url.clone()));
    }
    let builder = Client::builder()
        .user_agent(concat!("terraform-credentials-stile/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(timeout(environment) / 2)
        .timeout(timeout(environment))
        .https_only(!plain);
    // As Go's HTTP client does: requests to loopback bypass any proxy.
    let builder = if is_loopback(url) { builder.no_proxy() } else { builder };
    let builder = if plain {
        // Loading root certificates is the slowest part of a call, and plain HTTP needs none.
        builder.tls_certs_only([])
    } else if let Some(path) = &environment.ssl_cert_file {
        builder.tls_certs_only(
            roots(path)
                .map_err(|source| CallError::BadTrustRoots { path: path.clone(), source })?,
        )
    } else {
        builder
    };
    Ok(builder)
}

fn roots(
    path: &std::path::Path,
) -> Result<Vec<Certificate>, Box<dyn std::error::Error + Send + Sync>> {
    let certificates = Certificate::from_pem_bundle(&std::fs::read(path)?)?;
    if certificates.is_empty() {
        Err("the file contains no PEM certificate".into())
    } else {
        Ok(certificates)
    }
}

/// A broker's response.
#[derive(Debug)]
pub struct BrokerResponse {
    /// The URL that responded.
    pub url: Url,
    /// The status; never a redirect.
    pub status: StatusCode,
    /// The `Date` header: the broker's clock.
    pub date: Option<DateTime<Utc>>,
    /// The body, at most as long as the limit of the call.
    pub body: Vec<u8>,
}

/// Sends a request and reads the whole response. The environment is that of the request's client.
pub async fn send(
    request: RequestBuilder,
    environment: &Environment,
) -> Result<BrokerResponse, CallError> {
    send_for(request, environment, MAX_RESPONSE).await
}

/// Does the same as [`send`], for a response of at most `limit` bytes.
pub async fn send_for(
    request: RequestBuilder,
    environment: &Environment,
    limit: usize,
) -> Result<BrokerResponse, CallError> {
    let (client, request) = request.build_split();
    let request = request.map_err(|error| CallError::Setup(message::root_cause(&error)))?;
    let url = request.url().clone();
    let failed = |error: reqwest::Error| failure(&url, error, environment);
    let mut response = client.execute(request).await.map_err(failed)?;
    let status = response.status();
    if status.is_redirection() {
        return Err(CallError::Redirected { url, status });
    }
    let date = date(response.headers());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > limit {
            return Err(CallError::ResponseTooLarge { url, limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(BrokerResponse { url, status, date, body })
}

/// Returns why a request to a URL failed: the proxy of the environment, the time, or the connection.
pub fn failure(url: &Url, error: reqwest::Error, environment: &Environment) -> CallError {
    if error.is_timeout() {
        return CallError::TimedOut(url.clone());
    }
    let (url, error) = (url.clone(), error.without_url());
    match ProxyProblem::of(&error) {
        Some(problem) => {
            CallError::Proxy { url, proxy: environment.https_proxy.clone().map(Box::new), problem }
        }
        None => CallError::Unreachable { url, cause: message::root_cause(&error) },
    }
}

fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    Some(DateTime::parse_from_rfc2822(headers.get(DATE)?.to_str().ok()?).ok()?.to_utc())
}

/// A response that is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The broker's error code. Responses of proxies and gateways have none.
    pub code: Option<String>,
    /// The message, as one line.
    pub message: String,
    /// What the user can do about it, if the broker says so.
    pub hint: Option<String>,
    /// The broker's clock.
    pub server_time: Option<DateTime<Utc>>,
    /// The id of the request, by which an operator finds it in the broker's log.
    pub request_id: Option<String>,
}

/// The statuses of a proxy or gateway that gets no answer from the registry.
const GATEWAY_STATUSES: [u16; 3] = [502, 503, 504];

impl Refusal {
    /// Tells whether a proxy or gateway in front of the registry answered, because the registry did not.
    pub fn is_of_gateway(&self) -> bool {
        self.code.is_none() && GATEWAY_STATUSES.contains(&self.status.as_u16())
    }

    /// Returns what happened, as one sentence that also names who answered.
    pub fn sentence(&self) -> String {
        if self.is_of_gateway() {
            format!("a proxy or gateway in front of the registry answered `{}`", self.message)
        } else {
            self.message_with_id()
        }
    }

    /// Returns the message with the id of the request, if the broker sent one.
    pub fn message_with_id(&self) -> String {
        message::with_request_id(&self.message, self.request_id.as_deref())
    }
}

impl BrokerResponse {
    /// Parses a response that is not a success: a broker's error object, or a gateway's text.
    pub fn refusal(&self) -> Refusal {
        if let Ok(reply) = serde_json::from_slice::<ErrorReply>(&self.body) {
            let server_time =
                DateTime::parse_from_rfc3339(&reply.server_time).ok().map(|time| time.to_utc());
            return Refusal {
                status: self.status,
                code: Some(message::one_line(&reply.error)),
                message: message::one_line(&reply.message),
                hint: reply.hint.as_deref().map(message::one_line),
                server_time,
                request_id: reply.request_id,
            };
        }
        let body: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let text = body
            .as_ref()
            .and_then(|body| body.get("message").or_else(|| body.get("Message"))?.as_str());
        let message = match text {
            Some(text) => format!("{}: {}", self.status, message::one_line(text)),
            None => self.status.to_string(),
        };
        Refusal {
            status: self.status,
            code: None,
            message,
            hint: None,
            server_time: self.date,
            request_id: None,
        }
    }

    /// Returns why a route of Terraform's registry protocol refused: its sentences with their hints,
    /// as one line. Other responses give the sentence of [`Self::refusal`].
    pub fn module_refusal(&self) -> String {
        let sentences = serde_json::from_slice::<ModuleErrors>(&self.body).unwrap_or_default();
        match sentences.errors.as_slice() {
            [] => self.refusal().sentence(),
            errors => {
                let text = errors.join("; ");
                let (text, id) = request_id::split(&text);
                message::with_request_id(&message::one_line(text), id)
            }
        }
    }
}

/// The error body of the routes of Terraform's registry protocol.
#[derive(Default, Deserialize)]
struct ModuleErrors {
    errors: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> BrokerResponse {
        let url = Url::parse("https://registry.example.com/v1/token").unwrap();
        BrokerResponse {
            url,
            status: StatusCode::from_u16(status).unwrap(),
            date: None,
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn plain_http_to_another_machine_is_rejected() {
        for text in ["http://registry.example.com", "http://10.0.0.1", "ftp://127.0.0.1"] {
            let error = client(&Url::parse(text).unwrap(), &Environment::default()).unwrap_err();
            assert!(matches!(error, CallError::UnsupportedScheme(_)), "{text}");
        }
    }

    #[test]
    fn unusable_root_certificates_are_an_error_and_never_fall_back_to_the_platforms() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        let url = Url::parse("https://registry.example.com").unwrap();
        let environment =
            Environment { ssl_cert_file: Some(path.clone()), ..Environment::default() };
        for content in
            [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
        {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            assert!(client(&url, &environment).is_err(), "{content:?}");
        }
    }

    #[test]
    fn a_refusal_by_a_broker_or_a_gateway_is_parsed() {
        let error = r#"{"error":"no_grant","message":"no\ngrant","hint":"ask","server_time":"2026-11-20T10:11:12Z"}"#;
        let refusal = response(403, error).refusal();
        assert_eq!(
            (refusal.code.as_deref(), refusal.message.as_str(), refusal.hint.as_deref()),
            (Some("no_grant"), "no grant", Some("ask"))
        );
        assert_eq!(refusal.server_time.unwrap().to_rfc3339(), "2026-11-20T10:11:12+00:00");
        assert_eq!(refusal.sentence(), "no grant");
        let with_id = error.replace('}', r#","request_id":"64ee87ba88f3e21a"}"#);
        let refusal = response(403, &with_id).refusal();
        assert_eq!(refusal.sentence(), "no grant (request id: 64ee87ba88f3e21a)");
        assert_eq!(refusal.hint.as_deref(), Some("ask"));
        for (status, body, expected) in [
            (403, r#"{"message":"Forbidden"}"#, "403 Forbidden: Forbidden"),
            (403, r#"{"Message":"no\u001b[2J"}"#, "403 Forbidden: no [2J"),
            (502, "<html>", "502 Bad Gateway"),
            (500, "[]", "500 Internal Server Error"),
            (404, "", "404 Not Found"),
        ] {
            let refusal = response(status, body).refusal();
            assert_eq!((refusal.code, refusal.message.as_str()), (None, expected), "{body}");
            assert_eq!(refusal.request_id, None, "{body}");
        }
        for (status, body, expected) in [
            (404, r#"{"errors":["none\u001b[2J","hint: ask"]}"#, "none [2J; hint: ask"),
            (503, r#"{"errors":["the store is down"]}"#, "the store is down"),
            (404, r#"{"errors":["none; request id: 1a"]}"#, "none (request id: 1a)"),
            (
                404,
                r#"{"errors":["none; hint: ask; request id: 1a"]}"#,
                "none (request id: 1a); hint: ask",
            ),
            (404, r#"{"errors":["none; request id: 1\u001b[2J"]}"#, "none; request id: 1 [2J"),
            (404, r#"{"errors":[]}"#, "404 Not Found"),
            (404, r#"{"errors":[7]}"#, "404 Not Found"),
            (
                503,
                "",
                "a proxy or gateway in front of the registry answered `503 Service Unavailable`",
            ),
            (401, error, "no grant"),
            (401, &with_id, "no grant (request id: 64ee87ba88f3e21a)"),
        ] {
            assert_eq!(response(status, body).module_refusal(), expected, "{body}");
        }
    }
}
