//! The one request to STS that exists: the helper signs it, the broker writes it anew and sends it.
//!
//! ```text
//! POST / HTTP/1.1
//! host: <host of the region>
//! content-type: application/x-www-form-urlencoded; charset=utf-8
//! x-amz-date: <amz_date>
//! x-amz-security-token: <session token>        with temporary credentials only
//! x-stile-audience: <the registry's host>
//! x-stile-request: <hex SHA-256 of the request document>
//!
//! Action=GetCallerIdentity&Version=2011-06-15
//! ```

/// The method.
pub const METHOD: &str = "POST";

/// The path.
pub const PATH: &str = "/";

/// The whole body: the only action a proof can ever stand for.
///
/// A body the client chooses was Vault's CVE-2020-16250 and Consul's SECVULN-8630.
pub const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// The body's type.
pub const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// The service of the credential scope.
pub const SERVICE: &str = "sts";

/// Carries the audience; signed, so a proof made for one registry is useless at another.
pub const AUDIENCE_HEADER: &str = "x-stile-audience";

/// Carries the digest of the request document; signed, so what is asked for cannot be widened.
pub const REQUEST_HEADER: &str = "x-stile-request";

/// The names under the signature, in the order SigV4 wants them.
pub const fn signed_headers(with_session_token: bool) -> &'static str {
    if with_session_token {
        "content-type;host;x-amz-date;x-amz-security-token;x-stile-audience;x-stile-request"
    } else {
        "content-type;host;x-amz-date;x-stile-audience;x-stile-request"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audience_and_the_request_are_always_under_the_signature() {
        for with_session_token in [false, true] {
            let names: Vec<_> = signed_headers(with_session_token).split(';').collect();
            assert!(
                names.contains(&AUDIENCE_HEADER)
                    && names.contains(&REQUEST_HEADER)
                    && names.contains(&"host")
            );
            assert_eq!(names.contains(&"x-amz-security-token"), with_session_token);
            assert!(names.is_sorted());
        }
    }
}
