//! One HTTP call to a broker: trusted roots, time and size limits, and never a second address.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{DATE, HeaderMap};
use reqwest::{Certificate, Client, RequestBuilder, StatusCode, Url};
use stile_protocol::reply::ErrorReply;

use crate::config::{Environment, is_loopback};
use crate::message;

/// Longest time to connect: Terraform waits for its helper without a limit of its own.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time for a whole call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest response that is read, in bytes; a broker's are a few hundred.
pub const MAX_RESPONSE: usize = 64 * 1024;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The roots that `SSL_CERT_FILE` names cannot be used.
    #[error("`SSL_CERT_FILE` names `{}`, which cannot be used", .path.display())]
    BadTrustRoots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The platform gives no roots, or the like.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
    /// The address is not one that may be called.
    #[error("`{0}` is neither `https` nor a loopback address")]
    UnsupportedScheme(Url),
    /// Nobody answered, or not under a name that can be trusted.
    #[error("`{url}` cannot be reached: {cause}")]
    Unreachable {
        /// Who was called.
        url: Url,
        /// The innermost cause.
        cause: String,
    },
    /// The response took too long.
    #[error("`{0}` did not answer in time")]
    TimedOut(Url),
    /// The response sends the caller elsewhere.
    #[error("`{url}` answered with a redirect ({status}), and proofs and tokens are never sent on")]
    Redirected {
        /// Who was called.
        url: Url,
        /// The status.
        status: StatusCode,
    },
    /// The response is longer than any that a broker gives.
    #[error("`{0}` answered with more than {MAX_RESPONSE} bytes")]
    ResponseTooLarge(Url),
}

impl CallError {
    /// The next step, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::BadTrustRoots { .. } => {
                Some("name a PEM file of root certificates, or unset it to trust the platform's")
            }
            Self::Unreachable { cause, .. } if cause.contains("UnknownIssuer") => Some(
                "if the registry has a certificate authority of its own, name its PEM file in `SSL_CERT_FILE`",
            ),
            Self::Unreachable { .. } | Self::TimedOut(_) => {
                Some("look at the network, and at `url` in the helper's `config.toml`")
            }
            Self::Redirected { .. } => {
                Some("set `url` in the helper's `config.toml` to where the registry itself answers")
            }
            Self::Setup(_) | Self::UnsupportedScheme(_) | Self::ResponseTooLarge(_) => None,
        }
    }
}

/// A client for that address alone.
///
/// It follows no redirect: a proof or a token must not go where an response points.
pub fn client(url: &Url, environment: &Environment) -> Result<Client, CallError> {
    let plain = url.scheme() == "http";
    if plain && !is_loopback(url) || !plain && url.scheme() != "https" {
        return Err(CallError::UnsupportedScheme(url.clone()));
    }
    let builder = Client::builder()
        .user_agent(concat!("terraform-credentials-stile/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .https_only(!plain);
    // As Go's clients do: what is on this machine is never asked of a proxy.
    let builder = if is_loopback(url) { builder.no_proxy() } else { builder };
    let builder = if plain {
        // Reading the roots is the dearest part of a call, and plain HTTP needs none.
        builder.tls_certs_only([])
    } else if let Some(path) = &environment.ssl_cert_file {
        builder.tls_certs_only(
            roots(path)
                .map_err(|source| CallError::BadTrustRoots { path: path.clone(), source })?,
        )
    } else {
        builder
    };
    builder.build().map_err(|error| CallError::Setup(message::root_cause(&error)))
}

fn roots(
    path: &std::path::Path,
) -> Result<Vec<Certificate>, Box<dyn std::error::Error + Send + Sync>> {
    let certificates = Certificate::from_pem_bundle(&std::fs::read(path)?)?;
    if certificates.is_empty() {
        Err("it holds no PEM certificate".into())
    } else {
        Ok(certificates)
    }
}

/// What a broker answered.
#[derive(Debug)]
pub struct BrokerResponse {
    /// Who answered.
    pub url: Url,
    /// The status; never a redirect.
    pub status: StatusCode,
    /// The broker's clock, where it says.
    pub date: Option<DateTime<Utc>>,
    /// The body, at most [`MAX_RESPONSE`] bytes.
    pub body: Vec<u8>,
}

/// Makes the call.
pub async fn send(request: RequestBuilder) -> Result<BrokerResponse, CallError> {
    let (client, request) = request.build_split();
    let request = request.map_err(|error| CallError::Setup(message::root_cause(&error)))?;
    let url = request.url().clone();
    let failed = |error: reqwest::Error| failure(&url, error);
    let mut response = client.execute(request).await.map_err(failed)?;
    let status = response.status();
    if status.is_redirection() {
        return Err(CallError::Redirected { url, status });
    }
    let date = date(response.headers());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_RESPONSE {
            return Err(CallError::ResponseTooLarge(url));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(BrokerResponse { url, status, date, body })
}

fn failure(url: &Url, error: reqwest::Error) -> CallError {
    if error.is_timeout() {
        return CallError::TimedOut(url.clone());
    }
    CallError::Unreachable { url: url.clone(), cause: message::root_cause(&error.without_url()) }
}

fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    Some(DateTime::parse_from_rfc2822(headers.get(DATE)?.to_str().ok()?).ok()?.to_utc())
}

/// A broker that said something other than yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The code, where a broker answered; other things on the way have none.
    pub code: Option<String>,
    /// What it says, as one line.
    pub message: String,
    /// The next step, where it names one.
    pub hint: Option<String>,
    /// Its clock.
    pub server_time: Option<DateTime<Utc>>,
}

impl BrokerResponse {
    /// Reads what is not a success: a broker's error object, or whatever a gateway in between wrote.
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
            };
        }
        let body: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let said = body
            .as_ref()
            .and_then(|body| body.get("message").or_else(|| body.get("Message"))?.as_str());
        let message = match said {
            Some(text) => format!("{}: {}", self.status, message::one_line(text)),
            None => self.status.to_string(),
        };
        Refusal { status: self.status, code: None, message, hint: None, server_time: self.date }
    }
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
    fn plain_http_to_another_machine_has_no_client() {
        for text in ["http://registry.example.com", "http://10.0.0.1", "ftp://127.0.0.1"] {
            let error = client(&Url::parse(text).unwrap(), &Environment::default()).unwrap_err();
            assert!(matches!(error, CallError::UnsupportedScheme(_)), "{text}");
        }
    }

    #[test]
    fn roots_that_are_none_are_an_error_and_not_the_platforms() {
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
    fn a_refusal_is_read_whoever_wrote_it() {
        let error = r#"{"error":"no_grant","message":"no\ngrant","hint":"ask","server_time":"2026-11-20T10:11:12Z"}"#;
        let refusal = response(403, error).refusal();
        assert_eq!(
            (refusal.code.as_deref(), refusal.message.as_str(), refusal.hint.as_deref()),
            (Some("no_grant"), "no grant", Some("ask"))
        );
        assert_eq!(refusal.server_time.unwrap().to_rfc3339(), "2026-11-20T10:11:12+00:00");
        for (status, body, expected) in [
            (403, r#"{"message":"Forbidden"}"#, "403 Forbidden: Forbidden"),
            (403, r#"{"Message":"no\u001b[2J"}"#, "403 Forbidden: no [2J"),
            (502, "<html>", "502 Bad Gateway"),
            (500, "[]", "500 Internal Server Error"),
            (404, "", "404 Not Found"),
        ] {
            let refusal = response(status, body).refusal();
            assert_eq!((refusal.code, refusal.message.as_str()), (None, expected), "{body}");
        }
    }
}
