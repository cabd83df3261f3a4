//! Computes Signature Version 4 from its specification.
//!
//! It does not use the library of the helper, so a test compares two implementations.
//!
//! Source: the Signature Version 4 signing process of the IAM user guide, "Create a signed AWS API
//! request".

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// The only signature algorithm.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// A request to sign. Header names may have any case and order.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method in upper case.
    pub method: &'a str,
    /// The path as the client sends it.
    pub path: &'a str,
    /// The query as the client sends it, without `?`. The canonical request has its pairs in order.
    pub query: &'a str,
    /// All headers, including those that the signature does not cover.
    pub headers: &'a [(String, String)],
    /// The body.
    pub body: &'a [u8],
}

impl Request<'_> {
    /// Returns the canonical request with these headers, `a;b;c`. `None` if one of them is missing.
    pub fn canonical(&self, signed_headers: &str) -> Option<String> {
        let mut headers = String::new();
        for name in signed_headers.split(';') {
            headers.push_str(&format!("{name}:{}\n", self.header(name)?));
        }
        let mut query: Vec<_> = self.query.split('&').filter(|pair| !pair.is_empty()).collect();
        query.sort_unstable();
        let (query, body) = (query.join("&"), hex::encode(Sha256::digest(self.body)));
        Some(format!(
            "{}\n{}\n{query}\n{headers}\n{signed_headers}\n{body}",
            self.method, self.path
        ))
    }

    /// Returns the canonical value of a header.
    ///
    /// One space separates words, and a comma separates values of the same name.
    pub fn header(&self, name: &str) -> Option<String> {
        let twins: Vec<_> = self
            .headers
            .iter()
            .filter(|(sent, _)| sent.eq_ignore_ascii_case(name))
            .map(|(_, value)| {
                value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
            })
            .collect();
        if twins.is_empty() { None } else { Some(twins.join(",")) }
    }
}

/// The scope of a signature: `date/region/service/aws4_request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The day, `YYYYMMDD`.
    pub date: String,
    /// The region.
    pub region: String,
    /// The service.
    pub service: String,
}

impl Scope {
    /// Parses `date/region/service/aws4_request`.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split('/').collect();
        let [date, region, service, "aws4_request"] = parts[..] else { return None };
        Some(Self { date: date.to_owned(), region: region.to_owned(), service: service.to_owned() })
    }

    /// Signs a canonical request. Returns 64 hex digits in lower case.
    pub fn signature(&self, secret_access_key: &str, amz_date: &str, canonical: &str) -> String {
        let digest = hex::encode(Sha256::digest(canonical.as_bytes()));
        let mut key = format!("AWS4{secret_access_key}").into_bytes();
        for part in [&self.date, &self.region, &self.service, "aws4_request"] {
            key = hmac(&key, part);
        }
        hex::encode(hmac(&key, &format!("{ALGORITHM}\n{amz_date}\n{self}\n{digest}")))
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}/{}/aws4_request", self.date, self.region, self.service)
    }
}

/// Formats Unix seconds as `YYYYMMDDTHHMMSSZ`.
pub fn amz_date(now: i64) -> String {
    chrono::DateTime::from_timestamp(now, 0).unwrap().format("%Y%m%dT%H%M%SZ").to_string()
}

/// Parses `YYYYMMDDTHHMMSSZ` to Unix seconds.
pub fn parse_amz_date(text: &str) -> Option<i64> {
    let at =
        chrono::NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%SZ").ok()?.and_utc().timestamp();
    if amz_date(at) == text { Some(at) } else { None }
}

fn hmac(key: &[u8], data: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(data.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_header_that_was_not_sent_cannot_be_signed() {
        let headers = headers(&[("host", "a.example")]);
        let request = Request { method: "GET", path: "/", query: "", headers: &headers, body: b"" };
        assert_eq!(request.canonical("host;x-amz-date"), None);
    }

    #[test]
    fn text_that_is_not_a_date_is_not_parsed() {
        for text in [
            "",
            "20150830T123600",
            "2015-08-30T12:36:00Z",
            "20150230T000000Z",
            "20150830T235960Z",
            "20150830T1236 0Z",
        ] {
            assert_eq!(parse_amz_date(text), None, "{text:?}");
        }
        assert_eq!(parse_amz_date("20150830T123600Z"), Some(1_440_938_160));
    }

    #[test]
    fn the_example_that_aws_publishes_has_the_signature_that_aws_publishes() {
        let headers = headers(&[
            ("Host", "iam.amazonaws.com"),
            ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("X-Amz-Date", "20150830T123600Z"),
        ]);
        let request = Request {
            method: "GET",
            path: "/",
            query: "Action=ListUsers&Version=2010-05-08",
            headers: &headers,
            body: b"",
        };
        let canonical = request.canonical("content-type;host;x-amz-date").unwrap();
        assert_eq!(
            hex::encode(Sha256::digest(canonical.as_bytes())),
            "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"
        );
        let scope = Scope::parse("20150830/us-east-1/iam/aws4_request").unwrap();
        assert_eq!(
            scope.signature(
                "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                "20150830T123600Z",
                &canonical
            ),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn repeated_headers_are_joined_spaces_collapsed_and_the_query_sorted() {
        let headers = headers(&[("My-Header1", " a   b  c "), ("my-header1", "d"), ("host", "h")]);
        let request = Request {
            method: "GET",
            path: "/",
            query: "b=2&a=1&a=0",
            headers: &headers,
            body: b"",
        };
        let canonical = request.canonical("host;my-header1").unwrap();
        assert!(
            canonical.starts_with(
                "GET\n/\na=0&a=1&b=2\nhost:h\nmy-header1:a b c,d\n\nhost;my-header1\n"
            ),
            "{canonical}"
        );
    }
}
