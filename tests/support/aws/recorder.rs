//! A proxy on loopback before an emulator of AWS: it keeps what is called, by whom and with what, and can hold one call up.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::process::programs::client;

/// A running proxy; it ends when dropped.
#[derive(Debug)]
pub struct Recorder {
    endpoint: String,
    shared: Arc<Shared>,
    running: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    client: reqwest::Client,
    calls: Mutex<Vec<Call>>,
    holds: Mutex<Vec<Hold>>,
}

/// What the proxy knows of a call that is to be held up.
#[derive(Debug)]
struct Hold {
    method: String,
    path: String,
    tell: oneshot::Sender<()>,
    wait: oneshot::Receiver<()>,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The id of the access key that signed it; empty without a signature.
    pub access_key: String,
    /// As `PUT`.
    pub method: String,
    /// Decoded, without the query.
    pub path: String,
    /// The parameters of the query, decoded.
    pub query: BTreeMap<String, String>,
    /// Header names in lower case.
    pub headers: BTreeMap<String, String>,
    /// What it brought.
    pub body: String,
}

/// A call that is held up until this is dropped or let go.
#[derive(Debug)]
pub struct Held {
    arrived: oneshot::Receiver<()>,
    go: oneshot::Sender<()>,
}

impl Recorder {
    /// Starts one on a free port before `target`, a URL without a path; it runs on the runtime of its test.
    pub async fn start(target: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            target,
            client: client(None),
            calls: Mutex::default(),
            holds: Mutex::default(),
        });
        let router = Router::new().fallback(forward).with_state(Arc::clone(&shared));
        let running = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { endpoint, shared, running }
    }

    /// Where it listens, as `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Everything that was called so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Holds up the next call of that method and path, before the emulator sees it.
    pub fn hold(&self, method: &str, path: &str) -> Held {
        let ((tell, arrived), (go, wait)) = (oneshot::channel(), oneshot::channel());
        self.shared.holds.lock().unwrap().push(Hold {
            method: method.to_owned(),
            path: path.to_owned(),
            tell,
            wait,
        });
        Held { arrived, go }
    }
}

impl Held {
    /// Waits until the call is there.
    pub async fn arrived(&mut self) {
        (&mut self.arrived).await.unwrap();
    }

    /// Lets it go on.
    pub fn let_go(self) {
        self.go.send(()).unwrap();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let url = url::Url::parse(&format!("{}{}", shared.target, head.uri.path_and_query().unwrap()))
        .unwrap();
    let headers = head.headers.iter().map(|(name, value)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let headers: BTreeMap<String, String> = headers.collect();
    let path = percent_decoded(url.path());
    let credential = headers
        .get("authorization")
        .and_then(|value| value.split_once("Credential="))
        .map_or("", |(_, rest)| rest);
    shared.calls.lock().unwrap().push(Call {
        access_key: credential.split('/').next().unwrap_or_default().to_owned(),
        method: head.method.to_string(),
        path: path.clone(),
        query: url.query_pairs().into_owned().collect(),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    let hold = {
        let mut holds = shared.holds.lock().unwrap();
        let at =
            holds.iter().position(|hold| hold.method == head.method.as_str() && hold.path == path);
        at.map(|at| holds.remove(at))
    };
    if let Some(hold) = hold {
        let _ = hold.tell.send(());
        let _ = hold.wait.await;
    }
    let answer = shared
        .client
        .request(head.method, url)
        .headers(head.headers)
        .body(body)
        .send()
        .await
        .unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if !["connection", "transfer-encoding"].contains(&name.as_str()) {
            response = response.header(name, value);
        }
    }
    response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}

/// A path of a URL as the names it stands for.
fn percent_decoded(path: &str) -> String {
    let query = format!("path={}", path.replace('+', "%2B"));
    url::form_urlencoded::parse(query.as_bytes())
        .next()
        .map_or_else(String::new, |(_, path)| path.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_is_kept_and_one_can_be_held_up() {
        let emulator =
            Router::new().fallback(|request: Request| async move { request.uri().to_string() });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, emulator).await.unwrap() });
        let recorder = Recorder::start(target).await;
        let url = format!("{}/bucket/a%3Ab?prefix=c%2F", recorder.endpoint());
        let send = || {
            client(None)
                .put(&url)
                .header("authorization", "AWS4 Credential=AKIA/x, Signature=0")
                .body("it")
                .send()
        };

        let mut held = recorder.hold("PUT", "/bucket/a:b");
        let mut first = Box::pin(send());
        tokio::select! {
            answer = &mut first => panic!("it was not held up: {answer:?}"),
            () = held.arrived() => {}
        }
        assert_eq!(
            send().await.unwrap().text().await.unwrap(),
            "/bucket/a%3Ab?prefix=c%2F",
            "the next one is not held up"
        );
        held.let_go();
        assert_eq!(first.await.unwrap().status(), 200);

        let calls = recorder.calls();
        assert_eq!(calls.len(), 2);
        let call = &calls[0];
        assert_eq!(
            (
                call.access_key.as_str(),
                call.method.as_str(),
                call.path.as_str(),
                call.body.as_str()
            ),
            ("AKIA", "PUT", "/bucket/a:b", "it")
        );
        assert_eq!(call.query["prefix"], "c/");
    }
}
