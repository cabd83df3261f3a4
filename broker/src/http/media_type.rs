//! Reads what a client says of its body.

use axum::http::{HeaderMap, header};
use stile_protocol::token_exchange::MEDIA_TYPE;

/// Returns whether the client says that its body is a form. It is not one if there are two types.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return false };
    let kind = value.to_str().ok().and_then(|value| value.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(MEDIA_TYPE))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_one_content_type_of_a_form_makes_a_form() {
        for (values, expected) in [
            (&["application/json"][..], false),
            (&["application/x-www-form-urlencodedx"], false),
            (&["application/x-www-form-urlencoded", "application/json"], false),
            (&[], false),
            (&["application/x-www-form-urlencoded"], true),
            (&["Application/X-WWW-Form-URLencoded; charset=UTF-8"], true),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_TYPE, HeaderValue::from_static(value));
            }
            assert_eq!(is_form(&headers), expected, "{values:?}");
        }
    }
}
