//! The only request to STS: the helper signs it, and the broker rebuilds and sends it.
//!
//! ```text
//! POST / HTTP/1.1
//! host: <host of the region>
//! content-type: application/x-www-form-urlencoded; charset=utf-8
//! x-amz-date: <amz_date>
//! x-amz-security-token: <session token>        only with temporary credentials
//! x-stile-audience: <the registry's host>
//! x-stile-request: <hex SHA-256 of the request document>
//!
//! Action=GetCallerIdentity&Version=2011-06-15
//! ```

/// The method.
pub const METHOD: &str = "POST";

/// The path.
pub const PATH: &str = "/";

/// The whole body: a proof can never request another action.
///
/// In CVE-2020-16250 (Vault) and SECVULN-8630 (Consul) the client chose the body.
pub const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// The content type of the body.
pub const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// The service name in the credential scope.
pub const SERVICE: &str = "sts";

/// The header with the audience. It is signed, so a proof is valid for one registry only.
pub const AUDIENCE_HEADER: &str = "x-stile-audience";

/// The header with the digest of the request document. It is signed, so nobody can widen the request.
pub const REQUEST_HEADER: &str = "x-stile-request";

/// Returns the names of the signed headers, in the order that SigV4 requires.
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
    fn the_signature_always_covers_the_audience_and_the_request() {
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
