//! Reads a JSON body of at most 16 KiB, or of another limit that a route has, within ten seconds and
//! without a content encoding.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use stile_protocol::exchange::MAX_BODY;
use stile_protocol::reply::ErrorCode;

use super::error::ApiError;

/// The longest time for a whole body.
const BODY: Duration = Duration::from_secs(10);

/// Reads a JSON body. Rejects a query, another content type and a content encoding.
pub(super) async fn read_json(request: Request) -> Result<Vec<u8>, ApiError> {
    read_json_of(request, MAX_BODY).await
}

/// Does the same for a body of at most `limit` bytes.
pub(super) async fn read_json_of(request: Request, limit: usize) -> Result<Vec<u8>, ApiError> {
    // Do not ignore a query: in SECVULN-8630, an action in the URL had priority over the body.
    if request.uri().query().is_some() {
        return Err(ApiError::new(
            ErrorCode::InvalidRequest,
            "query parameters are not accepted; put the request in the JSON body",
        ));
    }
    read_body(request, limit).await
}

/// Reads a JSON body, on a route that also checks every parameter of the query.
pub(super) async fn read_json_body(request: Request) -> Result<Vec<u8>, ApiError> {
    read_body(request, MAX_BODY).await
}

async fn read_body(request: Request, limit: usize) -> Result<Vec<u8>, ApiError> {
    let (parts, body) = request.into_parts();
    if !is_plain_json(&parts.headers) {
        return Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "the body must be `application/json`, without `Content-Encoding`",
        ));
    }
    collect(body, limit).await
}

/// Reads a body of at most `limit` bytes, within ten seconds.
pub(super) async fn collect(body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let collected = tokio::time::timeout(BODY, Limited::new(body, limit).collect()).await;
    match collected {
        Err(_) => Err(ApiError::new(
            ErrorCode::RequestTimeout,
            "the body did not arrive within 10 seconds",
        )),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {} KiB", limit / 1024);
            Err(ApiError::new(ErrorCode::TooLarge, message))
        }
        Ok(Err(_)) => Err(ApiError::new(
            ErrorCode::InvalidRequest,
            "the connection closed before the end of the body",
        )),
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
    }
}

/// Rejects a query and a body, on a route whose path says everything.
pub(super) async fn read_nothing(request: Request) -> Result<(), ApiError> {
    if request.uri().query().is_some() {
        return Err(refused("query parameters"));
    }
    read_no_body(request).await
}

/// Rejects a body, on a route that also checks every parameter of the query.
pub(super) async fn read_no_body(request: Request) -> Result<(), ApiError> {
    let body = request.into_body();
    let first = tokio::time::timeout(BODY, Limited::new(body, 0).collect()).await;
    match first {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(refused("body")),
        Ok(Err(_)) => Err(refused("body that breaks off")),
        Err(_) => Err(refused("body, and none ended within 10 seconds")),
    }
}

fn refused(what: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, format!("this route takes no {what}"))
}

/// Returns the media type of the body without its parameters. `None` if there is not exactly one.
pub(super) fn content_type(headers: &HeaderMap) -> Option<&str> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return None };
    value.to_str().ok()?.split(';').next().map(str::trim)
}

/// Returns whether the client says that its body is JSON. [`read_json`] checks the rest.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.and_then(|value| value.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Returns whether the headers have one `Content-Type` of JSON in UTF-8, and no `Content-Encoding`.
/// The broker never decompresses a body.
fn is_plain_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return false };
    let Ok(value) = value.to_str() else { return false };
    let mut parts = value.split(';').map(str::trim);
    let json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    json && parts.all(|part| part.eq_ignore_ascii_case("charset=utf-8"))
        && !headers.contains_key(header::CONTENT_ENCODING)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_plain_json_is_accepted() {
        for (content_type, expected) in [
            ("text/plain", false),
            ("application/json; charset=utf-16", false),
            ("application/jsonx", false),
            ("", false),
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
            assert_eq!(is_plain_json(&headers), expected, "{content_type}");
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            assert!(!is_plain_json(&headers));
        }
        assert!(!is_plain_json(&HeaderMap::new()));
    }
}
