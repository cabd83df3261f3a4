//! A proxy on loopback before an emulator of AWS: it counts calls and the bytes of answers, and can be cut off as a network is.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{broadcast, oneshot};

use crate::programs::client;
use crate::rights;

/// A running proxy; it ends when dropped.
pub struct Meter {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

struct Shared {
    target: String,
    client: reqwest::Client,
    cut: AtomicBool,
    /// Said when the line is cut, to those who are in the middle of something.
    cuts: broadcast::Sender<()>,
    calls: Mutex<BTreeMap<String, usize>>,
    bytes: AtomicUsize,
}

impl Meter {
    /// Starts one on a free port, before `target`, a URL without a path.
    pub fn start(target: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            client: client(None),
            cut: AtomicBool::new(false),
            cuts: broadcast::Sender::new(1),
            calls: Mutex::default(),
            bytes: AtomicUsize::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let running = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, running) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, shared, running: Some((stop, thread)) }
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

    /// Mends it.
    pub fn mend(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
    }

    /// What was called since the last look, by service and action, as `dynamodb GetItem` or `s3 PUT`.
    pub fn taken(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut *self.shared.calls.lock().unwrap())
    }

    /// How many bytes the bodies of all answers had since the last look.
    pub fn bytes_taken(&self) -> usize {
        self.shared.bytes.swap(0, Ordering::SeqCst)
    }
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

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if shared.cut.load(Ordering::SeqCst) {
            continue;
        }
        let (mut cut, serving) = (shared.cuts.subscribe(), Arc::clone(&shared));
        let service = service_fn(move |request| {
            let shared = Arc::clone(&serving);
            async move {
                // Before it is counted: a connection that is kept alive may bring one more call before it is closed.
                if shared.cut.load(Ordering::SeqCst) { Err(ErrorKind::ConnectionReset) } else { Ok(forward(&shared, request).await) }
                    .map_err(std::io::Error::from)
            }
        });
        let connection =
            hyper::server::conn::http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            tokio::select! {
                _ = connection => {}
                _ = cut.recv() => {}
            }
        });
    }
}

async fn forward(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    *shared.calls.lock().unwrap().entry(name(target, head.method.as_str())).or_default() += 1;
    let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.unwrap();
    rights::note(&head, &body);
    let request = shared.client.request(head.method.clone(), format!("{}{path}", shared.target)).headers(head.headers).body(body);
    let answer = request.send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if !["connection", "transfer-encoding"].contains(&name.as_str()) {
            response = response.header(name, value);
        }
    }
    let body = answer.bytes().await.unwrap();
    shared.bytes.fetch_add(body.len(), Ordering::SeqCst);
    response.body(Body::from(body)).unwrap()
}

/// The service and action that a call is for; S3's have no name, and are told by their method.
fn name(target: Option<&str>, method: &str) -> String {
    match target.and_then(|target| target.split_once('.')) {
        Some(("TrentService", action)) => format!("kms {action}"),
        Some((service, action)) if service.starts_with("DynamoDB_") => format!("dynamodb {action}"),
        Some((service, action)) => format!("{service} {action}"),
        None => format!("s3 {method}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_are_counted_by_name_and_a_cut_line_refuses_until_it_is_mended() {
        let sts = crate::local_sts::LocalSts::start([], crate::local_sts::fixed_clock(0));
        let meter = Meter::start(sts.endpoint());
        let client = client(None);
        let call = || client.post(meter.endpoint()).header("x-amz-target", "DynamoDB_20120810.GetItem").send();
        let body = call().await.unwrap().bytes().await.unwrap();
        assert_eq!((meter.bytes_taken(), meter.bytes_taken()), (body.len(), 0));
        meter.cut();
        assert!(call().await.is_err());
        meter.mend();
        assert_eq!(call().await.unwrap().status(), 403);
        assert_eq!(meter.taken(), [("dynamodb GetItem".to_owned(), 2)].into());
        assert!(meter.taken().is_empty());
        assert_eq!(name(Some("TrentService.Decrypt"), "POST"), "kms Decrypt");
        assert_eq!(name(None, "PUT"), "s3 PUT");
    }
}
