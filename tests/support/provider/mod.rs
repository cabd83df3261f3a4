//! Providers for tests: keys that sign, releases with their files, and how a publisher sends them.
//!
//! [`publisher`] follows the documented protocol only, with files of [`dist`] and keys of [`gnupg`]. So
//! it shows what other publishers can do.

pub mod big;
pub mod dist;
pub mod gnupg;
pub mod plugin;
pub mod publisher;
mod release;
mod signer;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

pub use release::{TestRelease, provider_zip};
pub use signer::TestSigner;

use crate::broker::{Reply, TestBroker};

/// Sends a request with a token, and a JSON body if there is one.
pub async fn send(
    test: &TestBroker,
    method: &str,
    path: &str,
    body: Option<Value>,
    token: &str,
) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"));
    let request = match body {
        Some(body) => {
            request.header("content-type", "application/json").body(Body::from(body.to_string()))
        }
        None => request.body(Body::empty()),
    };
    test.send(request.unwrap()).await
}

/// Adds the key of a signer to a namespace.
pub async fn add_key(
    test: &TestBroker,
    namespace: &str,
    signer: &TestSigner,
    token: &str,
) -> Reply {
    let path = format!("/v1/namespaces/{namespace}/signing-keys");
    send(test, "POST", &path, Some(json!({ "ascii_armor": signer.armor() })), token).await
}

/// Begins a session for a version.
pub async fn begin(test: &TestBroker, release: &TestRelease, token: &str) -> Reply {
    send(test, "POST", &release.path("uploads"), Some(release.announcement()), token).await
}

/// Sends one file of a session to its place, and has it verified.
pub async fn send_file(
    test: &TestBroker,
    release: &TestRelease,
    session: &Value,
    name: &str,
    token: &str,
) -> Reply {
    let files = session["files"].as_array().unwrap();
    let file = files.iter().find(|file| file["name"] == name).unwrap();
    let bytes = release.file(name).to_vec();
    let body = match file["url"].as_str() {
        Some(url) => {
            put(url, &file["headers"], bytes).await;
            None
        }
        None => Some(bytes),
    };
    verify(test, release, session, name, body, token).await
}

/// Puts a file to its URL, with the headers of the session.
pub async fn put(url: &str, headers: &Value, bytes: Vec<u8>) {
    let client = crate::process::programs::client(None);
    // The client sets the length itself.
    let headers = headers.as_object().unwrap().iter();
    let mut headers = headers.filter(|(name, _)| *name != "content-length");
    let put = headers
        .by_ref()
        .fold(client.put(url), |put, (name, value)| put.header(name, value.as_str().unwrap()));
    let answer = put.body(bytes).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

/// Asks the registry to verify a file, with that body.
pub async fn verify(
    test: &TestBroker,
    release: &TestRelease,
    session: &Value,
    name: &str,
    body: Option<Vec<u8>>,
    token: &str,
) -> Reply {
    let upload = session["upload"].as_str().unwrap();
    let request = Request::post(release.path(&format!("uploads/{upload}/files/{name}")))
        .header("authorization", format!("Bearer {token}"));
    let request = match body {
        Some(bytes) => request.header("content-type", "application/zip").body(Body::from(bytes)),
        None => request.body(Body::empty()),
    };
    test.send(request.unwrap()).await
}

/// Completes a session.
pub async fn complete(
    test: &TestBroker,
    release: &TestRelease,
    session: &Value,
    token: &str,
) -> Reply {
    let upload = session["upload"].as_str().unwrap();
    send(test, "POST", &release.path(&format!("uploads/{upload}")), None, token).await
}

/// Publishes a version with all its files. Returns the answer to the first request that is not a
/// success, or that to the last one.
pub async fn publish(test: &TestBroker, release: &TestRelease, token: &str) -> Reply {
    let begun = begin(test, release, token).await;
    if begun.status != 201 {
        return begun;
    }
    let session = begun.json();
    for file in session["files"].as_array().unwrap() {
        if file["status"] == "verified" {
            continue;
        }
        let name = file["name"].as_str().unwrap();
        let verified = send_file(test, release, &session, name, token).await;
        if verified.status != 200 {
            return verified;
        }
    }
    complete(test, release, &session, token).await
}
