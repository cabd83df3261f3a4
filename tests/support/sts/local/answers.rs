//! Builds the answers of the local STS: an identity, an error, and a body without end.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Frame;

use crate::sts::identity::Identity;

/// The XML namespace of every element.
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The request id of all answers. No client may rely on it.
const REQUEST_ID: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// Returns the answer to `GetCallerIdentity`. Tests send it unchanged or changed.
pub fn identity_xml(identity: &Identity) -> String {
    let (arn, user_id, account) =
        (escape(&identity.arn), escape(&identity.user_id), escape(&identity.account));
    format!(
        "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\">\n  <GetCallerIdentityResult>\n    <Arn>{arn}</Arn>\n    \
         <UserId>{user_id}</UserId>\n    <Account>{account}</Account>\n  </GetCallerIdentityResult>\n  <ResponseMetadata>\n    \
         <RequestId>{REQUEST_ID}</RequestId>\n  </ResponseMetadata>\n</GetCallerIdentityResponse>\n"
    )
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn into_response(self) -> Response {
        let fault = if self.status < 500 { "Sender" } else { "Receiver" };
        let (code, message) = (self.code, escape(&self.message));
        text_xml(
            self.status,
            format!(
                "<ErrorResponse xmlns=\"{NAMESPACE}\">\n  <Error>\n    <Type>{fault}</Type>\n    <Code>{code}</Code>\n    \
                 <Message>{message}</Message>\n  </Error>\n  <RequestId>{REQUEST_ID}</RequestId>\n</ErrorResponse>\n"
            ),
        )
    }
}

pub(super) fn text_xml(status: u16, body: String) -> Response {
    response(status, "text/xml", Body::from(body))
}

pub(super) fn response(status: u16, content_type: &str, body: Body) -> Response {
    let mut builder = Response::builder().status(status).header("x-amzn-requestid", REQUEST_ID);
    if !content_type.is_empty() {
        builder = builder.header("content-type", content_type);
    }
    builder.body(body).unwrap()
}

pub(super) fn redirect(to: &str) -> Response {
    Response::builder().status(307).header("location", to).body(Body::empty()).unwrap()
}

/// A body of endless spaces, so that an XML reader waits for the root element.
pub(super) struct Endless;

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 8192])))))
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
