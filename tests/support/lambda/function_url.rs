//! Serves a function URL: HTTPS on loopback that passes each request to a function as an event.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};
use serde_json::json;
use stile_broker::http::Server;
use tokio::sync::oneshot;

use crate::dev_ca::Files;
use crate::lambda::Function;
use crate::lambda::events::{Sent, Shape};

/// The largest body. Lambda accepts 6 MB, and base64 turns three bytes into four.
const MAX_BODY: usize = 4_500_000;

/// An open function URL. It closes when the test drops it.
pub struct FunctionUrlServer {
    _stop: oneshot::Sender<()>,
}

impl FunctionUrlServer {
    /// Opens a function URL on that port of 127.0.0.1, with that certificate, in front of that
    /// function.
    pub async fn open(port: u16, files: &Files, function: Arc<Function>) -> Self {
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let server = Server::bind(address, Some(files.tls())).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server.run(Router::new().fallback(forward).with_state(function), async {
            let _ = stopped.await;
        }));
        Self { _stop: stop }
    }
}

async fn forward(State(function): State<Arc<Function>>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let body = axum::body::to_bytes(body, MAX_BODY).await.unwrap();
    let mut event =
        Shape::FunctionUrl.event(&Sent::new(head.method.as_str(), target).body("", body));
    // A function URL passes each header once, in lower case, with its values joined by commas.
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in &head.headers {
        let value = value.to_str().unwrap();
        headers
            .entry(name.as_str())
            .and_modify(|before| *before += &format!(",{value}"))
            .or_insert_with(|| value.to_owned());
    }
    event["headers"] = json!(headers);
    // The gateway answers an error of the function with 502, without details.
    match function.invoke(&event).await {
        Err(_) => {
            Response::builder().status(502).body(Body::from("Internal Server Error")).unwrap()
        }
        Ok(answer) => {
            let reply = Shape::FunctionUrl.reply(&answer);
            let mut response = Response::builder().status(reply.status);
            for (name, value) in reply.headers.iter().filter(|(name, _)| *name != "content-length")
            {
                response = response.header(name, value);
            }
            response.body(Body::from(reply.body)).unwrap()
        }
    }
}
