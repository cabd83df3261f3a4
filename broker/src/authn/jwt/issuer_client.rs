//! Reads the discovery document and the keys of an issuer over HTTPS.
//!
//! The issuer comes from a trust that an operator wrote, and never from a JWT. The client follows no
//! redirect, uses no proxy from the environment, and connects only to public addresses, unless the
//! operator allows the issuer to be elsewhere.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::CACHE_CONTROL;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Response, StatusCode};
use serde_json::Value;
use stile_core::trust::IssuerUrl;
use stile_core::webhook::is_global;
use stile_store::{CallResult, Service, ServiceCalls};
use url::{Host, Url};

use super::key_set::{KeySet, KeySetError};
use crate::checked_resolver::{CheckedResolver, Lookup, lookup};

/// The longest time for both documents, from the lookup of the first name to the last byte.
///
/// Without it, an issuer that answers slowly would hold exchanges open.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The longest document, in bytes, so that an endless answer cannot fill the memory.
const MAX_DOCUMENT: usize = 512 * 1024;

/// The longest URL of the keys, in bytes.
const MAX_URL: usize = 2000;

/// The shortest and the longest time for which the keys are good, in seconds, whatever the issuer
/// says.
///
/// A shorter time would let an issuer, or a cache in front of it, cause a request for each exchange. A
/// longer one would let a key that the issuer took back sign for days.
const LIFETIME: (i64, i64) = (5 * 60, 24 * 3600);

/// The operations, as metrics name them.
const DISCOVERY: &str = "Discovery";
const KEYS: &str = "KeySet";

/// The reason why the broker has no keys of an issuer.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// There is no connection, for example because an address of the host is not public.
    #[error("the broker cannot reach the issuer")]
    Unreachable(#[source] reqwest::Error),
    /// The host is an address that is not public.
    #[error("the address {0} is not public")]
    NotPublic(IpAddr),
    /// The issuer did not answer in time.
    #[error("the issuer did not answer in time")]
    Timeout,
    /// The issuer has too much to do, or fails.
    #[error("the issuer answered with status {0}")]
    Busy(StatusCode),
    /// Another request failed a moment ago, so the broker did not ask again.
    #[error("the issuer did not answer a moment ago")]
    JustFailed,
    /// The broker has asked many issuers that no operator listed, and no good JWT came from them.
    #[error("the broker has asked too many unknown issuers in the last minute")]
    TooManyUnlisted,
    /// The issuer has no such document, or wants the broker to look elsewhere.
    #[error("the issuer answered with status {0} instead of a document")]
    Status(StatusCode),
    /// The document is too long.
    #[error("a document of the issuer is longer than {} KiB", MAX_DOCUMENT / 1024)]
    TooLong,
    /// The discovery document is not one.
    #[error("the discovery document of the issuer {0}")]
    Discovery(&'static str),
    /// The keys are no keys.
    #[error("the keys of the issuer are not usable: {0}")]
    Keys(#[from] KeySetError),
}

impl IssuerError {
    /// Returns whether the issuer is down. Otherwise it answered, and the answer is not usable.
    pub const fn is_down(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::NotPublic(_)
            | Self::Timeout
            | Self::Busy(_)
            | Self::JustFailed
            | Self::TooManyUnlisted => true,
            Self::Status(_) | Self::TooLong | Self::Discovery(_) | Self::Keys(_) => false,
        }
    }

    const fn result(&self) -> CallResult {
        match self {
            Self::Unreachable(_)
            | Self::NotPublic(_)
            | Self::JustFailed
            | Self::TooManyUnlisted => CallResult::Unreachable,
            Self::Timeout => CallResult::Timeout,
            Self::Busy(_) => CallResult::Busy,
            Self::Status(_) => CallResult::Refused,
            Self::TooLong | Self::Discovery(_) | Self::Keys(_) => CallResult::Failed,
        }
    }
}

/// The keys of an issuer, and how long they are good.
#[derive(Debug)]
pub struct FetchedKeys {
    /// The keys.
    pub keys: KeySet,
    /// The time for which they are good, in seconds.
    pub lifetime: i64,
}

/// A client of issuers.
#[derive(Clone)]
pub struct IssuerClient {
    public: reqwest::Client,
    private: reqwest::Client,
    private_issuers: Arc<[IssuerUrl]>,
    is_allowed: fn(IpAddr) -> bool,
    timeout: Duration,
    calls: ServiceCalls,
}

impl fmt::Debug for IssuerClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("IssuerClient")
    }
}

impl IssuerClient {
    /// Creates the client of a broker. `private_issuers` can be at any address.
    pub fn new(private_issuers: &[IssuerUrl], calls: ServiceCalls) -> Result<Self, reqwest::Error> {
        let public = build(lookup, is_global, 0, None)?;
        let private = build(lookup, |_| true, 0, None)?;
        let private_issuers = private_issuers.into();
        Ok(Self {
            public,
            private,
            private_issuers,
            is_allowed: is_global,
            timeout: TIMEOUT,
            calls,
        })
    }

    /// Creates a client of a test: with another lookup of names, other allowed addresses and another
    /// time limit, which trusts only that certificate authority, and connects to that port for a URL
    /// that names none.
    ///
    /// No program calls it; a test of the source code enforces this.
    pub fn for_test(
        lookup: impl Fn(String) -> Lookup + Clone + Send + Sync + 'static,
        is_allowed: fn(IpAddr) -> bool,
        private_issuers: &[IssuerUrl],
        (authority, port): (&Certificate, u16),
        timeout: Option<Duration>,
        calls: ServiceCalls,
    ) -> Result<Self, reqwest::Error> {
        let timeout = timeout.unwrap_or(TIMEOUT);
        let public = build(lookup.clone(), is_allowed, port, Some(authority))?;
        let private = build(lookup, |_| true, port, Some(authority))?;
        let private_issuers = private_issuers.into();
        Ok(Self { public, private, private_issuers, is_allowed, timeout, calls })
    }

    /// Reads the keys of an issuer.
    pub async fn keys(&self, issuer: &IssuerUrl) -> Result<FetchedKeys, IssuerError> {
        let both = self.both_documents(issuer);
        tokio::time::timeout(self.timeout, both).await.unwrap_or(Err(IssuerError::Timeout))
    }

    async fn both_documents(&self, issuer: &IssuerUrl) -> Result<FetchedKeys, IssuerError> {
        let is_private = self.private_issuers.contains(issuer);
        let discovery = async {
            let (body, _) = self.get(&issuer.discovery(), is_private).await?;
            keys_url(&body, issuer)
        };
        let url = self.counted(DISCOVERY, discovery).await?;
        let keys = async {
            let is_private = is_private && is_on_host_of(issuer, &url);
            let (body, lifetime) = self.get(&url, is_private).await?;
            Ok(FetchedKeys { keys: KeySet::parse(&body)?, lifetime })
        };
        self.counted(KEYS, keys).await
    }

    /// Counts one request, also one that the time limit ends.
    async fn counted<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, IssuerError>>,
    ) -> Result<T, IssuerError> {
        let mut call = Call { calls: &self.calls, operation, began: Instant::now(), result: None };
        let done = request.await;
        call.result = Some(done.as_ref().err().map_or(CallResult::Ok, IssuerError::result));
        done
    }

    async fn get(&self, url: &str, is_private: bool) -> Result<(Vec<u8>, i64), IssuerError> {
        // The resolver is not asked about a host that is an address.
        if let Some(address) = address_of(url)
            && !(is_private || (self.is_allowed)(address))
        {
            return Err(IssuerError::NotPublic(address));
        }
        let client = if is_private { &self.private } else { &self.public };
        let request = client.get(url).header("accept", "application/json");
        let answer = request.send().await.map_err(IssuerError::Unreachable)?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_server_error() || status.as_u16() == 429 => {
                return Err(IssuerError::Busy(status));
            }
            status => return Err(IssuerError::Status(status)),
        }
        let lifetime = lifetime(&answer);
        Ok((read(answer).await?, lifetime))
    }
}

/// A request in progress. It is counted when it is dropped; without a result, time ran out.
struct Call<'a> {
    calls: &'a ServiceCalls,
    operation: &'static str,
    began: Instant,
    result: Option<CallResult>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let result = self.result.unwrap_or(CallResult::Timeout);
        self.calls.record(Service::Issuer, self.operation, result, self.began.elapsed());
    }
}

fn build(
    lookup: impl Fn(String) -> Lookup + Send + Sync + 'static,
    is_allowed: fn(IpAddr) -> bool,
    port: u16,
    authority: Option<&Certificate>,
) -> Result<reqwest::Client, reqwest::Error> {
    let builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .https_only(true)
        .dns_resolver(Arc::new(CheckedResolver::new(lookup, is_allowed).at_port(port)))
        .pool_max_idle_per_host(0)
        .user_agent(concat!("stile/", env!("CARGO_PKG_VERSION")));
    match authority {
        Some(authority) => builder.tls_certs_only([authority.clone()]).build(),
        None => builder.build(),
    }
}

/// Returns whether a URL is on the host of the issuer. An operator allowed that host a private address,
/// and no other, such as that of the metadata of an instance.
fn is_on_host_of(issuer: &IssuerUrl, url: &str) -> bool {
    let (Ok(own), Ok(other)) = (Url::parse(issuer.as_str()), Url::parse(url)) else {
        return false;
    };
    own.host().is_some() && own.host() == other.host()
}

/// Returns the host of a URL, if it is an address.
fn address_of(url: &str) -> Option<IpAddr> {
    match Url::parse(url).ok()?.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

async fn read(mut answer: Response) -> Result<Vec<u8>, IssuerError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(IssuerError::Unreachable)? {
        if body.len() + chunk.len() > MAX_DOCUMENT {
            return Err(IssuerError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Returns the URL of the keys in a discovery document (OpenID Connect Discovery 1.0, section 4.2).
///
/// Only `issuer` and `jwks_uri` count. An issuer that only signs JWTs has no
/// `authorization_endpoint`.
fn keys_url(document: &[u8], issuer: &IssuerUrl) -> Result<String, IssuerError> {
    let document: Value =
        serde_json::from_slice(document).map_err(|_| IssuerError::Discovery("is not JSON"))?;
    // Otherwise the keys of another issuer would sign for this one (section 4.3).
    if document.get("issuer").and_then(Value::as_str) != Some(issuer.as_str()) {
        return Err(IssuerError::Discovery("has another `issuer`"));
    }
    let url = document.get("jwks_uri").and_then(Value::as_str).unwrap_or_default();
    let is_https = Url::parse(url).is_ok_and(|url| {
        url.scheme() == "https" && url.username().is_empty() && url.password().is_none()
    });
    if is_https && url.len() <= MAX_URL {
        Ok(url.to_owned())
    } else {
        Err(IssuerError::Discovery("has no `jwks_uri` with `https`"))
    }
}

/// Returns for how long an answer is good, in seconds: as its `Cache-Control` says, within bounds.
fn lifetime(answer: &Response) -> i64 {
    let all = answer.headers().get_all(CACHE_CONTROL).iter();
    let texts: Vec<&str> = all.filter_map(|value| value.to_str().ok()).collect();
    lifetime_of(&texts.join(","))
}

fn lifetime_of(cache_control: &str) -> i64 {
    let (shortest, longest) = LIFETIME;
    let mut lifetime = shortest;
    for directive in cache_control.split(',').map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return shortest;
        }
        if name.eq_ignore_ascii_case("max-age") {
            lifetime = value.trim_matches('"').parse().unwrap_or(shortest);
        }
    }
    lifetime.clamp(shortest, longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovery_document_of_another_issuer_or_without_https_keys_is_refused() {
        let issuer: IssuerUrl = "https://issuer.example".parse().unwrap();
        let long = format!("https://issuer.example/{}", "a".repeat(MAX_URL));
        for document in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"jwks_uri":"https://issuer.example/keys"}"#,
            r#"{"issuer":"https://issuer.example/","jwks_uri":"https://issuer.example/keys"}"#,
            r#"{"issuer":"https://evil.example","jwks_uri":"https://issuer.example/keys"}"#,
            r#"{"issuer":["https://issuer.example"],"jwks_uri":"https://issuer.example/keys"}"#,
            r#"{"issuer":"https://issuer.example"}"#,
            r#"{"issuer":"https://issuer.example","jwks_uri":7}"#,
            r#"{"issuer":"https://issuer.example","jwks_uri":"/keys"}"#,
            r#"{"issuer":"https://issuer.example","jwks_uri":"http://issuer.example/keys"}"#,
            r#"{"issuer":"https://issuer.example","jwks_uri":"file:///etc/passwd"}"#,
            r#"{"issuer":"https://issuer.example","jwks_uri":"https://a:b@issuer.example/keys"}"#,
            &format!(r#"{{"issuer":"https://issuer.example","jwks_uri":"{long}"}}"#),
        ] {
            assert!(keys_url(document.as_bytes(), &issuer).is_err(), "{document}");
        }
        let elsewhere = r#"{"issuer":"https://issuer.example","jwks_uri":"https://keys.example/"}"#;
        assert_eq!(keys_url(elsewhere.as_bytes(), &issuer).unwrap(), "https://keys.example/");
    }

    #[test]
    fn a_private_address_is_allowed_on_the_host_of_the_issuer_alone() {
        let issuer: IssuerUrl = "https://issuer.corp.example:8443/realm".parse().unwrap();
        for (url, expected) in [
            ("https://issuer.corp.example/keys", true),
            ("https://issuer.corp.example:8443/keys", true),
            ("https://keys.corp.example/keys", false),
            ("https://issuer.corp.example.evil.org/keys", false),
            ("https://169.254.169.254/latest", false),
            ("https://[::1]/keys", false),
            ("", false),
        ] {
            assert_eq!(is_on_host_of(&issuer, url), expected, "{url}");
        }
        let address: IssuerUrl = "https://10.0.0.1".parse().unwrap();
        assert!(is_on_host_of(&address, "https://10.0.0.1/keys"));
        assert!(!is_on_host_of(&address, "https://10.0.0.2/keys"));
    }

    #[test]
    fn keys_are_good_for_as_long_as_the_issuer_says_within_bounds() {
        for (cache_control, expected) in [
            ("", 300),
            ("max-age=0", 300),
            ("max-age=299", 300),
            ("max-age=301", 301),
            ("public, max-age=21600, must-revalidate", 21600),
            ("Max-Age=\"600\"", 600),
            ("max-age=86401", 86400),
            ("max-age=9223372036854775807", 86400),
            ("max-age=99999999999999999999", 300),
            ("max-age=-1", 300),
            ("max-age=x", 300),
            ("max-age", 300),
            ("s-maxage=900", 300),
            ("max-age=900, no-store", 300),
            ("no-cache, max-age=900", 300),
        ] {
            assert_eq!(lifetime_of(cache_control), expected, "{cache_control}");
        }
    }
}
