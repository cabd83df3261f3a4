//! Issuers of JWTs: one HTTPS server on loopback under any host names, which counts what a broker
//! fetches.
//!
//! It runs on its own thread, so it answers while a test blocks, and its log lines are not those of
//! the broker.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use serde_json::{Value, json};
use stile_broker::http::Server;
use tokio::sync::{Notify, oneshot};

use crate::broker::served::system_time;
use crate::dev_ca::DevCa;
use crate::time_limits;

/// A document of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Document {
    /// The discovery document (OpenID Connect Discovery 1.0, section 4).
    Discovery,
    /// The JWK set.
    Keys,
}

/// What an issuer sends for a document.
#[derive(Debug, Clone, Default)]
pub enum Answer {
    /// The right document.
    #[default]
    Genuine,
    /// A document that says something else.
    Other(Value),
    /// A status, and no body.
    Status(u16),
    /// A body of that many spaces.
    Spaces(usize),
    /// `302` to that URL.
    Redirect(String),
    /// No answer.
    Hang,
}

/// A request that an issuer got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The host name.
    pub host: String,
    /// The method and the path.
    pub line: String,
    /// The names of its headers, sorted.
    pub headers: Vec<String>,
}

#[derive(Default)]
struct Site {
    keys: Value,
    headers: Vec<(String, String)>,
    answers: BTreeMap<Document, Answer>,
}

#[derive(Default)]
struct State {
    sites: BTreeMap<String, Site>,
    fetches: Vec<Fetch>,
}

/// The server. It stops when dropped.
pub struct Issuers {
    port: u16,
    state: Arc<Mutex<State>>,
    arrived: Arc<Notify>,
    authority: reqwest::Certificate,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Issuers {
    /// Starts a server for issuers of these host names, which no DNS server knows.
    pub fn start(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = DevCa::new(system_time()).write(folder.path(), names);
        let authority = reqwest::Certificate::from_pem(&std::fs::read(&files.ca).unwrap()).unwrap();
        let tls = files.tls();
        let state = Arc::new(Mutex::new(State::default()));
        for name in names {
            lock(&state).sites.insert((*name).to_owned(), Site::default());
        }
        let arrived = Arc::new(Notify::new());
        let (stop, stopped) = oneshot::channel();
        let (bound, port) = std::sync::mpsc::channel();
        let (shared, ring) = (Arc::clone(&state), Arc::clone(&arrived));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), Some(tls)).await;
                let server = server.unwrap().with_timeouts(time_limits::connections());
                let port = server.address().unwrap().port();
                bound.send(port).unwrap();
                let answer = move |request: Request| {
                    let answer = answer(&mut lock(&shared), port, &request);
                    ring.notify_waiters();
                    async move {
                        match answer {
                            Some(answer) => answer,
                            None => std::future::pending().await,
                        }
                    }
                };
                let serve = server.run(Router::new().fallback(answer), std::future::pending());
                // Not in order: a hanging answer would keep the thread.
                tokio::select! { _ = serve => {}, _ = stopped => {} }
            });
        });
        let port = port.recv().unwrap();
        Self { port, state, arrived, authority, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns the URL of the issuer with that host name, as its `iss` claim has it.
    pub fn url(&self, name: &str) -> String {
        format!("https://{name}:{}", self.port)
    }

    /// Returns the port of all issuers.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the certificate authority, which a client must trust.
    pub fn authority(&self) -> &reqwest::Certificate {
        &self.authority
    }

    /// Returns the addresses of every name: loopback.
    pub fn addresses() -> Vec<IpAddr> {
        vec![Ipv4Addr::LOCALHOST.into()]
    }

    /// Sets the JWK set of an issuer.
    pub fn publish(&self, name: &str, keys: Value) {
        self.site(name, |site| site.keys = keys);
    }

    /// Sets the headers of an issuer's answers.
    pub fn headers(&self, name: &str, headers: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.site(name, |site| site.headers = headers.iter().map(owned).collect());
    }

    /// Sets what an issuer sends for a document from now on.
    pub fn answer(&self, name: &str, document: Document, answer: Answer) {
        self.site(name, |site| {
            site.answers.insert(document, answer);
        });
    }

    /// Takes the requests since the last take.
    pub fn take(&self) -> Vec<Fetch> {
        std::mem::take(&mut lock(&self.state).fetches)
    }

    /// Counts the requests since the last take.
    pub fn fetches(&self) -> usize {
        lock(&self.state).fetches.len()
    }

    /// Waits until that many requests have arrived since the last take.
    pub async fn wait_for(&self, count: usize) {
        let came = time_limits::wait(async {
            loop {
                let mut arrived = std::pin::pin!(self.arrived.notified());
                arrived.as_mut().enable();
                if self.fetches() >= count {
                    return;
                }
                arrived.await;
            }
        });
        assert!(came.await.is_some(), "the broker fetched {:?}", lock(&self.state).fetches);
    }

    fn site(&self, name: &str, change: impl FnOnce(&mut Site)) {
        change(lock(&self.state).sites.get_mut(name).unwrap());
    }
}

impl Drop for Issuers {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap()
}

/// Returns the answer to a request, or `None` for no answer. An issuer may have a path.
fn answer(state: &mut State, port: u16, request: &Request) -> Option<Response> {
    // HTTP/2 has the host in the URI.
    let host = request
        .uri()
        .authority()
        .map(ToString::to_string)
        .or_else(|| Some(request.headers().get("host")?.to_str().ok()?.to_owned()));
    let host = host.unwrap_or_default().trim_end_matches(&format!(":{port}")).to_owned();
    let path = request.uri().path().to_owned();
    let mut headers: Vec<_> = request.headers().keys().map(ToString::to_string).collect();
    headers.sort();
    state.fetches.push(Fetch {
        host: host.clone(),
        line: format!("{} {}", request.method(), request.uri().path()),
        headers,
    });
    let documents = [
        ("/.well-known/openid-configuration", Document::Discovery),
        ("/.well-known/jwks", Document::Keys),
    ];
    let found = documents
        .into_iter()
        .find_map(|(end, document)| Some((path.strip_suffix(end)?.to_owned(), document)));
    let Some(((base, document), site)) = found.zip(state.sites.get(&host)) else {
        return Some(status(404));
    };
    let genuine = match document {
        Document::Discovery => {
            let issuer = format!("https://{host}:{port}{base}");
            json!({
                "issuer": issuer,
                "jwks_uri": format!("{issuer}/.well-known/jwks"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            })
        }
        Document::Keys => site.keys.clone(),
    };
    let body = match site.answers.get(&document).cloned().unwrap_or_default() {
        Answer::Genuine => Body::from(genuine.to_string()),
        Answer::Other(other) => Body::from(other.to_string()),
        Answer::Status(code) => return Some(status(code)),
        Answer::Spaces(count) => Body::from(" ".repeat(count)),
        Answer::Redirect(to) => {
            let answer = Response::builder().status(302).header("location", to);
            return Some(answer.body(Body::empty()).unwrap());
        }
        Answer::Hang => return None,
    };
    let mut answer = Response::builder().header("content-type", "application/json");
    for (name, value) in &site.headers {
        answer = answer.header(name, value);
    }
    Some(answer.body(body).unwrap())
}

fn status(code: u16) -> Response {
    Response::builder().status(code).body(Body::empty()).unwrap()
}
