//! Publishes providers over HTTP, by the documented routes.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{Method, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::dist::SignedDist;
use crate::broker::TestBroker;
use crate::process::programs::client;

/// The most requests for one file while another request verifies it.
const ATTEMPTS: usize = 10_000;

/// The way to a broker.
#[derive(Clone)]
pub enum Wire<'a> {
    /// A broker in the process of the test.
    InMemory(&'a TestBroker),
    /// A broker at a URL, which has no slash at its end.
    Http(reqwest::Client, String),
}

/// A publisher with a token.
#[derive(Clone)]
pub struct ProviderPublisher<'a> {
    wire: Wire<'a>,
    token: String,
}

/// The status of an answer, and its JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The body; `null` if it is not JSON.
    pub json: Value,
}

/// An answer that stopped a publish, or `None` if the connection broke.
pub type Stopped = Option<Answered>;

impl<'a> ProviderPublisher<'a> {
    /// Creates a publisher.
    pub fn new(wire: Wire<'a>, token: &str) -> Self {
        Self { wire, token: token.to_owned() }
    }

    /// Registers a public key for a namespace.
    pub async fn add_key(&self, namespace: &str, armor: &str) -> Answered {
        let path = format!("/v1/namespaces/{namespace}/signing-keys");
        let body = json!({ "ascii_armor": armor });
        self.json(Method::POST, &path, &body).await.expect("the broker answers")
    }

    /// Retires a key of a namespace.
    pub async fn retire_key(&self, namespace: &str, id: &str, compromised: bool) -> Answered {
        let query = if compromised { "?compromised=true" } else { "" };
        let path = format!("/v1/namespaces/{namespace}/signing-keys/{id}{query}");
        self.send(Method::DELETE, &path, None, Vec::new()).await.expect("the broker answers")
    }

    /// Publishes a version in a namespace: all files, one after another. It must succeed.
    pub async fn publish(&self, namespace: &str, signed: &SignedDist) -> Answered {
        let done = self.try_publish(namespace, signed).await;
        done.unwrap_or_else(|stopped| panic!("the publish stopped: {stopped:?}"))
    }

    /// Publishes a version in a namespace.
    ///
    /// # Errors
    ///
    /// The first answer that is neither a success nor the order to ask again, or the last such order.
    pub async fn try_publish(
        &self,
        namespace: &str,
        signed: &SignedDist,
    ) -> Result<Answered, Stopped> {
        let dist = &signed.dist;
        let version = format!("/v1/providers/{namespace}/{}/{}", dist.kind, dist.version);
        let begun = self.begin(&version, signed).await?;
        if begun.status == 200 {
            return Ok(begun);
        }
        let upload = format!("{version}/uploads/{}", begun.json["upload"].as_str().unwrap());
        for file in begun.json["files"].as_array().unwrap() {
            if file["status"] == "missing" {
                self.send_file(&upload, file, dist).await?;
            }
        }
        self.expect(self.send(Method::POST, &upload, None, Vec::new()).await, &[200, 201])
    }

    /// Begins an upload session.
    ///
    /// # Errors
    ///
    /// The answer, if it is not a success.
    pub async fn begin(&self, version: &str, signed: &SignedDist) -> Result<Answered, Stopped> {
        let dist = &signed.dist;
        let files: Vec<Value> = dist
            .zips
            .iter()
            .map(|(platform, zip)| json!({ "name": dist.zip_name(platform), "bytes": zip.len() }))
            .collect();
        let mut body = json!({
            "sha256sums": signed.sums,
            "signature": STANDARD.encode(&signed.signature),
            "files": files,
        });
        if dist.has_manifest {
            body["manifest"] = dist.manifest().into();
        } else {
            body["protocols"] = json!(dist.protocols);
        }
        let begun = self.json(Method::POST, &format!("{version}/uploads"), &body).await;
        self.expect(begun, &[200, 201])
    }

    /// Sends one file of a session, and waits until the registry verified it.
    async fn send_file(
        &self,
        upload: &str,
        file: &Value,
        dist: &super::dist::ProviderDist,
    ) -> Result<(), Stopped> {
        let name = file["name"].as_str().unwrap();
        let zip = dist.zips.iter().find(|(platform, _)| dist.zip_name(platform) == name).unwrap().1;
        let mut body = zip.clone();
        if let Some(url) = file["url"].as_str() {
            put(url, &file["headers"], body).await?;
            body = Vec::new();
        }
        let path = format!("{upload}/files/{name}");
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let kind = (!body.is_empty()).then_some("application/zip");
            let sent = self.send(Method::POST, &path, kind, body.clone()).await;
            let answer = self.expect(sent, &[200, 202])?;
            if answer.status == 200 {
                return Ok(());
            }
            last = Some(answer);
            tokio::task::yield_now().await;
        }
        Err(last)
    }

    async fn json(&self, method: Method, path: &str, body: &Value) -> Option<Answered> {
        self.send(method, path, Some("application/json"), body.to_string().into_bytes()).await
    }

    /// Sends a request. Returns `None` if no whole answer arrives.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Vec<u8>,
    ) -> Option<Answered> {
        match &self.wire {
            Wire::InMemory(test) => {
                let mut request = Request::builder()
                    .method(method)
                    .uri(path)
                    .header("authorization", format!("Bearer {}", self.token));
                if let Some(kind) = content_type {
                    request = request.header("content-type", kind);
                }
                let reply = test.send(request.body(Body::from(body)).unwrap()).await;
                Some(Answered { status: reply.status.as_u16(), json: reply.json() })
            }
            Wire::Http(client, base) => {
                let mut request =
                    client.request(method, format!("{base}{path}")).bearer_auth(&self.token);
                if let Some(kind) = content_type {
                    request = request.header("content-type", kind);
                }
                let answer = request.body(body).send().await.ok()?;
                let status = answer.status().as_u16();
                let json = serde_json::from_slice(&answer.bytes().await.ok()?).unwrap_or_default();
                Some(Answered { status, json })
            }
        }
    }

    #[expect(clippy::unused_self, reason = "it reads as a step of the publisher")]
    fn expect(&self, answered: Option<Answered>, good: &[u16]) -> Result<Answered, Stopped> {
        match answered {
            Some(answered) if good.contains(&answered.status) => Ok(answered),
            other => Err(other),
        }
    }
}

/// Puts bytes at a presigned URL.
async fn put(url: &str, headers: &Value, body: Vec<u8>) -> Result<(), Stopped> {
    let headers: BTreeMap<String, String> =
        serde_json::from_value(headers.clone()).unwrap_or_default();
    let mut request = client(None).put(url);
    for (name, value) in headers.iter().filter(|(name, _)| *name != "content-length") {
        request = request.header(name, value);
    }
    let answer = request.body(body).send().await.map_err(|_| None)?;
    let status = answer.status().as_u16();
    let json = Value::String(answer.text().await.map_err(|_| None)?);
    if status == 200 { Ok(()) } else { Err(Some(Answered { status, json })) }
}
