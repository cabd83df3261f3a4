//! Runs a local STS that verifies signatures as AWS does, for a list of throw-away identities.
//!
//! The STS runs on its own thread, so it answers while a test blocks. A test can change its answers
//! at any time, and can hold them back. Dropping it closes its connections.

mod answers;
mod verify;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use tokio::sync::{oneshot, watch};

pub use self::answers::identity_xml;
use crate::sts::identity::Identity;
use crate::time_limits;

/// The number of requests that the STS remembers.
const REMEMBERED: usize = 1000;

/// The largest body that the STS reads, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Returns Unix seconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Returns a clock that stands still.
pub fn fixed_clock(now: i64) -> Clock {
    Arc::new(move || now)
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The answer of AWS, after the STS verified the signature.
    Genuine,
    /// A fixed answer.
    Raw {
        /// The status.
        status: u16,
        /// The content type; if empty, the answer has no such header.
        content_type: String,
        /// The body.
        body: Vec<u8>,
    },
    /// No answer.
    Hang,
    /// `307` to that URL. A client that follows it sends the signed request there.
    Redirect(String),
    /// `200 text/xml` and a body that does not end.
    Endless,
    /// `400 Throttling`.
    Throttle,
    /// `503 ServiceUnavailable`.
    Unavailable,
}

impl Answer {
    /// Returns an answer `200 text/xml` with that body.
    pub fn xml(body: impl Into<Vec<u8>>) -> Self {
        Self::Raw { status: 200, content_type: "text/xml".to_owned(), body: body.into() }
    }
}

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case with their values, including repeated headers. A value that is not UTF-8
    /// is `?`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Seen {
    /// Returns the first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(sent, _)| sent == name).map(|(_, value)| value.as_str())
    }

    /// Returns the names of all headers, sorted.
    pub fn header_names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

/// A running STS. Dropping it stops it.
pub struct LocalSts {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl LocalSts {
    /// Starts an STS on a free port of 127.0.0.1 with genuine answers.
    pub fn start(identities: impl IntoIterator<Item = Identity>, clock: Clock) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            clock,
            calls: watch::Sender::new(0),
            held: watch::Sender::new(false),
            state: Mutex::new(Switches {
                identities: identities.into_iter().collect(),
                answer: Answer::Genuine,
                next: VecDeque::new(),
                seen: VecDeque::new(),
            }),
        });
        let (stop, stopped) = oneshot::channel();
        let router = Router::new().fallback(handle).with_state(Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    served = axum::serve(listener, router) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self { address, shared, running: Some((stop, thread)) }
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL that it listens on: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds an identity that callers can use.
    pub fn add_identity(&self, identity: Identity) {
        self.shared.switches().identities.push(identity);
    }

    /// Removes an identity, as AWS does when its key is deleted.
    pub fn remove_identity(&self, access_key_id: &str) {
        self.shared
            .switches()
            .identities
            .retain(|identity| identity.access_key_id != access_key_id);
    }

    /// Sets the answer to all future calls.
    pub fn answer(&self, answer: Answer) {
        self.shared.switches().answer = answer;
    }

    /// Queues answers: each is sent once, before the answer to all calls applies again.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.switches().next.extend(answers);
    }

    /// Returns the number of calls that have arrived.
    pub fn calls(&self) -> usize {
        *self.shared.calls.borrow()
    }

    /// Waits until that many calls have arrived in total, including calls that the STS holds back.
    pub async fn wait_for_calls(&self, calls: usize) {
        let mut counted = self.shared.calls.subscribe();
        let enough = time_limits::wait(counted.wait_for(|count| *count >= calls)).await;
        assert!(enough.is_some(), "{} calls to STS instead of {calls}", self.calls());
    }

    /// Holds back all answers; calls still arrive and count.
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Sends the answers that the STS holds back, and stops holding.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Returns the last requests, oldest first.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.switches().seen.iter().cloned().collect()
    }
}

impl std::fmt::Debug for LocalSts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LocalSts").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for LocalSts {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

struct Shared {
    clock: Clock,
    calls: watch::Sender<usize>,
    held: watch::Sender<bool>,
    state: Mutex<Switches>,
}

struct Switches {
    identities: Vec<Identity>,
    answer: Answer,
    next: VecDeque<Answer>,
    seen: VecDeque<Seen>,
}

impl Shared {
    fn switches(&self) -> MutexGuard<'_, Switches> {
        self.state.lock().unwrap()
    }

    /// Remembers the call and picks its answer, in the order of arrival.
    fn take(&self, seen: &Seen) -> Answer {
        let mut switches = self.switches();
        if switches.seen.len() == REMEMBERED {
            switches.seen.pop_front();
        }
        switches.seen.push_back(seen.clone());
        let answer = switches.next.pop_front().unwrap_or_else(|| switches.answer.clone());
        drop(switches);
        self.calls.send_modify(|count| *count += 1);
        answer
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let seen = read(request).await;
    let answer = shared.take(&seen);
    let _ = shared.held.subscribe().wait_for(|held| !held).await;
    match answer {
        Answer::Genuine => {
            let now = (shared.clock)();
            let verdict = verify::caller(&seen, &shared.switches().identities, now).cloned();
            match verdict {
                Ok(identity) => answers::text_xml(200, identity_xml(&identity)),
                Err(refusal) => refusal.into_response(),
            }
        }
        Answer::Raw { status, content_type, body } => {
            answers::response(status, &content_type, Body::from(body))
        }
        Answer::Hang => std::future::pending().await,
        Answer::Redirect(to) => answers::redirect(&to),
        Answer::Endless => answers::response(200, "text/xml", Body::new(answers::Endless)),
        Answer::Throttle => {
            answers::Refusal::new(400, "Throttling", "Rate exceeded").into_response()
        }
        Answer::Unavailable => {
            answers::Refusal::new(503, "ServiceUnavailable", "Service is unable to handle request.")
                .into_response()
        }
    }
}

async fn read(request: Request) -> Seen {
    let (head, body) = request.into_parts();
    let latin = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| "?".to_owned());
    Seen {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), latin(value.as_bytes())))
            .collect(),
        body: axum::body::to_bytes(body, MAX_BODY).await.unwrap_or_default().to_vec(),
    }
}

#[cfg(test)]
mod tests;
