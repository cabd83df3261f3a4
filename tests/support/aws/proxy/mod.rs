//! Runs a proxy on loopback in front of an emulator of AWS.
//!
//! It counts and records calls, and describes them for the judge of policies. It can cut
//! connections as a network does, hold single calls back, and inject faults.

mod call;
mod fault;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::{Shutdown, shutdown};
use tokio::net::TcpSocket;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use self::call::Hold;
pub use self::call::{CALLS, Call, HeldCall};
pub use self::fault::Fault;
use crate::aws::policy::{self, AwsRequest};
use crate::process::programs::client;
use crate::time_limits;

/// A running proxy. It stops when dropped.
pub struct AwsProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    presence: mpsc::UnboundedSender<Presence>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// Reserves the port while the proxy does not listen on it.
    _reserved: TcpSocket,
}

/// Whether the proxy must listen, and a channel that confirms the change.
type Presence = (bool, std::sync::mpsc::Sender<()>);

struct Shared {
    target: String,
    /// Whether the calls go to the file [`CALLS`].
    listed: bool,
    client: reqwest::Client,
    cut: AtomicBool,
    /// Notifies open connections that a test cut the proxy.
    cuts: broadcast::Sender<()>,
    calls: Mutex<Calls>,
    bytes: AtomicUsize,
    injections: Mutex<Vec<Injection>>,
    holds: Mutex<Vec<Hold>>,
    /// Changes whenever a call arrives.
    arrived: watch::Sender<()>,
    /// Counts the calls that got no answer, or an answer without its end.
    stuck: watch::Sender<usize>,
}

#[derive(Default)]
struct Calls {
    all: Vec<Call>,
    /// How many of them the test has taken.
    taken: usize,
}

/// A fault, and the future calls that get it.
struct Injection {
    prefix: String,
    met: usize,
    which: (Bound<usize>, Bound<usize>),
    fault: Fault,
}

impl AwsProxy {
    /// Starts a proxy on a free port in front of `target`, a URL without a path.
    ///
    /// Its signed calls also go to the file [`CALLS`], which a test compares with the registry's
    /// policies.
    pub fn start(target: String) -> Self {
        Self::start_with(target, true)
    }

    /// Starts a proxy for programs that do not act for the registry. Their calls do not go to the
    /// file.
    pub fn start_unlisted(target: String) -> Self {
        Self::start_with(target, false)
    }

    fn start_with(target: String, listed: bool) -> Self {
        let reserved = TcpSocket::new_v4().unwrap();
        reserved.set_reuseaddr(true).unwrap();
        reserved.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = reserved.local_addr().unwrap();
        let listener = listen(address);
        let shared = Arc::new(Shared {
            target,
            listed,
            client: client(None),
            cut: AtomicBool::new(false),
            cuts: broadcast::Sender::new(1),
            calls: Mutex::default(),
            bytes: AtomicUsize::default(),
            injections: Mutex::default(),
            holds: Mutex::default(),
            arrived: watch::Sender::default(),
            stuck: watch::Sender::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let (presence, changes) = mpsc::unbounded_channel();
        let running = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, address, changes, running) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, shared, presence, running: Some((stop, thread)), _reserved: reserved }
    }

    /// Starts another proxy in front of the same target, with no calls and no faults.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::start_with(self.shared.target.clone(), self.shared.listed)
    }

    /// Returns the URL that it listens on: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes every open connection, and each new connection at once.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        let _ = self.shared.cuts.send(());
    }

    /// Closes every connection and stops listening, so that new connections are refused.
    pub fn refuse_connections(&self) {
        self.cut();
        self.listening(false);
    }

    /// Injects a fault into future calls whose name starts with `prefix`, such as `s3 PUT`.
    ///
    /// An empty prefix means every call. Of these calls, the ones in `which` get the fault, counted
    /// from 0.
    pub fn inject(&self, prefix: &str, which: impl RangeBounds<usize>, fault: Fault) {
        let which = (which.start_bound().cloned(), which.end_bound().cloned());
        self.shared.injections.lock().unwrap().push(Injection {
            prefix: prefix.to_owned(),
            met: 0,
            which,
            fault,
        });
    }

    /// Removes all faults, and listens and connects again.
    pub fn repair(&self) {
        self.shared.injections.lock().unwrap().clear();
        self.listening(true);
        self.shared.cut.store(false, Ordering::SeqCst);
    }

    /// Holds back the next call with that method and path, before the target sees it.
    pub fn hold(&self, method: &str, path: &str) -> HeldCall {
        let (hold, held) = call::hold(method, path);
        self.shared.holds.lock().unwrap().push(hold);
        held
    }

    /// Returns every call so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().all.clone()
    }

    /// Returns the requests to IAM of all calls so far that this key signed.
    pub fn requests_by(&self, access_key_id: &str) -> BTreeSet<AwsRequest> {
        let calls = self.shared.calls.lock().unwrap();
        let signed = calls.all.iter().filter(|call| call.access_key_id == access_key_id);
        signed.flat_map(|call| call.requests.iter().cloned()).collect()
    }

    /// Takes the number of calls by name since the last take: `dynamodb GetItem`, `s3 PUT`.
    pub fn take_counts(&self) -> BTreeMap<String, usize> {
        let mut counted = BTreeMap::new();
        for name in self.take_names() {
            *counted.entry(name).or_default() += 1;
        }
        counted
    }

    /// Takes the names of the calls since the last take, in order.
    pub fn take_names(&self) -> Vec<String> {
        let mut calls = self.shared.calls.lock().unwrap();
        let names = calls.all[calls.taken..].iter().map(|call| call.name.clone()).collect();
        calls.taken = calls.all.len();
        names
    }

    /// Waits until that many calls with that name have arrived since the last take.
    pub async fn wait_for_calls(&self, name: &str, times: usize) {
        let mut arrived = self.shared.arrived.subscribe();
        let enough = || {
            let calls = self.shared.calls.lock().unwrap();
            calls.all[calls.taken..].iter().filter(|call| call.name == name).count() >= times
        };
        let came = time_limits::wait(async {
            while !enough() {
                arrived.changed().await.unwrap();
            }
        });
        assert!(came.await.is_some(), "{:?} instead of {times} {name}", self.take_counts());
    }

    /// Waits until a call is stuck; returns at once if one was stuck before.
    pub async fn wait_until_stuck(&self) {
        let mut stuck = self.shared.stuck.subscribe();
        let came = time_limits::wait(stuck.wait_for(|calls| *calls > 0));
        assert!(came.await.is_some(), "no call is stuck");
    }

    /// Waits until a future call is stuck: it gets no answer, or an answer without an end.
    pub fn next_stuck(&self) -> impl Future<Output = ()> + use<> {
        let mut stuck = self.shared.stuck.subscribe();
        stuck.mark_unchanged();
        async move {
            // The proxy may be dropped before any call is stuck.
            if stuck.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes the total size of all response bodies since the last take.
    pub fn take_bytes(&self) -> usize {
        self.shared.bytes.swap(0, Ordering::SeqCst)
    }

    fn listening(&self, on: bool) {
        let (done, is_done) = std::sync::mpsc::channel();
        self.presence.send((on, done)).unwrap();
        is_done.recv().unwrap();
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

impl std::fmt::Debug for AwsProxy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AwsProxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for AwsProxy {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    address: SocketAddr,
    mut changes: mpsc::UnboundedReceiver<Presence>,
    shared: Arc<Shared>,
) {
    let mut listener = Some(listener);
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await.unwrap().0,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            stream = accepted => connected(stream, &shared),
            Some((on, done)) = changes.recv() => {
                match on {
                    false => {
                        // A child process that another test is starting may still have a copy of
                        // the socket, which would accept connections without this.
                        if let Some(old) = listener.take() {
                            shutdown(old, Shutdown::Both).unwrap();
                        }
                    }
                    true if listener.is_none() => listener = Some(tokio::net::TcpListener::from_std(listen(address)).unwrap()),
                    true => {}
                }
                let _ = done.send(());
            }
        }
    }
}

fn connected(stream: tokio::net::TcpStream, shared: &Arc<Shared>) {
    if shared.cut.load(Ordering::SeqCst) {
        return;
    }
    let (mut cut, serving) = (shared.cuts.subscribe(), Arc::clone(shared));
    let service = service_fn(move |request| {
        let shared = Arc::clone(&serving);
        async move {
            // A call that arrives on an open connection before it closes does not count.
            if shared.cut.load(Ordering::SeqCst) {
                Err(ErrorKind::ConnectionReset.into())
            } else {
                forward(&shared, request).await
            }
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    tokio::spawn(async move {
        tokio::select! {
            _ = connection => {}
            _ = cut.recv() => {}
        }
    });
}

async fn forward(
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let call = Call::of(&head);
    let (name, method, decoded_path) = (call.name.clone(), call.method.clone(), call.path.clone());
    let fault = shared.fault(&name);
    let index = shared.record(call);
    // An upload that the client aborts never reaches the target.
    let body =
        axum::body::to_bytes(Body::new(body), usize::MAX).await.map_err(std::io::Error::other)?;
    if let Some(fault) = fault.as_ref().filter(|fault| !fault.takes_place()) {
        let service = name.split(' ').next().unwrap_or_default();
        return fault.clone().answer(service, &shared.stuck).await;
    }
    shared.describe(index, policy::requests(&head, &body));
    let hold = call::take_hold(&mut shared.holds.lock().unwrap(), &method, &decoded_path);
    if let Some(hold) = hold {
        hold.wait().await;
    }
    let request = shared
        .client
        .request(head.method.clone(), format!("{}{path}", shared.target))
        .headers(head.headers);
    let request = request.body(body.clone());
    let answer = request.send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if !["connection", "transfer-encoding"].contains(&name.as_str()) {
            response = response.header(name, value);
        }
    }
    let answered = answer.bytes().await.unwrap();
    shared.bytes.fetch_add(answered.len(), Ordering::SeqCst);
    match fault {
        None => Ok(response.body(Body::from(answered)).unwrap()),
        Some(fault) => fault.change_answer(
            &body,
            response.body(Body::empty()).unwrap(),
            &answered,
            &shared.stuck,
        ),
    }
}

impl Shared {
    /// Picks the fault of this call, and counts the call in every injection with its prefix.
    fn fault(&self, name: &str) -> Option<Fault> {
        let mut fault = None;
        let mut injections = self.injections.lock().unwrap();
        for injection in injections.iter_mut().filter(|one| name.starts_with(&one.prefix)) {
            if injection.which.contains(&injection.met) {
                fault = fault.or_else(|| Some(injection.fault.clone()));
            }
            injection.met += 1;
        }
        fault
    }

    /// Records a call that has arrived, and returns its index.
    fn record(&self, call: Call) -> usize {
        let mut calls = self.calls.lock().unwrap();
        calls.all.push(call);
        self.arrived.send_replace(());
        calls.all.len() - 1
    }

    /// Adds the requests to IAM of a recorded call.
    fn describe(&self, index: usize, requests: Vec<AwsRequest>) {
        let call = &mut self.calls.lock().unwrap().all[index];
        call.requests = requests;
        if self.listed {
            call.list();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_are_counted_by_name_and_a_cut_proxy_fails_until_it_is_repaired() {
        let sts = crate::sts::local::LocalSts::start([], crate::sts::local::fixed_clock(0));
        let proxy = AwsProxy::start(sts.endpoint());
        let client = client(None);
        let call = || {
            client.post(proxy.endpoint()).header("x-amz-target", "DynamoDB_20120810.GetItem").send()
        };
        let body = call().await.unwrap().bytes().await.unwrap();
        assert_eq!((proxy.take_bytes(), proxy.take_bytes()), (body.len(), 0));
        proxy.cut();
        assert!(call().await.is_err());
        proxy.repair();
        assert_eq!(call().await.unwrap().status(), 403);
        assert_eq!(proxy.take_counts(), [("dynamodb GetItem".to_owned(), 2)].into());
        assert!(proxy.take_counts().is_empty());
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_connections_comes_back_on_its_port() {
        let sts = crate::sts::local::LocalSts::start([], crate::sts::local::fixed_clock(0));
        let proxy = AwsProxy::start(sts.endpoint());
        for _ in 0..3 {
            proxy.refuse_connections();
            assert_eq!(
                std::net::TcpStream::connect(proxy.address).unwrap_err().kind(),
                ErrorKind::ConnectionRefused
            );
            proxy.repair();
            assert_eq!(client(None).post(proxy.endpoint()).send().await.unwrap().status(), 403);
        }
    }

    #[tokio::test]
    async fn a_fault_is_injected_into_the_named_calls_only() {
        let sts = crate::sts::local::LocalSts::start([], crate::sts::local::fixed_clock(0));
        let proxy = AwsProxy::start(sts.endpoint());
        let client = client(None);
        let call = async |action: &str| {
            let sent = client
                .post(proxy.endpoint())
                .header("x-amz-target", format!("DynamoDB_20120810.{action}"))
                .send()
                .await;
            let answer = sent.map_err(|_| "closed")?;
            let status = answer.status().as_u16();
            answer.bytes().await.map(|body| (status, body.len())).map_err(|_| "broken off")
        };
        let genuine = call("GetItem").await.unwrap();
        proxy.inject("dynamodb GetItem", 1..2, Fault::Throttle);
        proxy.inject("dynamodb GetItem", 2..3, Fault::Truncate);
        proxy.inject("dynamodb GetItem", 3.., Fault::Close);
        proxy.inject("", 7.., Fault::Large);
        for (action, expected) in [
            ("GetItem", Ok(genuine)),
            ("Query", Ok(genuine)),
            ("GetItem", Ok((400, 85))),
            ("GetItem", Err("broken off")),
            ("GetItem", Err("closed")),
            ("Query", Ok(genuine)),
        ] {
            assert_eq!(call(action).await, expected, "{action}");
        }
        assert_eq!(call("GetItem").await, Err("closed"), "the first of two injections counts");
        assert!(call("Query").await.unwrap().1 > 10_000_000);
        proxy.repair();
        assert_eq!(call("GetItem").await, Ok(genuine));
        assert_eq!(proxy.take_counts()["dynamodb GetItem"], 7);
    }
}
