//! A body that ends only if all its bytes have the expected digest.
//!
//! It holds the last chunk back until it has checked the digest. So a client never gets the whole of
//! a damaged archive: the connection breaks off.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;
use sha2::{Digest, Sha256};
use tracing::Span;

/// The bytes of an archive that must have one digest.
#[derive(Debug)]
pub(super) struct CheckedBody {
    inner: Body,
    hash: Sha256,
    /// SHA-256 in lower-case hexadecimal.
    sha256: String,
    held: Option<Bytes>,
    ended: bool,
    /// The span of the request, whose id the alarm has.
    span: Span,
}

impl CheckedBody {
    /// Checks a body against the SHA-256 in lower-case hexadecimal.
    pub(super) fn new(inner: Body, sha256: String) -> Self {
        Self { inner, hash: Sha256::new(), sha256, held: None, ended: false, span: Span::current() }
    }

    /// Returns the last chunk, if all bytes have the digest.
    fn last(&mut self) -> Result<Option<Bytes>, io::Error> {
        self.ended = true;
        if hex::encode(self.hash.finalize_reset()) == self.sha256 {
            return Ok(self.held.take());
        }
        tracing::error!(
            parent: &self.span,
            alarm = "archive_damaged",
            sha256 = self.sha256,
            "the archive of a published version has other bytes than at its publication"
        );
        Err(io::Error::new(io::ErrorKind::InvalidData, "the archive is damaged"))
    }
}

impl HttpBody for CheckedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
            let next = match frame {
                Some(Err(error)) => {
                    self.ended = true;
                    Err(error)
                }
                Some(Ok(frame)) => {
                    // A file has no trailers.
                    let Ok(data) = frame.into_data() else { continue };
                    self.hash.update(&data);
                    match self.held.replace(data) {
                        Some(before) => Ok(Some(before)),
                        None => continue,
                    }
                }
                None => self.last().map_err(axum::Error::new),
            };
            return Poll::Ready(next.map(|data| data.map(Frame::data)).transpose());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use http_body_util::BodyExt as _;

    use super::*;

    /// A body of given chunks.
    struct Chunks(VecDeque<&'static str>);

    impl HttpBody for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let chunk = self.0.pop_front();
            Poll::Ready(chunk.map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))))
        }
    }

    /// Returns what a client gets, and whether the body ends without an error.
    async fn received(chunks: &[&'static str], content: &str) -> (String, bool) {
        let inner = Body::new(Chunks(chunks.iter().copied().collect()));
        let mut body = CheckedBody::new(inner, hex::encode(Sha256::digest(content)));
        let mut text = String::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap()),
                Err(_) => {
                    assert!(body.frame().await.is_none(), "nothing follows an error");
                    return (text, false);
                }
            }
        }
        (text, true)
    }

    #[tokio::test]
    async fn a_client_never_gets_the_last_chunk_of_other_bytes() {
        for (chunks, content, expected) in [
            (&["abd"][..], "abc", ("", false)),
            (&["x", "b", "c"], "abc", ("xb", false)),
            (&["a", "b"], "abc", ("a", false)),
            (&["abc", "d"], "abc", ("abc", false)),
            (&[], "abc", ("", false)),
            (&["a", "b", "c"], "abc", ("abc", true)),
            (&["abc"], "abc", ("abc", true)),
            (&[], "", ("", true)),
        ] {
            let (text, whole) = received(chunks, content).await;
            assert_eq!((text.as_str(), whole), expected, "{chunks:?}");
        }
    }
}
