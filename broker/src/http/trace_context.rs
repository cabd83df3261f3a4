//! Reads the trace id of a `traceparent` header (W3C Trace Context), so that the log names the trace
//! of a client or of a proxy.
//!
//! The client chooses it, so it decides nothing, and only its digits get into the log.

use axum::http::HeaderMap;

/// Returns the trace id, if the headers have exactly one valid `traceparent`.
pub(super) fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all("traceparent").iter();
    let (Some(value), None) = (all.next(), all.next()) else { return None };
    parse(value.to_str().ok()?)
}

/// Returns the trace id of a value: version, trace id, parent id and flags. A later version than
/// `00` may have more parts.
fn parse(value: &str) -> Option<&str> {
    let mut parts = value.splitn(5, '-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let has_more = parts.next().is_some();
    let is_valid = is_hex(version, 2)
        && version != "ff"
        && is_id(trace, 32)
        && is_id(parent, 16)
        && is_hex(flags, 2)
        && !(version == "00" && has_more);
    is_valid.then_some(trace)
}

/// Returns whether a text has that many hexadecimal digits in lower case, and not only zeros.
fn is_id(text: &str, digits: usize) -> bool {
    is_hex(text, digits) && text.bytes().any(|byte| byte != b'0')
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn only_a_valid_value_has_a_trace_id() {
        let (trace, parent) = (TRACE, "00f067aa0ba902b7");
        for value in [
            String::new(),
            "-".repeat(55),
            trace.to_owned(),
            format!("00-{trace}-{parent}"),
            format!("00-{trace}-{parent}-"),
            format!("00-{trace}-{parent}-1"),
            format!("00-{trace}-{parent}-0g"),
            format!("00-{trace}-{parent}-01-"),
            format!("00-{trace}-{parent}-01-more"),
            format!(" 00-{trace}-{parent}-01"),
            format!("00-{trace}-{parent}-01, 00-{trace}-{parent}-01"),
            format!("0-{trace}-{parent}-01"),
            format!("ff-{trace}-{parent}-01"),
            format!("FF-{trace}-{parent}-01"),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
            format!("00-{}-{parent}-01", &trace[1..]),
            format!("00-{trace}0-{parent}-01"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}-{}-01", parent.to_uppercase()),
            format!("00-{}-{parent}-01", "é".repeat(16)),
            format!("00-{}\n-{parent}-01", &trace[1..]),
        ] {
            assert_eq!(parse(&value), None, "{value:?}");
        }
        for value in [
            format!("00-{trace}-{parent}-01"),
            format!("00-{trace}-{parent}-ff"),
            format!("01-{trace}-{parent}-00"),
            format!("fe-{trace}-{parent}-00-more-of-it"),
        ] {
            assert_eq!(parse(&value), Some(trace), "{value}");
        }
    }

    #[test]
    fn two_headers_have_no_trace_id() {
        let mut headers = HeaderMap::new();
        assert_eq!(trace_id(&headers), None);
        let value =
            HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        headers.append("Traceparent", value.clone());
        assert_eq!(trace_id(&headers), Some(TRACE));
        headers.append("traceparent", value);
        assert_eq!(trace_id(&headers), None);
    }
}
