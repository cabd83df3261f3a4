//! A layer between programs and a broker: it records requests, holds one of them, answers one itself,
//! or cuts the answer of one.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::oneshot;

use crate::time_limits;

/// The layer. Its clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Between(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    seen: Vec<Seen>,
    traps: Vec<Trap>,
}

/// A request that came through.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method and the path, without the query.
    pub line: String,
    /// The token, or nothing.
    pub token: String,
}

/// What happens to a request.
#[derive(Debug)]
enum Trap {
    /// It waits for a sign, and then goes on.
    Hold(Method, oneshot::Sender<()>, oneshot::Receiver<()>),
    /// The broker answers it, and the program gets this status instead.
    Replace(Method, StatusCode),
    /// The broker answers it, and the program gets a part of the answer.
    Cut(Method),
    /// It does not reach the broker.
    Refuse(Method, StatusCode),
}

impl Trap {
    const fn method(&self) -> &Method {
        match self {
            Self::Hold(method, ..)
            | Self::Replace(method, _)
            | Self::Cut(method)
            | Self::Refuse(method, _) => method,
        }
    }
}

/// A request that waits.
#[derive(Debug)]
pub struct Held {
    arrived: oneshot::Receiver<()>,
    go: oneshot::Sender<()>,
}

impl Held {
    /// Waits until the request is there.
    pub async fn arrived(&mut self) {
        time_limits::wait(&mut self.arrived).await.unwrap().unwrap();
    }

    /// Lets it go on.
    pub fn pass(self) {
        self.go.send(()).unwrap();
    }
}

impl Between {
    /// Puts the layer around the routes of a broker.
    pub fn around(&self, router: Router) -> Router {
        let between = self.clone();
        router.layer(from_fn(move |request, next| {
            let between = between.clone();
            async move { between.through(request, next).await }
        }))
    }

    /// Holds the next request to `/v1/grants` with this method.
    pub fn hold(&self, method: Method) -> Held {
        let ((arrives, arrived), (go, goes)) = (oneshot::channel(), oneshot::channel());
        self.trap(Trap::Hold(method, arrives, goes));
        Held { arrived, go }
    }

    /// Gives another status to the next such request, after the broker has answered it.
    pub fn replace(&self, method: Method, status: StatusCode) {
        self.trap(Trap::Replace(method, status));
    }

    /// Cuts the answer to the next such request.
    pub fn cut(&self, method: Method) {
        self.trap(Trap::Cut(method));
    }

    /// Answers the next such requests, which do not reach the broker.
    pub fn refuse(&self, method: &Method, status: StatusCode, count: usize) {
        for _ in 0..count {
            self.trap(Trap::Refuse(method.clone(), status));
        }
    }

    /// Returns the requests since the last call of this method.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock().unwrap().seen)
    }

    /// Asserts that each trap got its request.
    pub fn is_through(&self) {
        let state = self.0.lock().unwrap();
        assert!(state.traps.is_empty(), "{:?}", state.traps);
    }

    fn trap(&self, trap: Trap) {
        self.0.lock().unwrap().traps.push(trap);
    }

    async fn through(&self, request: Request, next: Next) -> Response {
        let header = request.headers().get("authorization");
        let token = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let seen = Seen {
            line: format!("{} {}", request.method(), request.uri().path()),
            token: token.unwrap_or_default().to_owned(),
        };
        let trap = {
            let mut state = self.0.lock().unwrap();
            state.seen.push(seen);
            let is_it = |trap: &Trap| trap.method() == request.method();
            let at = state.traps.iter().position(is_it);
            at.filter(|_| request.uri().path() == "/v1/grants").map(|at| state.traps.remove(at))
        };
        let answer = |status: StatusCode| {
            let body =
                r#"{"error":"store_unavailable","message":"a test says so","server_time":"x"}"#;
            (status, [("content-type", "application/json"), ("retry-after", "0")], body)
                .into_response()
        };
        match trap {
            None => next.run(request).await,
            Some(Trap::Hold(_, arrives, goes)) => {
                let _nobody_waits = arrives.send(());
                goes.await.unwrap();
                next.run(request).await
            }
            Some(Trap::Refuse(_, status)) => answer(status),
            Some(Trap::Replace(_, status)) => {
                next.run(request).await;
                answer(status)
            }
            Some(Trap::Cut(_)) => {
                next.run(request).await;
                let parts = [Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("cut"))];
                Body::from_stream(futures_util::stream::iter(parts)).into_response()
            }
        }
    }
}
