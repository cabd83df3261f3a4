//! An issuer of JWTs: an HTTPS server on loopback with a discovery document and keys.
//!
//! A test rotates its keys, and makes it slow, huge, redirecting, failing or wrong.

pub mod jwt;
pub mod signing_key;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use stile_broker::authn::jwt::IssuerClient;
use stile_broker::checked_resolver::Lookup;
use stile_broker::http::Server;
use stile_core::trust::IssuerUrl;
use stile_store::ServiceCalls;
use tokio::sync::{Notify, oneshot};

use self::jwt::Jwt;
use self::signing_key::SigningKey;
use crate::broker::served::system_time;
use crate::dev_ca::DevCa;
use crate::time_limits;

/// The host name of the issuer, which no DNS server knows.
pub const ISSUER: &str = "issuer.example";

/// The paths of the two documents.
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
/// See [`DISCOVERY`].
pub const KEYS: &str = "/keys";

/// How the issuer answers a request for one of its documents.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Answer {
    /// With the document.
    #[default]
    Good,
    /// With the document, as this text.
    Text(String),
    /// With this status and no document.
    Status(u16),
    /// With a redirect to this URL.
    Redirect(String),
    /// Never.
    Never,
    /// With the beginning of the document, and never the end.
    Half,
    /// With that many bytes of JSON, in a body without a length.
    Long(usize),
    /// With the beginning of the document, and a broken connection.
    Broken,
}

#[derive(Debug, Default)]
struct State {
    keys: Vec<Value>,
    discovery: Answer,
    key_set: Answer,
    /// The `Cache-Control` of the keys.
    cache_control: Option<String>,
    /// The `issuer` in the discovery document, if it is another one.
    named: Option<String>,
    /// The `jwks_uri` in the discovery document, if it is another one.
    keys_url: Option<String>,
    /// The paths of the requests.
    requests: Vec<String>,
}

/// The issuer. It stops when dropped.
pub struct Issuer {
    port: u16,
    state: Arc<Mutex<State>>,
    arrived: Arc<Notify>,
    authority: reqwest::Certificate,
    authority_file: PathBuf,
    _folder: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
}

impl Issuer {
    /// Starts an issuer without keys on a free port, with a certificate for [`ISSUER`], `127.0.0.1`
    /// and `localhost`.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = [ISSUER, "127.0.0.1", "localhost"];
        let files = DevCa::new(system_time()).write(folder.path(), &names);
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), Some(files.tls()))
            .await
            .unwrap()
            .with_timeouts(time_limits::connections());
        let port = server.address().unwrap().port();
        let state = Arc::<Mutex<State>>::default();
        let arrived = Arc::new(Notify::new());
        let (shared, ring) = (Arc::clone(&state), Arc::clone(&arrived));
        let answer = move |uri: Uri, request: axum::extract::Request| {
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            let response = shared.lock().unwrap().answer(uri.path(), &host);
            ring.notify_waiters();
            async move {
                match response {
                    Some(response) => response,
                    None => std::future::pending().await,
                }
            }
        };
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server.run(Router::new().fallback(answer), async {
            let _ = stopped.await;
        }));
        let authority = reqwest::Certificate::from_pem(&std::fs::read(&files.ca).unwrap()).unwrap();
        let authority_file = files.ca;
        Self { port, state, arrived, authority, authority_file, _folder: folder, stop: Some(stop) }
    }

    /// Starts an issuer with one key for `ES256`.
    pub async fn with_key() -> (Self, SigningKey) {
        let (issuer, key) = (Self::start().await, SigningKey::new("k1", "ES256"));
        issuer.publish(&[&key]);
        (issuer, key)
    }

    /// Returns its URL, as `iss` must have it.
    pub fn url(&self) -> String {
        format!("https://{ISSUER}:{}", self.port)
    }

    /// Returns the same issuer's URL at `127.0.0.1`, which a program can reach.
    ///
    /// The issuer names itself by the host of the request.
    pub fn loopback_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Returns the file with the certificate authority, for `SSL_CERT_FILE`.
    pub fn authority_file(&self) -> &PathBuf {
        &self.authority_file
    }

    /// Returns a JWT of this issuer for the audience, not signed yet.
    pub fn jwt(&self, audience: &str, now: i64, claims: Value) -> Jwt {
        Jwt::new(&self.url(), audience, now, claims)
    }

    /// Returns a client that finds the issuer under every name, and may connect to loopback.
    pub fn client(&self, calls: &ServiceCalls) -> IssuerClient {
        let lookup = |_| vec![Ipv4Addr::LOCALHOST.into()];
        let allowed = |address: IpAddr| address.is_loopback();
        self.client_with(lookup, allowed, &[], Some(time_limits::BACKSTOP), calls)
    }

    /// Returns a client with that lookup of names, which may connect to those addresses, and to all
    /// for the private issuers. Without a time limit, it has the one of a broker.
    pub fn client_with(
        &self,
        lookup: impl Fn(String) -> Vec<IpAddr> + Clone + Send + Sync + 'static,
        is_allowed: fn(IpAddr) -> bool,
        private_issuers: &[&str],
        timeout: Option<Duration>,
        calls: &ServiceCalls,
    ) -> IssuerClient {
        let private: Vec<IssuerUrl> =
            private_issuers.iter().map(|issuer| issuer.parse().unwrap()).collect();
        let lookup = move |name: String| -> Lookup {
            let found = lookup(name);
            Box::pin(async move { Ok(found) })
        };
        IssuerClient::for_test(
            lookup,
            is_allowed,
            &private,
            &self.authority,
            timeout,
            calls.clone(),
        )
        .unwrap()
    }

    /// Publishes these keys, and no other.
    pub fn publish(&self, keys: &[&SigningKey]) {
        self.publish_jwks(keys.iter().map(|key| key.jwk()).collect());
    }

    /// Publishes these JWKs, and no other.
    pub fn publish_jwks(&self, keys: Vec<Value>) {
        self.state.lock().unwrap().keys = keys;
    }

    /// Sets how the issuer answers for its discovery document.
    pub fn answer_discovery(&self, answer: Answer) {
        self.state.lock().unwrap().discovery = answer;
    }

    /// Sets how the issuer answers for its keys.
    pub fn answer_keys(&self, answer: Answer) {
        self.state.lock().unwrap().key_set = answer;
    }

    /// Makes both documents fail or work.
    pub fn answer(&self, answer: Answer) {
        self.answer_discovery(answer.clone());
        self.answer_keys(answer);
    }

    /// Sets the `Cache-Control` of the keys.
    pub fn cache_control(&self, value: &str) {
        self.state.lock().unwrap().cache_control = Some(value.to_owned());
    }

    /// Sets the `issuer` in the discovery document.
    pub fn name_itself(&self, issuer: &str) {
        self.state.lock().unwrap().named = Some(issuer.to_owned());
    }

    /// Sets the `jwks_uri` in the discovery document.
    pub fn keys_at(&self, url: &str) {
        self.state.lock().unwrap().keys_url = Some(url.to_owned());
    }

    /// Stops the issuer: nothing listens at its port any more.
    pub fn stop(&mut self) {
        self.stop = None;
    }

    /// Returns how many requests have arrived at the path.
    pub fn requests(&self, path: &str) -> usize {
        self.state.lock().unwrap().requests.iter().filter(|known| *known == path).count()
    }

    /// Waits until that many requests have arrived at the path.
    pub async fn wait_for(&self, path: &str, count: usize) {
        let came = time_limits::wait(async {
            loop {
                let mut arrived = std::pin::pin!(self.arrived.notified());
                arrived.as_mut().enable();
                if self.requests(path) >= count {
                    return;
                }
                arrived.await;
            }
        });
        assert!(came.await.is_some(), "nothing arrived at {path}");
    }
}

impl State {
    /// Returns the answer to a request. `None` if there is never one.
    fn answer(&mut self, path: &str, host: &str) -> Option<Response> {
        self.requests.push(path.to_owned());
        let own = format!("https://{host}");
        let (answer, document) = match path {
            DISCOVERY => {
                let keys_url = self.keys_url.clone().unwrap_or_else(|| format!("{own}{KEYS}"));
                let issuer = self.named.clone().unwrap_or(own);
                (&self.discovery, json!({ "issuer": issuer, "jwks_uri": keys_url }))
            }
            KEYS => (&self.key_set, json!({ "keys": self.keys })),
            _ => return Some(StatusCode::NOT_FOUND.into_response()),
        };
        let text = document.to_string();
        let half = Bytes::from(text[..text.len() / 2].to_owned());
        let mut response = match answer {
            Answer::Good => text.into_response(),
            Answer::Text(text) => text.clone().into_response(),
            Answer::Status(status) => StatusCode::from_u16(*status).unwrap().into_response(),
            Answer::Redirect(url) => {
                (StatusCode::FOUND, [("location", url.clone())]).into_response()
            }
            Answer::Never => return None,
            Answer::Half => {
                let forever = futures_util::stream::pending();
                streamed(futures_util::StreamExt::chain(first(half), forever))
            }
            Answer::Broken => {
                let broken = std::io::Error::other("the connection breaks");
                let broken = futures_util::stream::once(async { Err(broken) });
                streamed(futures_util::StreamExt::chain(first(half), broken))
            }
            Answer::Long(length) => {
                let padded = format!("{}{}", " ".repeat(*length), text);
                streamed(first(padded.into()))
            }
        };
        if let Some(value) = &self.cache_control {
            response.headers_mut().insert("cache-control", value.parse().unwrap());
        }
        Some(response)
    }
}

fn first(bytes: Bytes) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
    futures_util::stream::once(async { Ok(bytes) })
}

fn streamed(
    body: impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
) -> Response {
    Body::from_stream(body).into_response()
}
