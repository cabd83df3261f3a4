//! Records one call through the proxy, lists it for a whole run, and holds it back if a test asks
//! for that.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Mutex;

use axum::http::request::Parts;
use tokio::sync::oneshot;

use crate::aws::policy::{AwsRequest, Credential, decoded_path};
use crate::process::programs::target;

/// The file in the target folder that lists the requests to IAM of a whole run.
///
/// It has one [`AwsRequest`] per line, as JSON.
///
/// [`AwsRequest::generalized`] makes the requests of different tests comparable.
pub const CALLS: &str = "aws-calls.jsonl";

/// The requests that this process has written to [`CALLS`].
static LISTED: Mutex<BTreeSet<AwsRequest>> = Mutex::new(BTreeSet::new());

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The service and its action, such as `dynamodb GetItem`; for S3 the method, such as `s3 PUT`.
    pub name: String,
    /// The id of the access key that signed it; empty without a signature.
    pub access_key_id: String,
    /// The method, such as `PUT`.
    pub method: String,
    /// The decoded path, without the query.
    pub path: String,
    /// The requests to IAM that the call makes.
    ///
    /// It is empty until the body has arrived, and if a fault stops the call before the target.
    pub requests: Vec<AwsRequest>,
}

impl Call {
    /// Creates a record from the head of a call.
    pub(super) fn of(head: &Parts) -> Self {
        let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        let Credential { access_key_id, service } = Credential::of(head);
        let name = match target.and_then(|target| target.split_once('.')) {
            Some(("TrentService", action)) => format!("kms {action}"),
            Some((service, action)) if service.starts_with("DynamoDB_") => {
                format!("dynamodb {action}")
            }
            Some(("AWSEvents", action)) => format!("events {action}"),
            Some((service, action)) => format!("{service} {action}"),
            None if head.headers.contains_key("x-stile-audience") => {
                "sts GetCallerIdentity".to_owned()
            }
            None if service == "sts" => format!("sts {}", head.method),
            None => format!("s3 {}", head.method),
        };
        Self {
            name,
            access_key_id,
            method: head.method.to_string(),
            path: decoded_path(head.uri.path()),
            requests: Vec::new(),
        }
    }

    /// Adds the call to the file [`CALLS`], unless a test itself made it: tests do not sign.
    pub(super) fn list(&self) {
        if ["", "none"].contains(&self.access_key_id.as_str()) {
            return;
        }
        for request in self.requests.iter().map(AwsRequest::generalized) {
            let line = format!("{}\n", request.to_json());
            if LISTED.lock().unwrap().insert(request) {
                let file = target().join(CALLS);
                let mut list =
                    std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
                list.write_all(line.as_bytes()).unwrap();
            }
        }
    }
}

/// A call that the proxy must hold back.
#[derive(Debug)]
pub(super) struct Hold {
    method: String,
    path: String,
    arrived: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

/// A call that the proxy holds back until this is released or dropped.
#[derive(Debug)]
pub struct HeldCall {
    arrived: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
}

pub(super) fn hold(method: &str, path: &str) -> (Hold, HeldCall) {
    let ((arrive, arrived), (release, released)) = (oneshot::channel(), oneshot::channel());
    let hold = Hold { method: method.to_owned(), path: path.to_owned(), arrived: arrive, released };
    (hold, HeldCall { arrived, release })
}

/// Takes the hold that is meant for this call, if there is one.
pub(super) fn take_hold(holds: &mut Vec<Hold>, method: &str, path: &str) -> Option<Hold> {
    let at = holds.iter().position(|hold| hold.method == method && hold.path == path)?;
    Some(holds.remove(at))
}

impl Hold {
    /// Reports that the call has arrived, and waits until the test releases it.
    pub(super) async fn wait(self) {
        let _ = self.arrived.send(());
        let _ = self.released.await;
    }
}

impl HeldCall {
    /// Waits until the call has arrived.
    pub async fn arrived(&mut self) {
        (&mut self.arrived).await.unwrap();
    }

    /// Lets the call continue.
    pub fn release(self) {
        self.release.send(()).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::Router;
    use axum::extract::Request;
    use tokio::net::TcpListener;

    use super::*;
    use crate::aws::proxy::AwsProxy;
    use crate::process::programs::client;

    #[tokio::test]
    async fn a_call_is_recorded_and_one_can_be_held_back() {
        let emulator =
            Router::new().fallback(|request: Request| async move { request.uri().to_string() });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, emulator).await.unwrap() });
        let proxy = AwsProxy::start_unlisted(target);
        let url = format!("{}/bucket/a%3Ab?prefix=c%2F", proxy.endpoint());
        let send = || {
            client(None)
                .put(&url)
                .header("authorization", "AWS4 Credential=AKIA/x, Signature=0")
                .header("x-amz-server-side-encryption", "aws:kms")
                .body("it")
                .send()
        };

        let mut held = proxy.hold("PUT", "/bucket/a:b");
        let mut first = Box::pin(send());
        tokio::select! {
            answer = &mut first => panic!("the proxy did not hold the call: {answer:?}"),
            () = held.arrived() => {}
        }
        assert_eq!(
            send().await.unwrap().text().await.unwrap(),
            "/bucket/a%3Ab?prefix=c%2F",
            "the proxy does not hold the next call"
        );
        held.release();
        assert_eq!(first.await.unwrap().status(), 200);

        let request = AwsRequest::new("s3:PutObject", "arn:aws:s3:::bucket/a:b")
            .with("aws:SecureTransport", "true")
            .with("s3:TlsVersion", "1.3")
            .with("s3:prefix", "c/")
            .with("s3:x-amz-server-side-encryption", "aws:kms");
        let call = Call {
            name: "s3 PUT".to_owned(),
            access_key_id: "AKIA".to_owned(),
            method: "PUT".to_owned(),
            path: "/bucket/a:b".to_owned(),
            requests: vec![request.clone()],
        };
        assert_eq!(proxy.calls(), [call.clone(), call]);
        assert_eq!(proxy.requests_by("AKIA"), [request].into());
        assert!(proxy.requests_by("ASIA").is_empty());
    }

    #[test]
    fn a_call_has_the_name_of_its_service_and_action() {
        let scope = "AWS4-HMAC-SHA256 Credential=A/20200101/us-east-1/sts/aws4_request, x";
        for (name, value, method, expected) in [
            ("x-amz-target", "TrentService.Decrypt", "POST", "kms Decrypt"),
            ("x-amz-target", "DynamoDB_20120810.GetItem", "POST", "dynamodb GetItem"),
            ("x-amz-target", "AWSEvents.PutEvents", "POST", "events PutEvents"),
            ("x-stile-audience", "a.example", "POST", "sts GetCallerIdentity"),
            ("authorization", scope, "POST", "sts POST"),
            ("host", "a.example", "PUT", "s3 PUT"),
        ] {
            let request = axum::http::Request::builder().method(method).header(name, value);
            assert_eq!(Call::of(&request.body(()).unwrap().into_parts().0).name, expected);
        }
    }
}
