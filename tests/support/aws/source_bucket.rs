//! A bucket in an emulated AWS that is not the registry's own, and that tests write to from outside
//! the project.

use reqwest::{Method, Response};

use super::emulated::{EmulatedAws, unsigned};
use crate::process::programs::client;

/// The document with which S3 turns on the versions of a bucket.
const VERSIONED: &str = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";

/// A bucket of someone else.
#[derive(Debug)]
pub struct SourceBucket {
    endpoint: String,
    /// The name.
    pub name: String,
}

impl SourceBucket {
    /// Creates a bucket whose name begins with that of the registry's bucket.
    pub async fn create(aws: &EmulatedAws, end: &str, versioned: bool) -> Self {
        let name = format!("{}-{end}", aws.place.bucket);
        let bucket = Self::create_at(&aws.proxy.endpoint(), &name, versioned).await;
        aws.proxy.take_counts();
        bucket
    }

    /// Creates a bucket in the emulator at that URL.
    pub async fn create_at(endpoint: &str, name: &str, versioned: bool) -> Self {
        let bucket = Self { endpoint: endpoint.to_owned(), name: name.to_owned() };
        bucket.done(Method::PUT, "", "").await;
        if versioned {
            bucket.done(Method::PUT, "?versioning", VERSIONED).await;
        }
        bucket
    }

    /// Returns the address of an object for publishers and operators.
    pub fn address(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }

    /// Puts an object, and returns its version; empty in a bucket without versions.
    pub async fn put(&self, key: &str, body: impl Into<Vec<u8>>) -> String {
        let answer = self.done(Method::PUT, &format!("/{key}"), body).await;
        let version = answer.headers().get("x-amz-version-id");
        version.and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned()
    }

    /// Puts an object with a content encoding.
    pub async fn put_encoded(&self, key: &str, encoding: &str, body: impl Into<Vec<u8>>) {
        let headers = [("content-encoding", encoding)];
        self.sent(Method::PUT, &format!("/{key}"), &headers, body).await;
    }

    /// Puts an object into a storage class.
    pub async fn put_in_class(&self, key: &str, class: &str, body: impl Into<Vec<u8>>) {
        let headers = [("x-amz-storage-class", class)];
        self.sent(Method::PUT, &format!("/{key}"), &headers, body).await;
    }

    /// Deletes a version of an object.
    pub async fn delete_version(&self, key: &str, version: &str) {
        self.done(Method::DELETE, &format!("/{key}?versionId={version}"), "").await;
    }

    /// Deletes an object.
    pub async fn delete(&self, key: &str) {
        self.done(Method::DELETE, &format!("/{key}"), "").await;
    }

    /// Deletes the bucket with the one version of the one object that it has.
    pub async fn remove(self, key: &str, version: &str) {
        self.done(Method::DELETE, &format!("/{key}?versionId={version}"), "").await;
        self.done(Method::DELETE, "", "").await;
    }

    async fn done(&self, method: Method, path: &str, body: impl Into<Vec<u8>>) -> Response {
        self.sent(method, path, &[], body).await
    }

    async fn sent(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Response {
        let mut request = client(None)
            .request(method, format!("{}/{}{path}", self.endpoint, self.name))
            .header("authorization", unsigned("s3"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.body(body.into()).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer
    }
}
