//! Reads a form of at most 32 KiB, as OAuth sends it.

use std::borrow::Cow;

use axum::extract::Request;
use axum::http::{HeaderMap, header};
use stile_protocol::reply::ErrorCode;
use stile_protocol::token_exchange::MAX_FORM;
use url::form_urlencoded;

use super::error::ApiError;
use super::json_body::collect;

/// The parameters of a form, each at most once.
pub(super) struct Form {
    parameters: Vec<(String, String)>,
}

impl Form {
    /// Reads the form in the body of a request. Rejects a query and a content encoding.
    ///
    /// Returns the bytes, too.
    pub(super) async fn read(request: Request) -> Result<(Self, Vec<u8>), ApiError> {
        // A URL is in the logs of each proxy on the way.
        if request.uri().query().is_some() {
            return Err(invalid("query parameters are not accepted; put them in the form"));
        }
        let (parts, body) = request.into_parts();
        if parts.headers.contains_key(header::CONTENT_ENCODING) {
            return Err(ApiError::new(
                ErrorCode::UnsupportedMediaType,
                "the form must not have a `Content-Encoding`",
            ));
        }
        if !is_utf8(&parts.headers) {
            return Err(ApiError::new(
                ErrorCode::UnsupportedMediaType,
                "the form must be in UTF-8",
            ));
        }
        let bytes = collect(body, MAX_FORM).await?;
        Ok((Self::parse(&bytes)?, bytes))
    }

    /// Parses a form. A parameter without a value counts as absent (RFC 6749, section 3.2).
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        if std::str::from_utf8(bytes).is_err() {
            return Err(invalid("the form is not UTF-8"));
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        let mut names: Vec<Cow<'_, str>> = Vec::new();
        for (name, value) in form_urlencoded::parse(bytes) {
            // A proxy that reads the other one would see another request.
            if names.contains(&name) {
                return Err(invalid("a parameter of the form is set twice"));
            }
            if !value.is_empty() {
                parameters.push((name.clone().into_owned(), value.into_owned()));
            }
            names.push(name);
            // The search for duplicates is quadratic.
            if names.len() > 32 {
                return Err(invalid("the form has too many parameters"));
            }
        }
        Ok(Self { parameters })
    }

    /// Takes a parameter.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.parameters.iter().position(|(known, _)| known == name)?;
        Some(self.parameters.swap_remove(at).1)
    }
}

/// Returns whether the content type names no other encoding than UTF-8.
fn is_utf8(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let parameters = kind.unwrap_or_default().split(';').skip(1).map(str::trim);
    parameters.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        !name.eq_ignore_ascii_case("charset")
            || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    })
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_twice_and_a_form_without_end_are_rejected() {
        let many: String = (0..33).map(|n| format!("p{n}=1&")).collect();
        for body in ["a=1&a=1", "a=1&%61=2", "a=&a=1", "a&a", &many] {
            assert!(Form::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(Form::parse(b"a=\xff").is_err());
        let mut form = Form::parse(b"a=1&b=&c=x%20y+z&d").unwrap();
        assert_eq!(form.take("a").as_deref(), Some("1"));
        assert_eq!(form.take("a"), None);
        assert_eq!((form.take("b"), form.take("d")), (None, None), "no value is no parameter");
        assert_eq!(form.take("c").as_deref(), Some("x y z"));
    }
}
