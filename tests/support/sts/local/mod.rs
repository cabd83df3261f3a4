//! An STS on loopback that checks signatures as AWS does and knows a table of throw-away identities.
//!
//! It runs on a thread of its own, so a test may block and it still answers; dropped, it takes its connections along.
//! Tests switch what it answers while it runs, and hold its answers back to look at what happens meanwhile.

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

/// Most requests that are remembered.
const REMEMBERED: usize = 1000;

/// Largest request body that is read, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Tells Unix seconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A clock that stands still.
pub fn fixed_clock(now: i64) -> Clock {
    Arc::new(move || now)
}

/// What a call is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// What AWS would say: the signature is checked.
    Genuine,
    /// This, whatever was asked.
    Raw {
        /// The status.
        status: u16,
        /// The content type; no such header where it is empty.
        content_type: String,
        /// The body.
        body: Vec<u8>,
    },
    /// Nothing, ever.
    Hang,
    /// `307` to that URL, which a client that follows would send the signed request to.
    Redirect(String),
    /// `200 text/xml` and a body that does not end.
    Endless,
    /// `400 Throttling`.
    Throttle,
    /// `503 ServiceUnavailable`.
    Unavailable,
}

impl Answer {
    /// `200 text/xml` with that body.
    pub fn xml(body: impl Into<Vec<u8>>) -> Self {
        Self::Raw { status: 200, content_type: "text/xml".to_owned(), body: body.into() }
    }
}

/// A request as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case with their values, twins kept; bytes outside Latin text come as `?`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Seen {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(sent, _)| sent == name).map(|(_, value)| value.as_str())
    }

    /// The names of all headers, sorted.
    pub fn header_names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

/// A running STS.
pub struct LocalSts {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl LocalSts {
    /// Starts one on a free port of 127.0.0.1, answering genuinely.
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes one more identity known.
    pub fn add_identity(&self, identity: Identity) {
        self.shared.switches().identities.push(identity);
    }

    /// Makes an identity unknown, as when its key was deleted.
    pub fn remove_identity(&self, access_key_id: &str) {
        self.shared
            .switches()
            .identities
            .retain(|identity| identity.access_key_id != access_key_id);
    }

    /// Switches what every call from now on is answered with.
    pub fn answer(&self, answer: Answer) {
        self.shared.switches().answer = answer;
    }

    /// Puts answers in front: each is given once, in order, then it goes on as before.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.switches().next.extend(answers);
    }

    /// How many calls arrived.
    pub fn calls(&self) -> usize {
        *self.shared.calls.borrow()
    }

    /// Waits until so many calls have arrived in all, held back or not.
    pub async fn wait_for_calls(&self, calls: usize) {
        let mut counted = self.shared.calls.subscribe();
        let enough = time_limits::wait(counted.wait_for(|count| *count >= calls)).await;
        assert!(enough.is_some(), "{} calls to STS instead of {calls}", self.calls());
    }

    /// Closes the gate: calls arrive and are counted, and no answer leaves.
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Opens the gate.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// The last requests, oldest first.
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

    /// Remembers the call and settles its answer, in the order of arrival.
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
