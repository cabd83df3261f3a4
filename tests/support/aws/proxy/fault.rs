//! Defines the faults that a proxy injects into a call, and builds their answers.

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::Response;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::watch;

/// The size of [`Fault::Large`]: 10 MB, more than any correct answer.
const LARGE: usize = 10 * 1024 * 1024;

/// A fault of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection closes without an answer, and the call does not reach the target.
    Close,
    /// No answer comes.
    Hang,
    /// The first half of the real answer comes, and then nothing more.
    Stall,
    /// The service throttles the call, in its own format.
    Throttle,
    /// The service reports an internal failure, in its own format.
    Fail,
    /// A captive portal answers: `200` and an HTML page.
    Portal,
    /// `200` and an empty body.
    Empty,
    /// `200` and 10 MB of JSON without any expected field.
    Large,
    /// `307` to that URL. A client that follows it sends the signed request there.
    Redirect(String),
    /// EventBridge refuses every entry of a call, in its own format: an answer that is a success.
    RefuseEntries,
    /// S3 reports that the bucket does not exist, in its own format.
    NoBucket,
    /// S3 denies access with this message, in its own format.
    DeniedByS3(&'static str),
    /// S3 answers with this status, code and message, in its own format.
    RefusedByS3(u16, &'static str, &'static str),
    /// The real answer breaks off in the middle. The call has reached the target.
    Truncate,
    /// `BatchGetItem` leaves the rows whose sort key has this prefix unprocessed, as DynamoDB does
    /// without capacity. The answer is a success.
    LeaveOver(&'static str),
    /// A fixed answer.
    Answer {
        /// The status.
        status: u16,
        /// The content type.
        content_type: &'static str,
        /// The body.
        body: String,
    },
}

impl Fault {
    /// Returns whether the call reaches the target, although its answer does not arrive intact.
    pub fn takes_place(&self) -> bool {
        matches!(self, Self::Truncate | Self::Stall | Self::LeaveOver(_))
    }

    /// Returns whether the caller waits until its own time limit.
    pub fn takes_long(&self) -> bool {
        matches!(self, Self::Hang | Self::Stall)
    }

    /// Returns the answer that replaces the real one. An error closes the connection.
    ///
    /// `service` is the called service.
    pub(super) async fn answer(
        self,
        service: &str,
        stuck: &watch::Sender<usize>,
    ) -> Result<Response<Body>, std::io::Error> {
        let answer = |status: u16, content_type: &str, body: String| {
            Ok(Response::builder()
                .status(status)
                .header("content-type", content_type)
                .body(Body::from(body))
                .unwrap())
        };
        match self {
            Self::Close => Err(ErrorKind::ConnectionReset.into()),
            Self::Hang => {
                stuck.send_modify(|calls| *calls += 1);
                std::future::pending().await
            }
            Self::Throttle => answer_of(service, true),
            Self::Fail => answer_of(service, false),
            Self::NoBucket => {
                let response = Response::builder()
                    .status(404)
                    .header("content-type", "application/xml")
                    .header("x-amz-request-id", "4442587FB7D0A2F9");
                Ok(response.body(Body::from(xml("S3", "NoSuchBucket"))).unwrap())
            }
            Self::DeniedByS3(message) => refused_by_s3(403, "AccessDenied", message),
            Self::RefusedByS3(status, code, message) => refused_by_s3(status, code, message),
            Self::RefuseEntries => {
                let entry = json!({ "ErrorCode": "ThrottlingException", "ErrorMessage": "later" });
                let body = json!({ "FailedEntryCount": 1, "Entries": [entry] }).to_string();
                let response = Response::builder()
                    .header("content-type", "application/x-amz-json-1.1")
                    .header("x-amzn-requestid", "4442587FB7D0A2F9");
                Ok(response.body(Body::from(body)).unwrap())
            }
            Self::Portal => answer(
                200,
                "text/html",
                "<html><body>Welcome to the hotel</body></html>".to_owned(),
            ),
            Self::Empty => answer(200, "application/x-amz-json-1.0", String::new()),
            Self::Large => answer(
                200,
                "application/x-amz-json-1.0",
                format!("{{\"Padding\":\"{}\"}}", "x".repeat(LARGE)),
            ),
            Self::Redirect(to) => Ok(Response::builder()
                .status(307)
                .header("location", to)
                .body(Body::empty())
                .unwrap()),
            Self::Answer { status, content_type, body } => answer(status, content_type, body),
            Self::Truncate | Self::Stall | Self::LeaveOver(_) => {
                unreachable!("this fault changes the real answer")
            }
        }
    }

    /// Applies the fault to the real answer to `asked`.
    ///
    /// An empty body cannot break off in the middle, so its connection closes instead.
    pub(super) fn change_answer(
        self,
        asked: &[u8],
        mut response: Response<Body>,
        body: &Bytes,
        stuck: &watch::Sender<usize>,
    ) -> Result<Response<Body>, std::io::Error> {
        if let Self::LeaveOver(begins) = self {
            let body = without(begins, asked, body);
            response.headers_mut().insert("content-length", body.len().into());
            response.headers_mut().remove("x-amz-crc32");
            return Ok(response.map(|_| Body::from(body)));
        }
        if body.is_empty() {
            return Err(ErrorKind::ConnectionReset.into());
        }
        response.headers_mut().insert("content-length", body.len().into());
        let first = body.slice(..body.len() / 2);
        Ok(response.map(|_| {
            let stuck = (self == Self::Stall).then(|| stuck.clone());
            Body::new(Half { first: Some(first), under_way: false, stuck })
        }))
    }
}

/// Removes the rows whose sort key has this prefix from an answer of `BatchGetItem`.
///
/// Their keys become unprocessed keys.
fn without(begins: &str, asked: &[u8], body: &[u8]) -> Vec<u8> {
    let (asked, mut answer): (Value, Value) =
        (serde_json::from_slice(asked).unwrap(), serde_json::from_slice(body).unwrap());
    let is_meant = |row: &Value| row["sk"]["S"].as_str().is_some_and(|sk| sk.starts_with(begins));
    for (table, asked) in asked["RequestItems"].as_object().into_iter().flatten() {
        let keys = asked["Keys"].as_array().into_iter().flatten();
        let left: Vec<&Value> = keys.filter(|key| is_meant(key)).collect();
        if !left.is_empty() {
            answer["UnprocessedKeys"][table] =
                json!({"Keys": left, "ConsistentRead": asked["ConsistentRead"]});
        }
        if let Some(rows) = answer["Responses"][table].as_array_mut() {
            rows.retain(|row| !is_meant(row));
        }
    }
    answer.to_string().into_bytes()
}

fn refused_by_s3(status: u16, code: &str, message: &str) -> Result<Response<Body>, std::io::Error> {
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/xml")
        .header("x-amz-request-id", "4442587FB7D0A2F9");
    let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    Ok(response.body(Body::from(body)).unwrap())
}

fn answer_of(service: &str, throttled: bool) -> Result<Response<Body>, std::io::Error> {
    let (status, content_type, body) = match (service, throttled) {
        ("dynamodb", true) => {
            (400, JSON, json("com.amazonaws.dynamodb.v20120810#ThrottlingException"))
        }
        ("dynamodb", false) => {
            (500, JSON, json("com.amazonaws.dynamodb.v20120810#InternalServerError"))
        }
        ("kms", true) => (400, JSON, json("ThrottlingException")),
        ("kms", false) => (500, JSON, json("KMSInternalException")),
        ("sts", true) => (400, "text/xml", xml("ErrorResponse", "Throttling")),
        ("sts", false) => (500, "text/xml", xml("ErrorResponse", "InternalFailure")),
        (_, true) => (503, "application/xml", xml("S3", "SlowDown")),
        (_, false) => (500, "application/xml", xml("S3", "InternalError")),
    };
    Ok(Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(Body::from(body))
        .unwrap())
}

const JSON: &str = "application/x-amz-json-1.0";

fn json(kind: &str) -> String {
    format!("{{\"__type\":\"{kind}\",\"message\":\"not now\"}}")
}

fn xml(root: &str, code: &str) -> String {
    let error = format!("<Error><Code>{code}</Code><Message>not now</Message></Error>");
    if root == "S3" { error } else { format!("<{root}>{error}</{root}>") }
}

/// A body that sends its first half, and then breaks off or hangs.
struct Half {
    first: Option<Bytes>,
    /// Whether the head and the first half have been sent.
    under_way: bool,
    /// Counts the call as stuck when the body hangs. `None` if the body breaks off.
    stuck: Option<watch::Sender<usize>>,
}

impl hyper::body::Body for Half {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None if !self.under_way => {
                self.under_way = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None => match &self.stuck {
                Some(stuck) => {
                    stuck.send_modify(|calls| *calls += 1);
                    Poll::Pending
                }
                None => Poll::Ready(Some(Err(ErrorKind::ConnectionReset.into()))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_leaves_the_named_rows_unprocessed_and_returns_the_others() {
        let key = |pk: &str, sk: &str| json!({"pk": {"S": pk}, "sk": {"S": sk}});
        let (pin, other_pin, grants) = (key("a", "pin"), key("b", "pin"), key("a", "grants"));
        let asked = json!({"RequestItems": {"t": {"Keys": [pin, other_pin, grants], "ConsistentRead": true}}}).to_string();
        let answer = json!({"Responses": {"t": [pin, grants]}, "UnprocessedKeys": {}}).to_string();
        let bent = |begins: &str| -> Value {
            serde_json::from_slice(&without(begins, asked.as_bytes(), answer.as_bytes())).unwrap()
        };
        assert_eq!(
            bent("pin"),
            json!({
                "Responses": {"t": [grants]},
                "UnprocessedKeys": {"t": {"Keys": [pin, other_pin], "ConsistentRead": true}},
            })
        );
        assert_eq!(bent("host").to_string(), answer);
    }
}
