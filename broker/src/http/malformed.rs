//! Rejects malformed requests before a handler reads them. The server or the function finds them,
//! and the layer here answers in the form of the route.

use std::net::Ipv6Addr;

use axum::extract::Request;
use axum::http::{Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use stile_protocol::reply::ErrorCode;

use super::error::ApiError;

/// The reason why a request is malformed, as an extension of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// The request names no host, and its version of HTTP requires one.
    #[error("an HTTP/1.1 request needs a `Host` header")]
    NoHost,
    /// The request has several `Host` headers, and two programs could choose different ones.
    #[error("a request must not have two `Host` headers")]
    SeveralHosts,
    /// The value of the header is not a host.
    #[error("the `Host` header is not a host name or an address with an optional port")]
    BadHost,
    /// A Lambda event says that its body is base64, and the body is not.
    #[error("the body is not base64, although the event says so")]
    NotBase64,
}

/// Checks the `Host` headers of a request (RFC 9112, section 3.2).
///
/// The broker does not use the value. But a proxy that decides by the host must not see another one
/// than the next program.
///
/// # Errors
///
/// If an HTTP/1.1 request has none, or if any request has two or an invalid one.
pub(super) fn check_host<B>(request: &Request<B>) -> Result<(), Malformed> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() >= Version::HTTP_11 => Err(Malformed::NoHost),
        (None, _) => Ok(()),
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        (Some(_), None) => Err(Malformed::BadHost),
        (Some(_), Some(_)) => Err(Malformed::SeveralHosts),
    }
}

/// Answers a malformed request with an error. It passes every other request on.
pub(super) async fn reject(request: Request, next: Next) -> Response {
    match request.extensions().get::<Malformed>() {
        Some(reason) => {
            ApiError::new(ErrorCode::InvalidRequest, reason.to_string()).into_response()
        }
        None => next.run(request).await,
    }
}

/// Returns whether the text is a DNS name or an IP address, with an optional port.
fn is_host(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (is_host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) => (address.parse::<Ipv6Addr>().is_ok(), rest),
            None => return false,
        },
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (is_name(&text[..end]), &text[end..])
        }
    };
    is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// Returns whether the text has only letters, digits and the punctuation of DNS names. An IPv4
/// address has this form too.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// Returns whether the text is a port. It may be empty (RFC 9110, section 7.2).
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.is_empty() || text.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_or_an_address_with_an_optional_port_is_a_host() {
        for text in [
            "",
            ":443",
            "a b",
            "a, b",
            "a,b",
            "a/b",
            "user@a",
            "a:b",
            "a:-1",
            "a:65536",
            "a:443:443",
            "http://a",
            "[::1",
            "[]",
            "[::1]443",
            "[::1]:b",
            "[a]",
            "[127.0.0.1]",
            "::1",
            "a%20b",
            "caf\u{e9}.example.com",
            "a\t",
        ] {
            assert!(!is_host(text.as_bytes()), "{text:?}");
        }
        assert!(!is_host(b"\xff"));
        for text in [
            "a",
            "registry.example.com",
            "Registry.example.com.",
            "a_b:8443",
            "xn--caf-dma.fr",
            "a:",
            "127.0.0.1",
            "127.0.0.1:8443",
            "[::1]",
            "[fd00:ec2::1]:8443",
        ] {
            assert!(is_host(text.as_bytes()), "{text:?}");
        }
    }
}
