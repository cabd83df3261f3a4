//! A proxy on loopback before an emulator of AWS: it counts calls and the bytes of answers, can be cut off as a network is, and
//! can have any call go wrong in any way.

mod fault;

use std::collections::BTreeMap;
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
use tokio::net::TcpSocket;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub use self::fault::Fault;
use crate::aws::rights;
use crate::process::programs::client;
use crate::time_limits;

/// A running proxy; it ends when dropped.
pub struct Meter {
    address: SocketAddr,
    shared: Arc<Shared>,
    presence: mpsc::UnboundedSender<Presence>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// Holds the port while nobody listens on it.
    _place: TcpSocket,
}

/// Whether anybody listens, and who is told when that is so.
type Presence = (bool, std::sync::mpsc::Sender<()>);

struct Shared {
    target: String,
    client: reqwest::Client,
    cut: AtomicBool,
    /// Said when the line is cut, to those who are in the middle of something.
    cuts: broadcast::Sender<()>,
    calls: Mutex<Vec<String>>,
    bytes: AtomicUsize,
    troubles: Mutex<Vec<Trouble>>,
    /// Said whenever a call is met.
    met: watch::Sender<()>,
    /// How many calls have been left without an answer, or without its end.
    stuck: watch::Sender<usize>,
}

/// Which of the calls to come go wrong, and how.
struct Trouble {
    on: String,
    met: usize,
    which: (Bound<usize>, Bound<usize>),
    fault: Fault,
}

impl Meter {
    /// Starts one on a free port, before `target`, a URL without a path.
    pub fn start(target: String) -> Self {
        let place = TcpSocket::new_v4().unwrap();
        place.set_reuseaddr(true).unwrap();
        place.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = place.local_addr().unwrap();
        let listener = listen(address);
        let shared = Arc::new(Shared {
            target,
            client: client(None),
            cut: AtomicBool::new(false),
            cuts: broadcast::Sender::new(1),
            calls: Mutex::default(),
            bytes: AtomicUsize::default(),
            troubles: Mutex::default(),
            met: watch::Sender::default(),
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
        Self { address, shared, presence, running: Some((stop, thread)), _place: place }
    }

    /// Another line to the same, with nothing counted and nothing wrong.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::start(self.shared.target.clone())
    }

    /// Where it listens, as `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts the line: whoever calls, or is in the middle of a call, finds the connection closed.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        let _ = self.shared.cuts.send(());
    }

    /// Takes it away: whoever connects is refused, and those who are connected are cut off.
    pub fn remove(&self) {
        self.cut();
        self.listening(false);
    }

    /// Has calls go wrong from now on: those whose name begins with `on`, as `dynamodb` or `s3 PUT`, everything where it is
    /// empty; and of these the ones in `which`, counted from 0.
    pub fn trouble(&self, on: &str, which: impl RangeBounds<usize>, fault: Fault) {
        let which = (which.start_bound().cloned(), which.end_bound().cloned());
        self.shared.troubles.lock().unwrap().push(Trouble {
            on: on.to_owned(),
            met: 0,
            which,
            fault,
        });
    }

    /// Mends it, whatever was done to it.
    pub fn mend(&self) {
        self.shared.troubles.lock().unwrap().clear();
        self.listening(true);
        self.shared.cut.store(false, Ordering::SeqCst);
    }

    /// What was called since the last look, by service and action, as `dynamodb GetItem` or `s3 PUT`.
    pub fn taken(&self) -> BTreeMap<String, usize> {
        let mut counted = BTreeMap::new();
        for name in self.taken_in_order() {
            *counted.entry(name).or_default() += 1;
        }
        counted
    }

    /// The same, one by one.
    pub fn taken_in_order(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.calls.lock().unwrap())
    }

    /// Waits until so many calls of that name have been met since the last look at them.
    pub async fn met(&self, name: &str, times: usize) {
        let mut met = self.shared.met.subscribe();
        let enough = || {
            let calls = self.shared.calls.lock().unwrap();
            calls.iter().filter(|call| *call == name).count() >= times
        };
        let came = time_limits::wait(async {
            while !enough() {
                met.changed().await.unwrap();
            }
        });
        assert!(came.await.is_some(), "{:?} instead of {times} {name}", self.taken());
    }

    /// Waits until a call is stuck, if none has been so far.
    pub async fn is_stuck(&self) {
        let mut stuck = self.shared.stuck.subscribe();
        let came = time_limits::wait(stuck.wait_for(|calls| *calls > 0));
        assert!(came.await.is_some(), "nothing is stuck");
    }

    /// Waits until a call that comes from now on is stuck: it gets no answer, or an answer without an end.
    pub fn stuck(&self) -> impl Future<Output = ()> + use<> {
        let mut stuck = self.shared.stuck.subscribe();
        stuck.mark_unchanged();
        async move {
            // The line may be gone before anything was stuck.
            if stuck.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// How many bytes the bodies of all answers had since the last look.
    pub fn bytes_taken(&self) -> usize {
        self.shared.bytes.swap(0, Ordering::SeqCst)
    }

    fn listening(&self, on: bool) {
        let (tell, told) = std::sync::mpsc::channel();
        self.presence.send((on, tell)).unwrap();
        told.recv().unwrap();
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Meter").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Meter {
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
            Some((on, tell)) = changes.recv() => {
                match on {
                    false => listener = None,
                    true if listener.is_none() => listener = Some(tokio::net::TcpListener::from_std(listen(address)).unwrap()),
                    true => {}
                }
                let _ = tell.send(());
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
            // Before it is counted: a connection that is kept alive may bring one more call before it is closed.
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
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let name = name(target, head.headers.contains_key("x-stile-audience"), head.method.as_str());
    let fault = shared.fault(&name);
    let service = name.split(' ').next().unwrap_or_default().to_owned();
    shared.calls.lock().unwrap().push(name);
    shared.met.send_replace(());
    // An upload that its sender gave up is nobody's call.
    let body =
        axum::body::to_bytes(Body::new(body), usize::MAX).await.map_err(std::io::Error::other)?;
    if let Some(fault) = fault.as_ref().filter(|fault| !fault.takes_place()) {
        return fault.clone().answer(&service, &shared.stuck).await;
    }
    // To ask who one is, nobody needs a right.
    if service != "sts" {
        rights::note(&head, &body);
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
        Some(fault) => {
            fault.bend(&body, response.body(Body::empty()).unwrap(), &answered, &shared.stuck)
        }
    }
}

impl Shared {
    /// What becomes of this call, which counts for each trouble it may be in.
    fn fault(&self, name: &str) -> Option<Fault> {
        let mut fault = None;
        for trouble in
            self.troubles.lock().unwrap().iter_mut().filter(|trouble| name.starts_with(&trouble.on))
        {
            if trouble.which.contains(&trouble.met) {
                fault = fault.or_else(|| Some(trouble.fault.clone()));
            }
            trouble.met += 1;
        }
        fault
    }
}

/// The service and action that a call is for; S3's have no name, and are told by their method.
fn name(target: Option<&str>, to_sts: bool, method: &str) -> String {
    match target.and_then(|target| target.split_once('.')) {
        Some(("TrentService", action)) => format!("kms {action}"),
        Some((service, action)) if service.starts_with("DynamoDB_") => format!("dynamodb {action}"),
        Some((service, action)) => format!("{service} {action}"),
        None if to_sts => "sts GetCallerIdentity".to_owned(),
        None => format!("s3 {method}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_are_counted_by_name_and_a_cut_line_refuses_until_it_is_mended() {
        let sts = crate::sts::local::LocalSts::start([], crate::sts::local::fixed_clock(0));
        let meter = Meter::start(sts.endpoint());
        let client = client(None);
        let call = || {
            client.post(meter.endpoint()).header("x-amz-target", "DynamoDB_20120810.GetItem").send()
        };
        let body = call().await.unwrap().bytes().await.unwrap();
        assert_eq!((meter.bytes_taken(), meter.bytes_taken()), (body.len(), 0));
        meter.cut();
        assert!(call().await.is_err());
        meter.mend();
        assert_eq!(call().await.unwrap().status(), 403);
        assert_eq!(meter.taken(), [("dynamodb GetItem".to_owned(), 2)].into());
        assert!(meter.taken().is_empty());
        assert_eq!(name(Some("TrentService.Decrypt"), false, "POST"), "kms Decrypt");
        assert_eq!(name(None, false, "PUT"), "s3 PUT");
        assert_eq!(name(None, true, "POST"), "sts GetCallerIdentity");
    }

    #[tokio::test]
    async fn a_line_that_is_taken_away_refuses_to_be_connected_to_and_comes_back_where_it_was() {
        let sts = crate::sts::local::LocalSts::start([], crate::sts::local::fixed_clock(0));
        let meter = Meter::start(sts.endpoint());
        for _ in 0..3 {
            meter.remove();
            assert_eq!(
                std::net::TcpStream::connect(meter.address).unwrap_err().kind(),
                ErrorKind::ConnectionRefused
            );
            meter.mend();
            assert_eq!(client(None).post(meter.endpoint()).send().await.unwrap().status(), 403);
        }
    }

    #[tokio::test]
    async fn the_calls_that_are_named_go_wrong_and_no_others() {
        let sts = crate::sts::local::LocalSts::start([], crate::sts::local::fixed_clock(0));
        let meter = Meter::start(sts.endpoint());
        let client = client(None);
        let call = async |action: &str| {
            let sent = client
                .post(meter.endpoint())
                .header("x-amz-target", format!("DynamoDB_20120810.{action}"))
                .send()
                .await;
            let answer = sent.map_err(|_| "closed")?;
            let status = answer.status().as_u16();
            answer.bytes().await.map(|body| (status, body.len())).map_err(|_| "broken off")
        };
        let genuine = call("GetItem").await.unwrap();
        meter.trouble("dynamodb GetItem", 1..2, Fault::Throttle);
        meter.trouble("dynamodb GetItem", 2..3, Fault::Truncate);
        meter.trouble("dynamodb GetItem", 3.., Fault::Close);
        meter.trouble("", 7.., Fault::Large);
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
        assert_eq!(call("GetItem").await, Err("closed"), "what was said first counts");
        assert!(call("Query").await.unwrap().1 > 10_000_000);
        meter.mend();
        assert_eq!(call("GetItem").await, Ok(genuine));
        assert_eq!(meter.taken()["dynamodb GetItem"], 7);
    }
}
