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
            | Self::JustFailed => true,
            Self::Status(_) | Self::TooLong | Self::Discovery(_) | Self::Keys(_) => false,
        }
    }

    const fn result(&self) -> CallResult {
        match self {
            Self::Unreachable(_) | Self::NotPublic(_) | Self::JustFailed => CallResult::Unreachable,
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
        let public = build(lookup, is_global, None)?;
        let private = build(lookup, |_| true, None)?;
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
    /// time limit, and which trusts only that certificate authority.
    ///
    /// No program calls it; a test of the source code enforces this.
    pub fn for_test(
        lookup: impl Fn(String) -> Lookup + Clone + Send + Sync + 'static,
        is_allowed: fn(IpAddr) -> bool,
        private_issuers: &[IssuerUrl],
        authority: &Certificate,
        timeout: Option<Duration>,
        calls: ServiceCalls,
    ) -> Result<Self, reqwest::Error> {
        let timeout = timeout.unwrap_or(TIMEOUT);
        let public = build(lookup.clone(), is_allowed, Some(authority))?;
        let private = build(lookup, |_| true, Some(authority))?;
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
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
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
    authority: Option<&Certificate>,
) -> Result<reqwest::Client, reqwest::Error> {
    let builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .https_only(true)
        .dns_resolver(Arc::new(CheckedResolver::new(lookup, is_allowed)))
        .pool_max_idle_per_host(0)
        .user_agent(concat!("stile/", env!("CARGO_PKG_VERSION")));
    match authority {
        Some(authority) => builder.tls_certs_only([authority.clone()]).build(),
        None => builder.build(),
    }
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
