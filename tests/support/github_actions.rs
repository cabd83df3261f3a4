//! The service of GitHub Actions that signs a JWT for a job: an HTTP server on loopback.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, StatusCode, Uri};
use axum::{Json, Router};
use serde_json::{Value, json};
use stile_broker::http::Server;
use tokio::sync::oneshot;
use url::form_urlencoded;

use crate::issuer::jwt::Jwt;
use crate::issuer::signing_key::SigningKey;
use crate::process::home::Home;
use crate::time_limits;

/// The secret of the job.
const SECRET: &str = "secret-of-the-job";

/// The service. It stops when dropped.
pub struct GithubActions {
    url: String,
    audiences: Arc<Mutex<Vec<String>>>,
    _stop: oneshot::Sender<()>,
}

impl GithubActions {
    /// Starts a service that signs JWTs of this issuer with these claims. Each has an id of its own.
    pub async fn start(issuer: &str, key: SigningKey, now: i64, claims: Value) -> Self {
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), None)
            .await
            .unwrap()
            .with_timeouts(time_limits::connections());
        let url = format!("http://{}/idtoken?api-version=2.0", server.address().unwrap());
        let audiences = Arc::<Mutex<Vec<String>>>::default();
        let (seen, issuer, key) = (Arc::clone(&audiences), issuer.to_owned(), Arc::new(key));
        let answer = move |uri: Uri, headers: HeaderMap| {
            let query = uri.query().unwrap_or_default().as_bytes();
            let audience = form_urlencoded::parse(query)
                .find_map(|(name, value)| (name == "audience").then(|| value.into_owned()));
            let sent = headers.get("authorization").and_then(|value| value.to_str().ok());
            let is_own = sent.is_some_and(|sent| sent == format!("Bearer {SECRET}"));
            let reply = match audience.filter(|_| is_own) {
                None => (StatusCode::UNAUTHORIZED, Json(json!({}))),
                Some(audience) => {
                    let jwt = Jwt::new(&issuer, &audience, now, claims.clone()).signed(&key);
                    seen.lock().unwrap().push(audience);
                    (StatusCode::OK, Json(json!({ "count": 1, "value": jwt })))
                }
            };
            std::future::ready(reply)
        };
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server.run(Router::new().fallback(answer), async {
            let _ = stopped.await;
        }));
        Self { url, audiences, _stop: stop }
    }

    /// Sets the variables of a job with `permissions: { id-token: write }`.
    pub fn prepare(&self, home: &mut Home) {
        home.variable("ACTIONS_ID_TOKEN_REQUEST_URL", self.url.clone());
        home.variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN", SECRET);
    }

    /// Returns the audience of each JWT that it signed.
    pub fn audiences(&self) -> Vec<String> {
        self.audiences.lock().unwrap().clone()
    }
}
