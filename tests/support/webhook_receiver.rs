//! A receiver of webhooks: an HTTPS server on loopback that records what it gets.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;
use stile_broker::checked_resolver::Lookup;
use stile_broker::http::Server;
use stile_broker::webhook_client::WebhookClient;
use tokio::sync::{Notify, oneshot};

use crate::broker::served::system_time;
use crate::dev_ca::DevCa;
use crate::time_limits;

/// The host name of the receiver, which no DNS server knows.
pub const RECEIVER: &str = "receiver.example";

/// A message that the receiver got.
#[derive(Debug, Clone)]
pub struct Message {
    /// The path of its URL.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Message {
    /// Returns a header that the message must have.
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// Returns the event in the body.
    pub fn event(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// The receiver. `/slow` gets no answer. It stops when dropped.
pub struct WebhookReceiver {
    port: u16,
    messages: Arc<Mutex<Vec<Message>>>,
    /// The statuses of the next answers; 204 after them.
    answers: Arc<Mutex<VecDeque<u16>>>,
    arrived: Arc<Notify>,
    authority: reqwest::Certificate,
    _folder: tempfile::TempDir,
    _stop: oneshot::Sender<()>,
}

impl WebhookReceiver {
    /// Starts a receiver on a free port, with a certificate for [`RECEIVER`].
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = DevCa::new(system_time()).write(folder.path(), &[RECEIVER]);
        let server =
            Server::bind((Ipv4Addr::LOCALHOST, 0).into(), Some(files.tls())).await.unwrap();
        let port = server.address().unwrap().port();
        let messages = Arc::<Mutex<Vec<Message>>>::default();
        let answers = Arc::<Mutex<VecDeque<u16>>>::default();
        let arrived = Arc::new(Notify::new());
        let (all, next, ring) = (Arc::clone(&messages), Arc::clone(&answers), Arc::clone(&arrived));
        let answer = move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let path = uri.path().to_owned();
            let is_slow = path == "/slow";
            all.lock().unwrap().push(Message { path, headers, body });
            ring.notify_waiters();
            let status = next.lock().unwrap().pop_front().unwrap_or(204);
            async move {
                if is_slow {
                    std::future::pending::<()>().await;
                }
                let location = [("location", format!("https://{RECEIVER}:{port}/elsewhere"))];
                (StatusCode::from_u16(status).unwrap(), location)
            }
        };
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server.run(Router::new().fallback(answer), async {
            let _ = stopped.await;
        }));
        let authority = reqwest::Certificate::from_pem(&std::fs::read(&files.ca).unwrap()).unwrap();
        Self { port, messages, answers, arrived, authority, _folder: folder, _stop: stop }
    }

    /// Returns the URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://{RECEIVER}:{}{path}", self.port)
    }

    /// Returns a client that finds the receiver under every name, and may connect to loopback.
    pub fn client(&self) -> WebhookClient {
        self.client_with(|_| vec![Ipv4Addr::LOCALHOST.into()], |address| address.is_loopback())
    }

    /// Returns a client with that lookup of names, which may connect to those addresses.
    pub fn client_with(
        &self,
        lookup: impl Fn(String) -> Vec<IpAddr> + Send + Sync + 'static,
        is_allowed: fn(IpAddr) -> bool,
    ) -> WebhookClient {
        let lookup = move |name: String| -> Lookup {
            let found = lookup(name);
            Box::pin(async move { Ok(found) })
        };
        WebhookClient::for_test(lookup, is_allowed, &self.authority).unwrap()
    }

    /// Sets the statuses of the next answers.
    pub fn answers(&self, statuses: &[u16]) {
        self.answers.lock().unwrap().extend(statuses);
    }

    /// Takes the messages since the last take.
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *self.messages.lock().unwrap())
    }

    fn arrived_at(&self, path: &str) -> usize {
        let messages = self.messages.lock().unwrap();
        messages.iter().filter(|message| message.path == path).count()
    }

    /// Waits until that many messages have arrived at the path since the last take.
    pub async fn wait_for(&self, path: &str, count: usize) {
        let came = time_limits::wait(async {
            loop {
                let mut arrived = std::pin::pin!(self.arrived.notified());
                arrived.as_mut().enable();
                if self.arrived_at(path) >= count {
                    return;
                }
                arrived.await;
            }
        });
        assert!(came.await.is_some(), "nothing arrived at {path}");
    }
}
